//! Which pod is a sandbox's.
//!
//! One that is made for an attempt is called after it. One that was claimed keeps the name it had in its pool, so that what
//! tells of it is the label with the sandbox's UID, until its name is in the status.

use api::{CodeSandbox, names};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::attempt;
use crate::template;

/// The name of the sandbox's pod: of the one that was seen, or else of the one that is made for this attempt.
pub(crate) fn name(sandbox: &CodeSandbox) -> String {
    let seen = sandbox.status.as_ref().and_then(|status| status.pod_name.clone());
    seen.unwrap_or_else(|| names::pod(&sandbox.name_any(), attempt(sandbox)))
}

/// Whether names do not tell which pods a sandbox has, since it may have claimed one that the status does not name: not yet,
/// or not any more, since it is the one before.
pub(crate) fn may_be_claimed(sandbox: &CodeSandbox) -> bool {
    let named = sandbox.status.as_ref().is_some_and(|status| status.pod_uid.is_some());
    // None is claimed before it is known what the sandbox is made from.
    sandbox.spec.pool_ref.is_some()
        && template::is_bound(sandbox)
        && !named
        && attempt(sandbox) <= 2
}

/// Of the pods with a sandbox's UID that of this attempt and that of the one before.
pub(crate) fn sorted(sandbox: &CodeSandbox, pods: Vec<Pod>) -> (Option<Pod>, Option<Pod>) {
    let (now, mut found) = (attempt(sandbox), (None, None));
    for pod in pods {
        let claimed = pod.labels().contains_key(names::POOL);
        match attempt_of(&pod.name_any(), &sandbox.name_any(), claimed) {
            Some(of) if of == now => found.0 = Some(pod),
            Some(of) if of.checked_add(1) == Some(now) => found.1 = Some(pod),
            _ => {}
        }
    }
    found
}

/// The attempt that a pod of a sandbox is of; none where it is of none, as a probe is. Only the first one's is claimed.
pub(crate) fn attempt_of(pod: &str, sandbox: &str, claimed: bool) -> Option<u32> {
    if claimed {
        return Some(1);
    }
    let number = pod.rsplit_once('-')?.1.parse().ok()?;
    (pod == names::pod(sandbox, number)).then_some(number)
}

#[cfg(test)]
mod tests {
    use api::{CodeSandboxStatus, LocalObjectReference};

    use super::*;
    use crate::{
        injection::Way,
        pod,
        pool::testing::{claim, pool, warm},
        probe,
        testing::{self, config, sandbox},
    };

    /// A sandbox that names a pool, at an attempt, with a pod of this name or none that is known.
    fn at(attempt: u32, pod: Option<&str>) -> CodeSandbox {
        let mut sandbox = sandbox();
        sandbox.spec.pool_ref = Some(LocalObjectReference { name: "pool".into() });
        sandbox.status = Some(CodeSandboxStatus {
            attempt: Some(attempt),
            pod_name: pod.map(Into::into),
            pod_uid: pod.map(Into::into),
            ..testing::bound(&serde_json::json!({}))
        });
        sandbox
    }

    #[test]
    fn a_pod_is_called_as_it_was_seen_or_else_after_its_attempt() {
        assert_eq!(name(&sandbox()), "box-1");
        assert_eq!(name(&at(3, None)), "box-3");
        assert_eq!(name(&at(1, Some("pool-m2"))), "pool-m2");
    }

    #[test]
    fn names_tell_which_pods_there_are_but_of_one_that_may_have_claimed_the_first() {
        let mut without = at(1, None);
        without.spec.pool_ref = None;
        assert!(!may_be_claimed(&without));
        assert!(may_be_claimed(&at(1, None)) && may_be_claimed(&at(2, None)));
        assert!(!may_be_claimed(&at(3, None)) && !may_be_claimed(&at(1, Some("pool-m2"))));
        // Of one whose template is yet to be taken down none is claimed.
        let mut new = at(1, None);
        new.status = None;
        assert!(!may_be_claimed(&new));
    }

    #[test]
    fn pods_are_told_by_their_attempt_and_a_claimed_one_is_the_first() {
        let made = |attempt| pod::pod(&sandbox(), &config(), Way::ImageVolume, attempt);
        let mut claimed = warm(&pool(1), 7, &serde_json::json!({}));
        claim(&mut claimed);
        let probe = probe::pod(&sandbox(), &config());
        let found = |attempt, pods: &[&Pod]| {
            let (pod, former) = sorted(&at(attempt, None), pods.iter().copied().cloned().collect());
            (pod.map(|pod| pod.name_any()), former.map(|pod| pod.name_any()))
        };
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(found(1, &[&probe]), (None, None));
        assert_eq!(found(1, &[&probe, &claimed]), (some("pool-m7"), None));
        assert_eq!(found(1, &[&made(1), &probe]), (some("box-1"), None));
        assert_eq!(found(2, &[&claimed]), (None, some("pool-m7")));
        assert_eq!(found(2, &[&claimed, &made(2)]), (some("box-2"), some("pool-m7")));
        assert_eq!(found(3, &[&claimed, &made(3)]), (some("box-3"), None));
    }
}
