//! What becomes of a sandbox that can do without a GPU.

use api::{Gpu, OnIdle};

use super::*;

const TAKEN: &str = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.";

/// A sandbox that takes a GPU where there is one.
fn modest() -> CodeSandbox {
    let mut sandbox = sandbox();
    sandbox.spec.settings.gpu =
        Some(Gpu { optional: Some(true), ..Gpu::new(1, names::DEFAULT_GPU) });
    sandbox
}

fn unschedulable(said: &str) -> Value {
    json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": said}]})
}

fn status(sandbox: &CodeSandbox) -> &CodeSandboxStatus {
    sandbox.status.as_ref().unwrap()
}

fn said(sandbox: &CodeSandbox) -> &str {
    &status(sandbox).condition(condition::READY).unwrap().message
}

/// How many GPUs a pod asks for.
fn gpus(world: &World, pod: &str) -> Option<String> {
    let container = &world.pods[pod].spec.as_ref().unwrap().containers[0];
    let limits = container.resources.as_ref().unwrap().limits.as_ref().unwrap();
    limits.get(names::DEFAULT_GPU).map(|count| count.0.clone())
}

/// A world in which there was none free, and the sandbox runs without.
fn without(sandbox: &mut CodeSandbox) -> World {
    let mut world = World::default();
    world.settle(sandbox, 1);
    world.kubelet("box-1", &unschedulable(TAKEN));
    world.settle(sandbox, 2);
    world.kubelet("box-2", &running());
    world.settle(sandbox, 3);
    world
}

#[test]
fn a_gpu_that_is_not_free_is_done_without_at_once_and_that_is_no_loss() {
    let (mut world, mut sandbox) = (World::default(), modest());
    world.settle(&mut sandbox, 1);
    assert_eq!(gpus(&world, "box-1").as_deref(), Some("1"), "first it is asked for");
    world.done();

    world.kubelet("box-1", &unschedulable(TAKEN));
    let plan = world.reconcile(&mut sandbox, 2);
    assert_eq!(world.done(), ["status 2 False RunsWithoutGPU"], "said before it is done");
    assert_eq!(plan.requeue, Some(Duration::ZERO));
    let notice = &plan.events[0];
    assert_eq!((notice.warning, &*notice.reason), (false, "RunsWithoutGPU"));
    assert_eq!(plan.events.len(), 1, "{:?}", plan.events);
    let why = format!(
        "no node has the GPU of spec.gpu free, which is optional, so the sandbox is made without: {}",
        TAKEN.trim_end_matches('.')
    );
    assert_eq!((&notice.note, said(&sandbox)), (&why, &*why));

    world.settle(&mut sandbox, 2);
    let done = ["delete pod box-1 pod-uid-1", "create box-2", "status 2 False Creating"];
    assert_eq!(world.done(), done);
    assert_eq!(gpus(&world, "box-2"), None);

    world.kubelet("box-2", &running());
    let plan = world.reconcile(&mut sandbox, 3);
    let words = "the sandbox takes calls, without a GPU: no node had the one of spec.gpu free when it was made; it asks again when it is suspended and resumed, or made anew";
    assert_eq!((said(&sandbox), &*plan.events[0].note), (words, words));
    let status = status(&sandbox);
    assert_eq!((status.without_gpu, status.losses), (true, Some(0)));
    assert_eq!(status.last_termination, None, "nothing was lost");
}

#[test]
fn a_gpu_that_is_free_is_taken_and_nothing_is_said_of_it() {
    let mut sandbox = modest();
    World::running(&mut sandbox);
    assert_eq!(said(&sandbox), "the sandbox takes calls");
    assert!(!status(&sandbox).without_gpu);
    let written = serde_json::to_value(status(&sandbox)).unwrap();
    assert_eq!(written.get("withoutGPU"), None);
}

#[test]
fn who_waits_for_something_else_or_cannot_do_without_waits() {
    let mut steadfast = modest();
    steadfast.spec.settings.gpu = Some(Gpu::new(1, names::DEFAULT_GPU));
    let crowded = "0/2 nodes are available: 2 Insufficient memory.";
    for (mut sandbox, said) in [(steadfast, TAKEN), (modest(), crowded)] {
        let mut world = World::default();
        world.settle(&mut sandbox, 1);
        world.done();
        world.kubelet("box-1", &unschedulable(said));
        world.settle(&mut sandbox, 2);
        assert_eq!(world.done(), ["status 1 False Unschedulable"], "{said}");
    }
}

#[test]
fn one_that_has_no_room_without_a_gpu_either_waits_without() {
    let mut sandbox = modest();
    let mut world = World::default();
    world.settle(&mut sandbox, 1);
    world.kubelet("box-1", &unschedulable(TAKEN));
    world.settle(&mut sandbox, 2);
    world.done();
    // Whatever the words say: this pod asks for none.
    world.kubelet("box-2", &unschedulable(TAKEN));
    world.settle(&mut sandbox, 3);
    assert_eq!(world.done(), ["status 2 False Unschedulable"]);
}

#[test]
fn a_sandbox_without_a_gpu_needs_no_write_when_it_is_settled() {
    let mut sandbox = modest();
    let mut world = without(&mut sandbox);
    world.done();
    for seconds in [4, 60, 3599] {
        sandbox = serde_json::from_value(serde_json::to_value(&sandbox).unwrap()).unwrap();
        let plan = world.reconcile(&mut sandbox, seconds);
        assert_eq!((world.done(), plan.events), (vec![], vec![]));
    }
}

#[test]
fn each_pod_that_follows_asks_for_the_gpu_again() {
    for suspends in [true, false] {
        let mut sandbox = modest();
        let mut world = without(&mut sandbox);
        if suspends {
            sandbox.spec.suspend = Some(true);
            world.settle(&mut sandbox, 10);
            assert!(!status(&sandbox).without_gpu, "it is to have none of anything");
            sandbox.spec.suspend = Some(false);
        } else {
            world.pods.remove("box-2");
        }
        world.settle(&mut sandbox, 20);
        assert_eq!(gpus(&world, "box-3").as_deref(), Some("1"));
        world.done();

        world.kubelet("box-3", &unschedulable(TAKEN));
        world.settle(&mut sandbox, 21);
        assert_eq!(world.done()[0], "status 4 False RunsWithoutGPU");
        assert_eq!(status(&sandbox).losses, Some(u32::from(!suspends)), "the count is kept");
        assert_eq!(gpus(&world, "box-4"), None);
    }
}

#[test]
fn one_that_is_woken_without_a_gpu_is_paused_no_more() {
    let mut sandbox = modest();
    sandbox.spec.settings.on_idle = Some(OnIdle::Pause);
    let mut world = World::running(&mut sandbox);
    let idle =
        json!({"exitCode": 0, "reason": "Completed", "message": "{\"reason\":\"IdleTimeout\"}"});
    world.kubelet(
        "box-1",
        &json!({"phase": "Succeeded", "containerStatuses": [{"name": "sandbox", "image": "", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"terminated": idle}}]}),
    );
    world.settle(&mut sandbox, 700);
    sandbox.annotations_mut().insert(names::WAKE.into(), "now".into());
    world.settle(&mut sandbox, 701);
    world.kubelet("box-2", &unschedulable(TAKEN));
    world.settle(&mut sandbox, 702);
    world.kubelet("box-3", &running());
    world.settle(&mut sandbox, 703);
    assert!(status(&sandbox).is_true(condition::READY));
    assert_eq!(status(&sandbox).condition(condition::SUSPENDED).unwrap().reason, reason::RESUMED);
}
