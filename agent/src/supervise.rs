//! The small parent of one run: starts it, reaps whatever it leaves, and kills all of it on order.
//!
//! It has its own session and is a subreaper, so that daemonised children stay below it. It holds
//! no thread pool and no runtime: it must start in a millisecond, once for every run.
//!
//! Its stdin is the control socket, which the process it starts never sees; its stdout and stderr are
//! the user's and are let go of as soon as that process has its copies.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use std::{env, process, thread};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{self, Signal};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{self, Pid};
use wire::limits::KILL_GRACE;

use crate::control::{
    ENTER, Exit, Failure, INPUT, Order, REQUESTS, Report, Spec, Stage, Status, Stdin,
};
use crate::{clock, proc};

/// Where a program is looked for when the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Supervises one run, from the spec on stdin until nothing of it is left.
pub(crate) fn supervise() -> io::Result<()> {
    let mut control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let (spec, stdin) = Spec::read(&mut control)?;
    prctl::set_dumpable(false)?;
    unistd::setsid()?;
    prctl::set_child_subreaper(true)?;

    let leader = Arc::default();
    let begun = listen(&control, &leader).map_err(|error| cannot_start(&error)).and_then(|()| {
        // Nobody is told of it who could be reaped before it is known.
        let mut led = lock(&leader);
        let (pid, input) = start(&spec)?;
        *led = Some(pid);
        feed(input, stdin).map_err(|error| cannot_start(&error))
    });
    match begun {
        Ok(()) => report(&control, &Report::Started)?,
        Err(failure) => {
            report(&control, &Report::Failed(failure))?;
            // What has started all the same is killed by the agent, which finds that we have failed.
            process::exit(i32::from(lock(&leader).is_some()));
        }
    }
    reap(&control, &leader)
}

/// Supervises the copy of an interpreter: its parent has become this program, and so we have a child
/// that we did not start. It does nothing of the user's before the agent has heard of us.
pub(crate) fn take_over(leader: &str) -> io::Result<()> {
    let control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let leader = Pid::from_raw(leader.parse().map_err(io::Error::other)?);
    prctl::set_dumpable(false)?;
    prctl::set_child_subreaper(true)?;
    let leader = Arc::new(Mutex::new(Some(leader)));
    listen(&control, &leader)?;
    report(&control, &Report::TakenOver(Pid::this().as_raw()))?;
    reap(&control, &leader)
}

/// Begins to carry out orders, in a thread of its own.
fn listen(control: &UnixStream, leader: &Arc<Mutex<Option<Pid>>>) -> io::Result<()> {
    let orders = (control.try_clone()?, Arc::clone(leader));
    thread::Builder::new().spawn(move || obey(orders.0, &orders.1)).map(drop)
}

fn cannot_start(error: &io::Error) -> Failure {
    Failure { stage: Stage::Execute, errno: error.raw_os_error().unwrap_or(0) }
}

/// Starts the process and lets go of everything that is its own.
fn start(spec: &Spec) -> Result<(Pid, Option<ChildStdin>), Failure> {
    let mut command = command(spec)?;
    let mut child = command.spawn().map_err(|error| cannot_start(&error))?;
    // Held on to, the pipes would not end while a child lives that has closed them.
    if let Ok(null) = OpenOptions::new().write(true).open("/dev/null") {
        let _ = unistd::dup2_stdout(&null);
        let _ = unistd::dup2_stderr(&null);
    }
    if let Ok(null) = File::open("/dev/null") {
        let _ = unistd::dup2_stdin(&null);
    }
    for descriptor in REQUESTS..REQUESTS + spec.private {
        let _ = unistd::close(descriptor);
    }
    let pid = i32::try_from(child.id()).unwrap_or_default();
    Ok((Pid::from_raw(pid), child.stdin.take()))
}

