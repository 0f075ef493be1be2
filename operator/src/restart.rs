//! Whether a pod that was lost is made anew, how often and when: decided here and nowhere else.
//!
//! All of it follows from what the status says: how many were lost, and since when there is no pod. So it is the same
//! for an operator that has just started, and nothing is written for its sake.

use api::{
    CodeSandbox, CodeSandboxStatus, RestartPolicy, Termination, TerminationReason, condition,
    reason,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{termination, time};

/// How long the second replacement waits, as a Job's does; each that follows waits twice as long.
const BACKOFF: SignedDuration = SignedDuration::from_secs(10);
/// The longest that one waits.
const MAX_BACKOFF: SignedDuration = SignedDuration::from_mins(5);
/// How many losses it takes for a replacement to wait: one is no reason to.
const LOSSES_TO_WAIT: u32 = 2;

/// What is left of a sandbox whose pod is gone.
fn left(sandbox: &CodeSandbox) -> &'static str {
    match sandbox.effective().workspace {
        Some(_) => "its disk is kept, its contexts are gone and its runs are lost",
        None => "its files and contexts are gone and its runs are lost",
    }
}

/// How a pod was lost, and what is left.
pub(crate) fn told(sandbox: &CodeSandbox, end: Termination) -> Termination {
    if !termination::is_loss(end.reason) {
        return end;
    }
    Termination { message: format!("{}; {}", end.message, left(sandbox)), ..end }
}

/// How a sandbox finishes whose pod ended so; nothing where another pod follows.
pub(crate) fn finish(sandbox: &CodeSandbox, end: &Termination) -> Option<Termination> {
    if !termination::is_loss(end.reason) {
        return Some(end.clone());
    }
    let effective = sandbox.effective();
    let why = match effective.restart_policy {
        RestartPolicy::Never => "spec.restartPolicy is Never".into(),
        RestartPolicy::Recreate
            if sandbox.status.as_ref().map_or(0, CodeSandboxStatus::lost_pods)
                < effective.backoff_limit =>
        {
            return None;
        }
        RestartPolicy::Recreate => {
            format!("spec.backoffLimit ({}) is used up", effective.backoff_limit)
        }
    };
    let remedy = match end.reason {
        TerminationReason::Evicted => {
            ", with more spec.resources.ephemeralStorage if its disk was full"
        }
        _ => "",
    };
    let message = format!("{}; {why}, so create another sandbox{remedy}", end.message);
    Some(Termination { message, ..end.clone() })
}

/// When a pod is made after so many losses, where there has been none since a time.
fn due(losses: u32, since: Timestamp) -> Timestamp {
    let Some(waited) = losses.checked_sub(LOSSES_TO_WAIT) else { return since };
    let wait = 2_i32.checked_pow(waited).and_then(|times| BACKOFF.checked_mul(times));
    time::later(since, wait.map_or(MAX_BACKOFF, |wait| wait.min(MAX_BACKOFF)))
}

/// When the pod is made that a sandbox waits for after a loss, though nothing else keeps it; nothing where it need not wait.
///
/// `NetworkIsolated` is Unknown exactly while there is no pod, and so tells since when. `Ready` does not: it stays False when
/// a pod is lost that never was ready.
pub(crate) fn next(status: &CodeSandboxStatus, now: Timestamp) -> Option<Timestamp> {
    let ready = status.condition(condition::READY)?;
    let isolated = status.condition(condition::NETWORK_ISOLATED)?;
    (tells_loss(ready) && isolated.status == "Unknown")
        .then(|| due(status.lost_pods(), isolated.last_transition_time.0))
        .filter(|due| time::waits(*due, MAX_BACKOFF, now))
}

/// Whether Ready says that a pod was lost, which it does until there is another one.
pub(crate) fn tells_loss(ready: &Condition) -> bool {
    matches!(&*ready.reason, reason::POD_LOST | reason::TERMINATING)
}

/// Which attempt follows after so many losses, and when.
pub(crate) fn announced(
    sandbox: &CodeSandbox,
    attempt: u32,
    losses: u32,
    since: Timestamp,
) -> String {
    let limit = sandbox.effective().backoff_limit;
    let due = due(losses, since);
    let when = if due == since { "once".into() } else { due.to_string() };
    format!("replacement {losses} of {limit}, as attempt {attempt}, follows at {when}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    #[test]
    fn the_wait_doubles_from_ten_seconds_to_five_minutes() {
        for (losses, seconds) in [
            (0, 0),
            (1, 0),
            (2, 10),
            (3, 20),
            (4, 40),
            (5, 80),
            (6, 160),
            (7, 300),
            (8, 300),
            (u32::MAX, 300),
        ] {
            assert_eq!(due(losses, at(7)), at(7 + seconds), "{losses} losses");
        }
    }
}
