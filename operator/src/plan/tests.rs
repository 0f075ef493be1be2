use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api::{CodeSandboxPool, CodeSandboxTemplate, TerminationReason, condition, reason};
use k8s_openapi::{
    api::{
        core::v1::Event,
        networking::v1::{NetworkPolicyIngressRule, NetworkPolicySpec},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time},
};
use serde_json::{Value, json};

mod gpus;
mod lists;
mod losses;
mod pools;
mod rests;
mod setups;

use super::*;
use crate::{
    call::Kind,
    injection::Way,
    network,
    observe::Refusal,
    pool::claim::Pooled,
    testing::{
        asking, at, bound, config, finished, internet, observed, opener, pod_with, running, sandbox,
    },
};

/// A cluster in which what is planned happens: the objects there are, and a log of what was done.
#[derive(Default)]
struct World {
    pods: BTreeMap<String, Pod>,
    claim: Option<PersistentVolumeClaim>,
    /// What nodes have said of pods.
    warnings: Vec<Event>,
    policies: BTreeMap<String, NetworkPolicy>,
    made: u32,
    /// Whether a pod that is deleted takes its time to go.
    slow: bool,
    /// What is known of the way into pods, where it is not that image volumes work.
    injection: Option<Injection>,
    /// The pool that there is, the templates, and the pods of the pool that somebody else has just taken.
    pool: Option<Arc<CodeSandboxPool>>,
    templates: Option<Vec<Arc<CodeSandboxTemplate>>>,
    taken: BTreeSet<String>,
    /// What the API server says what time it is, once it was asked, where it does not agree.
    server_time: Option<Timestamp>,
    asked: bool,
    log: Vec<String>,
}

impl World {
    fn observe(&self, sandbox: &CodeSandbox) -> Observed {
        let injection = self.injection.unwrap_or(Injection::By(Way::ImageVolume));
        // As if nothing had come to its end: that is looked for at another time in each test.
        let looks = sandbox.status.is_none() || depends_on_pod(sandbox, injection, at(0));
        let there = |name: String| self.pods.get(&name).filter(|_| looks).cloned();
        let (pod, former) = if looks && pods::may_be_claimed(sandbox) {
            let uid = sandbox.uid();
            let of = |pod: &&Pod| pod.labels().get(names::SANDBOX_UID) == uid.as_ref();
            pods::sorted(sandbox, self.pods.values().filter(of).cloned().collect())
        } else {
            let pod = there(pods::name(sandbox));
            (pod, super::former(sandbox).and_then(there))
        };
        let pooled = Pooled {
            known: true,
            pool: self.pool.clone(),
            pods: self.pods.values().cloned().map(Arc::new).collect(),
            refused: false,
        };
        Observed {
            injection,
            former,
            pooled,
            templates: self.templates.clone(),
            probe: self.pods.get("box-probe").cloned(),
            claim: self.claim.clone(),
            warnings: self.warnings.clone(),
            server_time: self.asked.then_some(self.server_time.unwrap_or(Timestamp::MAX)),
            ..observed(pod, self.policies.values().cloned().collect())
        }
    }

    /// Plans and acts until nothing is left to do, then writes the status, as the controller does. Gives the last plan.
    fn reconcile(&mut self, sandbox: &mut CodeSandbox, seconds: i64) -> Plan {
        for _ in 0..10 {
            let mut plan = plan(sandbox, &self.observe(sandbox), &config(), at(seconds));
            let Some(action) = plan.action.clone() else {
                if let Some(status) = plan.status.take() {
                    self.log.push(format!("status {}", summary(&status)));
                    sandbox.status = Some(status);
                }
                return plan;
            };
            self.act(action);
        }
        panic!("no end: {:?}", self.log);
    }

