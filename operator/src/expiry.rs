//! When a sandbox goes.

use std::time::Duration;

use api::{CodeSandbox, condition};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use crate::time;

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

/// The longest that a warning comes before an end.
const WARNING: Duration = Duration::from_mins(5);

/// An end that can be seen coming, of which is warned before: a tenth of the whole time, and at most five minutes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct End {
    /// When it is.
    pub(crate) at: Timestamp,
    /// Since when the warning is due.
    pub(crate) warns_at: Timestamp,
    /// How long it is from the beginning to the end, for people.
    pub(crate) whole: String,
    /// Whether it is the pod's, which may run for so long, and not the sandbox's.
    pub(crate) of_pod: bool,
}

impl End {
    fn new(at: Timestamp, whole: Duration, said: String, of_pod: bool) -> Option<Self> {
        let warns_at = at.checked_sub(WARNING.min(whole / 10)).ok()?;
        Some(Self { at, warns_at, whole: said, of_pod })
    }

    /// The nearest end of a sandbox and its pod, if it has one: of the ttl, or of the time for which a pod may run.
    pub(crate) fn next(sandbox: &CodeSandbox, pod: Option<&Pod>) -> Option<Self> {
        let ttl = sandbox.effective().ttl;
        let of_sandbox =
            sandbox.expires_at().and_then(|at| Self::new(at, ttl.as_std(), ttl.to_string(), false));
        of_sandbox.into_iter().chain(pod.and_then(Self::of_pod)).min()
    }

    fn of_pod(pod: &Pod) -> Option<Self> {
        let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
        let whole = Duration::from_secs(seconds.try_into().ok()?);
        let said = format!("{:#}", SignedDuration::from_secs(seconds));
        let since = pod.status.as_ref()?.start_time.as_ref()?.0;
        Self::new(time::later(since, whole), whole, said, true)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
            assert_eq!(End::next(&sandbox, None).unwrap().warns_at, at(seconds), "{ttl}");
        }
    }

    #[test]
    fn the_end_that_comes_first_is_warned_of() {
        let sandbox = sandbox();
        let pod = |lifetime: i64, started: Option<i64>| -> Pod {
            let started = started.map(|seconds| at(seconds).to_string());
            serde_json::from_value(
                json!({"spec": {"containers": [], "activeDeadlineSeconds": lifetime},
                "status": {"startTime": started}}),
            )
            .unwrap()
        };
        let of_sandbox = (at(3600), at(3300), false);
        for (pod, expected) in [
            (pod(600, Some(100)), (at(700), at(640), true)),
            (pod(3400, Some(100)), (at(3500), at(3200), true)),
            (pod(3600, Some(100)), of_sandbox),
            (pod(600, None), of_sandbox),
            (pod(-1, Some(100)), of_sandbox),
            (Pod::default(), of_sandbox),
        ] {
            let End { at, warns_at, of_pod, .. } = End::next(&sandbox, Some(&pod)).unwrap();
            assert_eq!((at, warns_at, of_pod), expected, "{pod:?}");
        }
    }
}
