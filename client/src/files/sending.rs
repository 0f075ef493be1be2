//! What sends bytes as they are read: parts that a stream takes as fast as it can, each byte hashed once.

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::mpsc,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use wire::{
    limits::CHUNK,
    v1::{WriteEnd, WriteRequest, WriteStart, write_request::Part},
};

use super::transfer;
use crate::{
    Error, Lane, Session,
    session::{CALL_DEADLINE, Call},
};

/// How many parts wait for the stream to take them.
const WAITING: usize = 2;

/// A stream that begins with this, and where its other parts go.
pub(super) fn begin(
    start: WriteStart,
) -> (mpsc::Sender<WriteRequest>, ReceiverStream<WriteRequest>) {
    let (parts, stream) = mpsc::channel(WAITING);
    // There is room for it.
    let _ = parts.try_send(request(Part::Start(start)));
    (parts, ReceiverStream::new(stream))
}

fn request(part: Part) -> WriteRequest {
    WriteRequest { part: Some(part) }
}

/// How far a source has been sent.
pub(super) struct Sending<'a, S> {
    doing: &'static str,
    pub(super) session: &'a Session,
    path: &'a str,
    pub(super) source: &'a mut S,
    pub(super) lane: Lane,
    /// Of the first `hashed` bytes.
    hash: Sha256,
    pub(super) hashed: u64,
    /// The next byte to be read.
    pub(super) position: u64,
    /// Whether the end was sent: the file may be there.
    pub(super) ended: bool,
}

impl<'a, S: AsyncRead + Unpin> Sending<'a, S> {
    pub(super) fn new(
        doing: &'static str,
        session: &'a Session,
        path: &'a str,
        source: &'a mut S,
        lane: Lane,
    ) -> Self {
        let (hash, hashed, position, ended) = (Sha256::new(), 0, 0, false);
        Self { doing, session, path, source, lane, hash, hashed, position, ended }
    }

    /// The digest of all that was read.
    pub(super) fn digest(&self) -> Bytes {
        self.hash.clone().finalize().to_vec().into()
    }

    /// Sends what is behind the position, and its end. Whatever the agent says before that ends it, and is returned.
    pub(super) async fn send<T>(
        &mut self,
        parts: mpsc::Sender<WriteRequest>,
        answer: impl Future<Output = T>,
    ) -> Result<Option<T>, Error> {
        let mut answer = std::pin::pin!(answer);
        loop {
            let data = self.chunk(u64::MAX).await?;
            let part = if data.is_empty() {
                self.ended = true;
                Part::End(WriteEnd { sha256: self.digest() })
            } else {
                Part::Data(data)
            };
            let end = matches!(part, Part::End(_));
            let taken = async {
                // A stream that has ended takes nothing more; how it has is in the answer.
                let taken = timeout(CALL_DEADLINE, parts.send(request(part))).await;
                taken.map_err(|_| Error::Deadline {
                    doing: self.doing,
                    pod: self.session.pod().into(),
                    after: CALL_DEADLINE,
                })
            };
            tokio::select! {
                biased;
                told = &mut answer => return Ok(Some(told)),
                taken = taken => match taken? {
                    Ok(()) if end => return Ok(None),
                    Ok(()) => {}
                    Err(_) => return Ok(None),
                },
            }
        }
    }

    /// How long the last answer may take: the agent may have to copy all of it once more.
    pub(super) fn last(&self) -> Call {
        let bytes = usize::try_from(self.position).unwrap_or(usize::MAX);
        Call { doing: self.doing, lane: self.lane, within: CALL_DEADLINE + transfer(bytes) }
    }

    /// The next bytes of the source, hashed; none at its end.
    pub(super) async fn chunk(&mut self, most: u64) -> Result<Bytes, Error> {
        let most = most.min(CHUNK as u64);
        let mut data = BytesMut::with_capacity(CHUNK);
        let mut part = (&mut *self.source).take(most);
        while (data.len() as u64) < most {
            match part.read_buf(&mut data).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(source) => return Err(self.local("read the source", source)),
            }
        }
        let data = data.freeze();
        let known = self.hashed.saturating_sub(self.position).min(data.len() as u64);
        self.hash.update(&data[usize::try_from(known).unwrap_or(data.len())..]);
        self.position += data.len() as u64;
        self.hashed = self.hashed.max(self.position);
        Ok(data)
    }

    pub(super) fn local(&self, doing: &'static str, source: std::io::Error) -> Error {
        Error::Local { doing, path: self.path.into(), source }
    }
}