    /// Reconciles until nothing is written any more.
    fn settle(&mut self, sandbox: &mut CodeSandbox, seconds: i64) {
        for _ in 0..10 {
            let before = self.log.len();
            self.reconcile(sandbox, seconds);
            if self.log.len() == before {
                return;
            }
        }
        panic!("never settles: {:?}", self.log);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::AskTime => {
                self.log.push("ask what time it is".into());
                self.asked = true;
            }
            Action::Apply(policy) => {
                self.log.push(format!("apply {}", policy.name_any()));
                let mut policy = policy;
                policy.metadata.uid.get_or_insert("policy-uid".into());
                self.policies.insert(policy.name_any(), *policy);
            }
            Action::Conclude(verdict) => {
                self.log.push(format!("conclude {verdict:?}"));
                self.injection = Some(Injection::By(verdict.way()));
            }
            Action::CreateClaim(claim) => {
                self.log.push(format!("create {}", claim.name_any()));
                self.claim = Some(*claim);
            }
            Action::Claim(claims) => {
                let free =
                    |claim: &&Claim| !self.taken.contains(claim.metadata.name.as_ref().unwrap());
                let Some(claim) = claims.iter().find(free) else {
                    self.log.push("claim none".into());
                    self.pool = None;
                    return;
                };
                let pod = self.pods.get_mut(claim.metadata.name.as_ref().unwrap()).unwrap();
                assert_eq!(claim.metadata.uid, pod.metadata.uid);
                assert_eq!(claim.metadata.resource_version, pod.metadata.resource_version);
                pod.labels_mut().extend(claim.metadata.labels.clone().unwrap());
                pod.metadata.owner_references = claim.metadata.owner_references.clone();
                self.log.push(format!("claim {}", pod.name_any()));
            }
            Action::CreatePod(mut pod) | Action::CreateProbe(mut pod) => {
                if self.injection == Some(Injection::Unknown) {
                    self.injection = Some(Injection::Asking(at(75)));
                }
                self.made += 1;
                pod.metadata.uid = Some(format!("pod-uid-{}", self.made));
                self.log.push(format!("create {}", pod.name_any()));
                self.pods.insert(pod.name_any(), *pod);
            }
            Action::DeletePod { name, uid } | Action::DeleteProbe { name, uid } => {
                self.log.push(format!("delete pod {name} {uid}"));
                if self.slow {
                    let pod = self.pods.get_mut(&name).expect("it was there");
                    pod.metadata.deletion_timestamp = Some(Time(at(100)));
                } else {
                    self.pods.remove(&name);
                }
            }
            Action::DeletePolicy { name, uid } => {
                self.log.push(format!("delete policy {name} {uid}"));
                self.policies.remove(&name);
            }
            Action::DeleteSandbox { name, uid, .. } => {
                self.log.push(format!("delete {name} {uid}"));
            }
        }
    }

    /// What was done since the last time this was asked.
    fn done(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    /// The kubelet says something about a pod.
    fn kubelet(&mut self, pod: &str, status: &Value) {
        self.pods.get_mut(pod).unwrap().status = pod_with(status).status;
    }

    /// A world in which the sandbox runs and is settled.
    fn running(sandbox: &mut CodeSandbox) -> Self {
        let mut world = Self::default();
        world.settle(sandbox, 1);
        world.kubelet("box-1", &running());
        world.settle(sandbox, 2);
        world.done();
        world
    }
}

fn summary(status: &CodeSandboxStatus) -> String {
    let ready = status.condition(condition::READY).unwrap();
    format!("{} {} {}", status.attempt.unwrap(), ready.status, ready.reason)
}

fn ready(sandbox: &CodeSandbox) -> String {
    sandbox.status.as_ref().unwrap().condition(condition::READY).unwrap().reason.clone()
}

/// A sandbox that reaches a range and is reached from it.
fn allowed() -> CodeSandbox {
    let range = json!({"cidr": "10.1.2.0/24"});
    asking(&json!({"allow": [range], "ports": [{"port": 80, "from": [range]}]}))
}

fn last_reason(sandbox: &CodeSandbox) -> Option<TerminationReason> {
    Some(sandbox.status.as_ref()?.last_termination.as_ref()?.reason)
}

#[test]
fn the_deny_policy_comes_before_the_first_pod() {
    let (mut world, mut sandbox) = (World::default(), sandbox());
    world.settle(&mut sandbox, 1);
    assert_eq!(world.done(), ["apply codesandbox-deny", "create box-1", "status 1 False Creating"]);
}

#[test]
fn its_own_policy_comes_before_the_pod_and_after_the_deny_policy() {
    for mut sandbox in [internet(), allowed()] {
        let mut world = World::default();
        world.settle(&mut sandbox, 1);
        let expected = [
            "apply codesandbox-deny",
            "apply box-internet",
            "create box-1",
            "status 1 False Creating",
        ];
        assert_eq!(world.done(), expected);
    }
}

/// No watch tells of what is said of it.
#[test]
fn a_pod_that_takes_long_to_start_is_looked_at_again_and_says_what_its_node_says() {
    let (mut world, mut sandbox) = (World::default(), sandbox());
    world.settle(&mut sandbox, 1);
    world.kubelet(
        "box-1",
        &json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(2).to_string()}]}),
    );
    world.settle(&mut sandbox, 2);
    world.done();
    let plan = world.reconcile(&mut sandbox, 2);
    assert_eq!(plan.requeue, Some(Duration::from_secs(10)));
    let said = json!({"metadata": {}, "involvedObject": {}, "type": "Warning", "reason": "FailedMount",
        "message": "configmap \"a\" not found", "lastTimestamp": at(3).to_string()});
    world.warnings = vec![serde_json::from_value(said).unwrap()];
    world.settle(&mut sandbox, 12);
    assert_eq!(world.done(), ["status 1 False StartFailed"]);
    let plan = world.reconcile(&mut sandbox, 20);
    assert_eq!(plan.requeue, Some(Duration::from_secs(30)));
    assert!(world.done().is_empty(), "the same again is no news");

    world.kubelet("box-1", &running());
    world.settle(&mut sandbox, 30);
    assert_eq!(world.done(), ["status 1 True PodReady"]);
}

