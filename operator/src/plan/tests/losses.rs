//! What becomes of a sandbox whose pod was lost.

use api::{RestartPolicy, Termination};

use super::*;
use crate::restart;

/// A sandbox of a policy and a budget.
fn of(policy: RestartPolicy, limit: u32) -> CodeSandbox {
    let mut sandbox = sandbox();
    sandbox.spec.settings.restart_policy = Some(policy);
    sandbox.spec.settings.backoff_limit = Some(limit);
    sandbox.spec.settings.ttl = Some("168h".into());
    sandbox
}

fn evicted() -> Value {
    json!({"phase": "Failed", "reason": "Evicted", "message": "disk"})
}

fn container(end: &Value) -> Value {
    json!([{"name": "sandbox", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": end}}])
}

/// What a sandbox's Ready says.
fn said(sandbox: &CodeSandbox) -> &str {
    &sandbox.status.as_ref().unwrap().condition(condition::READY).unwrap().message
}

fn last(sandbox: &CodeSandbox) -> &Termination {
    sandbox.status.as_ref().unwrap().last_termination.as_ref().unwrap()
}

/// As the API server gives it back, to an operator that knows nothing else.
fn reread(sandbox: &CodeSandbox) -> CodeSandbox {
    serde_json::from_value(serde_json::to_value(sandbox).unwrap()).unwrap()
}

impl World {
    /// Takes the pod of an attempt out of the world, which is seen at a time.
    fn lose(&mut self, sandbox: &mut CodeSandbox, seconds: i64) -> Plan {
        self.pods.remove(&names::pod("box", attempt(sandbox))).expect("it has a pod");
        self.reconcile(sandbox, seconds)
    }

    /// Brings a pod of a sandbox to where it is lost, in each way that there is.
    fn befall(&mut self, fate: &str) {
        let disrupted = |reason: &str| {
            let mut status = running();
            let cause = json!({"type": "DisruptionTarget", "status": "True", "reason": reason});
            status["conditions"].as_array_mut().unwrap().push(cause);
            status
        };
        match fate {
            "evicted by its node" => self.kubelet("box-1", &evicted()),
            "evicted by a drain" => self.kubelet("box-1", &disrupted("EvictionByEvictionAPI")),
            "on a node that shut down" => {
                self.kubelet("box-1", &json!({"phase": "Failed", "reason": "Terminated"}));
            }
            "refused by its node" => {
                self.kubelet(
                    "box-1",
                    &json!({"phase": "Failed", "reason": "UnexpectedAdmissionError"}),
                );
            }
            "on a node that went away" => {
                self.kubelet("box-1", &disrupted("DeletionByTaintManager"));
            }
            "being deleted" | "gone" => {}
            other => panic!("{other}"),
        }
        let pod = self.pods.get_mut("box-1").unwrap();
        match fate {
            "gone" => drop(self.pods.remove("box-1")),
            "evicted by its node" | "refused by its node" | "on a node that shut down" => {}
            _ => pod.metadata.deletion_timestamp = Some(Time(at(10))),
        }
    }
}

#[test]
fn each_way_to_lose_a_pod_is_answered_as_the_policy_says() {
    for (fate, reason, ready, deleted) in [
        ("evicted by its node", TerminationReason::Evicted, reason::POD_LOST, true),
        ("evicted by a drain", TerminationReason::Evicted, reason::POD_LOST, false),
        ("refused by its node", TerminationReason::Rejected, reason::POD_LOST, true),
        ("on a node that shut down", TerminationReason::NodeLost, reason::POD_LOST, true),
        ("on a node that went away", TerminationReason::NodeLost, reason::POD_LOST, false),
        ("being deleted", TerminationReason::Killed, reason::TERMINATING, false),
        ("gone", TerminationReason::Killed, reason::POD_LOST, false),
    ] {
        for mut sandbox in [sandbox(), of(RestartPolicy::Recreate, 1)] {
            let mut world = World::running(&mut sandbox);
            world.befall(fate);
            world.settle(&mut sandbox, 10);
            let mut expected = vec![format!("status 2 False {ready}")];
            // What goes by itself, or has gone, is left alone.
            expected.extend(deleted.then(|| "delete pod box-1 pod-uid-1".into()));
            expected.extend(["create box-2".into(), "status 2 False Creating".into()]);
            assert_eq!(world.done(), expected, "{fate}");
            assert_eq!(last_reason(&sandbox), Some(reason), "{fate}");
            assert!(!sandbox.status.unwrap().is_true(condition::FINISHED), "{fate}");
        }
        for mut sandbox in [of(RestartPolicy::Never, 6), of(RestartPolicy::Recreate, 0)] {
            let mut world = World::running(&mut sandbox);
            world.befall(fate);
            let plan = world.reconcile(&mut sandbox, 10);
            assert_eq!(world.done(), [format!("status 1 False {reason:?}")], "{fate}");
            assert_eq!(plan.requeue, Some(Duration::from_mins(10)), "ttlAfterFinished: {fate}");
            assert_eq!(plan.events.len(), 1, "{fate}: {:?}", plan.events);
            assert!(sandbox.status.as_ref().unwrap().is_true(condition::FINISHED), "{fate}");
            assert_eq!(last(&sandbox).message, said(&sandbox), "{fate}");
            world.pods.clear();
            world.settle(&mut sandbox, 20);
            assert_eq!(world.done(), [""; 0], "{fate}: nothing comes back");
        }
    }
}

#[test]
fn no_replacement_waits_for_a_clock_that_was_set_back() {
    let mut sandbox = of(RestartPolicy::Recreate, 9);
    let mut world = World::running(&mut sandbox);
    for next in [2, 3] {
        world.lose(&mut sandbox, 7200);
        world.settle(&mut sandbox, 7200);
        if next == 2 {
            world.kubelet("box-2", &running());
            world.settle(&mut sandbox, 7200);
        }
    }
    world.done();
    assert_eq!(world.reconcile(&mut sandbox, 7209).requeue, Some(Duration::from_secs(1)));
    world.settle(&mut sandbox, 100);
    assert_eq!(world.done(), ["create box-3", "status 3 False Creating"]);
}

#[test]
fn what_ends_by_itself_is_never_made_anew() {
    let deadline = json!({"phase": "Failed", "reason": "DeadlineExceeded"});
    let done = json!({"exitCode": 0, "reason": "Completed"});
    let idle = json!({"exitCode": 0, "message": "{\"reason\":\"IdleTimeout\"}"});
    let oom = json!({"exitCode": 137, "reason": "OOMKilled"});
    for (status, reason) in [
        (deadline, TerminationReason::DeadlineExceeded),
        (
            json!({"phase": "Succeeded", "containerStatuses": container(&done)}),
            TerminationReason::Completed,
        ),
        (
            json!({"phase": "Succeeded", "containerStatuses": container(&idle)}),
            TerminationReason::IdleTimeout,
        ),
        (
            json!({"phase": "Failed", "containerStatuses": container(&oom)}),
            TerminationReason::OOMKilled,
        ),
        (json!({"phase": "Failed"}), TerminationReason::Unknown),
    ] {
        let mut sandbox = of(RestartPolicy::Recreate, 6);
        let mut world = World::running(&mut sandbox);
        world.kubelet("box-1", &status);
        world.settle(&mut sandbox, 10);
        assert_eq!(world.done(), [format!("status 1 False {reason:?}")]);
    }
}

#[test]
fn a_container_that_starts_again_in_its_pod_takes_nothing_of_the_budget() {
    for mut sandbox in [of(RestartPolicy::Never, 0), of(RestartPolicy::Recreate, 0)] {
        let mut world = World::running(&mut sandbox);
        for restarts in 1..4 {
            let mut status = running();
            status["containerStatuses"][0]["restartCount"] = restarts.into();
            status["containerStatuses"][0]["lastState"] =
                json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
            world.kubelet("box-1", &status);
            world.settle(&mut sandbox, 10 * restarts);
        }
        assert_eq!(world.done(), ["status 1 True PodReady"], "what it ended of is written once");
        assert_eq!(last_reason(&sandbox), Some(TerminationReason::OOMKilled));
    }
}

#[test]
fn each_replacement_waits_longer_than_the_one_before_whether_its_pod_was_ready_or_not() {
    for was_ready in [true, false] {
        let mut sandbox = of(RestartPolicy::Recreate, 9);
        let mut world = World::running(&mut sandbox);
        let mut now = 100;
        for (next, wait) in
            [(2, 0), (3, 10), (4, 20), (5, 40), (6, 80), (7, 160), (8, 300), (9, 300)]
        {
            world.lose(&mut sandbox, now);
            assert_eq!(world.done(), [format!("status {next} False PodLost")]);
            let create = [format!("create box-{next}"), format!("status {next} False Creating")];
            if wait > 0 {
                for (seen, left) in [(now, wait), (now + wait - 1, 1)] {
                    let plan = world.reconcile(&mut sandbox, seen);
                    assert_eq!(plan.requeue, Some(Duration::from_secs(left.try_into().unwrap())));
                    assert_eq!((world.done(), plan.events), (vec![], vec![]), "{next} at {seen}");
                }
            }
            world.reconcile(&mut sandbox, now + wait);
            assert_eq!(world.done(), create);
            if was_ready {
                world.kubelet(&names::pod("box", next), &running());
                world.settle(&mut sandbox, now + wait + 1);
                world.done();
            }
            now += wait + 50;
        }
    }
}

#[test]
fn the_budget_is_of_replacements_and_the_loss_behind_the_last_is_the_end() {
    for limit in [1, 2, 6] {
        let mut sandbox = of(RestartPolicy::Recreate, limit);
        let mut world = World::running(&mut sandbox);
        for round in 1..=limit {
            let now = i64::from(round) * 1000;
            world.lose(&mut sandbox, now);
            world.settle(&mut sandbox, now + 300);
        }
        assert_eq!(i64::from(world.made), i64::from(limit) + 1, "and the first");
        world.done();
        world.kubelet(&names::pod("box", limit + 1), &evicted());
        world.settle(&mut sandbox, 10_000);
        assert_eq!(world.done(), [format!("status {} False Evicted", limit + 1)]);
        let expected = Termination {
            reason: TerminationReason::Evicted,
            exit_code: None,
            message: format!(
                "the pod was evicted (disk); its files and contexts are gone and its runs are lost; spec.backoffLimit ({limit}) is used up, so create another sandbox, with more spec.resources.ephemeralStorage if its disk was full"
            ),
        };
        assert_eq!((last(&sandbox), said(&sandbox)), (&expected, &*expected.message));
    }
}

#[test]
fn what_was_lost_and_what_follows_is_said_while_it_is_waited_for() {
    let mut sandbox = of(RestartPolicy::Recreate, 2);
    let mut world = World::running(&mut sandbox);
    let gone = "its files and contexts are gone and its runs are lost";
    let plan = world.lose(&mut sandbox, 60);
    assert_eq!(last(&sandbox).message, format!("the pod was deleted; {gone}"));
    let expected =
        format!("the pod was deleted; {gone}; replacement 1 of 2, as attempt 2, follows at once");
    assert_eq!(said(&sandbox), expected);
    assert_eq!((plan.events.len(), &plan.events[0].note), (1, &expected));

    world.settle(&mut sandbox, 60);
    world.kubelet("box-2", &evicted());
    world.settle(&mut sandbox, 120);
    let what = format!("the pod was evicted (disk); {gone}");
    assert_eq!(last(&sandbox).message, what);
    assert_eq!(
        said(&sandbox),
        format!("{what}; replacement 2 of 2, as attempt 3, follows at 2026-01-01T00:02:10Z"),
        "and no other time, so that nothing is written while it passes"
    );
}

#[test]
fn the_time_that_is_said_is_the_one_that_is_kept() {
    let mut sandbox = of(RestartPolicy::Recreate, 6);
    let mut world = World::running(&mut sandbox);
    world.lose(&mut sandbox, 50);
    world.settle(&mut sandbox, 50);
    world.pods.clear();
    let lost = |world: &World, sandbox: &CodeSandbox, now| {
        let status = plan(sandbox, &world.observe(sandbox), &config(), now).status.unwrap();
        let ready = status.condition(condition::READY).unwrap();
        let said = ready.message.rsplit(' ').next().unwrap().parse::<Timestamp>().unwrap();
        let before = said - jiff::SignedDuration::from_secs(1);
        assert_eq!(Some(said), restart::next(&status, before), "{}", ready.message);
        assert_eq!(restart::next(&status, said), None);
        status
    };
    // Kubernetes keeps no fractions of seconds.
    let now = at(100) + jiff::SignedDuration::from_millis(345);
    let status = lost(&world, &sandbox, now);
    assert_eq!(restart::next(&status, now), Some(at(110)));

    // Of a pod that nobody had written down, it is not known how long it was there.
    sandbox.status = Some(status);
    world.settle(&mut sandbox, 110);
    let unwritten = sandbox.status.as_mut().unwrap();
    unwritten.pod_uid = None;
    let isolated = unwritten.conditions.iter_mut().find(|one| one.type_ == "NetworkIsolated");
    let isolated = isolated.unwrap();
    (isolated.status, isolated.last_transition_time) = ("Unknown".into(), Time(at(100)));
    world.kubelet("box-3", &evicted());
    let status = lost(&world, &sandbox, at(150));
    assert_eq!(restart::next(&status, at(119)), Some(at(120)));
}

#[test]
fn who_asks_for_no_other_pod_is_told_so() {
    let mut sandbox = of(RestartPolicy::Never, 6);
    World::running(&mut sandbox).lose(&mut sandbox, 60);
    let expected = "the pod was deleted; its files and contexts are gone and its runs are lost; spec.restartPolicy is Never, so create another sandbox";
    assert_eq!(said(&sandbox), expected);
}

/// Each step is one from which another operator goes on: first the word, then the old pod, then the wait, then the new pod.
#[test]
fn an_operator_that_starts_in_the_middle_goes_on_from_there() {
    let mut sandbox = of(RestartPolicy::Recreate, 6);
    let mut world = World::running(&mut sandbox);
    world.lose(&mut sandbox, 50);
    world.settle(&mut sandbox, 50);
    world.kubelet("box-2", &evicted());
    world.done();

    let plan_at = |world: &World, sandbox: &CodeSandbox, seconds| {
        let sandbox = reread(sandbox);
        plan(&sandbox, &world.observe(&sandbox), &config(), at(seconds))
    };
    // Nothing is deleted before it is written down what it was.
    let seen = plan_at(&world, &sandbox, 100);
    assert_eq!((seen.action, seen.requeue), (None, Some(Duration::ZERO)));
    sandbox.status = seen.status;

    // The old pod goes at once, and once only.
    let delete = Action::DeletePod { name: "box-2".into(), uid: "pod-uid-2".into() };
    for seconds in [101, 109, 200] {
        let seen = plan_at(&world, &sandbox, seconds);
        assert_eq!((seen.action.as_ref(), seen.status), (Some(&delete), None), "at {seconds}");
    }
    world.act(delete);

    // The rest of the wait is waited, whoever was there when it began.
    for (seconds, left) in [(101, 9), (105, 5), (109, 1)] {
        let seen = plan_at(&world, &sandbox, seconds);
        assert_eq!((seen.action, seen.status), (None, None), "at {seconds}");
        assert_eq!(seen.requeue, Some(Duration::from_secs(left)));
    }
    world.done();
    world.settle(&mut sandbox, 110);
    assert_eq!(world.done(), ["create box-3", "status 3 False Creating"]);
    assert_eq!(last_reason(&sandbox), Some(TerminationReason::Evicted));
}

#[test]
fn a_longer_ttl_is_taken_up_during_the_wait() {
    let mut sandbox = of(RestartPolicy::Recreate, 6);
    sandbox.spec.settings.ttl = Some("1h".into());
    let mut world = World::running(&mut sandbox);
    world.lose(&mut sandbox, 50);
    world.settle(&mut sandbox, 50);
    world.lose(&mut sandbox, 100);
    world.done();
    let before = said(&sandbox).to_owned();
    sandbox.spec.settings.ttl = Some("2h".into());
    sandbox.metadata.generation = Some(2);
    let plan = world.reconcile(&mut sandbox, 101);
    assert_eq!((world.done(), said(&sandbox)), (vec!["status 3 False PodLost".into()], &*before));
    assert_eq!(plan.requeue, Some(Duration::from_secs(9)));
    assert_eq!(sandbox.status.unwrap().expires_at, Some(Time(at(7200))));
}

#[test]
fn what_has_the_name_of_an_earlier_pod_and_is_not_ours_is_left_alone() {
    let mut sandbox = sandbox();
    let mut world = World::running(&mut sandbox);
    world.lose(&mut sandbox, 10);
    let mut foreign = pod_with(&evicted());
    foreign.metadata.name = Some("box-1".into());
    foreign.metadata.uid = Some("foreign".into());
    world.pods.insert("box-1".into(), foreign.clone());
    world.settle(&mut sandbox, 11);
    assert_eq!(world.done(), ["status 2 False PodLost", "create box-2", "status 2 False Creating"]);
    assert_eq!(world.pods["box-1"], foreign);
}

#[test]
fn a_pod_that_took_the_place_of_ours_is_removed_though_no_other_follows() {
    let mut sandbox = of(RestartPolicy::Never, 6);
    let mut world = World::running(&mut sandbox);
    world.pods.get_mut("box-1").unwrap().metadata.uid = Some("restored".into());
    world.settle(&mut sandbox, 3);
    assert_eq!(world.done(), ["delete pod box-1 restored", "status 1 False Killed"]);
}

#[test]
fn the_pod_before_is_looked_for_only_while_there_is_none() {
    let mut sandbox = sandbox();
    assert_eq!(former(&sandbox), None);
    let mut world = World::running(&mut sandbox);
    assert_eq!(former(&sandbox), None);
    world.lose(&mut sandbox, 10);
    assert_eq!(former(&sandbox).as_deref(), Some("box-1"));
    world.settle(&mut sandbox, 10);
    assert_eq!(former(&sandbox), None);
}
