//! How a run ended, in words.

use wire::v1::{OomKilled, Outcome, outcome::How};

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
        Some(How::OomKilled(memory)) => format!(
            "it used more memory than the sandbox has{}; use less, or create a sandbox with more memory",
            amounts(memory)
        ),
        _ => return None,
    })
}

/// How much that is, as far as the agent says.
fn amounts(OomKilled { limit_bytes, peak_bytes }: OomKilled) -> String {
    let known = [("limit", limit_bytes), ("peak", peak_bytes)].into_iter();
    let said: Vec<_> = known
        .filter(|(_, bytes)| *bytes > 0)
        .map(|(what, bytes)| format!("{what} {} MiB", bytes.div_ceil(1 << 20)))
        .collect();
    if said.is_empty() { String::new() } else { format!(" ({})", said.join(", ")) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_had_too_little_memory_is_told_how_much_that_was_where_it_is_known() {
        for (limit_bytes, peak_bytes, said) in [
            (256 << 20, 256 << 20, " (limit 256 MiB, peak 256 MiB)"),
            ((256 << 20) + 1, 1, " (limit 257 MiB, peak 1 MiB)"),
            (256 << 20, 0, " (limit 256 MiB)"),
            (0, 256 << 20, " (peak 256 MiB)"),
            // As of an older agent.
            (0, 0, ""),
            (u64::MAX, 0, " (limit 17592186044416 MiB)"),
        ] {
            let how = Some(How::OomKilled(OomKilled { limit_bytes, peak_bytes }));
            let expected = format!(
                "it used more memory than the sandbox has{said}; use less, or create a sandbox with more memory"
            );
            assert_eq!(advice(&Outcome { how, ..Outcome::default() }), Some(expected));
        }
    }
}
