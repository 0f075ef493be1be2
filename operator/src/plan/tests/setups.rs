//! What is done before a sandbox takes calls, and what becomes of it when that fails.

use api::{Egress, Network, Setup, Termination};

use super::*;

/// A sandbox that is to be set up with a wider network than it has itself.
pub(super) fn of(egress: Egress, setup: Egress) -> CodeSandbox {
    let mut sandbox = sandbox();
    sandbox.spec.settings.network = Some(Network { egress: Some(egress), ..Network::default() });
    let commands = vec!["pip install x".into()];
    let setup = Setup { commands, egress: Some(setup), ..Setup::default() };
    sandbox.spec.settings.setup = Some(setup);
    sandbox
}

/// What a node says of a pod whose setup is in a state, and was in another before.
pub(super) fn setting_up(state: &Value, last: &Value) -> Value {
    json!({
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "True"}],
        "initContainerStatuses": [{"name": "setup", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": state, "lastState": last}],
        "containerStatuses": [{"name": "sandbox", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "PodInitializing"}}}],
    })
}

pub(super) fn failed() -> Value {
    let said = json!({"reason": "SetupFailed", "command": "pip install x", "how": "ended with exit code 1", "tail": "no such x"});
    json!({"terminated": {"exitCode": 1, "reason": "Error", "message": said.to_string()}})
}

pub(super) fn done() -> Value {
    json!({"terminated": {"exitCode": 0, "reason": "Completed"}})
}

pub(super) fn isolated(sandbox: &CodeSandbox) -> (String, String) {
    let status = sandbox.status.as_ref().unwrap();
    let one = status.condition(condition::NETWORK_ISOLATED).unwrap();
    (one.status.clone(), one.reason.clone())
}

#[test]
fn the_network_is_opened_for_the_setup_and_closed_before_the_sandbox_is_ready() {
    let (mut world, mut sandbox) = (World::default(), of(Egress::Deny, Egress::Internet));
    let plan = world.reconcile(&mut sandbox, 1);
    assert_eq!(isolated(&sandbox), ("False".into(), reason::SETTING_UP.into()));
    assert!(plan.events.iter().all(|event| !event.warning), "{:?}", plan.events);
    let made =
        ["apply codesandbox-deny", "apply box-internet", "create box-1", "status 1 False Creating"];
    assert_eq!(world.done(), made);

    world.kubelet("box-1", &setting_up(&json!({"running": {}}), &json!({})));
    world.settle(&mut sandbox, 2);
    assert_eq!(world.done(), ["status 1 False SettingUp"]);
    assert_eq!(isolated(&sandbox), ("False".into(), reason::SETTING_UP.into()));

    // It is restored while it is wanted.
    world.policies.remove("box-internet");
    world.settle(&mut sandbox, 3);
    assert_eq!(world.done(), ["apply box-internet"]);

    let mut status = setting_up(&done(), &json!({}));
    status["containerStatuses"][0]["state"] = json!({"waiting": {"reason": "PodInitializing"}});
    world.kubelet("box-1", &status);
    world.settle(&mut sandbox, 4);
    assert_eq!(world.done(), ["delete policy box-internet policy-uid", "status 1 False Starting"]);
    assert_eq!(isolated(&sandbox), ("True".into(), reason::DENY_POLICY.into()));

    // What the node says of the setup may be forgotten.
    world.kubelet("box-1", &running());
    world.settle(&mut sandbox, 5);
    assert_eq!(world.done(), ["status 1 True PodReady"]);
}

#[test]
fn a_setup_that_reaches_no_more_than_the_sandbox_opens_and_closes_nothing() {
    for (egress, setup, policies) in [
        (Egress::Deny, Egress::Deny, &["codesandbox-deny"][..]),
        (Egress::Internet, Egress::Internet, &["box-internet", "codesandbox-deny"]),
        (Egress::Internet, Egress::Deny, &["box-internet", "codesandbox-deny"]),
    ] {
        let mut sandbox = of(egress, setup);
        let mut world = World::running(&mut sandbox);
        world.settle(&mut sandbox, 10);
        assert_eq!(world.policies.keys().collect::<Vec<_>>(), policies, "{egress:?} {setup:?}");
    }
}

