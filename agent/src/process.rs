//! One supervised process, as the agent holds it: its output, and the socket to its supervisor.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use nix::errno::Errno;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::time::timeout;
use wire::{Code, Error};

use crate::control::{self, Failure, Order, Report, Spec, Stage};
use crate::output::Output;
use crate::reaper::Reaper;
use crate::settings;

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
        let (ours, theirs) = StdUnixStream::pair()?;
        let (stdout, their_stdout) = io::pipe()?;
        let (stderr, their_stderr) = io::pipe()?;
        ours.set_nonblocking(true)?;
        Ok(Self {
            orders: ours.try_clone()?,
            control: UnixStream::from_std(ours)?,
            output: Output::new(stdout.into(), stderr.into())?,
            their_control: theirs.into(),
            their_stdout: their_stdout.into(),
            their_stderr: their_stderr.into(),
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
    launch(reaper, spec, stdin, Vec::new()).await
}

/// The same for an interpreter, with what it is driven through.
pub(crate) async fn start_private(
    reaper: &Reaper,
    mut spec: Spec,
    forks: bool,
) -> Result<(Control, Output, Private), Error> {
    let (private, theirs) = Private::new(forks).map_err(|error| fault(&error))?;
    let theirs = theirs.into_iter().zip(control::REQUESTS..);
    let theirs: Vec<_> =
        theirs.map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd }).collect();
    spec.private = i32::try_from(theirs.len()).unwrap_or_default();
    let (control, output) = launch(reaper, &spec, &[], theirs).await?;
    Ok((control, output, private))
}

async fn launch(
    reaper: &Reaper,
    spec: &Spec,
    stdin: &[u8],
    private: Vec<FdMapping>,
) -> Result<(Control, Output), Error> {
    let (mut control, output) = supervisor(reaper, private).map_err(|error| fault(&error))?;
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

fn supervisor(reaper: &Reaper, private: Vec<FdMapping>) -> io::Result<(Control, Output)> {
    let ends = Ends::new()?;
    // The link and not the path: it stays right whatever happens to the file system.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(control::SUPERVISE)
        .stdin(Stdio::from(ends.their_control))
        .stdout(ends.their_stdout)
        .stderr(ends.their_stderr);
    settings::hide_ours(&mut command);
    if !private.is_empty() {
        command.fd_mappings(private).map_err(io::Error::other)?;
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

    /// Ends the run without its supervisor, which has not obeyed an order to kill.
    pub(crate) fn force(&self) {
        self.reaper.kill(self.pid);
    }
}

pub(crate) fn fault(error: &io::Error) -> Error {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE) => Error::new(
            Code::TooMany,
            format!(
                "the sandbox can start no more processes ({error}); end some, or ask for a larger sandbox"
            ),
        ),
        _ => Error::new(Code::Internal, format!("could not start a supervisor: {error}")),
    }
}

/// What a caller can do about a process that would not start.
fn explain(spec: &Spec, failure: &Failure) -> Error {
    let errno = Errno::from_raw(failure.errno);
    let name = spec.argv.first().map_or("", String::as_str);
    let cwd = spec.cwd.display();
    let (code, message) = match (failure.stage, errno) {
        (Stage::Directory, Errno::ENOENT) => (
            Code::FileNotFound,
            format!("{cwd}: no such directory; make it first or set another cwd"),
        ),
        (Stage::Directory, Errno::ENOTDIR) => {
            (Code::FileKind, format!("{cwd}: not a directory; set cwd to one"))
        }
        (Stage::Directory, _) => (
            Code::PermissionDenied,
            format!("{cwd}: cannot be entered ({}); set another cwd", errno.desc()),
        ),
        (Stage::Lookup, Errno::EACCES) => (
            Code::CommandNotFound,
            format!("{name}: is no executable file; chmod +x it or name its interpreter"),
        ),
        (Stage::Lookup, _) if name == "/bin/sh" => (
            Code::CommandNotFound,
            "/bin/sh: the image has no shell; use argv instead of shell".to_owned(),
        ),
        (Stage::Lookup, _) if name.contains('/') => {
            (Code::CommandNotFound, format!("{name}: no such program in the image"))
        }
        (Stage::Lookup, _) => (
            Code::CommandNotFound,
            format!(
                "{name}: not found in PATH; use an image that has it, install it, or give its full path"
            ),
        ),
        (Stage::Execute, Errno::ENOENT) => (
            Code::CommandNotFound,
            format!("{name}: exists, but the interpreter or loader that it names does not"),
        ),
        (Stage::Execute, Errno::ENOEXEC) => (
            Code::CommandNotFound,
            format!(
                "{name}: is no program for this machine and has no #! line; name its interpreter"
            ),
        ),
        (Stage::Execute, Errno::E2BIG) => (
            Code::InvalidArgument,
            format!(
                "{name}: argv and env are longer than the kernel takes (128 KiB each, 2 MiB together); pass the data by stdin or a file"
            ),
        ),
        (Stage::Execute, Errno::EAGAIN | Errno::ENOMEM) => (
            Code::TooMany,
            format!(
                "{name}: the sandbox can start no more processes ({}); end some first",
                errno.desc()
            ),
        ),
        (Stage::Execute, _) => {
            (Code::CommandNotFound, format!("{name}: cannot be started ({})", errno.desc()))
        }
    };
    Error::new(code, message)
}
