//! What reaches a command while it runs: input, a size for its terminal, signals.

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use tokio::net::unix::pipe::Sender;
use tokio::sync::Mutex as Turn;
use tokio::time::timeout;
use wire::limits::{INPUT_PATIENCE, MAX_INPUT, MAX_TERMINAL};
use wire::v1::{InputReply, InputRequest, Stream, Terminal};
use wire::{Code, Error};

use super::Run;
use crate::process::Orders;
use crate::terminal::{self, END_OF_FILE};

/// What a command is reached by.
#[derive(Debug)]
pub(crate) struct Reach {
    orders: Orders,
    input: Option<Input>,
}

/// The stdin of an interactive run.
#[derive(Debug)]
struct Input {
    is_terminal: bool,
    /// Until it is closed or the run has ended. Who writes just then holds it a little longer.
    end: Mutex<Option<Arc<Sender>>>,
    /// One writes at a time, in the order in which they came.
    state: Turn<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How much has been written, in bytes.
    taken: u64,
    /// How much will have been when all is written that was sent.
    due: u64,
    /// How much had been when its end was.
    closed: Option<u64>,
}

impl Reach {
    /// Of a command whose stdin nobody writes to.
    pub(crate) fn new(orders: Orders) -> Self {
        Self { orders, input: None }
    }

    /// Of an interactive one.
    pub(crate) fn interactive(orders: Orders, end: Sender, is_terminal: bool) -> Self {
        let end = Mutex::new(Some(Arc::new(end)));
        Self { orders, input: Some(Input { is_terminal, end, state: Turn::default() }) }
    }

    /// Closes the input of a run that has ended: what outlives it reads to the end.
    pub(super) fn close(&self) {
        if let Some(input) = &self.input {
            *input.end() = None;
        }
    }
}

impl Input {
    fn end(&self) -> MutexGuard<'_, Option<Arc<Sender>>> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes as much as there is room for, once there is some.
    async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let end = self.end().clone();
        let end = end.ok_or(Errno::EPIPE)?;
        loop {
            end.writable().await?;
            match end.try_write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                written => return written,
            }
        }
    }
}

impl Run {
    /// Writes to the run's stdin, as the request says.
    pub(crate) async fn input(&self, request: InputRequest) -> Result<InputReply, Error> {
        check(&request)?;
        let Some(input) = self.reach.get().and_then(|reach| reach.input.as_ref()) else {
            return Err(self.closed(if self.has_ended() {
                "has ended; start another for more input"
            } else {
                "takes no input: it was not started as interactive, or has not begun"
            }));
        };
        if request.terminal.is_some() && !input.is_terminal {
            return Err(self.refuse("has no terminal; start it with one"));
        }
        let output = self.progress.borrow().end.written.to(Stream::Unspecified);
        let mut state = None;
        let written = async {
            let state = state.insert(input.state.lock().await);
            self.write(input, state, &request).await
        };
        let written = timeout(INPUT_PATIENCE, written).await;
        let Some(state) = state else {
            let message = "other input still waits to be read; try again after it";
            return Err(Error::new(Code::TooMany, format!("run {}: {message}", self.id())));
        };
        // Where it was waited for in vain, what was written until then is the answer.
        written.unwrap_or(Ok(())).map(|()| InputReply {
            taken: state.taken,
            output,
            left: state.due.saturating_sub(state.taken),
            closed: state.closed == Some(state.taken),
        })
    }

    async fn write(
        &self,
        input: &Input,
        state: &mut State,
        request: &InputRequest,
    ) -> Result<(), Error> {
        let known = state.known(request.offset).map_err(|why| self.refuse(&why))?;
        if let (Some(end), Some(size)) = (input.end().as_deref(), request.terminal) {
            terminal::resize(end, size).map_err(|error| self.unwritten(&error, state))?;
        }
        let mut rest = request.data.get(known..).unwrap_or_default();
        state.due = state.taken + rest.len() as u64;
        while !rest.is_empty() {
            let written = input.write(rest).await.map_err(|error| self.unwritten(&error, state))?;
            state.taken += written as u64;
            rest = &rest[written..];
        }
        // Said again with its offset it is the same end; without, a terminal's next program may get another.
        if request.close && (request.offset.is_none() || state.closed != Some(state.taken)) {
            if input.is_terminal {
                let written = input.write(&[END_OF_FILE]).await;
                written.map_err(|error| self.unwritten(&error, state))?;
            } else {
                *input.end() = None;
            }
            state.closed = Some(state.taken);
        }
        Ok(())
    }

    fn unwritten(&self, error: &io::Error, state: &State) -> Error {
        let State { taken, closed, .. } = state;
        let errno = error.raw_os_error().map(Errno::from_raw);
        if !matches!(errno, Some(Errno::EPIPE | Errno::EIO)) {
            let message = format!("run {}: its input failed: {error}", self.id());
            return Error::new(Code::Internal, message);
        }
        self.closed(&if self.has_ended() {
            format!("has ended, after {taken} bytes of input; read what it wrote, or start another")
        } else if closed.is_some() {
            format!("takes no more input: it was closed after {taken} bytes, as was asked; start another run")
        } else {
            format!("reads no more: its program has closed its input after {taken} bytes; see what it wrote")
        })
    }

    /// Sends a signal to the run's process group; says whether there was one.
    pub(crate) fn signal(&self, number: i32) -> Result<bool, Error> {
        let number = u8::try_from(number).ok().filter(|number| (1..=31).contains(number));
        let Some(number) = number else {
            return Err(Error::new(
                Code::InvalidArgument,
                "signal: choose one from 1 to 31, as in signal(7)",
            ));
        };
        if self.has_ended() {
            return Ok(false);
        }
        let reach = self.reach.get().ok_or_else(|| {
            self.refuse("is no command, or has not begun; code in a context is ended by Cancel")
        })?;
        reach.orders.signal(number);
        Ok(true)
    }

    fn refuse(&self, why: &str) -> Error {
        Error::new(Code::InvalidArgument, format!("run {}: {why}", self.id()))
    }

    fn closed(&self, why: &str) -> Error {
        Error::new(Code::InputClosed, format!("run {}: {why}", self.id()))
    }
}

impl State {
    /// How much of what is sent has been written already.
    fn known(&self, offset: Option<u64>) -> Result<usize, String> {
        let Some(offset) = offset else { return Ok(0) };
        let known = self.taken.checked_sub(offset).ok_or_else(|| {
            let taken = self.taken;
            format!("has taken {taken} bytes of input, and this begins at {offset}; send what is missing first")
        })?;
        Ok(usize::try_from(known).unwrap_or(usize::MAX))
    }
}

fn check(request: &InputRequest) -> Result<(), Error> {
    if request.data.len() > MAX_INPUT {
        return Err(Error::new(
            Code::InvalidArgument,
            format!(
                "data has {} bytes, at most {MAX_INPUT} are taken at once; send it by parts, or write it to a file",
                request.data.len()
            ),
        ));
    }
    request.terminal.map_or(Ok(()), size)
}

/// Whether a terminal can be so large.
pub(crate) fn size(terminal: Terminal) -> Result<(), Error> {
    if terminal.rows.max(terminal.columns) <= MAX_TERMINAL {
        return Ok(());
    }
    let message = format!("terminal: at most {MAX_TERMINAL} rows and columns are taken");
    Err(Error::new(Code::InvalidArgument, message))
}
