//! What becomes of a sandbox's own places in the network while it is set up with more, and afterwards.

use api::{Egress, Network};

use super::{
    setups::{done, failed, isolated, of, setting_up},
    *,
};

/// Sandboxes that may reach or be reached by somebody, and are to be set up with the Internet.
fn sandboxes() -> [CodeSandbox; 3] {
    let pods = json!({"podSelector": {"matchLabels": {"app": "db"}}});
    [
        json!({"allow": [{"cidr": "10.1.2.0/24", "ports": [{"port": 5432}]}]}),
        json!({"allow": [pods]}),
        json!({"ports": [{"port": 80, "from": [pods]}]}),
    ]
    .map(|network| {
        let mut sandbox = of(Egress::Deny, Egress::Internet);
        sandbox.spec.settings.network = serde_json::from_value(network).unwrap();
        sandbox
    })
}

fn own(sandbox: &CodeSandbox) -> NetworkPolicy {
    network::own(sandbox, &config()).unwrap()
}

fn during_setup(sandbox: &CodeSandbox) -> NetworkPolicy {
    network::during_setup(sandbox, &config()).unwrap()
}

impl World {
    /// What the sandbox's own policy says.
    fn opened(&self) -> Option<&NetworkPolicySpec> {
        self.policies["box-internet"].spec.as_ref()
    }

    /// A world in which the sandbox is being set up.
    fn setting_up(sandbox: &mut CodeSandbox) -> Self {
        let mut world = Self::default();
        world.settle(sandbox, 1);
        world.kubelet("box-1", &setting_up(&json!({"running": {}}), &json!({})));
        world.settle(sandbox, 2);
        world.done();
        world
    }
}

#[test]
fn after_its_setup_a_sandbox_may_reach_precisely_what_it_may_itself() {
    for mut sandbox in sandboxes() {
        let mut world = World::setting_up(&mut sandbox);
        assert_eq!(world.opened(), during_setup(&sandbox).spec.as_ref());
        assert_eq!(isolated(&sandbox), ("False".into(), reason::SETTING_UP.into()));

        world.kubelet("box-1", &setting_up(&done(), &json!({})));
        world.settle(&mut sandbox, 3);
        assert_eq!(world.done(), ["apply box-internet", "status 1 False Starting"]);
        assert_eq!(world.opened(), own(&sandbox).spec.as_ref());
        assert_eq!(isolated(&sandbox), ("True".into(), reason::ALLOW_POLICY.into()));

        world.kubelet("box-1", &running());
        world.settle(&mut sandbox, 4);
        assert_eq!(world.done(), ["status 1 True PodReady"]);
        assert_eq!(world.opened(), own(&sandbox).spec.as_ref());
    }
}

#[test]
fn nothing_changes_for_a_setup_that_may_reach_no_more() {
    for (egress, setup) in [(Egress::Deny, Egress::Deny), (Egress::Internet, Egress::Internet)] {
        for asked in sandboxes() {
            let mut sandbox = of(egress, setup);
            let network = asked.spec.settings.network.unwrap();
            sandbox.spec.settings.network = Some(Network { egress: Some(egress), ..network });
            let mut world = World::default();
            world.settle(&mut sandbox, 1);
            let before = own(&sandbox).spec;
            assert_eq!(world.opened(), before.as_ref());
            world.kubelet("box-1", &setting_up(&done(), &json!({})));
            world.settle(&mut sandbox, 2);
            world.kubelet("box-1", &running());
            world.done();
            world.settle(&mut sandbox, 3);
            assert_eq!(world.done(), ["status 1 True PodReady"]);
            assert_eq!(world.opened(), before.as_ref());
            assert_eq!(isolated(&sandbox), ("True".into(), reason::ALLOW_POLICY.into()));
        }
    }
}

#[test]
fn a_setup_that_ends_before_its_time_leaves_no_more_open_either() {
    for asked in sandboxes() {
        let mut sandbox = asked.clone();
        let mut world = World::setting_up(&mut sandbox);
        world.kubelet("box-1", &setting_up(&failed(), &json!({})));
        world.settle(&mut sandbox, 3);
        let expected =
            ["status 1 False SetupFailed", "delete pod box-1 pod-uid-1", "apply box-internet"];
        assert_eq!(world.done(), expected);
        assert_eq!(world.opened(), own(&sandbox).spec.as_ref());

        let mut sandbox = asked;
        let mut world = World::setting_up(&mut sandbox);
        sandbox.spec.suspend = Some(true);
        world.settle(&mut sandbox, 3);
        let expected = [
            "status 2 False Suspended",
            "delete pod box-1 pod-uid-1",
            "apply box-internet",
            "status 2 False Suspended",
        ];
        assert_eq!(world.done(), expected);
        assert_eq!(world.opened(), own(&sandbox).spec.as_ref());
    }
}