#[test]
fn a_setup_that_fails_is_the_end_and_is_not_tried_again() {
    for status in [
        setting_up(&failed(), &json!({})),
        setting_up(&json!({"waiting": {"reason": "CrashLoopBackOff"}}), &failed()),
        setting_up(&json!({"running": {}}), &failed()),
    ] {
        let (mut world, mut sandbox) = (World::default(), of(Egress::Deny, Egress::Internet));
        world.settle(&mut sandbox, 1);
        world.done();
        world.kubelet("box-1", &status);
        world.settle(&mut sandbox, 2);
        let expected = [
            "status 1 False SetupFailed",
            "delete pod box-1 pod-uid-1",
            "delete policy box-internet policy-uid",
        ];
        assert_eq!(world.done(), expected, "{status}");
        let status = sandbox.status.as_ref().unwrap();
        assert!(status.is_true(condition::FINISHED));
        let message = "spec.setup failed: `pip install x` ended with exit code 1, and said at last: no such x; correct it and create the sandbox anew";
        let expected = Termination {
            reason: TerminationReason::SetupFailed,
            exit_code: Some(1),
            message: message.into(),
        };
        assert_eq!(status.last_termination.as_ref(), Some(&expected));
    }
}

#[test]
fn a_setup_that_takes_too_much_memory_fails() {
    let (mut world, mut sandbox) = (World::default(), of(Egress::Deny, Egress::Deny));
    world.settle(&mut sandbox, 1);
    let end = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
    world.kubelet("box-1", &setting_up(&end, &json!({})));
    world.settle(&mut sandbox, 2);
    let last = sandbox.status.as_ref().unwrap().last_termination.as_ref().unwrap();
    assert_eq!(
        last.message,
        "spec.setup failed: more memory was used than spec.resources.memory (1Gi); correct it and create the sandbox anew"
    );
}

#[test]
fn what_keeps_a_setup_from_its_start_is_no_failure_of_it() {
    let open = json!({"terminated": {"exitCode": 1, "reason": "Error", "message": "{\"reason\":\"NotIsolated\"}"}});
    let unstarted =
        json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": "no such file"}});
    let killed = json!({"terminated": {"exitCode": 137, "reason": "Error"}});
    let waiting = |reason: &str| json!({"waiting": {"reason": reason, "message": "words"}});
    for (state, last, expected) in [
        (waiting("PodInitializing"), json!({}), reason::STARTING),
        (waiting("ErrImagePull"), json!({}), reason::IMAGE_PULL),
        (waiting("CreateContainerConfigError"), json!({}), reason::START_FAILED),
        (open.clone(), json!({}), reason::NOT_ISOLATED),
        (waiting("CrashLoopBackOff"), open, reason::NOT_ISOLATED),
        (killed.clone(), json!({}), reason::RESTARTING),
        (waiting("CrashLoopBackOff"), killed, reason::RESTARTING),
        (waiting("CrashLoopBackOff"), unstarted, reason::START_FAILED),
    ] {
        let (mut world, mut sandbox) = (World::default(), of(Egress::Deny, Egress::Internet));
        world.settle(&mut sandbox, 1);
        world.kubelet("box-1", &setting_up(&state, &last));
        world.settle(&mut sandbox, 2);
        assert_eq!(ready(&sandbox), expected, "{state} {last}");
    }
}

#[test]
fn one_that_is_suspended_while_it_is_set_up_leaves_no_network_open() {
    let (mut world, mut sandbox) = (World::default(), of(Egress::Deny, Egress::Internet));
    world.settle(&mut sandbox, 1);
    world.kubelet("box-1", &setting_up(&json!({"running": {}}), &json!({})));
    world.settle(&mut sandbox, 2);
    world.done();
    sandbox.spec.suspend = Some(true);
    world.settle(&mut sandbox, 3);
    let expected = [
        "status 2 False Suspended",
        "delete pod box-1 pod-uid-1",
        "delete policy box-internet policy-uid",
        "status 2 False Suspended",
    ];
    assert_eq!(world.done(), expected);
}

