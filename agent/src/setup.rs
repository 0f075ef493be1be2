//! `agent setup`: what a sandbox's user wants done before anything else, in an init container of the same image and volumes.
//!
//! It may have a wider network than the sandbox itself. So it takes down what it reaches, for the agent proper to see out of
//! reach before anything runs (`isolation`). When it ends, all of its processes end with its container.

mod kept;
mod opened;
mod words;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

pub(crate) use opened::opened;

use self::kept::Place;
use crate::ending::Ending;
use crate::isolation::{self, Proof};
use crate::settings::{self, Settings};

/// The variable that holds what is to be done, as JSON.
const PLAN: &str = "CODESANDBOX_SETUP";
/// The variable that holds what the sandbox may reach as well, as JSON.
const KEPT: &str = "CODESANDBOX_SETUP_KEPT";
/// Where all output goes, in the directory for temporary files, for who wants to read more than the status has.
const LOG: &str = "setup.log";
/// What says on the sandbox's disk, if it has one, that this very plan has been done there.
const DONE: &str = ".codesandbox-setup";
/// How often it is looked whether a command has ended.
const LOOK: Duration = Duration::from_millis(20);

/// What is to be done.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Plan {
    commands: Vec<String>,
    auto: bool,
    timeout_ms: u64,
    /// Whether it may reach what the sandbox may not.
    opens: bool,
}

/// How a command ended that was not to end so.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// It could not be started.
    NotStarted(String),
    /// With a code other than 0.
    Exited(i32),
    /// By a signal.
    Signaled(i32),
    /// The time was over.
    TimedOut,
}

/// Does what is to be done, unless it has been done on this disk. The word it leaves where it fails is the operator's to tell.
pub(crate) fn setup(settings: &Settings) -> io::Result<ExitCode> {
    prctl::set_dumpable(false)?;
    let text = std::env::var(PLAN).unwrap_or_default();
    let plan: Plan = serde_json::from_str(&text).map_err(io::Error::other)?;
    let kept = std::env::var(KEPT).map_or_else(|_| Ok(Vec::new()), |kept| kept::read(&kept))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(follow(settings, &plan, &text, &kept))
}

async fn follow(
    settings: &Settings,
    plan: &Plan,
    text: &str,
    kept: &[Place],
) -> io::Result<ExitCode> {
    // PID 1 is sent no signal that it does not handle.
    let mut terminate = signal(SignalKind::terminate())?;
    let done = settings.home.join(DONE);
    if fs::read_to_string(&done).is_ok_and(|said| said == text) {
        crate::log("the setup was done on this disk before");
        // The network was opened for it all the same.
        if plan.opens {
            opened::take_down(&settings.runs, kept).await?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let work = async {
        let proof = Proof::new(isolation::canary(settings.canary.as_deref())?, Vec::new());
        tokio::select! {
            () = proof.seek() => return Ok(Err(Ending::NotIsolated)),
            held = proof.hold() => held.map_err(io::Error::other)?,
        }
        let deadline = Instant::now() + Duration::from_millis(plan.timeout_ms);
        let path = std::env::temp_dir().join(LOG);
        let mut log =
            OpenOptions::new().create(true).append(true).open(&path).or_else(|error| {
                crate::log(&format!("could not open {}: {error}", path.display()));
                OpenOptions::new().append(true).open("/dev/null")
            })?;
        let done = run_all(settings, plan, &mut log, deadline).await;
        // Where the sandbox may reach the same, nothing of it is to be closed.
        if plan.opens {
            opened::take_down(&settings.runs, kept).await?;
        }
        Ok(done.map_err(|(command, failure)| {
            crate::log(&format!("a command of the setup failed: {failure:?}"));
            words::leave(&settings.last_words, &command, &failure, &path);
            Ending::SetupFailed
        }))
    };
    let ended: io::Result<Result<(), Ending>> = tokio::select! {
        ended = work => ended,
        _ = terminate.recv() => Ok(Err(Ending::Signal(15))),
    };
    match ended? {
        Ok(()) => {
            // What cannot be taken down is done once more on this disk, and no worse.
            if let Err(error) = fs::write(&done, text) {
                crate::log(&format!("could not write {}: {error}", done.display()));
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(ending) => {
            if ending != Ending::SetupFailed {
                ending.leave_word(&settings.last_words);
            }
            Ok(ending.code())
        }
    }
}

/// Runs all commands, one after another, until one fails; gives that one.
async fn run_all(
    settings: &Settings,
    plan: &Plan,
    log: &mut File,
    deadline: Instant,
) -> Result<(), (String, Failure)> {
    for command in &plan.commands {
        run(settings, command, log, deadline).await.map_err(|why| (command.clone(), why))?;
    }
    // Only now: what they look for may be what the commands have brought.
    let found = |name: &str| plan.auto && settings.workspace.join(name).is_file();
    for command in installs(found) {
        run(settings, command, log, deadline).await.map_err(|why| (command.into(), why))?;
    }
    Ok(())
}

/// What installs what a project's files name, of those that are there.
fn installs(is_there: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let python = is_there("requirements.txt").then_some(
        "python3 -m pip install --no-input --disable-pip-version-check -r requirements.txt",
    );
    let node = is_there("package.json").then(|| {
        if is_there("package-lock.json") {
            "npm ci --no-audit --no-fund"
        } else {
            "npm install --no-audit --no-fund"
        }
    });
    python.into_iter().chain(node).collect()
}

/// Runs a line to its end, with all output in the log.
async fn run(
    settings: &Settings,
    line: &str,
    log: &mut File,
    deadline: Instant,
) -> Result<(), Failure> {
    // What cannot be logged is run all the same.
    let _ = writeln!(log, "$ {line}");
    let started = start(settings, line, log);
    let mut child = started.map_err(|error| Failure::NotStarted(error.to_string()))?;
    let ended = async {
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => sleep(LOOK).await,
                Err(error) => return Err(error),
            }
        }
    };
    let ended = timeout(deadline.saturating_duration_since(Instant::now()), ended).await;
    end_all(&child);
    match ended {
        Ok(Ok(status)) => judge(status),
        Ok(Err(error)) => Err(Failure::NotStarted(error.to_string())),
        Err(_) => Err(Failure::TimedOut),
    }
}

fn start(settings: &Settings, line: &str, log: &File) -> io::Result<Child> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]).current_dir(&settings.workspace).process_group(0);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?);
    settings::hide_ours(&mut command);
    command.spawn()
}

/// Ends what a command has left, so that it does not go on beside the next one. What has left its group ends with the container.
fn end_all(child: &Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        // Mostly there is nobody left in it.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
}

fn judge(status: ExitStatus) -> Result<(), Failure> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(Failure::Exited(code)),
        (None, signal) => Err(Failure::Signaled(signal.unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_follows_from_the_files_that_are_there() {
        let pip =
            "python3 -m pip install --no-input --disable-pip-version-check -r requirements.txt";
        for (files, expected) in [
            (&[][..], &[][..]),
            (&["requirements.txt"], &[pip]),
            (&["package.json"], &["npm install --no-audit --no-fund"]),
            (&["package-lock.json"], &[]),
            (
                &["package-lock.json", "package.json", "requirements.txt"],
                &[pip, "npm ci --no-audit --no-fund"],
            ),
        ] {
            assert_eq!(installs(|name| files.contains(&name)), expected, "{files:?}");
        }
    }
}
