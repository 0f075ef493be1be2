//! A program from its source: compiled, then run, in one log.

use std::env;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use wire::limits::COMPILE_TIME;
use wire::v1::Exception;
use wire::v1::run_event::Event;
use wire::{Code, Error};

use super::interactive::Reach;
use super::program::Program;
use super::{Cause, End, Run, command};
use crate::control::{Exit, Spec, Status};
use crate::process;
use crate::reaper::Reaper;
use crate::settings::Settings;
use crate::supervise;

/// As a shell tells of what it found and could not run.
const CANNOT_EXECUTE: Status = Status::Exited(126);

/// Runs a program to its outcome, which is its compiler's where that fails.
pub(crate) async fn run(
    run: Arc<Run>,
    program: &'static Program,
    source: Bytes,
    limit: Duration,
    reaper: Reaper,
    settings: Arc<Settings>,
) {
    let lacking = program.tools().find(|tool| !supervise::installed(tool, &settings.workspace));
    if let Some(tool) = lacking {
        return run.fail(program.missing(tool));
    }
    run.look_before().await;
    let directory = match spawn_blocking(move || unpack(program, &source)).await {
        Ok(Ok(directory)) => directory,
        Ok(Err(error)) => return run.fail(no_room(&error)),
        Err(error) => return run.fail(no_room(&error.into())),
    };
    let spec = |argv| Spec {
        argv,
        env: program.env(directory.path()),
        cwd: settings.workspace.clone(),
        ..Spec::default()
    };
    let deadline = Instant::now() + limit;
    let mut former = None;
    if let Some(argv) = program.compile(directory.path()) {
        let mut spec = spec(argv);
        // What a compiler that is killed leaves behind goes with the rest.
        spec.env.insert("TMPDIR".to_owned(), directory.path().to_string_lossy().into_owned());
        let (mut control, mut output) = match process::start(&reaper, &spec, &[]).await {
            Ok(started) => started,
            Err(error) => return run.fail(error),
        };
        run.started(false);
        let bound = limit.min(COMPILE_TIME);
        let (cause, exit) = command::follow(&run, &mut control, &mut output, bound).await;
        if let Some(value) = failure(&spec.argv[0], cause, exit) {
            forget(directory).await;
            run.append(exception("CompileError", value));
            return run.finish(End { cause, exit, totals: output.totals(), context_lost: false });
        }
        former = Some(output);
    }
    let started = process::start(&reaper, &spec(program.run(directory.path())), &[]).await;
    let (mut control, mut output) = match (started, &mut former) {
        (Ok(started), _) => started,
        (Err(error), None) => return run.fail(error),
        (Err(error), Some(compiler)) => {
            run.append(exception(error.code.as_str(), error.message));
            let exit = Some(Exit { status: CANNOT_EXECUTE, cpu_ms: 0, max_rss_bytes: 0 });
            let totals = compiler.totals();
            return run.finish(End { exit, totals, ..End::default() });
        }
    };
    run.within_reach(Reach::new(control.orders()));
    match &mut former {
        Some(compiler) => output.go_on_from(compiler),
        None => run.started(false),
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let (cause, exit) = command::follow(&run, &mut control, &mut output, left).await;
    // Before the outcome: who has seen that finds nothing of the run any more.
    forget(directory).await;
    run.tell_changes().await;
    run.finish(End { cause, exit, totals: output.totals(), context_lost: false });
    drop(run);
    command::outlive(&mut control, &mut output).await;
}

/// A directory of the run's own with the source in it. What an agent that is killed leaves there goes with the pod.
fn unpack(program: &Program, source: &[u8]) -> io::Result<TempDir> {
    let directory = tempfile::Builder::new().prefix("codesandbox-run-").tempdir()?;
    std::fs::write(directory.path().join(program.file), source)?;
    Ok(directory)
}

async fn forget(directory: TempDir) {
    // What cannot be removed is in nobody's way.
    let _ = spawn_blocking(move || directory.close()).await;
}

fn no_room(error: &io::Error) -> Error {
    let code = match error.kind() {
        ErrorKind::StorageFull => Code::NoSpace,
        _ => Code::PermissionDenied,
    };
    let directory = env::temp_dir();
    let message = format!(
        "{}: the source could not be written there ({error}); make room, or set TMPDIR",
        directory.display()
    );
    Error::new(code, message)
}

/// Why there is no program to run, if there is none.
fn failure(compiler: &str, cause: Option<Cause>, exit: Option<Exit>) -> Option<String> {
    match (cause, exit.map(|exit| exit.status)) {
        (None, Some(Status::Exited(0))) => None,
        (Some(Cause::TimedOut), _) => Some(format!("{compiler} did not end in time")),
        (Some(Cause::Cancelled), _) => Some(format!("{compiler} was cancelled")),
        (None, Some(Status::Exited(code))) => Some(format!("{compiler} exited with {code}")),
        (None, Some(Status::Signaled(signal))) => {
            Some(format!("{compiler} was ended by signal {signal}"))
        }
        (None, None) => Some(format!("{compiler} is lost")),
    }
}

fn exception(name: &str, value: String) -> Event {
    let traceback = format!("{name}: {value}\n");
    Event::Exception(Exception { name: name.to_owned(), value, traceback })
}
