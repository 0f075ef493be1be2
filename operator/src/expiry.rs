//! When a sandbox goes.

use std::time::Duration;

use api::{CodeSandbox, condition};
use jiff::Timestamp;

/// When a finished sandbox's object goes.
pub(crate) fn finished_until(sandbox: &CodeSandbox) -> Option<Timestamp> {
    let status = sandbox.status.as_ref().filter(|status| status.is_true(condition::FINISHED))?;
    let finished = status.condition(condition::FINISHED)?.last_transition_time.0;
    Some(sandbox.effective().ttl_after_finished.after(finished))
}

/// When the object goes, whichever comes first.
pub(crate) fn ends_at(sandbox: &CodeSandbox) -> Option<Timestamp> {
    sandbox.expires_at().into_iter().chain(finished_until(sandbox)).min()
}

/// The longest that a warning comes before the end of a ttl.
const WARNING: Duration = Duration::from_mins(5);

/// When it is told that a sandbox's ttl ends soon: a tenth of it before, and at most five minutes.
pub(crate) fn warns_at(sandbox: &CodeSandbox) -> Option<Timestamp> {
    let before = WARNING.min(sandbox.effective().ttl.as_std() / 10);
    sandbox.expires_at()?.checked_sub(before).ok()
}

/// How long it is until a time; nothing once it is over.
pub(crate) fn until(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, finished, sandbox};

    #[test]
    fn a_sandbox_expires_its_ttl_after_its_creation() {
        for (ttl, seconds) in [("1h", 3600), ("1s", 1), ("1500ms", 2), ("168h", 604_800)] {
            let mut sandbox = sandbox();
            sandbox.spec.settings.ttl = Some(ttl.into());
            assert_eq!(sandbox.expires_at(), Some(at(seconds)), "{ttl}");
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
    }
}
