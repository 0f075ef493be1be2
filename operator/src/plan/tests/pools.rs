//! Sandboxes that name a pool.

use api::{LocalObjectReference, StartMode, start};

use super::*;
use crate::{
    pool::{claim, member, testing::pool, testing::warm},
    testing::template,
};

/// A sandbox of the pool that asks for this besides.
fn of(asked: &Value) -> CodeSandbox {
    let mut sandbox = sandbox();
    sandbox.spec = serde_json::from_value(asked.clone()).unwrap();
    sandbox.spec.template_ref.get_or_insert(LocalObjectReference { name: "a".into() });
    sandbox.spec.pool_ref = Some(LocalObjectReference { name: "pool".into() });
    sandbox
}

/// A world with a pool of these pods, which were made so many seconds after the sandbox, of a template that gives this.
fn with(pods: &[(u32, i64)], given: &Value) -> World {
    let pool = pool(3);
    let made = pods.iter().map(|(number, seconds)| {
        let mut pod = warm(&pool, *number, given);
        pod.metadata.creation_timestamp = Some(Time(at(*seconds)));
        (pod.name_any(), pod)
    });
    World {
        pods: made.collect(),
        pool: Some(Arc::new(pool)),
        templates: Some(vec![Arc::new(template("a", given)), Arc::new(template("b", given))]),
        policies: [(names::DENY_POLICY.into(), network::deny("demo"))].into(),
        ..World::default()
    }
}

fn start_of(sandbox: &CodeSandbox) -> (StartMode, String) {
    let start = sandbox.status.as_ref().unwrap().start.clone().unwrap();
    (start.mode, start.reason)
}

fn pod_of(sandbox: &CodeSandbox) -> Option<&str> {
    sandbox.status.as_ref()?.pod_name.as_deref()
}

/// As the API server gives it back, to an operator that knows nothing else.
fn reread(sandbox: &CodeSandbox) -> CodeSandbox {
    serde_json::from_value(serde_json::to_value(sandbox).unwrap()).unwrap()
}

#[test]
fn a_sandbox_of_a_pool_has_the_oldest_pod_that_is_ready_and_is_ready_at_once() {
    let (mut world, mut sandbox) = (with(&[(1, 30), (2, 10), (3, 20)], &json!({})), of(&json!({})));
    world.settle(&mut sandbox, 40);
    assert_eq!(
        world.done(),
        ["status 1 False TemplateBound", "claim pool-m2", "status 1 True PodReady"]
    );
    assert_eq!(start_of(&sandbox), (StartMode::Warm, start::CLAIMED.into()));
    let status = sandbox.status.as_ref().unwrap();
    assert_eq!(
        (status.pod_name.as_deref(), status.pod_uid.as_deref()),
        (Some("pool-m2"), Some("uid-2"))
    );
    assert!(status.is_true(condition::NETWORK_ISOLATED));
    let pod = &world.pods["pool-m2"];
    assert!(pod::is_owned(&pod.metadata, &sandbox) && pod::is_marked(&pod.metadata, &sandbox));
    assert!(!member::is_unclaimed(pod, world.pool.as_ref().unwrap()));
    assert_eq!(
        pod.metadata.owner_references.as_ref().unwrap().len(),
        1,
        "the pool owns it no more"
    );
}

#[test]
fn policies_come_before_a_claim_as_before_a_pod() {
    let given = json!({"defaults": {"network": {"egress": "Internet"}}});
    let (mut world, mut sandbox) = (with(&[(1, 0)], &given), of(&json!({})));
    world.policies.clear();
    world.settle(&mut sandbox, 1);
    let done = world.done();
    let expected = ["apply codesandbox-deny", "apply box-internet", "claim pool-m1"];
    assert_eq!(done[1..4], expected, "{done:?}");
}