#[test]
fn a_sandbox_is_not_ready_while_what_only_its_setup_may_reach_is_open() {
    for mut sandbox in sandboxes() {
        let mut world = World::running(&mut sandbox);
        let wide = NetworkPolicy {
            metadata: world.policies["box-internet"].metadata.clone(),
            ..during_setup(&sandbox)
        };
        world.policies.insert("box-internet".into(), wide);
        // As after an apply that failed: the status is written all the same.
        let plan = plan(&sandbox, &world.observe(&sandbox), &config(), at(4));
        assert!(
            matches!(plan.action, Some(Action::Apply(own)) if own.spec == self::own(&sandbox).spec)
        );
        let status = plan.status.unwrap();
        let said = |condition: &str| {
            let one = status.condition(condition).unwrap();
            (one.status.clone(), one.reason.clone())
        };
        assert_eq!(said(condition::READY), ("False".into(), reason::SETTING_UP.into()));
        let opened = ("False".into(), reason::OPENED_BY_POLICY.into());
        assert_eq!(said(condition::NETWORK_ISOLATED), opened);
    }
}

#[test]
fn a_sandbox_that_is_resumed_is_isolated_as_it_was_before() {
    let disk = api::Workspace {
        size: k8s_openapi::apimachinery::pkg::api::resource::Quantity("1Gi".into()),
        storage_class_name: None,
        retain: None,
    };
    for (disk, applied) in [(None, &["apply box-internet"][..]), (Some(disk), &[])] {
        for mut sandbox in sandboxes() {
            sandbox.spec.settings.workspace = disk.clone();
            let mut world = World::running(&mut sandbox);
            for (suspend, seconds) in [(true, 3), (false, 4)] {
                world.done();
                sandbox.spec.suspend = Some(suspend);
                world.settle(&mut sandbox, seconds);
            }
            let expected = [applied, &["create box-2", "status 2 False Creating"]].concat();
            assert_eq!(world.done(), expected, "what was set up on a disk needs no network");
            world.kubelet("box-2", &running());
            world.settle(&mut sandbox, 5);
            assert_eq!(world.opened(), own(&sandbox).spec.as_ref());
            assert_eq!(isolated(&sandbox), ("True".into(), reason::ALLOW_POLICY.into()));
        }
    }
}

#[test]
fn the_network_is_not_opened_any_wider_while_the_pod_before_is_there() {
    for mut sandbox in sandboxes() {
        let mut world = World { slow: true, ..World::running(&mut sandbox) };
        for (suspend, seconds) in [(true, 3), (false, 4)] {
            world.done();
            sandbox.spec.suspend = Some(suspend);
            world.settle(&mut sandbox, seconds);
        }
        assert_eq!(world.done(), ["status 2 False Creating"]);
        assert_eq!(world.opened(), own(&sandbox).spec.as_ref());
        world.pods.remove("box-1");
        world.settle(&mut sandbox, 5);
        assert_eq!(world.done(), ["apply box-internet", "create box-2", "status 2 False Creating"]);
    }
}

/// An operator may have learnt more addresses since, by which sandboxes see their network closed.
#[test]
fn what_no_sandbox_may_reach_is_asked_before_every_pod() {
    let mut known = config();
    known.api_server_address = Some("10.1.2.1".into());
    let [with_setup, ..] = sandboxes();
    let mut without = with_setup.clone();
    without.spec.settings.setup = None;
    for mut sandbox in [with_setup, without] {
        let mut world = World::running(&mut sandbox);
        sandbox.spec.suspend = Some(true);
        world.settle(&mut sandbox, 3);
        sandbox.spec.suspend = Some(false);
        let plan = plan(&sandbox, &world.observe(&sandbox), &known, at(4));
        assert_eq!(plan.action, None);
        let ready = plan.status.unwrap();
        assert_eq!(ready.condition(condition::READY).unwrap().reason, reason::NETWORK_FORBIDDEN);
    }
}

/// The pod before that one may still run, with what its setup may reach.
#[test]
fn what_is_left_of_a_pod_before_goes_though_the_next_is_forbidden() {
    let mut known = config();
    known.api_server_address = Some("10.1.2.1".into());
    let [mut sandbox, ..] = sandboxes();
    let world = World::setting_up(&mut sandbox);
    let mut observed = world.observe(&sandbox);
    observed.former = observed.pod.take();
    let status = sandbox.status.as_mut().unwrap();
    (status.attempt, status.pod_uid) = (Some(2), None);
    let uid = observed.former.as_ref().unwrap().uid().unwrap();
    let first = plan(&sandbox, &observed, &known, at(4));
    assert_eq!(first.action, Some(Action::DeletePod { name: "box-1".into(), uid }));

    observed.former = None;
    let then = plan(&sandbox, &observed, &known, at(5));
    assert_eq!(then.action, Some(Action::Apply(Box::new(own(&sandbox)))));
}
