//! A command: one process, its output, and whatever it leaves running.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use wire::Error;
use wire::limits::{DRAIN_GRACE, KILL_GRACE};
use wire::v1::{Command, Stream, Terminal};

use super::interactive::Reach;
use super::{Cause, End, Run};
use crate::control::{Exit, Order, Report, Spec, Stdin};
use crate::output::Output;
use crate::process::{self, Control};
use crate::reaper::Reaper;
use crate::settings::Settings;

/// What programs believe a terminal can where nobody says it: what those of most people can.
const TERM: &str = "xterm-256color";

/// Where a command reads its input.
pub(crate) enum Source {
    /// What its spec holds.
    Spec,
    /// What comes while it runs.
    Pipe,
    /// The same, at a terminal.
    Terminal(Terminal),
}

/// Runs a command to its outcome, then looks after what it left behind.
pub(crate) async fn run(
    run: Arc<Run>,
    command: Command,
    source: Source,
    limit: Duration,
    reaper: Reaper,
    settings: Arc<Settings>,
) {
    run.look_before().await;
    let started = start(command, source, &reaper, &settings).await;
    let (reach, mut control, mut output) = match started {
        Ok(started) => started,
        Err(error) => return run.fail(error),
    };
    run.within_reach(reach);
    run.started(false);
    let (cause, exit) = follow(&run, &mut control, &mut output, limit).await;
    run.tell_changes().await;
    run.finish(End { cause, exit, totals: output.totals(), context_lost: false });
    drop(run);
    outlive(&mut control, &mut output).await;
}

async fn start(
    command: Command,
    source: Source,
    reaper: &Reaper,
    settings: &Settings,
) -> Result<(Reach, Control, Output), Error> {
    let mut spec = Spec {
        argv: command.argv,
        env: command.env,
        cwd: settings.workspace.join(command.cwd),
        stdin: Stdin::Given(command.stdin.len()),
        private: 0,
    };
    match source {
        Source::Spec => {
            let (control, output) = process::start(reaper, &spec, &command.stdin).await?;
            Ok((Reach::new(control.orders()), control, output))
        }
        Source::Pipe => {
            let (control, output, end) = process::start_open(reaper, spec).await?;
            Ok((Reach::interactive(control.orders(), end, false), control, output))
        }
        Source::Terminal(size) => {
            if env::var_os("TERM").is_none() {
                spec.env.entry("TERM".to_owned()).or_insert_with(|| TERM.to_owned());
            }
            let (control, output, end) = process::start_at_terminal(reaper, spec, size).await?;
            Ok((Reach::interactive(control.orders(), end, true), control, output))
        }
    }
}

/// Records output until the process and its pipes have ended.
pub(super) async fn follow(
    run: &Run,
    control: &mut Control,
    output: &mut Output,
    limit: Duration,
) -> (Option<Cause>, Option<Exit>) {
    // When the run's time is up; after an order to kill, when patience with its supervisor is.
    let mut deadline = Instant::now() + limit;
    let mut cause = None;
    let mut exit = None;
    // Once the process has ended, how long its children are still listened to.
    let mut patience = None;
    while !(patience.is_some() && output.ended()) {
        let due = patience.unwrap_or(deadline);
        tokio::select! {
            stream = output.ready() => take(run, output, stream).await,
            report = control.report(), if patience.is_none() => match report {
                Some(Report::Exited(seen)) => {
                    exit = Some(seen);
                    patience = Some(Instant::now() + DRAIN_GRACE);
                    if cause.is_some() {
                        gone(run, control, output).await;
                    }
                }
                Some(_) => {}
                // The supervisor was killed: how the process ended is known to nobody.
                None => patience = Some(Instant::now() + DRAIN_GRACE),
            },
            () = run.until_cancelled(), if cause.is_none() && patience.is_none() => {
                cause = Some(Cause::Cancelled);
                control.order(Order::Kill);
                deadline = Instant::now() + KILL_GRACE * 2;
            }
            () = sleep_until(due) => {
                if patience.is_some() {
                    break;
                }
                if cause.is_some() {
                    control.force();
                } else {
                    cause = Some(Cause::TimedOut);
                    control.order(Order::Kill);
                }
                deadline = Instant::now() + KILL_GRACE * 2;
            }
        }
    }
    output.drain(|stream, data| run.output(stream, data));
    (cause, exit)
}

/// After a kill, waits until nothing of the run is left: its outcome says that it is over.
pub(crate) async fn gone(run: &Run, control: &mut Control, output: &mut Output) {
    let over = async {
        loop {
            tokio::select! {
                () = control.gone() => break,
                stream = output.ready() => take(run, output, stream).await,
            }
        }
    };
    // What does not even die of SIGKILL hangs in the kernel, and waiting would not help.
    let _ = timeout(KILL_GRACE * 2, over).await;
}

/// Records what one pipe has, and lets others have their turn: a flood would never end.
pub(crate) async fn take(run: &Run, output: &mut Output, stream: Stream) {
    if let Some(data) = output.take(stream) {
        run.output(stream, data);
        tokio::task::yield_now().await;
    }
}

/// Stays with the children that outlive a run: they are the user's, and would die of a closed pipe,
/// or with their supervisor. What they write now belongs to no run.
pub(crate) async fn outlive(control: &mut Control, output: &mut Output) {
    loop {
        tokio::select! {
            () = control.gone() => return,
            stream = output.ready() => {
                output.take(stream);
                tokio::task::yield_now().await;
            }
        }
    }
}