/// Whoever comes after it finds the pod by the sandbox's UID, whatever is in the pool.
#[test]
fn an_operator_that_dies_after_a_claim_leaves_no_sandbox_with_two_pods() {
    let (mut world, mut sandbox) = (with(&[(1, 0), (2, 0)], &json!({})), of(&json!({})));
    world.reconcile(&mut sandbox, 1);
    let bound = reread(&sandbox);
    world.settle(&mut sandbox, 1);
    world.done();
    // And by who has an old copy, from before it was known what the sandbox is made from.
    for (mut before, first) in
        [(of(&json!({})), &["status 1 False TemplateBound"][..]), (bound, &[])]
    {
        world.settle(&mut before, 2);
        assert_eq!(world.done(), [first, &["status 1 True PodReady"]].concat());
        assert_eq!((pod_of(&before), start_of(&before).0), (Some("pool-m1"), StartMode::Warm));
    }
    // The same of one that was made for it.
    let (mut world, mut sandbox) = (with(&[], &json!({})), of(&json!({})));
    world.reconcile(&mut sandbox, 1);
    let mut before = reread(&sandbox);
    world.settle(&mut sandbox, 1);
    world.done();
    let pool = pool(3);
    world.pods.insert("pool-m9".into(), warm(&pool, 9, &json!({})));
    world.settle(&mut before, 2);
    assert_eq!(world.done(), ["status 1 False Creating"]);
    assert_eq!(start_of(&before), (StartMode::Cold, start::NO_POD_READY.into()));
}

#[test]
fn one_that_another_has_taken_is_passed_over_and_without_any_a_pod_is_made() {
    let (mut world, mut sandbox) = (with(&[(1, 0), (2, 1)], &json!({})), of(&json!({})));
    world.taken.insert("pool-m1".into());
    world.settle(&mut sandbox, 2);
    assert_eq!(pod_of(&sandbox), Some("pool-m2"));

    let (mut world, mut sandbox) = (with(&[(1, 0)], &json!({})), of(&json!({})));
    world.taken.insert("pool-m1".into());
    world.settle(&mut sandbox, 2);
    assert_eq!(pod_of(&sandbox), Some("box-1"));
    assert_eq!(start_of(&sandbox).0, StartMode::Cold);
}

type Change<'a> = &'a dyn Fn(&mut World);