#[test]
fn nothing_is_made_of_a_sandbox_that_would_reach_what_none_may() {
    let (mut world, mut sandbox) =
        (World::default(), asking(&json!({"allow": [{"cidr": "169.254.169.254/32"}]})));
    world.settle(&mut sandbox, 1);
    assert_eq!(world.done(), ["status 1 False NetworkForbidden"]);
    // Nothing will change that, so nobody looks again before the warning of its end.
    let plan = world.reconcile(&mut sandbox, 2);
    assert_eq!(plan.requeue, Some(Duration::from_secs(3298)));
}

#[test]
fn what_a_template_would_have_a_sandbox_reach_is_judged_as_well() {
    let (mut world, mut sandbox) = (World::default(), sandbox());
    let network = json!({"allow": [{"cidr": "169.254.169.254/32"}]});
    sandbox.status = Some(bound(&json!({"defaults": {"network": network}})));
    world.settle(&mut sandbox, 1);
    assert_eq!(world.done(), ["status 1 False NetworkForbidden"]);
}

#[test]
fn no_pod_is_planned_while_the_deny_policy_says_something_else() {
    let mut weakened = network::deny("demo");
    weakened.spec.as_mut().unwrap().policy_types = Some(vec!["Ingress".into()]);
    let plan = plan(&sandbox(), &observed(None, vec![weakened]), &config(), at(1));
    assert_eq!(plan.action, Some(Action::Apply(Box::new(network::deny("demo")))));
}

#[test]
fn a_sandbox_that_starts_is_written_to_three_times() {
    let (mut world, mut sandbox) = (World::default(), sandbox());
    world.settle(&mut sandbox, 1);
    for status in [
        json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]}),
        json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}],
            "containerStatuses": [{"name": "sandbox", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "ContainerCreating"}}}]}),
        running(),
    ] {
        world.kubelet("box-1", &status);
        world.settle(&mut sandbox, 2);
    }
    let statuses: Vec<_> =
        world.done().into_iter().filter(|line| line.starts_with("status")).collect();
    assert_eq!(
        statuses,
        ["status 1 False Creating", "status 1 False Starting", "status 1 True PodReady"]
    );
}

#[test]
fn a_settled_sandbox_needs_no_write() {
    for mut sandbox in [sandbox(), internet(), allowed()] {
        let mut world = World::running(&mut sandbox);
        // Neither time nor a trip through the API server makes a difference.
        for seconds in [2, 60, 3599] {
            sandbox = serde_json::from_value(serde_json::to_value(&sandbox).unwrap()).unwrap();
            let plan = world.reconcile(&mut sandbox, seconds);
            assert_eq!((world.done(), plan.events), (vec![], vec![]));
            // At the warning, and then at the end.
            let left = if seconds < 3300 { 3300 - seconds } else { 3600 - seconds };
            let left = u64::try_from(left).unwrap();
            assert_eq!(plan.requeue, Some(Duration::from_secs(left)));
        }
    }
}

#[test]
fn a_ready_sandbox_says_where_it_is_and_how_it_came_about() {
    let mut sandbox = internet();
    World::running(&mut sandbox);
    insta::assert_yaml_snapshot!(sandbox.status);
}

#[test]
fn policies_are_restored_under_a_living_pod() {
    for mut sandbox in [internet(), allowed()] {
        let mut world = World::running(&mut sandbox);
        world.policies.clear();
        world.reconcile(&mut sandbox, 3);
        assert_eq!(world.done(), ["apply codesandbox-deny", "apply box-internet"]);

        let own = world.policies["box-internet"].clone();
        let edited = world.policies.get_mut("box-internet").unwrap();
        edited.spec.as_mut().unwrap().ingress = Some(vec![NetworkPolicyIngressRule::default()]);
        world.reconcile(&mut sandbox, 4);
        assert_eq!(world.done(), ["apply box-internet"]);
        assert_eq!(world.policies["box-internet"], own);
    }
}

#[test]
fn what_could_not_be_restored_is_not_called_isolated() {
    let mut sandbox = sandbox();
    let mut world = World::running(&mut sandbox);
    world.policies.clear();
    // Without the action, as when it failed.
    let plan = plan(&sandbox, &world.observe(&sandbox), &config(), at(3));
    let isolated = plan.status.unwrap().condition(condition::NETWORK_ISOLATED).cloned().unwrap();
    assert_eq!((isolated.status.as_str(), isolated.reason.as_str()), ("False", reason::NOT_DENIED));
}

#[test]
fn a_policy_that_opens_the_sandbox_is_told_until_it_is_gone() {
    let mut sandbox = sandbox();
    let mut world = World::running(&mut sandbox);
    let isolated = |sandbox: &CodeSandbox| {
        sandbox.status.as_ref().unwrap().is_true(condition::NETWORK_ISOLATED)
    };
    assert!(isolated(&sandbox));

    world.policies.insert("allow".into(), opener("allow"));
    let plan = world.reconcile(&mut sandbox, 3);
    assert!(!isolated(&sandbox));
    assert_eq!(plan.events[0].reason, reason::OPENED_BY_POLICY);
    assert!(plan.events[0].note.contains("NetworkPolicy allow "), "{}", plan.events[0].note);

    world.policies.remove("allow");
    world.settle(&mut sandbox, 4);
    assert!(isolated(&sandbox));
}

