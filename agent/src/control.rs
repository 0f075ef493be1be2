//! What `serve` and the supervisor of one run say to each other over a socket pair.
//!
//! Downwards one [`Spec`], the bytes of stdin, then an [`Order`] a byte; upwards a [`Report`] a
//! line. The end of the socket is a message too: to a supervisor it means that the agent has
//! died, to the agent that nothing of the run is left.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The argument that makes this program a supervisor.
pub(crate) const SUPERVISE: &str = "supervise";
/// The argument that makes this program give its terminal to another one, which it then becomes.
pub(crate) const ENTER: &str = "enter";
/// Where a supervisor finds the stdin of what it starts, if that stays open.
pub(crate) const INPUT: i32 = 3;
/// Where a context's interpreter reads its requests. It writes what happened to the next descriptor, and
/// from the one after that it gets the ends of copies, if its language can be copied, or has its driver
/// there, if that is to be a file.
pub(crate) const REQUESTS: i32 = 3;

/// The process to start.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) argv: Vec<String>,
    /// Beside what the supervisor itself inherits.
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) cwd: PathBuf,
    pub(crate) stdin: Stdin,
    /// How many descriptors from [`REQUESTS`] on are there to be handed on.
    pub(crate) private: i32,
}

/// Where a process reads its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stdin {
    /// So many bytes follow; none means end of file at once.
    Given(usize),
    /// From the pipe at [`INPUT`].
    Open,
    /// From the terminal that is the supervisor's stdout, and its own too.
    Terminal,
}

impl Default for Stdin {
    fn default() -> Self {
        Self::Given(0)
    }
}

impl Spec {
    /// The spec as it crosses: its length, itself, the bytes of stdin.
    pub(crate) fn frame(&self, stdin: &[u8]) -> io::Result<Vec<u8>> {
        let body = serde_json::to_vec(self)?;
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        Ok([&length.to_be_bytes()[..], &body, stdin].concat())
    }

    pub(crate) fn read(from: &mut impl Read) -> io::Result<(Self, Vec<u8>)> {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let body = exactly(u32::from_be_bytes(length).into(), from)?;
        let spec: Self = serde_json::from_slice(&body)?;
        let stdin = match spec.stdin {
            Stdin::Given(length) => exactly(length as u64, from)?,
            Stdin::Open | Stdin::Terminal => Vec::new(),
        };
        Ok((spec, stdin))
    }
}

/// So many bytes, in no more room than they take when they have come.
fn exactly(length: u64, from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(length).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

/// What a supervisor is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// SIGTERM to everything, then SIGKILL until nothing is left.
    Kill,
    /// SIGINT to the leader's process group, as from a terminal.
    Interrupt,
    /// Leave orphans to the agent: one of them is a copy's supervisor.
    LetGo,
    /// Adopt orphans again.
    Adopt,
    /// This signal to the leader's process group.
    Signal(u8),
}

impl Order {
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Kill => b'K',
            Self::Interrupt => b'I',
            Self::LetGo => b'L',
            Self::Adopt => b'A',
            // All of their numbers are below those of letters.
            Self::Signal(number) => number,
        }
    }

    pub(crate) fn of(byte: u8) -> Option<Self> {
        match byte {
            1..=31 => Some(Self::Signal(byte)),
            _ => [Self::Kill, Self::Interrupt, Self::LetGo, Self::Adopt]
                .into_iter()
                .find(|order| order.byte() == byte),
        }
    }
}

/// What a supervisor has seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Report {
    Started,
    /// A copy's supervisor, by its pid, has taken over.
    TakenOver(i32),
    Failed(Failure),
    /// An interrupt has been delivered: none is on its way to a later run.
    Interrupted,
    /// Orphans are the agent's from now on.
    LetsGo,
    Exited(Exit),
}

/// Why a process could not be started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) stage: Stage,
    pub(crate) errno: i32,
}

/// What was being done when a start failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    Directory,
    Lookup,
    Execute,
}

/// How a leader ended, and what it and the children it waited for took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    pub(crate) status: Status,
    pub(crate) cpu_ms: u64,
    pub(crate) max_rss_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Status {
    Exited(i32),
    Signaled(i32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_and_its_stdin_cross() {
        let spec = Spec {
            argv: vec!["cat".to_owned()],
            cwd: "/".into(),
            stdin: Stdin::Given(3),
            ..Spec::default()
        };
        let frame = spec.frame(b"abc").unwrap();
        assert_eq!(Spec::read(&mut &frame[..]).unwrap(), (spec, b"abc".to_vec()));
    }

    #[test]
    fn a_spec_that_says_it_is_longer_than_it_is_takes_no_room_for_that() {
        let spec = Spec { stdin: Stdin::Given(usize::MAX), ..Spec::default() };
        for frame in [spec.frame(b"abc").unwrap(), vec![0xff, 0xff, 0xff, 0xff, b'{']] {
            let error = Spec::read(&mut &frame[..]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn only_known_orders_are_orders() {
        assert_eq!(Order::of(Order::Kill.byte()), Some(Order::Kill));
        assert_eq!(Order::of(Order::Signal(15).byte()), Some(Order::Signal(15)));
        assert_eq!([0, 32, b'x'].map(Order::of), [None; 3]);
    }
}