#[test]
fn a_cold_start_says_why() {
    let hours = json!({"allow": {"max": {"lifetime": "2h"}}});
    let unready = |world: &mut World| world.kubelet("pool-m1", &json!({"phase": "Pending"}));
    let no: fn(&mut World) = |_| {};
    let cases: [(&str, Value, Value, Change<'_>); 12] = [
        (start::POOL_NOT_FOUND, json!({}), json!({}), &|world| world.pool = None),
        (start::POOL_NOT_FOUND, json!({}), json!({}), &|world| {
            Arc::make_mut(world.pool.as_mut().unwrap()).metadata.deletion_timestamp =
                Some(Time(at(0)));
        }),
        (start::POOL_NOT_FOUND, json!({}), json!({}), &|world| {
            Arc::make_mut(world.pool.as_mut().unwrap()).spec.class_name = "other".into();
        }),
        (start::TEMPLATE_DIFFERS, json!({"templateRef": {"name": "b"}}), json!({}), &no),
        (start::SETTINGS_DIFFER, json!({"env": [{"name": "A", "value": "b"}]}), json!({}), &no),
        (start::SETTINGS_DIFFER, json!({"workspace": {"size": "1Gi"}}), json!({}), &no),
        (start::SETTINGS_DIFFER, json!({"idleTimeout": "5m"}), json!({}), &no),
        (start::NO_POD_READY, json!({}), json!({}), &|world| world.pods.clear()),
        (start::NO_POD_READY, json!({}), json!({}), &unready),
        (start::NO_POD_READY, json!({}), json!({}), &|world| {
            claim_for_another(world.pods.get_mut("pool-m1").unwrap());
        }),
        // Made from what the template said before.
        (start::NO_POD_READY, json!({}), json!({}), &|world| {
            let now = json!({"defaults": {"workingDir": "/tmp"}});
            world.templates = Some(vec![Arc::new(template("a", &now))]);
        }),
        // It would end before the sandbox does.
        (start::NO_POD_READY, json!({"ttl": "3h"}), hours, &no),
    ];
    for (why, asked, given, change) in cases {
        let (mut world, mut sandbox) = (with(&[(1, 0)], &given), of(&asked));
        change(&mut world);
        world.settle(&mut sandbox, 1);
        assert_eq!(pod_of(&sandbox), Some("box-1"), "{why} {asked}");
        assert_eq!(start_of(&sandbox), (StartMode::Cold, why.into()), "{asked}");
        // It stays so, whatever the pool has by then.
        world.done();
        world.pods.insert("pool-m5".into(), warm(&pool(3), 5, &given));
        world.settle(&mut reread(&sandbox), 2);
        assert_eq!(world.done(), Vec::<String>::new());
    }
}

fn claim_for_another(pod: &mut Pod) {
    crate::pool::testing::claim(pod);
    pod.labels_mut().insert(names::SANDBOX_UID.into(), "another".into());
}

#[test]
fn what_can_be_given_late_is_no_reason_for_a_cold_start() {
    for late in [
        json!({"ttl": "30m", "ttlAfterFinished": "1m"}),
        json!({"restartPolicy": "Never", "backoffLimit": 0}),
        json!({"onIdle": "Pause"}),
    ] {
        let (mut world, mut sandbox) = (with(&[(1, 0)], &json!({})), of(&late));
        world.settle(&mut sandbox, 1);
        assert_eq!(pod_of(&sandbox), Some("pool-m1"), "{late}");
    }
}

#[test]
fn a_claim_that_is_refused_is_a_cold_start() {
    let mut sandbox = of(&json!({}));
    let mut world = with(&[(1, 0)], &json!({}));
    world.reconcile(&mut sandbox, 1);
    let pooled = Pooled { refused: true, ..world.observe(&sandbox).pooled };
    let start = claim::start(&sandbox, &pooled, &config(), at(1));
    assert_eq!(start, Some(claim::Start::Cold(start::CLAIM_REFUSED)));
}

#[test]
fn who_names_no_pool_has_nothing_to_do_with_any() {
    let (mut world, mut sandbox) = (with(&[(1, 0)], &json!({})), of(&json!({})));
    sandbox.spec.pool_ref = None;
    world.settle(&mut sandbox, 1);
    assert_eq!((pod_of(&sandbox), start_of(&sandbox).1.as_str()), (Some("box-1"), start::NO_POOL));
    let annotations = world.pods["box-1"].annotations();
    assert!(!annotations.contains_key(names::START));
}

#[test]
fn a_pod_that_waits_needs_no_probe_and_waits_for_none() {
    for injection in [Injection::Unknown, Injection::Asking(at(75)), Injection::Waiting(at(75))] {
        let (mut world, mut sandbox) = (with(&[(1, 0)], &json!({})), of(&json!({})));
        world.injection = Some(injection);
        world.settle(&mut sandbox, 1);
        assert_eq!(pod_of(&sandbox), Some("pool-m1"), "{injection:?}");
        // Nor does who has claimed one and died.
        let mut before = of(&json!({}));
        before.status = sandbox.status.clone();
        let status = before.status.as_mut().unwrap();
        (status.pod_name, status.pod_uid) = (None, None);
        world.settle(&mut before, 2);
        assert_eq!(pod_of(&before), Some("pool-m1"), "{injection:?}");
    }
}

#[test]
fn the_pod_after_a_claimed_one_is_the_sandboxs_own_and_the_claimed_one_is_gone_by_then() {
    for evicted in [true, false] {
        let (mut world, mut sandbox) = (with(&[(1, 0), (2, 1)], &json!({})), of(&json!({})));
        world.settle(&mut sandbox, 1);
        assert_eq!(pod_of(&sandbox), Some("pool-m1"));
        world.done();
        if evicted {
            world.kubelet(
                "pool-m1",
                &json!({"phase": "Failed", "reason": "Evicted", "message": "disk"}),
            );
            world.settle(&mut sandbox, 2);
        } else {
            sandbox.spec.suspend = Some(true);
            world.settle(&mut sandbox, 2);
            assert_eq!(ready(&sandbox), reason::SUSPENDED);
            assert!(!world.pods.contains_key("pool-m1"));
            sandbox.spec.suspend = None;
            world.settle(&mut sandbox, 3);
        }
        let done = world.done();
        let deleted = done.iter().position(|one| one == "delete pod pool-m1 uid-1").unwrap();
        let created = done.iter().position(|one| one == "create box-2").unwrap();
        assert!(deleted < created, "{done:?}");
        assert_eq!(start_of(&sandbox), (StartMode::Cold, start::LATER_ATTEMPT.into()));
        assert!(world.pods.contains_key("pool-m2"), "which is another's");
    }
}

/// A pod of the pool that is deleted behind our back is lost, as every pod is.
#[test]
fn a_claimed_pod_that_goes_is_replaced_as_every_lost_pod_is() {
    let (mut world, mut sandbox) = (with(&[(1, 0), (2, 0)], &json!({})), of(&json!({})));
    world.settle(&mut sandbox, 1);
    world.pods.remove("pool-m1");
    world.settle(&mut sandbox, 2);
    assert_eq!(pod_of(&sandbox), Some("box-2"));
    assert_eq!(last_reason(&sandbox), Some(TerminationReason::Killed));
}
