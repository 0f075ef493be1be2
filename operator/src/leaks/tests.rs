use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::Resource;
use serde_json::json;

use super::*;
use crate::{
    injection::Way,
    pod,
    pool::testing::{claim, pool, warm},
    probe,
    testing::{at, config, internet, opener, orphan, sandbox},
};

const INSTANCE: &str = "release";

/// What there is: `sandbox()` at this attempt, another, and `pool()`.
fn there(attempt: u32) -> There {
    There {
        sandboxes: [
            ("sandbox-uid".into(), known(attempt, None)),
            ("another".into(), known(1, None)),
        ]
        .into(),
        pools: ["pool-uid".into()].into(),
    }
}

/// Nothing but another sandbox.
fn gone() -> There {
    There { sandboxes: [("another".into(), known(1, None))].into(), ..There::default() }
}

fn known(attempt: u32, pod: Option<&str>) -> Known {
    Known { attempt, pod: pod.map(Into::into) }
}

/// The pod of an attempt at `sandbox()`.
fn pod(attempt: u32) -> ObjectMeta {
    let pod = pod::pod(&sandbox(), &config(), Way::ImageVolume, attempt);
    ObjectMeta { uid: Some("pod-uid".into()), ..pod.metadata }
}

/// Why a pod should not be there, with these sandboxes.
fn why_of(pod: &ObjectMeta, there: &There) -> Option<Why> {
    let leaks = leaks(marked(Kind::Pod, pod, INSTANCE), there);
    leaks.first().map(|leak| leak.why)
}

#[test]
fn what_is_its_sandboxs_is_no_leak_and_without_it_is_one() {
    let mut unowned = pod(1);
    unowned.owner_references = None;
    let probe =
        ObjectMeta { uid: Some("uid".into()), ..probe::pod(&sandbox(), &config()).metadata };
    for object in [pod(1), unowned, probe] {
        assert_eq!(why_of(&object, &there(1)), None, "{object:?}");
        assert_eq!(why_of(&object, &gone()), Some(Why::Orphaned), "{object:?}");
    }
}

#[test]
fn only_pods_of_earlier_attempts_are_superseded() {
    assert_eq!(why_of(&pod(2), &there(3)), Some(Why::Superseded));
    for (object, now) in [
        (pod(3), 3),
        // What is known of the sandbox is older than its pod.
        (pod(4), 3),
        (ObjectMeta { name: Some("box-probe".into()), ..pod(1) }, 3),
        (ObjectMeta { name: Some("other-1".into()), ..pod(1) }, 3),
        (ObjectMeta { name: Some("box-01".into()), ..pod(1) }, 3),
    ] {
        assert_eq!(why_of(&object, &there(now)), None, "{object:?}");
    }
}

/// As where a request that was never answered was carried out after all.
#[test]
fn a_second_pod_of_an_attempt_is_superseded_once_the_status_says_which_it_is() {
    let mut second = warm(&pool(1), 1, &json!({}));
    claim(&mut second);
    for (attempt, pod, why) in [
        (1, None, None),
        (1, Some("uid-1"), None),
        (1, Some("uid-2"), Some(Why::Superseded)),
        (2, Some("uid-2"), Some(Why::Superseded)),
    ] {
        let mut there = there(1);
        there.sandboxes.insert("sandbox-uid".into(), known(attempt, pod));
        assert_eq!(why_of(&second.metadata, &there), why, "{attempt} {pod:?}");
    }
}

#[test]
fn a_pod_of_a_pool_is_no_leak_while_the_pool_lives_and_is_its_owner() {
    let pod = warm(&pool(1), 1, &json!({})).metadata;
    assert_eq!(why_of(&pod, &there(1)), None);
    assert_eq!(why_of(&pod, &gone()), Some(Why::Orphaned));
    let unowned = ObjectMeta { owner_references: None, ..pod.clone() };
    assert_eq!(why_of(&unowned, &there(1)), Some(Why::Orphaned));
    // As it was seen: a sandbox that claims it meanwhile keeps it.
    let found = marked(Kind::Pod, &pod, INSTANCE).unwrap();
    assert_eq!(
        (&*found.made_for.to_string(), found.resource_version),
        ("CodeSandboxPool pool", pod.resource_version)
    );
}

