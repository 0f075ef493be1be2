//! When a sandbox goes.

use std::time::Duration;

use api::{CodeSandbox, condition};
use jiff::Timestamp;

/// When a sandbox's ttl ends: a function of what is in the object, so that it survives restarts of ours.
///
/// In whole seconds, rounded up: that is all that Kubernetes' times can hold.
pub(crate) fn expires_at(sandbox: &CodeSandbox) -> Option<Timestamp> {
    let created = sandbox.metadata.creation_timestamp.as_ref()?.0;
    Some(later(created, sandbox.effective().ttl.as_std()))
}

/// When a finished sandbox's object goes.
pub(crate) fn finished_until(sandbox: &CodeSandbox) -> Option<Timestamp> {
    let status = sandbox.status.as_ref().filter(|status| status.is_true(condition::FINISHED))?;
    let finished = status.condition(condition::FINISHED)?.last_transition_time.0;
    Some(later(finished, sandbox.effective().ttl_after_finished.as_std()))
}

/// When the object goes, whichever comes first.
pub(crate) fn ends_at(sandbox: &CodeSandbox) -> Option<Timestamp> {
    expires_at(sandbox).into_iter().chain(finished_until(sandbox)).min()
}

/// The longest that a warning comes before the end of a ttl.
const WARNING: Duration = Duration::from_mins(5);

/// When it is told that a sandbox's ttl ends soon: a tenth of it before, and at most five minutes.
pub(crate) fn warns_at(sandbox: &CodeSandbox) -> Option<Timestamp> {
    let before = WARNING.min(sandbox.effective().ttl.as_std() / 10);
    expires_at(sandbox)?.checked_sub(before).ok()
}

/// How long it is until a time; nothing once it is over.
pub(crate) fn until(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(now)).unwrap_or_default()
}

/// A time later by a duration, both in whole seconds. The end of time stays the end of time.
fn later(time: Timestamp, duration: Duration) -> Timestamp {
    let seconds = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0));
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_second(time.as_second().saturating_add(seconds)).ok())
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{CREATED, at, finished, sandbox};

    #[test]
    fn a_sandbox_expires_its_ttl_after_its_creation() {
        for (ttl, seconds) in [("1h", 3600), ("1s", 1), ("1500ms", 2), ("168h", 604_800)] {
            let mut sandbox = sandbox();
            sandbox.spec.settings.ttl = Some(ttl.into());
            assert_eq!(expires_at(&sandbox), Some(at(seconds)), "{ttl}");
        }
    }

    #[test]
    fn a_finished_sandbox_goes_at_whichever_end_comes_first() {
        let mut sandbox = sandbox();
        assert_eq!(finished_until(&sandbox), None);

        sandbox.status = Some(finished(at(60)));
        assert_eq!(ends_at(&sandbox), Some(at(60 + 600)));

        sandbox.spec.settings.ttl_after_finished = Some("168h".into());
        assert_eq!(ends_at(&sandbox), Some(at(3600)));
    }

    #[test]
    fn a_warning_comes_a_tenth_of_the_ttl_before_its_end_and_at_most_five_minutes() {
        for (ttl, seconds) in [("168h", 604_800 - 300), ("1h", 3300), ("10m", 540), ("20s", 18)] {
            let mut sandbox = sandbox();
            sandbox.spec.settings.ttl = Some(ttl.into());
            assert_eq!(warns_at(&sandbox), Some(at(seconds)), "{ttl}");
        }
    }

    #[test]
    fn what_is_over_needs_no_waiting() {
        assert_eq!(until(at(5), at(2)), Duration::from_secs(3));
        assert_eq!(until(at(2), at(5)), Duration::ZERO);
        assert_eq!(later(CREATED, Duration::MAX), Timestamp::MAX);
    }
}