/// The policy selects all pods of the sandbox, and the one before may have an ear for nothing.
#[test]
fn the_network_is_not_opened_for_the_next_setup_while_the_pod_before_is_there() {
    let mut sandbox = of(Egress::Deny, Egress::Internet);
    let mut world = World { slow: true, ..World::running(&mut sandbox) };
    world.settle(&mut sandbox, 3);
    world.done();
    sandbox.spec.suspend = Some(true);
    world.settle(&mut sandbox, 10);
    sandbox.spec.suspend = Some(false);
    world.done();
    // Nor where it is not looked for, since another's probe is waited for.
    world.injection = Some(Injection::Waiting(at(90)));
    world.settle(&mut sandbox, 11);
    assert_eq!(world.done(), ["status 2 False Probing"]);
    world.injection = None;
    world.settle(&mut sandbox, 11);
    assert_eq!(world.done(), ["status 2 False Creating"]);
    world.pods.remove("box-1");
    world.settle(&mut sandbox, 12);
    assert_eq!(world.done(), ["apply box-internet", "create box-2", "status 2 False Creating"]);
}

#[test]
fn a_sandbox_is_not_ready_while_the_policy_of_its_setup_is_there() {
    let mut sandbox = of(Egress::Deny, Egress::Internet);
    let mut world = World::running(&mut sandbox);
    world.settle(&mut sandbox, 3);
    let policy = network::during_setup(&sandbox, &config()).unwrap();
    world.policies.insert(policy.name_any(), policy);
    // As after a removal that failed: the status is written all the same.
    let plan = plan(&sandbox, &world.observe(&sandbox), &config(), at(4));
    let ready = plan.status.unwrap();
    let ready = ready.condition(condition::READY).unwrap();
    assert_eq!((&*ready.status, &*ready.reason), ("False", reason::SETTING_UP));
}

/// Its files are there, and the network is not opened once more.
#[test]
fn what_was_set_up_on_a_disk_is_set_up_for_all_later_pods() {
    let mut sandbox = of(Egress::Deny, Egress::Internet);
    sandbox.spec.settings.workspace = Some(api::Workspace {
        size: k8s_openapi::apimachinery::pkg::api::resource::Quantity("1Gi".into()),
        storage_class_name: None,
        retain: None,
    });
    let mut world = World::running(&mut sandbox);
    world.settle(&mut sandbox, 3);
    assert!(sandbox.status.as_ref().unwrap().set_up);
    world.pods.remove("box-1");
    world.done();
    world.settle(&mut sandbox, 10);
    assert_eq!(world.done(), ["status 2 False PodLost", "create box-2", "status 2 False Creating"]);
    let spec = world.pods["box-2"].spec.as_ref().unwrap();
    assert_eq!(spec.init_containers, None);

    // Somebody deletes the disk: nothing of it is left.
    world.kubelet("box-2", &running());
    world.settle(&mut sandbox, 11);
    (world.claim, world.pods) = (None, BTreeMap::new());
    world.done();
    world.reconcile(&mut sandbox, 20);
    let plan = world.reconcile(&mut sandbox, 40);
    assert_eq!(plan.requeue, Some(Duration::ZERO));
    let told: Vec<_> = plan.events.iter().map(|event| (event.warning, &*event.reason)).collect();
    assert_eq!(told, [(true, "DiskLost")]);
    world.settle(&mut sandbox, 40);
    let done = [
        "status 3 False PodLost",
        "status 3 False DiskLost",
        "apply box-internet",
        "create box-workspace",
        "create box-3",
        "status 3 False Creating",
    ];
    assert_eq!(world.done(), done);
    assert!(!sandbox.status.as_ref().unwrap().set_up);
    assert!(world.pods["box-3"].spec.as_ref().unwrap().init_containers.is_some());

    // Without a disk all of it is done anew.
    let mut sandbox = of(Egress::Deny, Egress::Internet);
    let mut world = World::running(&mut sandbox);
    world.settle(&mut sandbox, 3);
    assert!(!sandbox.status.as_ref().unwrap().set_up);
    world.pods.remove("box-1");
    world.done();
    world.settle(&mut sandbox, 10);
    assert_eq!(world.done()[1], "apply box-internet");
}
