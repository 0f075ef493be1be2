//! Waits on a run for as long as its caller will, telling progress all the while.

use std::time::Duration;

use rmcp::{
    RoleServer,
    model::{CallToolResult, ProgressNotificationParam},
    service::RequestContext,
};
use service::{Error, Principal, Service};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use wire::v1::RunSpec;

use crate::{args::RunOptions, transcript::Transcript};

/// How often progress is told: more would cost more than it tells.
const PROGRESS: Duration = Duration::from_millis(500);

/// How long a call waits at least for a word of the run: a request that is dropped unsent begins nothing.
const BEGIN: Duration = Duration::from_secs(2);

/// Starts a run, or attaches to it if its id is known, and waits for its outcome or the caller's patience.
pub(crate) async fn run(
    service: &Service,
    principal: &Principal,
    sandbox: String,
    mut spec: RunSpec,
    options: RunOptions,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResult, Error> {
    let deadline = Instant::now() + options.wait;
    let own_id = options.run_id.is_some();
    let id = options.run_id.unwrap_or_else(new_id);
    spec.timeout_ms = u64::try_from(options.timeout.as_millis()).unwrap_or(u64::MAX);
    let mut transcript = Transcript::new(sandbox.clone(), id.clone(), options.max_output);
    let mut run = service.run(principal, &sandbox, id.clone(), spec).await?;
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
                () = context.ct.cancelled() => {
                    // Only a caller who named the run can come back for it.
                    if !own_id {
                        service.cancel(principal, &sandbox, &id).await?;
                    }
                    return Ok(transcript.answer());
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
    Ok(transcript.answer())
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
fn new_id() -> String {
    let random: u64 = rand::random();
    format!("r-{random:016x}")
}
