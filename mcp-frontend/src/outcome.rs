//! How a run ended, in words.

use wire::v1::{Outcome, outcome::How};

/// What an answer about a lost run says.
pub(crate) const RUN_LOST: &str = "RUN_LOST";

/// The line of facts, which machines and people both read.
pub(crate) fn facts(outcome: &Outcome, ids: &str) -> String {
    format!("{} duration={}s {ids}", how(outcome), seconds(outcome.duration_ms))
}

/// Whether nobody can tell how it ended.
pub(crate) fn lost(outcome: &Outcome) -> bool {
    matches!(outcome.how, Some(How::Lost(_)))
}

/// What to do about an end that the user may not have meant.
pub(crate) fn advice(outcome: &Outcome) -> Option<String> {
    Some(match outcome.how {
        Some(How::TimedOut(_)) => {
            "it was ended at its timeout; raise timeout_seconds if it needs longer".into()
        }
        Some(How::Lost(_)) => format!(
            "{RUN_LOST}: the sandbox was restarted while it ran (often out of memory); it may have had effects, look before running it again"
        ),
        Some(How::OomKilled(_)) => {
            "it used more memory than the sandbox has; use less, or create a sandbox with more memory"
                .into()
        }
        _ => return None,
    })
}

fn how(outcome: &Outcome) -> String {
    match outcome.how {
        Some(How::Exited(code)) => format!("exit_code={code}"),
        Some(How::Signaled(signal)) => format!("status=signaled signal={signal}"),
        _ => format!("status={}", kind(outcome)),
    }
}

pub(crate) fn kind(outcome: &Outcome) -> &'static str {
    match outcome.how {
        Some(How::Exited(_)) => "exited",
        Some(How::Signaled(_)) => "signaled",
        Some(How::TimedOut(_)) => "timed_out",
        Some(How::Cancelled(_)) => "cancelled",
        Some(How::OomKilled(_)) => "oom_killed",
        Some(How::Lost(_)) => "lost",
        // An outcome of a later protocol: not known here, and not made up.
        None => "unknown",
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}