#[test]
fn a_pod_lost_behind_our_back_gets_a_successor_under_a_new_name() {
    let mut sandbox = sandbox();
    let mut world = World::running(&mut sandbox);
    world.pods.remove("box-1");

    let plan = world.reconcile(&mut sandbox, 3);
    assert_eq!(plan.requeue, Some(Duration::ZERO));
    assert_eq!(
        world.done(),
        ["status 2 False PodLost"],
        "the attempt is written down before its pod is made"
    );
    assert_eq!(last_reason(&sandbox), Some(TerminationReason::Killed));
    assert_eq!(sandbox.status.as_ref().unwrap().pod_uid, None);

    world.settle(&mut sandbox, 4);
    assert_eq!(world.done(), ["create box-2", "status 2 False Creating"]);
    assert_eq!(sandbox.status.as_ref().unwrap().pod_uid.as_deref(), Some("pod-uid-2"));
}

#[test]
fn a_terminating_pod_does_not_block_its_successor() {
    let mut sandbox = sandbox();
    let mut world = World::running(&mut sandbox);
    let pod = world.pods.get_mut("box-1").unwrap();
    pod.metadata.deletion_timestamp = Some(Time(at(3)));
    // Even if the agent ended in good order on the way: the pod was deleted, the sandbox was not.
    pod.status.as_mut().unwrap().phase = Some("Succeeded".into());
    world.settle(&mut sandbox, 4);
    assert_eq!(
        world.done(),
        ["status 2 False Terminating", "create box-2", "status 2 False Creating"]
    );
    assert!(world.pods.contains_key("box-1"), "it goes by itself");
}

#[test]
fn a_lost_node_is_told_from_a_deletion() {
    let mut sandbox = sandbox();
    let mut world = World::running(&mut sandbox);
    let mut status = running();
    let cause =
        json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"});
    status["conditions"].as_array_mut().unwrap().push(cause);
    world.kubelet("box-1", &status);
    world.pods.get_mut("box-1").unwrap().metadata.deletion_timestamp = Some(Time(at(3)));
    world.reconcile(&mut sandbox, 4);
    assert_eq!(world.done(), ["status 2 False PodLost"]);
    assert_eq!(last_reason(&sandbox), Some(TerminationReason::NodeLost));
}

#[test]
fn a_pod_that_took_the_place_of_ours_is_removed_before_the_successor_is_made() {
    let mut sandbox = sandbox();
    let mut world = World::running(&mut sandbox);
    world.pods.get_mut("box-1").unwrap().metadata.uid = Some("restored".into());
    world.settle(&mut sandbox, 3);
    let expected = [
        "delete pod box-1 restored",
        "status 2 False PodLost",
        "create box-2",
        "status 2 False Creating",
    ];
    assert_eq!(world.done(), expected);
}

#[test]
fn a_pod_whose_status_was_never_written_is_adopted() {
    let (mut world, mut sandbox) = (World::default(), sandbox());
    world.settle(&mut sandbox, 1);
    world.done();
    sandbox.status = None;
    world.settle(&mut sandbox, 2);
    assert_eq!(world.done(), ["status 1 False Creating"]);
}

#[test]
fn a_foreign_pod_of_our_name_is_never_touched() {
    let (mut world, mut sandbox) = (World::default(), sandbox());
    let mut foreign = pod_with(&running());
    foreign.metadata.name = Some("box-1".into());
    foreign.metadata.uid = Some("foreign".into());
    world.pods.insert("box-1".into(), foreign.clone());
    world.policies.insert(names::DENY_POLICY.into(), network::deny("demo"));

    let plan = world.reconcile(&mut sandbox, 1);
    assert_eq!(world.done(), ["status 1 False NameTaken"]);
    assert_eq!(plan.requeue, Some(TAKEN_RETRY));
    assert_eq!(world.pods["box-1"], foreign);
    let status = sandbox.status.as_ref().unwrap();
    assert!(
        status.condition(condition::READY).unwrap().message.starts_with("Pod box-1 is not this")
    );
    assert_eq!((&status.pod_uid, &status.start), (&None, &None));

    world.pods.clear();
    world.settle(&mut sandbox, 31);
    assert_eq!(world.done(), ["create box-1", "status 1 False Creating"]);
}

/// Who may make pods may name our sandbox as their owner. Our labels are the operator's alone to give.
#[test]
fn a_pod_that_only_claims_to_be_ours_is_not_adopted() {
    for without in [names::MANAGED_BY, names::SANDBOX, names::SANDBOX_UID] {
        let (mut world, mut sandbox) = (World::default(), sandbox());
        let mut claims = pod::pod(&sandbox, &config(), Way::ImageVolume, 1);
        claims.metadata.labels.as_mut().unwrap().remove(without);
        claims.status = pod_with(&running()).status;
        world.pods.insert("box-1".into(), claims.clone());
        world.policies.insert(names::DENY_POLICY.into(), network::deny("demo"));
        world.settle(&mut sandbox, 1);
        assert_eq!(world.done(), ["status 1 False NameTaken"], "{without}");
        assert_eq!(world.pods["box-1"], claims);
        let status = sandbox.status.unwrap();
        let message = &status.condition(condition::READY).unwrap().message;
        assert!(message.starts_with("Pod box-1 is not this"), "{message}");
    }
}

