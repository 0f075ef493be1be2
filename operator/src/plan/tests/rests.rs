//! What becomes of a sandbox that is suspended, paused, resumed and woken.

use api::{OnIdle, Workspace};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::*;

fn idle() -> Value {
    let end =
        json!({"exitCode": 0, "reason": "Completed", "message": "{\"reason\":\"IdleTimeout\"}"});
    json!({"phase": "Succeeded", "containerStatuses": [{"name": "sandbox", "image": "", "imageID": "",
        "ready": false, "restartCount": 0, "state": {"terminated": end}}]})
}

/// A sandbox that is paused when nobody uses it, with a disk.
fn kept() -> CodeSandbox {
    let mut sandbox = sandbox();
    sandbox.spec.settings.on_idle = Some(OnIdle::Pause);
    sandbox.spec.settings.idle_timeout = Some("10m".into());
    sandbox.spec.settings.workspace =
        Some(Workspace { size: Quantity("1Gi".into()), storage_class_name: None, retain: None });
    sandbox
}

fn wake(sandbox: &mut CodeSandbox, value: &str) {
    sandbox.annotations_mut().insert(names::WAKE.into(), value.into());
}

/// Status, reason and message of a condition.
fn told<'a>(sandbox: &'a CodeSandbox, type_: &str) -> (&'a str, &'a str, &'a str) {
    let one = sandbox.status.as_ref().unwrap().condition(type_).unwrap();
    (&one.status, &one.reason, &one.message)
}

impl World {
    /// What is being ended has ended.
    fn end(&mut self, pod: &str) {
        self.pods.remove(pod).expect("it was there");
    }
}

/// How long it lives may be the template's to say.
#[test]
fn one_that_is_suspended_from_its_creation_takes_down_its_template_all_the_same() {
    let mut sandbox = sandbox();
    sandbox.spec.template_ref = Some(api::LocalObjectReference { name: "a".into() });
    sandbox.spec.suspend = Some(true);
    let template = Arc::new(crate::testing::template("a", &json!({"defaults": {"ttl": "24h"}})));
    let mut world = World { templates: Some(vec![template]), ..World::default() };
    world.settle(&mut sandbox, 1);
    assert_eq!(world.done(), ["status 1 False TemplateBound", "status 1 False Suspended"]);
    assert_eq!(sandbox.status.as_ref().unwrap().expires_at, Some(Time(at(24 * 3600))));

    // Where there is none, it rests as well.
    sandbox.status = None;
    world.templates = Some(Vec::new());
    world.settle(&mut sandbox, 1);
    assert_eq!(world.done(), ["status 1 False Suspended"]);
}

#[test]
fn the_disk_comes_before_the_pod_and_only_where_one_is_asked_for() {
    let (mut world, mut sandbox) = (World::default(), kept());
    world.settle(&mut sandbox, 1);
    let made = [
        "apply codesandbox-deny",
        "create box-workspace",
        "create box-1",
        "status 1 False Creating",
    ];
    assert_eq!(world.done(), made);
}

#[test]
fn a_suspended_sandbox_loses_its_pod_and_nothing_else_and_gets_another_when_resumed() {
    let mut sandbox = kept();
    let mut world = World::running(&mut sandbox);
    sandbox.spec.suspend = Some(true);
    world.settle(&mut sandbox, 60);
    let done =
        ["status 2 False Suspended", "delete pod box-1 pod-uid-1", "status 2 False Suspended"];
    assert_eq!(world.done(), done);
    let said =
        "spec.suspend is true, so there is no pod until it is false; what is on its disk is kept";
    assert_eq!(told(&sandbox, condition::SUSPENDED), ("True", reason::SUSPENDED, said));
    assert_eq!(told(&sandbox, condition::READY), ("False", reason::SUSPENDED, said));
    assert_eq!(last_reason(&sandbox), None, "nothing was lost");

    // Nobody's call wakes it: the user's word is the user's alone.
    wake(&mut sandbox, "now");
    world.settle(&mut sandbox, 70);
    assert_eq!(world.done(), [""; 0]);

    sandbox.spec.suspend = Some(false);
    world.settle(&mut sandbox, 80);
    assert_eq!(world.done(), ["create box-2", "status 2 False Creating"]);
    assert_eq!(told(&sandbox, condition::SUSPENDED).1, reason::RESUMED);
    world.kubelet("box-2", &running());
    world.settle(&mut sandbox, 81);
    assert_eq!(world.done(), ["status 2 True PodReady"]);
}