fn command(spec: &Spec) -> Result<Command, Failure> {
    let fail = |stage, errno: Errno| Failure { stage, errno: errno as i32 };
    match fs::metadata(&spec.cwd) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(fail(Stage::Directory, Errno::ENOTDIR)),
        Err(error) => {
            return Err(Failure {
                stage: Stage::Directory,
                errno: error.raw_os_error().unwrap_or(0),
            });
        }
    }
    let name = spec.argv.first().ok_or_else(|| fail(Stage::Lookup, Errno::ENOENT))?;
    let path = spec.env.get("PATH").cloned().or_else(|| env::var("PATH").ok());
    let program = look_up(name, path.as_deref().unwrap_or(DEFAULT_PATH), &spec.cwd)
        .map_err(|errno| fail(Stage::Lookup, errno))?;
    let mut command = match spec.stdin {
        // It makes a session of its own, which the leader of a group cannot.
        Stdin::Terminal => {
            let mut command = Command::new("/proc/self/exe");
            command.arg(ENTER).arg(program).arg(name);
            command
        }
        Stdin::Given(_) | Stdin::Open => {
            let mut command = Command::new(program);
            // A group of its own, so that an interrupt reaches what a terminal's would and not us.
            command.arg0(name).process_group(0);
            command
        }
    };
    let stdin = match spec.stdin {
        Stdin::Given(0) | Stdin::Terminal => Stdio::null(),
        Stdin::Given(_) => Stdio::piped(),
        Stdin::Open => input().map_err(|error| cannot_start(&error))?.into(),
    };
    command.args(&spec.argv[1..]).envs(&spec.env).current_dir(&spec.cwd).stdin(stdin);
    Ok(command)
}

/// The pipe that the agent writes to. Opened anew, since the descriptor that we were given would be handed on
/// besides, and whoever held it would keep the pipe from breaking.
fn input() -> io::Result<File> {
    let input = File::open(format!("/proc/self/fd/{INPUT}"))?;
    unistd::close(INPUT)?;
    Ok(input)
}

/// Whether a program of this name would be found from this directory by what runs here.
pub(crate) fn installed(name: &str, cwd: &Path) -> bool {
    look_up(name, env::var("PATH").as_deref().unwrap_or(DEFAULT_PATH), cwd).is_ok()
}

/// The file that a name stands for, looked for by the rules of a shell.
fn look_up(name: &str, path: &str, cwd: &Path) -> Result<PathBuf, Errno> {
    if name.contains('/') {
        let program = cwd.join(name);
        return executable(&program).map(|()| program);
    }
    let mut found = Errno::ENOENT;
    for directory in path.split(':') {
        let program = cwd.join(directory).join(name);
        match executable(&program) {
            Ok(()) => return Ok(program),
            Err(Errno::EACCES) => found = Errno::EACCES,
            Err(_) => {}
        }
    }
    Err(found)
}

fn executable(program: &Path) -> Result<(), Errno> {
    let found = fs::metadata(program)
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    if found.is_file() && found.permissions().mode() & 0o111 != 0 {
        Ok(())
    } else {
        Err(Errno::EACCES)
    }
}

/// Writes stdin from a thread of its own: who does not read it must not hold up the run.
fn feed(input: Option<ChildStdin>, bytes: Vec<u8>) -> io::Result<()> {
    let Some(mut input) = input else { return Ok(()) };
    thread::Builder::new()
        .spawn(move || {
            // A process need not read its input to the end.
            let _ = input.write_all(&bytes);
        })
        .map(drop)
}

