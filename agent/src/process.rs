//! One supervised process, as the agent holds it: its output, and the socket to its supervisor.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use nix::sys::memfd::{MFdFlags, memfd_create};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::time::timeout;
use wire::v1::Terminal;
use wire::{Code, Error};

use crate::control::{self, Order, Report, Spec, Stdin};
use crate::failure::{explain, fault, no_terminal};
use crate::output::Output;
use crate::reaper::Reaper;
use crate::{settings, terminal};

/// How long a supervisor may take to say that it has started something. What it starts can stop it
/// before it does, and the machine may be busy.
pub(crate) const SILENCE: Duration = Duration::from_secs(5);
/// The longest line a supervisor has reason to send.
const MAX_REPORT: usize = 4096;

/// The agent's end of a supervisor. Dropping it is an order to kill.
#[derive(Debug)]
pub(crate) struct Control {
    socket: UnixStream,
    unread: Vec<u8>,
    reaper: Reaper,
    /// The supervisor's pid.
    pub(crate) pid: i32,
}

/// The agent's ends of what an interpreter is driven through.
#[derive(Debug)]
pub(crate) struct Private {
    pub(crate) requests: pipe::Sender,
    pub(crate) events: pipe::Receiver,
    /// Where the ends of copies are sent, if it can be copied.
    pub(crate) forks: Option<StdUnixStream>,
}

impl Private {
    /// Both ends of all of it; theirs in the order of their descriptors.
    pub(crate) fn new(forks: bool) -> io::Result<(Self, Vec<OwnedFd>)> {
        let (their_requests, our_requests) = io::pipe()?;
        let (our_events, their_events) = io::pipe()?;
        let mut theirs = vec![their_requests.into(), their_events.into()];
        let mut private = Self {
            requests: pipe::Sender::from_owned_fd(our_requests.into())?,
            events: pipe::Receiver::from_owned_fd(our_events.into())?,
            forks: None,
        };
        if forks {
            let (our_forks, their_forks) = StdUnixStream::pair()?;
            our_forks.set_nonblocking(true)?;
            private.forks = Some(our_forks);
            theirs.push(their_forks.into());
        }
        Ok((private, theirs))
    }
}

/// Both ends of what every process has: the socket to its supervisor, and its output.
pub(crate) struct Ends {
    pub(crate) control: UnixStream,
    /// The same socket, for who orders it from elsewhere.
    pub(crate) orders: StdUnixStream,
    pub(crate) output: Output,
    pub(crate) their_control: OwnedFd,
    pub(crate) their_stdout: OwnedFd,
    pub(crate) their_stderr: OwnedFd,
}

impl Ends {
    pub(crate) fn new() -> io::Result<Self> {
        let (stdout, their_stdout) = io::pipe()?;
        let (stderr, their_stderr) = io::pipe()?;
        let output = Output::new(stdout.into(), stderr.into())?;
        Self::with(output, their_stdout.into(), their_stderr.into())
    }

    /// Of a process that has a terminal; where one writes to that is given beside them.
    fn terminal(size: Terminal) -> io::Result<(Self, pipe::Sender)> {
        let (ours, theirs) = terminal::open(size)?;
        let output = Output::terminal(ours.try_clone()?)?;
        let input = pipe::Sender::from_owned_fd_unchecked(ours)?;
        Ok((Self::with(output, theirs.try_clone()?, theirs)?, input))
    }

    fn with(output: Output, their_stdout: OwnedFd, their_stderr: OwnedFd) -> io::Result<Self> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        Ok(Self {
            orders: ours.try_clone()?,
            control: UnixStream::from_std(ours)?,
            output,
            their_control: theirs.into(),
            their_stdout,
            their_stderr,
        })
    }
}

/// Starts a process under a supervisor and waits until it has started, or could not. Of which nothing is
/// heard has started: it may have, and so it is not to be taken for what never began.
pub(crate) async fn start(
    reaper: &Reaper,
    spec: &Spec,
    stdin: &[u8],
) -> Result<(Control, Output), Error> {
    let ends = Ends::new().map_err(|error| fault(&error))?;
    launch(reaper, spec, stdin, ends, Vec::new()).await
}

/// The same for a process whose stdin stays open, with the end that is written to.
pub(crate) async fn start_open(
    reaper: &Reaper,
    mut spec: Spec,
) -> Result<(Control, Output, pipe::Sender), Error> {
    let pipe = || {
        let (theirs, ours) = io::pipe()?;
        let theirs = FdMapping { parent_fd: theirs.into(), child_fd: control::INPUT };
        Ok((Ends::new()?, pipe::Sender::from_owned_fd(ours.into())?, vec![theirs]))
    };
    let (ends, input, theirs) = pipe().map_err(|error: io::Error| fault(&error))?;
    spec.stdin = Stdin::Open;
    let (control, output) = launch(reaper, &spec, &[], ends, theirs).await?;
    Ok((control, output, input))
}

