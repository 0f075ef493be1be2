//! Copies of processes that run: a copy's parent becomes its supervisor, and that the agent's child.
//!
//! Who is copied forks twice, so that the supervisor is an orphan; the supervisor above lets it go
//! for as long as that takes. From then on nothing tells a copy from what the agent has started itself.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream as StdUnixStream;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tokio::net::UnixStream;
use tokio::time::timeout;
use wire::{Code, Error};

use crate::control::Report;
use crate::output::Output;
use crate::process::{Control, Ends, Private, SILENCE};
use crate::reaper::Reaper;

/// The agent's ends of a copy on its way.
pub(crate) struct Adoption {
    control: UnixStream,
    orders: StdUnixStream,
    output: Output,
    private: Private,
}

impl Adoption {
    /// Sends the ends of a copy to who makes it, with the program that its parent becomes.
    pub(crate) fn offer(to: &StdUnixStream) -> io::Result<Self> {
        let program = File::open("/proc/self/exe")?;
        let ends = Ends::new()?;
        let (private, theirs) = Private::new(true)?;
        let standard = [&ends.their_control, &ends.their_stdout, &ends.their_stderr];
        let sent: Vec<_> = std::iter::once(program.as_raw_fd())
            .chain(standard.into_iter().chain(&theirs).map(AsRawFd::as_raw_fd))
            .collect();
        let (byte, flags) = ([IoSlice::new(&[0])], MsgFlags::MSG_NOSIGNAL);
        sendmsg::<()>(to.as_raw_fd(), &byte, &[ControlMessage::ScmRights(&sent)], flags, None)?;
        Ok(Self { control: ends.control, orders: ends.orders, output: ends.output, private })
    }

    /// Waits until the copy has a supervisor, and takes that in. Otherwise nothing of it stays.
    pub(crate) async fn complete(
        self,
        reaper: &Reaper,
    ) -> Result<(Control, Output, Private), Error> {
        let mut control = Control::new(self.control, reaper, 0);
        match timeout(SILENCE, control.report()).await {
            Ok(Some(Report::TakenOver(pid))) if reaper.adopt(pid, self.orders) => {
                control.pid = pid;
                Ok((control, self.output, self.private))
            }
            _ => Err(Error::new(Code::Internal, "the copy died before it began; try again")),
        }
    }
}