/// Carries out orders until the agent goes away, which is an order too.
fn obey(mut control: UnixStream, leader: &Mutex<Option<Pid>>) {
    let mut byte = [0];
    loop {
        let order = match control.read(&mut byte) {
            Ok(1) => Order::of(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
            Ok(_) | Err(_) => Some(Order::Kill),
        };
        match order {
            Some(Order::Kill) => kill_all(),
            Some(Order::Interrupt) => {
                if let Some(leader) = *lock(leader) {
                    let _ = signal::killpg(leader, Signal::SIGINT);
                }
                let _ = report(&control, &Report::Interrupted);
            }
            Some(Order::Signal(number)) => {
                if let (Some(leader), Ok(signal)) =
                    (*lock(leader), Signal::try_from(i32::from(number)))
                {
                    // One that has not made its group yet is alone.
                    let _ =
                        signal::killpg(leader, signal).or_else(|_| signal::kill(leader, signal));
                }
            }
            Some(Order::LetGo) => {
                let let_go = prctl::set_child_subreaper(false).map_err(io::Error::from);
                let _ = let_go.and_then(|()| report(&control, &Report::LetsGo));
            }
            Some(Order::Adopt) => {
                let _ = prctl::set_child_subreaper(true);
            }
            None => {}
        }
    }
}

/// Ends every descendant. It returns with the process: `reap` ends that when none is left.
fn kill_all() -> ! {
    let own = Pid::this().as_raw();
    let deadline = Instant::now() + KILL_GRACE;
    let mut asked = HashSet::new();
    while Instant::now() < deadline {
        // Newcomers are asked too: a shell that dies of it may just have started the next command.
        for pid in proc::descendants(own).into_iter().filter(|pid| asked.insert(*pid)) {
            send(pid, Signal::SIGTERM);
        }
        thread::sleep(KILL_GRACE / 200);
    }
    // Again and again: what forks while we look is found the next time.
    loop {
        for pid in proc::descendants(own) {
            send(pid, Signal::SIGKILL);
        }
        thread::sleep(KILL_GRACE / 200);
    }
}

fn send(pid: i32, signal: Signal) {
    // It may have ended since, or belong to another user: setuid programs do.
    let _ = signal::kill(Pid::from_raw(pid), signal);
}

/// Reaps until no child is left and reports the leader's end as soon as it is there.
fn reap(control: &UnixStream, leader: &Mutex<Option<Pid>>) -> io::Result<()> {
    loop {
        // Peeked at first: once it is reaped its number may belong to another process, and an
        // interrupt must not find that one.
        let peeked = match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
            Ok(status) => status,
            Err(Errno::EINTR) => continue,
            // No child is left. The thread that obeys ends with us.
            Err(Errno::ECHILD) => process::exit(0),
            Err(error) => return Err(error.into()),
        };
        let Some(pid) = peeked.pid() else { continue };
        let mut led = lock(leader);
        let status = waitpid(pid, None)?;
        if *led != Some(pid) {
            continue;
        }
        *led = None;
        drop(led);
        // The agent may be gone: then there is nobody to tell, and `obey` knows it as well.
        let _ = report(control, &Report::Exited(exit(status)));
    }
}

fn exit(status: WaitStatus) -> Exit {
    let status = match status {
        WaitStatus::Signaled(_, signal, _) => Status::Signaled(signal as i32),
        WaitStatus::Exited(_, code) => Status::Exited(code),
        _ => Status::Exited(-1),
    };
    let (cpu_ms, max_rss_bytes) = getrusage(UsageWho::RUSAGE_CHILDREN).map_or((0, 0), |usage| {
        let (user, system) = (usage.user_time(), usage.system_time());
        let micros =
            (user.tv_sec() + system.tv_sec()) * 1_000_000 + user.tv_usec() + system.tv_usec();
        let cpu = std::time::Duration::from_micros(u64::try_from(micros).unwrap_or(0));
        (clock::millis(cpu), u64::try_from(usage.max_rss()).unwrap_or(0) * 1024)
    });
    Exit { status, cpu_ms, max_rss_bytes }
}

fn report(mut control: &UnixStream, report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    control.write_all(&line)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_as_a_shell_finds_it() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("plain"), "").unwrap();
        let path = format!("{}:/bin:/usr/bin", directory.path().display());
        assert!(look_up("sh", &path, Path::new("/")).unwrap().ends_with("sh"));
        assert_eq!(look_up("plain", &path, Path::new("/")), Err(Errno::EACCES));
        assert_eq!(look_up("no-such-program", &path, Path::new("/")), Err(Errno::ENOENT));
        assert_eq!(look_up("./plain", &path, directory.path()), Err(Errno::EACCES));
    }
}
