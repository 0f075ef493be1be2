//! Whether a pod that was lost is made anew, how often and when: decided here and nowhere else.
//!
//! All of it follows from what the status says: which attempt it is, and since when there is no pod. So it is the same
//! for an operator that has just started, and nothing is written for its sake.

use api::{
    CodeSandbox, CodeSandboxStatus, RestartPolicy, Termination, TerminationReason, condition,
};
use jiff::{SignedDuration, Timestamp};

use crate::{plan, termination};

/// How long the second replacement waits, as a Job's does; each that follows waits twice as long.
const BACKOFF: SignedDuration = SignedDuration::from_secs(10);
/// The longest that one waits.
const MAX_BACKOFF: SignedDuration = SignedDuration::from_mins(5);
/// The attempt that waits first. The one before it replaces a first pod, and one loss is no reason to wait.
const FIRST_TO_WAIT: u32 = 3;

/// How a sandbox finishes whose pod ended so; nothing where another pod follows.
pub(crate) fn finish(sandbox: &CodeSandbox, end: &Termination) -> Option<Termination> {
    if !termination::is_loss(end.reason) {
        return Some(end.clone());
    }
    let effective = sandbox.effective();
    let why = match effective.restart_policy {
        RestartPolicy::Never => "spec.restartPolicy is Never".into(),
        RestartPolicy::Recreate if plan::attempt(sandbox) <= effective.backoff_limit => {
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

/// When the pod of an attempt is made, where there has been none since a time.
fn due(attempt: u32, since: Timestamp) -> Timestamp {
    let Some(waited) = attempt.checked_sub(FIRST_TO_WAIT) else { return since };
    let wait = 2_i32.checked_pow(waited).and_then(|times| BACKOFF.checked_mul(times));
    since + wait.map_or(MAX_BACKOFF, |wait| wait.min(MAX_BACKOFF))
}

/// When the pod is made that a sandbox waits for, though nothing else keeps it.
///
/// `NetworkIsolated` is Unknown exactly while there is no pod, and so tells since when. `Ready` does not: it stays False when
/// a pod is lost that never was ready.
pub(crate) fn next(status: &CodeSandboxStatus) -> Option<Timestamp> {
    let isolated = status.condition(condition::NETWORK_ISOLATED)?;
    let attempt = status.attempt.filter(|_| isolated.status == "Unknown")?;
    Some(due(attempt, isolated.last_transition_time.0))
}

/// Which attempt follows, and when.
pub(crate) fn announced(sandbox: &CodeSandbox, attempt: u32, since: Timestamp) -> String {
    let all = u64::from(sandbox.effective().backoff_limit) + 1;
    let due = due(attempt, since);
    let when = if due == since { "once".into() } else { due.to_string() };
    format!("attempt {attempt} of {all} follows at {when}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    #[test]
    fn the_wait_doubles_from_ten_seconds_to_five_minutes() {
        for (attempt, seconds) in [
            (1, 0),
            (2, 0),
            (3, 10),
            (4, 20),
            (5, 40),
            (6, 80),
            (7, 160),
            (8, 300),
            (9, 300),
            (u32::MAX, 300),
        ] {
            assert_eq!(due(attempt, at(7)), at(7 + seconds), "attempt {attempt}");
        }
    }
}
