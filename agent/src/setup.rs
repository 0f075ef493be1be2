//! `agent setup`: what a sandbox's user wants done before anything else, in an init container of the same image and volumes.
//!
//! It may have a wider network than the sandbox itself. So it takes down what it reaches, for the agent proper to see out of
//! reach before anything runs (`isolation`). When it ends, all of its processes end with its container.

mod files;
mod git;
mod installs;
mod kept;
mod opened;
mod steps;
mod words;

use std::fs::{self, OpenOptions};
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::prctl;
use serde::Deserialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

pub(crate) use opened::opened;

use self::kept::Place;
use self::steps::Steps;
use crate::ending::Ending;
use crate::isolation::{self, Proof};
use crate::settings::Settings;

/// The variable that holds what is to be done, as JSON.
const PLAN: &str = "CODESANDBOX_SETUP";
/// The variable that holds what the sandbox may reach as well, as JSON.
const KEPT: &str = "CODESANDBOX_SETUP_KEPT";
/// Where all output goes, in the directory for temporary files, for who wants to read more than the status has.
const LOG: &str = "setup.log";
/// What says on the sandbox's disk, if it has one, that this very plan has been done there.
const DONE: &str = ".codesandbox-setup";

/// What is to be done.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Plan {
    git: Option<git::Git>,
    files: Vec<files::Planned>,
    commands: Vec<String>,
    auto: bool,
    timeout_ms: u64,
    /// Whether it may reach what the sandbox may not.
    opens: bool,
}

/// What became of a part of the setup that was to end otherwise.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// It could not be done.
    NotDone(String),
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
    let ended = runtime.block_on(follow(settings, &plan, &text, &kept));
    // Not waiting for a file that does not let itself be written.
    runtime.shutdown_background();
    ended
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
    let text = &files::told(text, &plan.files);
    if fs::read(&done).is_ok_and(|said| said == *text) {
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
        let log = OpenOptions::new().create(true).append(true).open(&path).or_else(|error| {
            crate::log(&format!("could not open {}: {error}", path.display()));
            OpenOptions::new().append(true).open("/dev/null")
        })?;
        let done = Steps::new(settings, log, deadline).all(plan).await;
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