#[test]
fn one_that_is_suspended_from_its_creation_has_no_pod_at_all() {
    let (mut world, mut sandbox) = (World::default(), sandbox());
    sandbox.spec.suspend = Some(true);
    world.settle(&mut sandbox, 1);
    assert_eq!(world.done(), ["status 1 False Suspended"]);
    sandbox.spec.suspend = None;
    world.settle(&mut sandbox, 2);
    assert_eq!(world.done(), ["apply codesandbox-deny", "create box-1", "status 1 False Creating"]);
}

#[test]
fn no_two_pods_have_the_disk() {
    let mut sandbox = kept();
    let mut world = World { slow: true, ..World::running(&mut sandbox) };
    sandbox.spec.suspend = Some(true);
    world.settle(&mut sandbox, 61);
    assert_eq!(world.done(), ["status 2 False Suspended", "delete pod box-1 pod-uid-1"]);
    assert_eq!(told(&sandbox, condition::SUSPENDED).0, "False", "not while there is a pod");
    sandbox.spec.suspend = Some(false);
    world.settle(&mut sandbox, 62);
    assert_eq!(world.done(), ["status 2 False Creating"]);
    assert_eq!(told(&sandbox, condition::READY).2, "the pod is made once Pod box-1 is gone");
    world.end("box-1");
    world.settle(&mut sandbox, 63);
    assert_eq!(world.done(), ["create box-2", "status 2 False Creating"]);
}

#[test]
fn without_a_disk_the_next_pod_waits_for_nothing_and_it_is_said_that_files_are_gone() {
    let mut sandbox = sandbox();
    let mut world = World { slow: true, ..World::running(&mut sandbox) };
    sandbox.spec.suspend = Some(true);
    world.settle(&mut sandbox, 61);
    let (status, _, said) = told(&sandbox, condition::SUSPENDED);
    assert_eq!(status, "False");
    assert!(
        said.ends_with(
            "its files are gone, since it has no spec.workspace; the pod is being ended"
        ),
        "{said}"
    );
    world.done();
    sandbox.spec.suspend = None;
    world.settle(&mut sandbox, 62);
    assert_eq!(world.done(), ["create box-2", "status 2 False Creating"]);
}

#[test]
fn a_sandbox_that_nobody_uses_is_paused_until_somebody_does() {
    let mut sandbox = kept();
    wake(&mut sandbox, "long ago");
    let mut world = World::running(&mut sandbox);
    world.kubelet("box-1", &idle());
    world.settle(&mut sandbox, 700);
    let done = ["status 2 False Paused", "delete pod box-1 pod-uid-1", "status 2 False Paused"];
    assert_eq!(world.done(), done);
    let said = "nobody used the sandbox for its idleTimeout (10m), so there is no pod until somebody does, or gives it another annotation codesandbox.dev/wake; what is on its disk is kept";
    assert_eq!(told(&sandbox, condition::SUSPENDED), ("True", reason::PAUSED, said));
    assert_eq!(told(&sandbox, condition::FINISHED).0, "False");
    assert_eq!(last_reason(&sandbox), Some(TerminationReason::IdleTimeout));
    world.settle(&mut sandbox, 900);
    assert_eq!(world.done(), [""; 0], "an old wish wakes nobody");

    wake(&mut sandbox, "now");
    world.settle(&mut sandbox, 901);
    assert_eq!(world.done(), ["create box-2", "status 2 False Creating"]);
    assert_eq!(told(&sandbox, condition::SUSPENDED).1, reason::RESUMED);

    // And once more: that wish is an old one by now.
    world.kubelet("box-2", &idle());
    world.settle(&mut sandbox, 1600);
    assert_eq!(world.done()[2], "status 3 False Paused");
}

#[test]
fn a_wish_that_comes_while_the_pod_ends_is_heard_and_waits_for_the_disk() {
    let mut sandbox = kept();
    let mut world = World { slow: true, ..World::running(&mut sandbox) };
    world.kubelet("box-1", &idle());
    world.reconcile(&mut sandbox, 700);
    assert_eq!(told(&sandbox, condition::SUSPENDED).0, "False");
    wake(&mut sandbox, "now");
    world.settle(&mut sandbox, 701);
    let done = ["status 2 False Paused", "delete pod box-1 pod-uid-1", "status 2 False Creating"];
    assert_eq!(world.done(), done);
    world.end("box-1");
    world.settle(&mut sandbox, 702);
    assert_eq!(world.done(), ["create box-2", "status 2 False Creating"]);
}

#[test]
fn by_default_a_sandbox_that_nobody_uses_finishes() {
    let mut sandbox = kept();
    sandbox.spec.settings.on_idle = None;
    let mut world = World::running(&mut sandbox);
    world.kubelet("box-1", &idle());
    world.settle(&mut sandbox, 700);
    assert_eq!(world.done(), ["status 1 False IdleTimeout"]);
}

