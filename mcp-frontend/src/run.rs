//! Waits on a run for as long as its caller will, telling progress all the while.

use std::time::Duration;

use rmcp::{
    RoleServer,
    model::{CallToolResult, ProgressNotificationParam},
    service::RequestContext,
};
use service::{Error, Principal};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use wire::v1::RunSpec;

use crate::{
    args::RunOptions,
    changes::Asked,
    metrics::Metrics,
    outcome::RUN_LOST,
    pictures::{self, Smaller},
    server::Server,
    transcript::Transcript,
};

/// How often progress is told: more would cost more than it tells.
const PROGRESS: Duration = Duration::from_millis(500);

/// How long a call waits at least for a word of the run: a request that is dropped unsent begins nothing.
const BEGIN: Duration = Duration::from_secs(2);

/// Starts a run, or attaches to it if its id is known, and waits for its outcome or the caller's patience.
pub(crate) async fn run(
    server: &Server,
    principal: &Principal,
    sandbox: String,
    spec: RunSpec,
    options: RunOptions,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResult, Error> {
    let transcript = follow(server, principal, sandbox, spec, options, context).await?;
    let large = transcript.large();
    let smaller = pictures::smaller(&server.service, principal, transcript.sandbox(), large).await;
    Ok(told(&transcript, &smaller, &server.metrics))
}

/// What is seen of a run until its outcome or the end of the wait.
async fn follow(
    Server { service, shutdown, .. }: &Server,
    principal: &Principal,
    sandbox: String,
    mut spec: RunSpec,
    options: RunOptions,
    context: &RequestContext<RoleServer>,
) -> Result<Transcript, Error> {
    let deadline = Instant::now() + options.wait;
    let own_id = options.run_id.is_some();
    let id = options.run_id.unwrap_or_else(new_id);
    spec.report_changes = options.changes;
    spec.timeout_ms = u64::try_from(options.timeout.as_millis()).unwrap_or(u64::MAX);
    let mut transcript = Transcript::new(sandbox.clone(), id.clone(), options.max_output);
    if options.changes {
        transcript.changes = Asked::Untold;
    }
    let mut run = tokio::select! {
        run = service.run(principal, &sandbox, id.clone(), spec) => run?,
        // The sandbox is not ready yet.
        () = shutdown.closing.cancelled() => return Ok(transcript),
    };
    let mut progress = Progress::new(context);
    let begin = deadline.max(Instant::now() + BEGIN);
    loop {
        let due = if transcript.begun() { deadline } else { begin };
        // Pinned: dropped at every tick of progress, it would open a slow stream over and over.
        let mut next = std::pin::pin!(timeout_at(due, run.next()));
        let event = loop {
            tokio::select! {
                event = &mut next => break event,
                () = progress.due() => progress.tell(&transcript).await,
                () = shutdown.closing.cancelled() => return Ok(transcript),
                () = context.ct.cancelled() => {
                    // Only a caller who named the run can come back for it.
                    if !own_id {
                        service.cancel(principal, &sandbox, &id).await?;
                    }
                    return Ok(transcript);
                }
            }
        };
        match event {
            Ok(Ok(Some(event))) => {
                if transcript.push(event) {
                    break;
                }
            }
            Ok(Ok(None)) | Err(_) => break,
            Ok(Err(error)) => return Err(error.into()),
        }
    }
    Ok(transcript)
}

/// The answer of a run that is waited for no longer. A lost one is an error, and counted as those of verbs are.
fn told(transcript: &Transcript, smaller: &Smaller, metrics: &Metrics) -> CallToolResult {
    if transcript.lost() {
        metrics.error(RUN_LOST);
    }
    transcript.told(smaller)
}

/// The progress of one call, where its caller asked for it.
struct Progress<'a> {
    context: &'a RequestContext<RoleServer>,
    ticks: tokio::time::Interval,
    told: f64,
}

impl<'a> Progress<'a> {
    fn new(context: &'a RequestContext<RoleServer>) -> Self {
        let mut ticks = interval(PROGRESS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        Self { context, ticks, told: 0.0 }
    }

    async fn due(&mut self) {
        if self.context.meta.get_progress_token().is_none() {
            std::future::pending::<()>().await;
        }
        self.ticks.tick().await;
    }

    async fn tell(&mut self, transcript: &Transcript) {
        let Some(token) = self.context.meta.get_progress_token() else { return };
        self.told += 1.0;
        let message =
            format!("{} bytes of output; {}", transcript.produced(), transcript.last_line());
        let progress = ProgressNotificationParam::new(token, self.told).with_message(message);
        // A caller who does not listen loses progress, not the result.
        if let Err(error) = self.context.peer.notify_progress(progress).await {
            tracing::debug!(%error, "could not tell progress");
        }
    }
}

/// An id for a run whose caller chose none.
pub(crate) fn new_id() -> String {
    let random: u64 = rand::random();
    format!("r-{random:016x}")
}

#[cfg(test)]
mod tests {
    use wire::v1::{Empty, Outcome, RunEvent, outcome::How, run_event::Event};

    use super::*;

    #[test]
    fn a_lost_run_is_counted_as_an_error_and_a_failed_one_is_not() {
        for (how, counted) in [(How::Lost(Empty {}), true), (How::Exited(1), false)] {
            let metrics = Metrics::default();
            let mut transcript = Transcript::new("a".into(), "r".into(), 200);
            let outcome = Outcome { how: Some(how), ..Outcome::default() };
            let event = Some(Event::Outcome(outcome));
            transcript.push(RunEvent { event, ..RunEvent::default() });
            assert_eq!(told(&transcript, &Smaller::new(), &metrics).is_error, Some(counted));
            let line = r#"codesandbox_mcp_errors_total{code="RUN_LOST"} 1"#;
            assert_eq!(metrics.text(0).lines().any(|found| found == line), counted);
        }
    }
}
