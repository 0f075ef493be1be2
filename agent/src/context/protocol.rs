//! What the agent and an interpreter's driver say to each other over their private pipes.
//!
//! The user's code can write to these pipes as well, so nothing in them is believed further than
//! its own context: sizes are bounded, and what makes no sense ends that context.

use std::io::{self, ErrorKind};

use bytes::{Buf, Bytes, BytesMut};
use serde::Deserialize;
use tokio::net::unix::pipe;
use wire::limits::CHUNK;
use wire::v1::run_event::Event;
use wire::v1::{Display, Exception, Form};

/// The largest header and payload of one event.
const MAX_HEADER: usize = 1 << 20;
const MAX_PAYLOAD: usize = 5 << 20;

/// An event, as the driver describes it.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Header {
    Ready,
    Display { result: bool, id: String, update: bool, forms: Vec<(String, usize)> },
    Exception { name: String, value: String, traceback: String },
    Done { number: u64, status: u8 },
}

/// What an interpreter says.
#[derive(Debug, PartialEq)]
pub(crate) enum Said {
    /// The driver runs: from now on an interrupt ends a cell and not the interpreter.
    Ready,
    /// Something for the run's log.
    Event(Event),
    /// The cell of this number has ended: 0, or 1 after an exception; a shell has more to say.
    Done { number: u64, status: u8 },
}

/// The bytes that ask for a cell to be run.
pub(super) fn request(number: u64, source: &[u8]) -> BytesMut {
    let mut request = BytesMut::from(&*format!("{number} {}\n", source.len()).into_bytes());
    request.extend_from_slice(source);
    request
}

/// The bytes that ask for a cell's end, where a signal does not.
pub(super) fn interrupt(number: u64) -> Vec<u8> {
    format!("interrupt {number}\n").into_bytes()
}

/// The bytes that ask for a copy; `new`: only if it is what an interpreter would be that starts now.
pub(super) fn copy(number: u64, new: bool) -> Vec<u8> {
    format!("{number} {}\n", if new { "spawn" } else { "fork" }).into_bytes()
}

/// The reader of what an interpreter says.
#[derive(Debug)]
pub(super) struct Events {
    pipe: pipe::Receiver,
    unread: BytesMut,
}

impl Events {
    pub(super) fn new(pipe: pipe::Receiver) -> Self {
        Self { pipe, unread: BytesMut::new() }
    }

    /// What is said next; `None` at the end. Safe to cancel.
    pub(super) async fn next(&mut self) -> io::Result<Option<Said>> {
        loop {
            if let Some(said) = parse(&mut self.unread)? {
                return Ok(Some(said));
            }
            self.pipe.readable().await?;
            self.unread.reserve(CHUNK);
            match self.pipe.try_read_buf(&mut self.unread) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

pub(crate) fn parse(unread: &mut BytesMut) -> io::Result<Option<Said>> {
    let Some((header, rest)) = unread.split_first_chunk::<4>() else { return Ok(None) };
    let Some(payload) = rest.first_chunk::<4>() else { return Ok(None) };
    let (header, payload) =
        (u32::from_be_bytes(*header) as usize, u32::from_be_bytes(*payload) as usize);
    if header > MAX_HEADER || payload > MAX_PAYLOAD {
        return Err(ErrorKind::InvalidData.into());
    }
    if unread.len() < 8 + header + payload {
        return Ok(None);
    }
    unread.advance(8);
    let header: Header = serde_json::from_slice(&unread.split_to(header))?;
    let mut payload = unread.split_to(payload).freeze();
    Ok(Some(match header {
        Header::Ready => Said::Ready,
        Header::Done { number, status } => Said::Done { number, status },
        Header::Exception { name, value, traceback } => {
            Said::Event(Event::Exception(Exception { name, value, traceback }))
        }
        Header::Display { result, id, update, forms } => {
            let forms = forms.into_iter().map(|(mime, length)| form(mime, length, &mut payload));
            let forms = forms.collect::<io::Result<_>>()?;
            Said::Event(Event::Display(Display { result, forms, id, update }))
        }
    }))
}

fn form(mime: String, length: usize, payload: &mut Bytes) -> io::Result<Form> {
    if length > payload.len() {
        return Err(ErrorKind::InvalidData.into());
    }
    Ok(Form { mime, data: payload.split_to(length) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(header: &str, payload: &[u8]) -> Vec<u8> {
        let lengths = [header.len(), payload.len()]
            .map(|length| u32::try_from(length).unwrap().to_be_bytes());
        [lengths.concat(), header.as_bytes().to_vec(), payload.to_vec()].concat()
    }

    #[test]
    fn an_event_is_read_when_all_of_it_is_there() {
        let whole = frame(
            r#"{"type":"display","result":true,"id":"a","update":true,"forms":[["text/plain",1],["image/png",2]]}"#,
            b"2\0\xff",
        );
        let mut unread = BytesMut::from(&whole[..whole.len() - 1]);
        assert_eq!(parse(&mut unread).unwrap(), None);
        unread.extend_from_slice(&whole[whole.len() - 1..]);
        unread.extend_from_slice(&frame(r#"{"type":"done","number":7,"status":1}"#, b""));
        let form = |mime: &str, data: &'static [u8]| Form {
            mime: mime.to_owned(),
            data: Bytes::from_static(data),
        };
        let forms = vec![form("text/plain", b"2"), form("image/png", b"\0\xff")];
        let display = Said::Event(Event::Display(Display {
            result: true,
            forms,
            id: "a".to_owned(),
            update: true,
        }));
        assert_eq!(parse(&mut unread).unwrap(), Some(display));
        assert_eq!(parse(&mut unread).unwrap(), Some(Said::Done { number: 7, status: 1 }));
        assert_eq!(parse(&mut unread).unwrap(), None);
    }

    #[test]
    fn what_the_driver_never_says_is_an_error() {
        for bad in [
            frame("{}", b""),
            frame(
                r#"{"type":"display","result":true,"id":"","update":false,"forms":[["text/plain",9]]}"#,
                b"2",
            ),
            vec![0xff; 8],
        ] {
            assert!(parse(&mut BytesMut::from(&bad[..])).is_err());
        }
    }
}