#[test]
fn one_that_is_suspended_while_its_pod_is_lost_has_lost_nothing() {
    for gone in [true, false] {
        let mut sandbox = kept();
        let mut world = World::running(&mut sandbox);
        if gone {
            world.end("box-1");
        } else {
            world.kubelet("box-1", &json!({"phase": "Failed", "reason": "Evicted"}));
        }
        sandbox.spec.suspend = Some(true);
        world.settle(&mut sandbox, 60);
        let status = sandbox.status.as_ref().unwrap();
        assert_eq!(
            (status.attempt, status.losses, &status.last_termination),
            (Some(2), Some(0), &None)
        );
        assert_eq!(told(&sandbox, condition::SUSPENDED).0, "True");
    }
}

#[test]
fn what_has_finished_stays_so_whatever_is_said_of_suspending_it() {
    let mut sandbox = kept();
    let mut world = World::running(&mut sandbox);
    sandbox.spec.suspend = Some(true);
    world.kubelet("box-1", &json!({"phase": "Failed", "reason": "DeadlineExceeded"}));
    world.settle(&mut sandbox, 60);
    assert_eq!(world.done(), ["status 1 False DeadlineExceeded"]);
    sandbox.spec.suspend = Some(false);
    world.settle(&mut sandbox, 61);
    assert_eq!(world.done(), [""; 0]);
}

/// Otherwise a sandbox that is suspended often would have used up its budget of losses, and wait for minutes when resumed.
#[test]
fn suspending_is_no_loss_and_keeps_the_count_of_those_there_were() {
    let mut sandbox = kept();
    sandbox.spec.settings.ttl = Some("168h".into());
    let mut world = World { slow: true, ..World::running(&mut sandbox) };
    for attempt in 1..=2 {
        world.end(&names::pod("box", attempt));
        world.settle(&mut sandbox, 10);
    }
    world.settle(&mut sandbox, 20);
    for round in 0..8 {
        sandbox.spec.suspend = Some(true);
        world.settle(&mut sandbox, 100 + round);
        sandbox.spec.suspend = Some(false);
        // It still has the disk.
        world.settle(&mut sandbox, 100 + round);
        world.end(&format!("box-{}", 3 + round));
        world.done();
        world.settle(&mut sandbox, 100 + round);
        assert_eq!(world.done()[0], format!("create box-{}", 4 + round), "at once");
    }
    let losses = |sandbox: &CodeSandbox| sandbox.status.as_ref().unwrap().losses;
    assert_eq!(losses(&sandbox), Some(2));
    world.end("box-11");
    world.reconcile(&mut sandbox, 200);
    assert_eq!(losses(&sandbox), Some(3));
    let said = told(&sandbox, condition::READY).2;
    let expected = "the pod was deleted; its disk is kept, its contexts are gone and its runs are lost; replacement 3 of 6, as attempt 12, follows at 2026-01-01T00:03:40Z";
    assert_eq!(said, expected);
}

/// Before losses were counted, every attempt but the first was one.
#[test]
fn what_an_older_operator_wrote_is_counted_on() {
    let mut sandbox = sandbox();
    let mut world = World::running(&mut sandbox);
    let status = sandbox.status.as_mut().unwrap();
    (status.attempt, status.losses) = (Some(4), None);
    world.pods.clear();
    world.reconcile(&mut sandbox, 60);
    let status = sandbox.status.as_ref().unwrap();
    assert_eq!((status.attempt, status.losses), (Some(5), Some(4)));
}

#[test]
fn a_probe_goes_with_the_wish_for_a_pod() {
    let mut sandbox = sandbox();
    let mut world = World { injection: Some(Injection::Unknown), ..World::default() };
    world.settle(&mut sandbox, 1);
    sandbox.spec.suspend = Some(true);
    world.done();
    world.settle(&mut sandbox, 2);
    assert_eq!(world.done(), ["delete pod box-probe pod-uid-1", "status 1 False Suspended"]);
}

/// Otherwise its pod would run on, with its GPU, and the status say that there is none.
#[test]
fn one_that_is_suspended_while_another_finds_out_how_agents_get_in_is_ended_all_the_same() {
    let mut sandbox = kept();
    let mut world = World::running(&mut sandbox);
    world.injection = Some(Injection::Waiting(at(75)));
    sandbox.spec.suspend = Some(true);
    world.settle(&mut sandbox, 60);
    let done =
        ["status 2 False Suspended", "delete pod box-1 pod-uid-1", "status 2 False Suspended"];
    assert_eq!(world.done(), done);
}
