//! Where a sandbox that waits for a GPU stands among those that wait for the same.
//!
//! It is counted when somebody asks: in the status of each that waits it would be one more write whenever one of them goes.

use api::{CodeSandbox, condition, reason};
use kube::ResourceExt;

/// A place among the sandboxes that wait for the same resource, the oldest first. Whose they are it does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// From 1.
    pub place: usize,
    /// How many wait, this one included.
    pub waiting: usize,
}

/// The GPU resource that a sandbox wants and no node has room for.
pub(crate) fn waits_for(sandbox: &CodeSandbox) -> Option<String> {
    let ready = sandbox.status.as_ref()?.condition(condition::READY)?;
    let waits = ready.status != "True" && ready.reason == reason::UNSCHEDULABLE;
    sandbox.effective().gpu.filter(|_| waits).map(|gpu| gpu.resource)
}

/// The place of a sandbox that waits for a resource, among all others of its class that may do so.
pub(crate) fn place<'a>(
    sandbox: &CodeSandbox,
    resource: &str,
    others: impl Iterator<Item = &'a CodeSandbox>,
) -> Queue {
    // Creations have no fractions of a second.
    let age = |one: &CodeSandbox| (one.creation_timestamp().map(|time| time.0), one.name_any());
    let own = age(sandbox);
    let others = others
        .filter(|other| other.metadata.uid != sandbox.metadata.uid)
        .filter(|other| other.spec.class_name == sandbox.spec.class_name)
        .filter(|other| waits_for(other).as_deref() == Some(resource));
    let (before, after): (Vec<_>, Vec<_>) = others.map(age).partition(|other| *other < own);
    Queue { place: before.len() + 1, waiting: before.len() + 1 + after.len() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A sandbox made at a second of a minute, whose Ready is False for this reason and that wants such a GPU.
    fn sandbox(name: &str, second: u32, reason: &str, gpu: &str) -> CodeSandbox {
        let created = format!("2026-01-01T00:00:{second:02}Z");
        let ready = json!({"type": "Ready", "status": "False", "reason": reason, "message": "",
            "lastTransitionTime": created});
        let gpu = (!gpu.is_empty()).then(|| json!({"count": 1, "resource": gpu}));
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": format!("uid-of-{name}"), "creationTimestamp": created},
            "spec": {"gpu": gpu}, "status": {"conditions": [ready]},
        }))
        .unwrap()
    }

    const GPU: &str = "nvidia.com/gpu";

    #[test]
    fn only_who_wants_a_gpu_and_has_no_node_waits_for_one() {
        let waits = |reason, gpu| waits_for(&sandbox("a", 1, reason, gpu));
        assert_eq!(waits(reason::UNSCHEDULABLE, GPU).as_deref(), Some(GPU));
        assert_eq!(waits(reason::UNSCHEDULABLE, ""), None);
        assert_eq!(waits(reason::STARTING, GPU), None);
        let mut without = sandbox("a", 1, reason::UNSCHEDULABLE, GPU);
        without.status.as_mut().unwrap().without_gpu = true;
        assert_eq!(waits_for(&without), None);
        without.status = None;
        assert_eq!(waits_for(&without), None);
    }

    #[test]
    fn those_that_wait_for_the_same_stand_in_the_order_of_their_age() {
        let waiting = |name, second| sandbox(name, second, reason::UNSCHEDULABLE, GPU);
        let mut anothers = waiting("anothers", 1);
        anothers.spec.class_name = "another".into();
        let others = [
            anothers,
            waiting("first", 1),
            waiting("b", 5),
            waiting("last", 9),
            sandbox("other", 1, reason::UNSCHEDULABLE, "amd.com/gpu"),
            sandbox("none", 1, reason::UNSCHEDULABLE, ""),
            sandbox("has", 1, reason::POD_READY, GPU),
        ];
        for (name, second, place) in [("a", 0, 1), ("a", 5, 2), ("c", 5, 3), ("z", 10, 4)] {
            let own = waiting(name, second);
            // Whether or not the watch shows it.
            for shown in [None, Some(&own)] {
                let all = others.iter().chain(shown);
                let expected = Queue { place, waiting: 4 };
                assert_eq!(super::place(&own, GPU, all), expected, "{name} {second}");
            }
        }
    }
}