#[test]
fn a_claimed_pod_is_its_sandboxs_first_and_no_more_its_pools() {
    let mut pod = warm(&pool(1), 1, &json!({}));
    claim(&mut pod);
    let pod = pod.metadata;
    let mut without_pool = there(1);
    without_pool.pools.clear();
    assert_eq!(why_of(&pod, &without_pool), None);
    assert_eq!(why_of(&pod, &there(2)), Some(Why::Superseded));
    let without_sandbox = There { pools: there(1).pools, ..gone() };
    assert_eq!(why_of(&pod, &without_sandbox), Some(Why::Orphaned));
}

#[test]
fn what_somebody_owns_or_deletes_is_left_alone() {
    let mut adopted = pod(1);
    let mut another = sandbox();
    another.metadata.uid = Some("another".into());
    adopted.owner_references = another.controller_owner_ref(&()).map(|owner| vec![owner]);
    assert_eq!(why_of(&adopted, &gone()), None);

    let going = ObjectMeta { deletion_timestamp: Some(Time(at(1))), ..pod(1) };
    assert_eq!(why_of(&going, &gone()), None);
}

#[test]
fn what_is_another_installations_or_nobodys_is_not_judged() {
    assert_eq!(marked(Kind::Pod, &pod(1), "other"), None);
    for label in [names::MANAGED_BY, names::INSTANCE, names::SANDBOX, names::SANDBOX_UID] {
        let mut object = pod(1);
        object.labels.as_mut().unwrap().remove(label);
        assert_eq!(marked(Kind::Pod, &object, INSTANCE), None, "{label}");
    }
    assert_eq!(marked_policy(&network::deny("demo"), INSTANCE), None);
    assert_eq!(marked_policy(&opener("open"), INSTANCE), None);
}

#[test]
fn a_policy_that_selects_more_than_its_sandbox_is_left_alone() {
    let mut policy = network::own(&internet(), &config()).unwrap();
    policy.metadata.uid = Some("policy-uid".into());
    let found = leaks(marked_policy(&policy, INSTANCE), &gone());
    let found: Vec<_> = found.iter().map(|leak| (&*leak.object.name, leak.why)).collect();
    assert_eq!(found, [("box-internet", Why::Orphaned)]);
    assert_eq!(leaks(marked_policy(&policy, INSTANCE), &there(9)), vec![]);

    policy.spec = opener("open").spec;
    assert_eq!(marked_policy(&policy, INSTANCE), None);
}

#[test]
fn the_selector_names_the_installation() {
    assert_eq!(
        selector(INSTANCE),
        "app.kubernetes.io/managed-by=codesandbox,app.kubernetes.io/instance=release,codesandbox.dev/sandbox"
    );
}

#[test]
fn a_leak_is_confirmed_when_it_is_still_there_after_a_minute_and_new_but_once() {
    let (mut suspects, start) = (Suspects::default(), Instant::now());
    // Whether it is confirmed, and as new.
    let mut confirm = |found: &[Leak], seconds| {
        let confirmed = suspects.confirm(found.to_vec(), start + Duration::from_secs(seconds));
        confirmed.first().map(|one| one.new)
    };
    let leak = [orphan()];
    assert_eq!(confirm(&leak, 0), None);
    assert_eq!(confirm(&leak, 59), None);
    // Gone in between, it is another story.
    assert_eq!(confirm(&[], 60), None);
    assert_eq!(confirm(&leak, 61), None);
    assert_eq!(confirm(&leak, 121), Some(true));
    assert_eq!(confirm(&leak, 181), Some(false));
}

#[test]
fn whose_owner_is_gone_is_left_to_the_garbage_collector_for_ten_minutes() {
    for (sandboxes, patience) in [(gone(), 10), (there(2), 1)] {
        let (mut suspects, start) = (Suspects::default(), Instant::now());
        let owned = leaks(marked(Kind::Pod, &pod(1), INSTANCE), &sandboxes);
        for (minutes, confirmed) in [(0, 0), (patience - 1, 0), (patience, 1)] {
            let now = start + Duration::from_mins(minutes);
            assert_eq!(suspects.confirm(owned.clone(), now).len(), confirmed, "{minutes}");
        }
    }
}

#[test]
fn events_are_about_the_object_itself() {
    let mut leak = orphan();
    let pod = leak.reference("demo");
    let said = [pod.api_version, pod.kind, pod.namespace, pod.name, pod.uid];
    assert_eq!(said.map(Option::unwrap), ["v1", "Pod", "demo", "box-1", "pod-uid"]);
    leak.object.kind = Kind::NetworkPolicy;
    let policy = leak.reference("demo");
    assert_eq!(policy.api_version.unwrap(), "networking.k8s.io/v1");
    assert_eq!(policy.kind.unwrap(), "NetworkPolicy");
}
