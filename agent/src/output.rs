//! What a run writes: both pipes, or its terminal, read as it comes, counted and hashed whole, whatever is
//! kept of it.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;

use bytes::Bytes;
use nix::unistd;
use sha2::{Digest, Sha256};
use tokio::net::unix::pipe::Receiver;
use wire::limits::CHUNK;
use wire::v1::{Stream, StreamTotal};

/// How much is taken from one pipe without waiting, when a run ends: what the largest pipe holds.
/// A child that goes on writing would make it endless otherwise.
const DRAIN_LIMIT: usize = 1 << 20;

/// The two pipes of a process, or its terminal as the first of them.
#[derive(Debug)]
pub(crate) struct Output {
    stdout: Source,
    stderr: Source,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Source {
    pipe: Option<Receiver>,
    total: Total,
}

/// The sum of one stream.
#[derive(Clone, Debug, Default)]
struct Total {
    bytes: u64,
    hash: Sha256,
}

impl Output {
    /// Takes the read ends, which nobody else reads.
    pub(crate) fn new(stdout: OwnedFd, stderr: OwnedFd) -> io::Result<Self> {
        let pipes = (Receiver::from_owned_fd(stdout)?, Receiver::from_owned_fd(stderr)?);
        Ok(Self::of(pipes.0, Some(pipes.1)))
    }

    /// Takes a terminal's own end, which does not block.
    pub(crate) fn terminal(end: OwnedFd) -> io::Result<Self> {
        Ok(Self::of(Receiver::from_owned_fd_unchecked(end)?, None))
    }

    fn of(stdout: Receiver, stderr: Option<Receiver>) -> Self {
        let source = |pipe| Source { pipe, total: Total::default() };
        Self { stdout: source(Some(stdout)), stderr: source(stderr), buffer: Vec::new() }
    }

    /// Waits until one of the pipes has something or has ended; for ever once both have ended.
    pub(crate) async fn ready(&self) -> Stream {
        tokio::select! {
            () = self.stdout.ready() => Stream::Stdout,
            () = self.stderr.ready() => Stream::Stderr,
        }
    }

    /// Whether both pipes have ended.
    pub(crate) fn ended(&self) -> bool {
        self.stdout.pipe.is_none() && self.stderr.pipe.is_none()
    }

    /// Takes what there is of one pipe, at most a chunk of it; `None` when there is nothing now.
    ///
    /// Small writes that have piled up come as one, but nothing is waited for.
    pub(crate) fn take(&mut self, stream: Stream) -> Option<Bytes> {
        self.read(stream, Receiver::try_read)
    }

    fn read(
        &mut self,
        stream: Stream,
        read: impl Fn(&Receiver, &mut [u8]) -> io::Result<usize>,
    ) -> Option<Bytes> {
        self.buffer.resize(CHUNK, 0);
        let source = if stream == Stream::Stderr { &mut self.stderr } else { &mut self.stdout };
        let length = source.fill(&mut self.buffer, read);
        if length == 0 {
            return None;
        }
        let data = Bytes::copy_from_slice(&self.buffer[..length]);
        source.total.bytes += length as u64;
        source.total.hash.update(&data);
        Some(data)
    }

    /// Takes everything that is in the pipes now.
    ///
    /// Asks the system and not tokio, which believes that a pipe is empty until it has polled again.
    pub(crate) fn drain(&mut self, mut keep: impl FnMut(Stream, Bytes)) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut drained = 0;
            while let Some(data) = self.read(stream, |pipe, buffer| Ok(unistd::read(pipe, buffer)?))
            {
                drained += data.len();
                keep(stream, data);
                if drained >= DRAIN_LIMIT {
                    break;
                }
            }
        }
    }

    /// Counts on from what a former process of the same run has written.
    pub(crate) fn go_on_from(&mut self, former: &mut Self) {
        self.stdout.total = std::mem::take(&mut former.stdout.total);
        self.stderr.total = std::mem::take(&mut former.stderr.total);
    }

    /// The sums of stdout and stderr since the last call.
    pub(crate) fn totals(&mut self) -> (StreamTotal, StreamTotal) {
        // Between runs of a context nothing needs the room.
        self.buffer = Vec::new();
        (
            std::mem::take(&mut self.stdout.total).into(),
            std::mem::take(&mut self.stderr.total).into(),
        )
    }
}

impl Source {
    async fn ready(&self) {
        match &self.pipe {
            // An error shows in the read.
            Some(pipe) => drop(pipe.readable().await),
            None => std::future::pending().await,
        }
    }

    fn fill(
        &mut self,
        buffer: &mut [u8],
        read: impl Fn(&Receiver, &mut [u8]) -> io::Result<usize>,
    ) -> usize {
        let mut length = 0;
        while let Some(pipe) = self.pipe.as_ref().filter(|_| length < buffer.len()) {
            match read(pipe, &mut buffer[length..]) {
                Ok(0) => self.pipe = None,
                Ok(count) => length += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.pipe = None,
            }
        }
        length
    }
}

/// The sums of two streams on which nothing was written.
pub(crate) fn nothing() -> (StreamTotal, StreamTotal) {
    (Total::default().into(), Total::default().into())
}

impl From<Total> for StreamTotal {
    fn from(total: Total) -> Self {
        Self { bytes: total.bytes, sha256: Bytes::copy_from_slice(&total.hash.finalize()) }
    }
}