/// The same for a process at a terminal. What is found but cannot be executed has started, and says so there.
pub(crate) async fn start_at_terminal(
    reaper: &Reaper,
    mut spec: Spec,
    size: Terminal,
) -> Result<(Control, Output, pipe::Sender), Error> {
    let (ends, input) = Ends::terminal(size).map_err(|error| no_terminal(&error))?;
    spec.stdin = Stdin::Terminal;
    let (control, output) = launch(reaper, &spec, &[], ends, Vec::new()).await?;
    Ok((control, output, input))
}

/// The same for an interpreter, with what it is driven through, and behind that a file if it is to have one.
pub(crate) async fn start_private(
    reaper: &Reaper,
    mut spec: Spec,
    file: &[u8],
    forks: bool,
) -> Result<(Control, Output, Private), Error> {
    let (private, mut theirs) = Private::new(forks).map_err(|error| fault(&error))?;
    if !file.is_empty() {
        theirs.push(in_memory(file).map_err(|error| fault(&error))?);
    }
    let theirs = theirs.into_iter().zip(control::REQUESTS..);
    let theirs: Vec<_> =
        theirs.map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd }).collect();
    spec.private = i32::try_from(theirs.len()).unwrap_or_default();
    let ends = Ends::new().map_err(|error| fault(&error))?;
    let (control, output) = launch(reaper, &spec, &[], ends, theirs).await?;
    Ok((control, output, private))
}

/// A file that is in no directory: none need be writable.
fn in_memory(content: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(c"driver", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(content)?;
    Ok(file.into())
}

async fn launch(
    reaper: &Reaper,
    spec: &Spec,
    stdin: &[u8],
    ends: Ends,
    handed_on: Vec<FdMapping>,
) -> Result<(Control, Output), Error> {
    let (mut control, output) =
        supervisor(reaper, ends, handed_on).map_err(|error| fault(&error))?;
    let frame = spec.frame(stdin).map_err(|error| fault(&error))?;
    // A supervisor that dies here is seen below.
    let _ = control.socket.write_all(&frame).await;
    match timeout(SILENCE, control.report()).await {
        Ok(Some(Report::Started)) | Err(_) => Ok((control, output)),
        Ok(Some(Report::Failed(failure))) => Err(explain(spec, &failure)),
        Ok(_) => {
            Err(Error::new(Code::Internal, "the run's supervisor died before it began; try again"))
        }
    }
}

fn supervisor(
    reaper: &Reaper,
    ends: Ends,
    handed_on: Vec<FdMapping>,
) -> io::Result<(Control, Output)> {
    // The link and not the path: it stays right whatever happens to the file system.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(control::SUPERVISE)
        .stdin(Stdio::from(ends.their_control))
        .stdout(ends.their_stdout)
        .stderr(ends.their_stderr);
    settings::hide_ours(&mut command);
    if !handed_on.is_empty() {
        command.fd_mappings(handed_on).map_err(io::Error::other)?;
    }
    let pid = reaper.spawn(&mut command, ends.orders)?;
    Ok((Control::new(ends.control, reaper, pid), ends.output))
}

impl Drop for Control {
    fn drop(&mut self) {
        // Closing it would tell nobody: the reaper has a copy.
        self.order(Order::Kill);
    }
}

impl Control {
    /// Of a supervisor that the reaper knows by this pid.
    pub(crate) fn new(socket: UnixStream, reaper: &Reaper, pid: i32) -> Self {
        Self { socket, unread: Vec::new(), reaper: reaper.clone(), pid }
    }

    /// The next report; `None` when nothing of the run is left. Safe to cancel.
    pub(crate) async fn report(&mut self) -> Option<Report> {
        loop {
            if let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return serde_json::from_slice(&line).ok();
            }
            self.socket.readable().await.ok()?;
            match self.socket.try_read_buf(&mut self.unread) {
                Ok(0) => return None,
                Ok(_) if self.unread.len() > MAX_REPORT => return None,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
    }

    /// Waits until nothing of the run is left.
    pub(crate) async fn gone(&mut self) {
        while self.report().await.is_some() {}
    }

    /// Sends an order; to a run that has ended it means nothing.
    pub(crate) fn order(&self, order: Order) {
        let _ = self.socket.try_write(&[order.byte()]);
    }

    /// Where orders go that come from elsewhere.
    pub(crate) fn orders(&self) -> Orders {
        Orders { reaper: self.reaper.clone(), supervisor: self.pid }
    }

    /// Ends the run without its supervisor, which has not obeyed an order to kill.
    pub(crate) fn force(&self) {
        self.reaper.kill(self.pid);
    }
}

/// Orders to a supervisor from those who do not hold its [`Control`].
#[derive(Debug)]
pub(crate) struct Orders {
    reaper: Reaper,
    supervisor: i32,
}

impl Orders {
    /// Sends a signal to the process group that the supervisor looks after.
    pub(crate) fn signal(&self, number: u8) {
        self.reaper.order(self.supervisor, Order::Signal(number));
    }
}