#[test]
fn a_predecessors_pod_is_waited_for() {
    let (mut world, mut sandbox) = (World::default(), sandbox());
    let mut earlier = sandbox.clone();
    earlier.metadata.uid = Some("earlier".into());
    world.pods.insert("box-1".into(), pod::pod(&earlier, &config(), Way::ImageVolume, 1));
    world.reconcile(&mut sandbox, 1);
    assert_eq!(world.done(), ["status 1 False NameTaken"]);
    let status = sandbox.status.unwrap();
    assert!(status.condition(condition::READY).unwrap().message.contains("wait"));
}

#[test]
fn a_foreign_policy_of_our_name_is_never_touched() {
    for mut sandbox in [internet(), allowed()] {
        let mut world = World::default();
        world.policies.insert("box-internet".into(), opener("box-internet"));
        world.settle(&mut sandbox, 1);
        assert_eq!(world.done(), ["status 1 False NameTaken"]);
        assert_eq!(world.policies["box-internet"], opener("box-internet"));
    }
}

#[test]
fn a_refusal_is_a_condition_and_not_asked_about_again_at_once() {
    let refusal = Refusal {
        kind: Kind::Pod,
        object: "Pod box-1".into(),
        words: "exceeded quota: tiny".into(),
        retry_at: at(3),
    };
    let seen = Observed { refusal: Some(refusal), ..observed(None, vec![network::deny("demo")]) };
    let mut sandbox = sandbox();
    let refused = plan(&sandbox, &seen, &config(), at(1));
    assert_eq!((refused.action, refused.requeue), (None, Some(Duration::from_secs(2))));
    assert_eq!(refused.events[0].reason, reason::QUOTA_EXCEEDED);

    sandbox.status = refused.status;
    assert_eq!(ready(&sandbox), reason::QUOTA_EXCEEDED);
    let message = &sandbox.status.as_ref().unwrap().conditions[0].message;
    assert!(message.contains("refused Pod box-1: exceeded quota: tiny"), "{message}");
    let again = plan(&sandbox, &seen, &config(), at(2));
    assert_eq!((again.action, again.status, again.events), (None, None, vec![]));
}

/// A world with the deny policy in which nobody knows how the agent gets into pods.
fn unknown() -> World {
    let deny = (names::DENY_POLICY.to_owned(), network::deny("demo"));
    World { policies: [deny].into(), injection: Some(Injection::Unknown), ..World::default() }
}

#[test]
fn the_first_sandbox_of_a_runtime_probes_it_and_clears_the_probe_away() {
    for (end, verdict, by_image_volume) in [
        (json!({"phase": "Succeeded"}), "Works", true),
        (
            json!({"phase": "Failed", "containerStatuses": [{"name": "sandbox", "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"terminated": {"exitCode": 128, "reason": "StartError", "message": "permission denied"}}}]}),
            r#"Fails("StartError: permission denied")"#,
            false,
        ),
        (
            json!({"phase": "Failed", "reason": "DeadlineExceeded"}),
            r#"Unclear("DeadlineExceeded")"#,
            false,
        ),
    ] {
        let (mut world, mut sandbox) = (unknown(), sandbox());
        let plan = world.reconcile(&mut sandbox, 1);
        assert_eq!(world.done(), ["create box-probe", "status 1 False Probing"]);
        assert_eq!(plan.requeue, Some(Duration::from_secs(74)), "if nobody tells us");

        world.kubelet("box-probe", &json!({"phase": "Pending"}));
        world.settle(&mut sandbox, 2);
        assert_eq!(world.done(), [""; 0], "it takes its time");

        world.kubelet("box-probe", &end);
        world.settle(&mut sandbox, 3);
        let expected = [
            &format!("conclude {verdict}"),
            "delete pod box-probe pod-uid-1",
            "create box-1",
            "status 1 False Creating",
        ];
        assert_eq!(world.done(), expected);
        assert_eq!(pod::agent::has_image_volume(&world.pods["box-1"]), by_image_volume);
    }
}

#[test]
fn the_probe_comes_after_the_deny_policy_too() {
    let (mut world, mut sandbox) = (unknown(), internet());
    world.policies.clear();
    world.settle(&mut sandbox, 1);
    let expected = [
        "apply codesandbox-deny",
        "apply box-internet",
        "create box-probe",
        "status 1 False Probing",
    ];
    assert_eq!(world.done(), expected);
}

#[test]
fn a_probe_that_does_not_end_is_not_waited_for_any_longer() {
    let (mut world, mut sandbox) = (unknown(), sandbox());
    world.settle(&mut sandbox, 1);
    world.done();
    world.settle(&mut sandbox, 75);
    let expected = [
        r#"conclude Unclear("the probe did not end in time")"#,
        "delete pod box-probe pod-uid-1",
        "create box-1",
        "status 1 False Creating",
    ];
    assert_eq!(world.done(), expected);
    assert!(!pod::agent::has_image_volume(&world.pods["box-1"]));
}

#[test]
fn what_another_sandbox_finds_out_is_waited_for() {
    let (mut world, mut sandbox) = (unknown(), sandbox());
    world.injection = Some(Injection::Waiting(at(90)));
    let plan = world.reconcile(&mut sandbox, 1);
    assert_eq!(world.done(), ["status 1 False Probing"]);
    assert_eq!(plan.requeue, Some(Duration::from_secs(89)), "if nobody tells us");

    world.injection = Some(Injection::By(Way::ImageVolume));
    world.settle(&mut sandbox, 2);
    assert_eq!(world.done(), ["create box-1", "status 1 False Creating"]);
}

#[test]
fn a_probe_that_an_earlier_operator_left_is_cleared_away() {
    let (mut world, mut sandbox) = (unknown(), sandbox());
    world.settle(&mut sandbox, 1);
    world.done();
    // Other sandboxes have shown meanwhile that image volumes work.
    world.injection = Some(Injection::By(Way::ImageVolume));
    world.settle(&mut sandbox, 2);
    let expected = ["delete pod box-probe pod-uid-1", "create box-1", "status 1 False Creating"];
    assert_eq!(world.done(), expected);
}

#[test]
fn a_foreign_pod_of_the_probes_name_is_left_alone_and_proves_nothing() {
    let (mut world, mut sandbox) = (unknown(), sandbox());
    let mut foreign = pod_with(&json!({"phase": "Succeeded"}));
    foreign.metadata.name = Some("box-probe".into());
    world.injection = Some(Injection::Asking(at(75)));
    world.pods.insert("box-probe".into(), foreign.clone());
    world.settle(&mut sandbox, 1);
    let expected = [
        r#"conclude Unclear("Pod box-probe is not this sandbox's and is left alone")"#,
        "create box-1",
        "status 1 False Creating",
    ];
    assert_eq!(world.done(), expected);
    assert_eq!(world.pods["box-probe"], foreign);
}

#[test]
fn a_runtime_class_that_is_missing_is_said_to_be() {
    let mut sandbox = sandbox();
    sandbox.spec.settings.runtime_class_name = Some("kata".into());
    for (words, expected) in [
        (
            r#"pods "box-1" is forbidden: pod rejected: RuntimeClass "kata" not found"#,
            reason::RUNTIME_CLASS_NOT_FOUND,
        ),
        (
            r#"pods "box-1" is forbidden: exceeded quota: small, requested: pods=1, used: pods=1, limited: pods=1"#,
            reason::QUOTA_EXCEEDED,
        ),
        (r#"pods "box-1" is forbidden: violates PodSecurity"#, reason::ADMISSION_REFUSED),
        (r#"RuntimeClass "other" not found"#, reason::ADMISSION_REFUSED),
    ] {
        let refusal = Refusal {
            kind: Kind::Pod,
            object: "Pod box-1".into(),
            words: words.into(),
            retry_at: at(3),
        };
        let seen =
            Observed { refusal: Some(refusal), ..observed(None, vec![network::deny("demo")]) };
        let status = plan(&sandbox, &seen, &config(), at(1)).status.unwrap();
        let ready = status.condition(condition::READY).unwrap();
        assert_eq!(ready.reason, expected, "{words}");
        assert_eq!(ready.message.contains("kata"), expected == reason::RUNTIME_CLASS_NOT_FOUND);
    }
}

#[test]
fn an_end_is_written_once_and_is_the_end() {
    for (status, reason) in [
        (json!({"phase": "Succeeded"}), TerminationReason::Completed),
        (
            json!({"phase": "Failed", "reason": "DeadlineExceeded"}),
            TerminationReason::DeadlineExceeded,
        ),
        (json!({"phase": "Failed"}), TerminationReason::Unknown),
    ] {
        let mut sandbox = sandbox();
        let mut world = World::running(&mut sandbox);
        world.kubelet("box-1", &status);
        let plan = world.reconcile(&mut sandbox, 10);
        assert_eq!(world.done(), [format!("status 1 False {reason:?}")]);
        assert_eq!(last_reason(&sandbox), Some(reason));
        assert!(sandbox.status.as_ref().unwrap().is_true(condition::FINISHED));
        assert_eq!(plan.events.len(), 1, "{:?}", plan.events);
        assert_eq!(plan.requeue, Some(Duration::from_mins(10)), "ttlAfterFinished");

        // Its pod and even its policies may go: nothing comes back.
        world.pods.clear();
        world.policies.clear();
        world.settle(&mut sandbox, 20);
        assert_eq!(world.done(), [""; 0]);
    }
}

#[test]
fn an_oom_kill_with_a_restart_in_place_is_remembered_when_it_is_ready_again() {
    let mut sandbox = sandbox();
    let mut world = World::running(&mut sandbox);
    let oom = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
    let mut status = running();
    status["conditions"][1]["status"] = "False".into();
    status["containerStatuses"][0]["state"] = oom.clone();
    world.kubelet("box-1", &status);
    world.settle(&mut sandbox, 3);

    let mut status = running();
    status["containerStatuses"][0]["restartCount"] = 1.into();
    status["containerStatuses"][0]["lastState"] = oom;
    world.kubelet("box-1", &status);
    world.settle(&mut sandbox, 4);

    assert_eq!(world.done(), ["status 1 False Restarting", "status 1 True PodReady"]);
    assert_eq!(last_reason(&sandbox), Some(TerminationReason::OOMKilled));
    assert_eq!(sandbox.status.unwrap().pod_uid.as_deref(), Some("pod-uid-1"), "the same pod");
}

#[test]
fn ttl_over_means_the_sandbox_itself_is_deleted_whatever_its_state() {
    let mut running = sandbox();
    World::running(&mut running);
    for sandbox in [sandbox(), running] {
        let mut observed = Observed::default();
        let asks = plan(&sandbox, &observed, &config(), at(3600));
        assert!(!asks.deletes());
        assert_eq!((asks.action, asks.status), (Some(Action::AskTime), None));
        // Our clock has jumped: the server's is behind it, and that of the sandbox's creation.
        observed.server_time = Some(at(3590));
        let waits = plan(&sandbox, &observed, &config(), at(3600));
        assert_eq!((waits.action, waits.status), (None, None));
        assert_eq!((waits.events, waits.requeue), (vec![], Some(Duration::from_secs(10))));

        observed.server_time = Some(at(3600));
        let plan = plan(&sandbox, &observed, &config(), at(3600));
        let expected = Action::DeleteSandbox {
            name: "box".into(),
            uid: "sandbox-uid".into(),
            resource_version: "1".into(),
        };
        assert_eq!(plan.action, Some(expected));
        assert_eq!(
            (plan.status, plan.events),
            (None, vec![events::ended(&sandbox, true, at(3600))])
        );
    }
}

#[test]
fn the_end_of_the_ttl_is_warned_of_unless_there_is_nothing_to_lose() {
    let mut sandbox = sandbox();
    let mut world = World::running(&mut sandbox);
    assert_eq!(world.reconcile(&mut sandbox, 3299).warning, None);
    let (warning, end) = world.reconcile(&mut sandbox, 3300).warning.unwrap();
    assert_eq!(end, at(3600));
    assert!(
        warning.note.contains("is deleted at 2026-01-01T01:00:00Z, when its ttl (1h)"),
        "{warning:?}"
    );

    // Its pod may end before.
    let mut status = running();
    status["startTime"] = at(1).to_string().into();
    world.kubelet("box-1", &status);
    world.pods.get_mut("box-1").unwrap().spec.as_mut().unwrap().active_deadline_seconds = Some(600);
    let before = world.reconcile(&mut sandbox, 500);
    assert_eq!((before.warning, before.requeue), (None, Some(Duration::from_secs(41))));
    let (warning, end) = world.reconcile(&mut sandbox, 541).warning.unwrap();
    assert_eq!(end, at(601));
    assert!(warning.note.contains("ends at 2026-01-01T00:10:01Z"), "{warning:?}");
    assert!(warning.note.contains("lets pods run (10m)"), "{warning:?}");

    // One that is suspended has something to lose, too.
    let mut suspended = sandbox.clone();
    suspended.spec.suspend = Some(true);
    world.settle(&mut suspended, 3301);
    assert!(world.reconcile(&mut suspended, 3302).warning.is_some());

    sandbox.status = Some(finished(at(3200)));
    let plan = plan(&sandbox, &world.observe(&sandbox), &config(), at(3300));
    assert_eq!(plan.warning, None);
}

#[test]
fn ttl_prolonged_in_time_prolongs_the_sandbox() {
    let mut sandbox = sandbox();
    let mut world = World::running(&mut sandbox);
    sandbox.spec.settings.ttl = Some("2h".into());
    sandbox.metadata.generation = Some(2);
    let plan = world.reconcile(&mut sandbox, 3600);
    assert_eq!(plan.requeue, Some(Duration::from_mins(55)), "for the warning");
    let status = sandbox.status.clone().unwrap();
    assert_eq!((status.expires_at, status.observed_generation), (Some(Time(at(7200))), Some(2)));
    assert!(status.conditions.iter().all(|one| one.observed_generation == Some(2)));
    world.done();
    world.settle(&mut sandbox, 3600);
    assert_eq!(world.done(), [""; 0]);
}

#[test]
fn ttl_after_finished_ends_with_a_word_about_how_it_had_finished() {
    let mut sandbox = sandbox();
    sandbox.status = Some(finished(at(60)));
    let before = plan(&sandbox, &Observed::default(), &config(), at(60 + 599));
    assert_eq!((before.action, before.requeue), (None, Some(Duration::from_secs(1))));
    let sure = Observed { server_time: Some(at(60 + 600)), ..Observed::default() };
    let after = plan(&sandbox, &sure, &config(), at(60 + 600));
    assert!(after.ends());
    assert_eq!(after.events, [events::ended(&sandbox, false, at(60 + 600))]);
}

#[test]
fn a_sandbox_being_deleted_is_left_to_the_garbage_collector() {
    let mut sandbox = sandbox();
    sandbox.metadata.deletion_timestamp = Some(Time(at(1)));
    let plan = plan(&sandbox, &Observed::default(), &config(), at(7200));
    assert_eq!((plan.action, plan.status, plan.requeue), (None, None, None));
}

#[test]
fn the_first_pod_is_not_looked_for_but_made() {
    let mut sandbox = sandbox();
    let (known, waiting) = (Injection::By(Way::ImageVolume), Injection::Waiting(at(90)));
    assert!(!depends_on_pod(&sandbox, known, at(1)));
    for unknown in [Injection::Unknown, waiting] {
        assert!(depends_on_pod(&sandbox, unknown, at(1)), "of an operator that died: {unknown:?}");
    }
    World::running(&mut sandbox);
    assert!(depends_on_pod(&sandbox, known, at(1)));
    assert!(depends_on_pod(&sandbox, waiting, at(1)), "it has one");
    assert!(!depends_on_pod(&sandbox, known, at(3600)), "expired");
    sandbox.status.as_mut().unwrap().pod_uid = None;
    assert!(depends_on_pod(&sandbox, known, at(1)), "there may be one");
    assert!(!depends_on_pod(&sandbox, waiting, at(1)), "none is made meanwhile");
    sandbox.status = Some(finished(at(1)));
    assert!(!depends_on_pod(&sandbox, known, at(2)), "finished");
}

#[test]
fn nothing_a_pod_can_stay_in_is_written_twice() {
    let waiting = |why: &str| {
        json!({"phase": "Pending", "containerStatuses": [{"name": "sandbox", "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"waiting": {"reason": why, "message": "the kubelet's words"}}}]})
    };
    let unschedulable = json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]});
    for (status, expected) in [
        (json!({"phase": "Pending"}), reason::CREATING),
        (unschedulable, reason::UNSCHEDULABLE),
        (waiting("ContainerCreating"), reason::STARTING),
        (waiting("ImagePullBackOff"), reason::IMAGE_PULL),
        (waiting("CreateContainerConfigError"), reason::START_FAILED),
        (waiting("CrashLoopBackOff"), reason::RESTARTING),
    ] {
        let (mut world, mut sandbox) = (World::default(), sandbox());
        world.settle(&mut sandbox, 1);
        world.kubelet("box-1", &status);
        world.reconcile(&mut sandbox, 2);
        assert_eq!(ready(&sandbox), expected);
        world.done();
        let plan = world.reconcile(&mut sandbox, 60);
        assert_eq!((world.done(), plan.events), (vec![], vec![]), "{status}");
    }
}

#[test]
fn only_a_sandbox_of_the_same_name_is_a_predecessor() {
    let taken = |kind: &str, name: &str| {
        let owner =
            OwnerReference { kind: kind.into(), name: name.into(), ..OwnerReference::default() };
        let object = ObjectMeta { owner_references: Some(vec![owner]), ..ObjectMeta::default() };
        Taken::new("Pod", &object, &sandbox()).whose
    };
    assert_eq!(taken("CodeSandbox", "box"), Whose::Predecessor);
    assert_eq!(taken("CodeSandbox", "other"), Whose::Other);
    assert_eq!(taken("ReplicaSet", "box"), Whose::Other);
    let nobodys = Taken::new("Pod", &ObjectMeta::default(), &sandbox());
    assert_eq!(nobodys.whose, Whose::Other);
}

/// A condition that is True by hope alone would be worse than none.
#[test]
fn a_sandbox_in_an_open_network_is_not_isolated_and_is_looked_at_again() {
    let mut sandbox = sandbox();
    let mut pod = pod::pod(&sandbox, &config(), Way::ImageVolume, 1);
    pod.metadata.uid = Some("pod-uid".into());
    pod.status = pod_with(&json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "sandbox", "image": "", "imageID": "", "ready": true, "restartCount": 1,
            "state": {"running": {"startedAt": at(30).to_string()}},
            "lastState": {"terminated": {"exitCode": 1, "message": "{\"reason\":\"NotIsolated\"}"}}}]}))
    .status;
    let observed = observed(Some(pod), vec![network::deny("demo")]);
    let plan_at = |sandbox: &CodeSandbox, time| plan(sandbox, &observed, &config(), at(time));
    let plan = plan_at(&sandbox, 31);
    let status = plan.status.unwrap();
    let reasons = [condition::READY, condition::NETWORK_ISOLATED]
        .map(|type_| status.condition(type_).map(|one| (&*one.status, &*one.reason)));
    assert_eq!(
        reasons,
        [Some(("False", reason::NOT_ISOLATED)), Some(("False", reason::NOT_ENFORCED))]
    );
    assert_eq!(status.last_termination.as_ref().unwrap().reason, TerminationReason::NotIsolated);
    assert_eq!(plan.requeue, Some(Duration::from_secs(14)));
    assert!(plan.events.iter().any(|one| one.warning && one.reason == reason::NOT_ISOLATED));

    sandbox.status = Some(status);
    let status = plan_at(&sandbox, 45).status.unwrap();
    assert!(status.is_true(condition::READY) && status.is_true(condition::NETWORK_ISOLATED));
}
