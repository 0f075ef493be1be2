use std::collections::BTreeMap;

use api::reason;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};

use super::*;
use crate::{
    pool::testing::{claim, pool, warm},
    testing::{at, config, pod_with, running, template},
};

/// A cluster in which plans are carried out.
struct World {
    pool: CodeSandboxPool,
    pods: BTreeMap<String, Pod>,
    deny: Option<NetworkPolicy>,
    templates: Option<Vec<CodeSandboxTemplate>>,
    refusal: Option<Refusal>,
    now: Timestamp,
    /// How many pods were ever made, of which each has a UID of its own.
    made: u32,
}

impl World {
    fn of(replicas: u32, given: &Value) -> Self {
        Self {
            pool: pool(replicas),
            pods: BTreeMap::new(),
            deny: Some(network::deny("demo")),
            templates: Some(vec![template("a", given)]),
            refusal: None,
            now: at(0),
            made: 0,
        }
    }

    /// A pool that has what it asks for.
    fn full(replicas: u32) -> Self {
        let mut world = Self::of(replicas, &json!({}));
        world.settle();
        world.kubelet(&running());
        world.settle();
        assert_eq!(world.ready().reason, reason::POOL_READY);
        world
    }

    fn plan(&self) -> Plan {
        let arcs = |templates: &Vec<_>| templates.iter().cloned().map(Arc::new).collect();
        let observed = Observed {
            pods: self.pods.values().cloned().map(Arc::new).collect(),
            deny: self.deny.clone().map(Arc::new),
            templates: self.templates.as_ref().map(arcs),
            refusal: self.refusal.clone(),
        };
        plan(&self.pool, &observed, &config(), self.now)
    }

    /// Carries out plans until there is nothing left to do; gives what was done.
    fn settle(&mut self) -> Vec<String> {
        let mut done = vec![];
        for _ in 0..300 {
            let plan = self.plan();
            match plan.action {
                Some(Action::Apply(policy)) => {
                    done.push("apply deny".into());
                    self.deny = Some(*policy);
                }
                Some(Action::Create(mut pod)) => {
                    self.made += 1;
                    pod.metadata.uid = Some(format!("uid-{}", self.made));
                    pod.metadata.resource_version = Some("1".into());
                    pod.metadata.creation_timestamp = Some(Time(self.now));
                    done.push(format!("create {}", pod.name_any()));
                    assert_eq!(self.pods.insert(pod.name_any(), *pod), None, "the name is free");
                }
                Some(Action::Delete { name, uid, .. }) => {
                    done.push(format!("delete {name}"));
                    assert_eq!(self.pods.remove(&name).unwrap().uid(), Some(uid));
                }
                None => {
                    self.pool.status = plan.status.or(self.pool.status.take());
                    return done;
                }
            }
        }
        panic!("it never settles: {done:?}");
    }

    /// What the kubelet says of all pods.
    fn kubelet(&mut self, status: &Value) {
        for pod in self.pods.values_mut() {
            pod.status = pod_with(status).status;
        }
    }

    fn says(&mut self, name: &str, status: &Value) {
        self.pods.get_mut(name).unwrap().status = pod_with(status).status;
    }

    fn ready(&self) -> Condition {
        self.pool.status.clone().unwrap().conditions[0].clone()
    }

    /// Pods that there are, and are ready, as the status says.
    fn counts(&self) -> (u32, u32) {
        let status = self.pool.status.as_ref().unwrap();
        (status.replicas, status.ready_replicas)
    }
}

/// That the API server will not have an object, in these words and until then.
fn refusal(kind: Kind, name: &str, words: &str, seconds: i64) -> Refusal {
    let object = format!("{kind:?} {name}");
    Refusal { kind, object, words: words.into(), retry_at: at(seconds) }
}

fn failed() -> Value {
    json!({"phase": "Failed", "message": "of something"})
}

#[test]
fn the_deny_policy_comes_before_the_first_pod() {
    let mut world = World { deny: None, ..World::of(2, &json!({})) };
    assert_eq!(world.settle(), ["apply deny", "create pool-m1", "create pool-m2"]);
    // And is put back over pods that are there, also where no more of them are made, and before any goes.
    for templates in [world.templates.clone(), None] {
        (world.deny, world.templates) = (None, templates);
        assert_eq!(world.settle(), ["apply deny"]);
    }
    (world.deny, world.pool.spec.replicas) = (None, 1);
    assert_eq!(world.settle(), ["apply deny", "delete pool-m2"]);
}

/// Where the API server will not have the policy, what is too much goes all the same, and nothing comes.
#[test]
fn without_the_deny_policy_no_pod_is_made() {
    let no = refusal(Kind::NetworkPolicy, "codesandbox-deny", "not you", 60);
    let mut world = World { deny: None, refusal: Some(no), ..World::full(2) };
    world.pool.spec.replicas = 1;
    assert_eq!(world.settle(), ["delete pool-m2"]);
    world.pool.spec.replicas = 3;
    assert_eq!(world.settle(), Vec::<String>::new());
    assert_eq!(world.ready().reason, reason::ADMISSION_REFUSED);
}

/// Pods that wait may wait for long beside a quota that is used up.
#[test]
fn the_deny_policy_is_put_back_while_pods_are_refused() {
    let no = refusal(Kind::Pod, "pool-m3", "exceeded quota: small", 60);
    let mut world = World { deny: None, refusal: Some(no), ..World::full(2) };
    world.pool.spec.replicas = 50;
    assert_eq!(world.settle(), ["apply deny"]);
}

/// As one whose agent sees the network open, and whose container does not run: when that ends the watch tells.
#[test]
fn what_has_no_end_is_not_waited_for() {
    let mut world = World::of(1, &json!({}));
    world.settle();
    let seen = json!({"terminated": {"exitCode": 1, "message": r#"{"reason":"NotIsolated"}"#}});
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    world.kubelet(&json!({"phase": "Running", "containerStatuses": [{"name": "sandbox", "image": "", "imageID": "",
        "ready": false, "restartCount": 1, "state": waiting, "lastState": seen}]}));
    world.settle();
    assert_eq!((&*world.ready().reason, world.plan().requeue), (reason::NOT_ISOLATED, None));
}

#[test]
fn a_pool_is_ready_when_as_many_pods_as_are_asked_for_are() {
    let mut world = World::of(2, &json!({}));
    world.settle();
    let ready = world.ready();
    assert_eq!((&*ready.status, &*ready.reason), ("False", reason::FILLING));
    assert_eq!((&*ready.message, world.counts()), ("0 of 2 pods wait for a sandbox", (2, 0)));

    world.says("pool-m1", &running());
    world.settle();
    assert_eq!(world.counts(), (2, 1));
    world.kubelet(&running());
    world.settle();
    assert_eq!((&*world.ready().status, world.counts()), ("True", (2, 2)));
    let selector = world.pool.status.as_ref().unwrap().selector.clone();
    assert_eq!(selector.as_deref(), Some("codesandbox.dev/pool=pool,!codesandbox.dev/sandbox-uid"));
}

#[test]
fn a_settled_pool_needs_no_write() {
    let world = World::full(3);
    let plan = world.plan();
    assert_eq!((plan.action, plan.status), (None, None));
}

#[test]
fn a_pool_of_none_is_ready_and_has_none() {
    let mut world = World::of(0, &json!({}));
    assert_eq!((world.settle(), world.counts()), (vec![], (0, 0)));
    assert_eq!(world.ready().status, "True");
}

/// The API server says of each name that it is taken, and nothing is made twice.
#[test]
fn a_watch_that_is_behind_leads_to_the_same_names_again() {
    let mut world = World::of(3, &json!({}));
    let first = world.settle();
    let made = std::mem::take(&mut world.pods);
    assert_eq!(world.settle(), first);
    // What the watch shows a part of is completed, not added to.
    world.pods = made;
    world.pods.remove("pool-m2");
    assert_eq!(world.settle(), ["create pool-m2"]);
}

#[test]
fn what_a_sandbox_has_claimed_is_replaced_keeps_its_name_and_is_never_deleted() {
    let mut world = World::full(2);
    claim(world.pods.get_mut("pool-m1").unwrap());
    assert_eq!(world.settle(), ["create pool-m3"]);
    assert_eq!(world.counts(), (2, 1));

    world.pool.spec.replicas = 0;
    assert_eq!(world.settle(), ["delete pool-m3", "delete pool-m2"]);
    world.templates = Some(vec![template("a", &json!({"defaults": {"image": "a:2"}}))]);
    world.says("pool-m1", &failed());
    world.now = at(100 * 3600);
    assert_eq!(world.settle(), Vec::<String>::new());
}

#[test]
fn pods_of_a_template_that_says_something_else_by_now_are_replaced() {
    let mut world = World::full(2);
    let description = json!({"description": "in other words", "allow": {"images": ["*"]}});
    world.templates = Some(vec![template("a", &description)]);
    assert_eq!(world.settle(), Vec::<String>::new(), "nothing of it is in a pod");

    world.templates = Some(vec![template("a", &json!({"defaults": {"image": "a:2"}}))]);
    let replaced = ["delete pool-m1", "delete pool-m2", "create pool-m1", "create pool-m2"];
    assert_eq!(world.settle(), replaced);
}

#[test]
fn scaling_down_takes_the_unready_and_the_youngest_first() {
    let mut world = World::full(4);
    for (name, seconds) in [("pool-m1", 40), ("pool-m2", 10), ("pool-m3", 20), ("pool-m4", 30)] {
        world.pods.get_mut(name).unwrap().metadata.creation_timestamp = Some(Time(at(seconds)));
    }
    world.says("pool-m2", &json!({"phase": "Pending"}));
    world.pool.spec.replicas = 1;
    assert_eq!(world.settle(), ["delete pool-m2", "delete pool-m1", "delete pool-m4"]);
}

#[test]
fn a_pod_is_deleted_only_as_it_was_seen() {
    let mut world = World::full(1);
    world.pool.spec.replicas = 0;
    world.pods.get_mut("pool-m1").unwrap().metadata.resource_version = Some("8".into());
    let expected = Action::Delete {
        name: "pool-m1".into(),
        uid: "uid-1".into(),
        resource_version: "8".into(),
    };
    assert_eq!(world.plan().action, Some(expected));
}

#[test]
fn one_that_ends_at_once_is_replaced_later_each_time_whoever_the_operator_is() {
    let mut world = World::full(1);
    world.now = at(3 * 3600);
    world.kubelet(&failed());
    // The first lived for long.
    assert_eq!(world.settle(), ["delete pool-m1", "create pool-m1"]);
    assert_eq!(world.ready().reason, reason::FILLING);
    let mut waits = vec![];
    for _ in 0..7 {
        world.kubelet(&failed());
        assert_eq!(world.settle(), Vec::<String>::new());
        let wait = world.plan().requeue.unwrap();
        assert_eq!(world.ready().reason, reason::MEMBER_FAILED);
        waits.push(wait.as_secs());
        world.now += SignedDuration::try_from(wait).unwrap();
        assert_eq!(world.settle(), ["delete pool-m1", "create pool-m1"]);
    }
    assert_eq!(waits, [10, 10, 20, 40, 80, 160, 300]);
    world.kubelet(&running());
    world.settle();
    world.kubelet(&failed());
    world.settle();
    let ready = world.ready();
    assert!(
        ready.message.starts_with("0 of 1 pods wait for a sandbox; Pod pool-m1 ended (Unknown): "),
        "{ready:?}"
    );
}

#[test]
fn a_pod_that_has_waited_for_half_of_its_time_is_replaced_while_the_others_are_ready() {
    let mut world = World::full(2);
    assert_eq!(world.plan().requeue, Some(Duration::from_hours(12)));
    world.now = at(12 * 3600);
    assert_eq!(world.settle(), ["delete pool-m1", "create pool-m1"]);
    assert_eq!(world.settle(), Vec::<String>::new(), "the other has to wait");
    world.kubelet(&running());
    assert_eq!(world.settle(), ["delete pool-m2", "create pool-m2"]);
    world.kubelet(&running());
    assert_eq!(world.settle(), Vec::<String>::new());
}

#[test]
fn what_waited_for_half_of_its_time_is_replaced_beside_others_that_never_come_but_not_by_nothing() {
    let mut world = World::full(2);
    world.pool.spec.replicas = 3;
    assert_eq!(world.settle(), ["create pool-m3"]);
    world.says("pool-m3", &json!({"phase": "Pending"}));
    world.now = at(12 * 3600);
    // Without a template nothing could be made in its place, nor while pods are refused.
    let templates = std::mem::take(&mut world.templates);
    world.templates = Some(vec![]);
    assert_eq!(world.settle(), Vec::<String>::new());
    world.templates = templates;
    world.pool.spec.replicas = 50;
    world.refusal = Some(refusal(Kind::Pod, "pool-m4", "exceeded quota: small", 12 * 3600 + 60));
    assert_eq!(world.settle(), Vec::<String>::new());
    (world.refusal, world.pool.spec.replicas) = (None, 3);
    assert_eq!(world.settle(), ["delete pool-m1", "create pool-m1"]);
}

#[test]
fn a_quota_that_is_used_up_bounds_the_pool_and_is_said_in_its_words() {
    let mut world = World::of(100, &json!({}));
    world.pods =
        (1..=3).map(|n| (format!("pool-m{n}"), warm(&world.pool, n, &json!({})))).collect();
    let words = "pods \"pool-m4\" is forbidden: exceeded quota: small, requested: pods=1, used: pods=3, limited: pods=3";
    world.refusal = Some(refusal(Kind::Pod, "pool-m4", words, 60));
    assert_eq!(world.settle(), Vec::<String>::new());
    let ready = world.ready();
    assert_eq!((&*ready.status, &*ready.reason), ("False", reason::QUOTA_EXCEEDED));
    assert!(
        ready
            .message
            .starts_with("3 of 100 pods wait for a sandbox; the API server refused Pod pool-m4: ")
    );
    assert!(
        ready.message.contains("used: pods=3, limited: pods=3; the rest is made within a minute")
    );
    let plan = world.plan();
    assert_eq!((plan.status, plan.requeue), (None, Some(Duration::from_mins(1))));

    // What is too much goes all the same.
    world.pool.spec.replicas = 2;
    assert_eq!(world.settle(), ["delete pool-m3"]);
    assert_eq!(world.ready().reason, reason::POOL_READY);
    world.pool.spec.replicas = 3;
    world.refusal.as_mut().unwrap().words = "violates PodSecurity".into();
    world.settle();
    assert_eq!(world.ready().reason, reason::ADMISSION_REFUSED);
}

#[test]
fn what_keeps_a_pod_from_being_ready_is_said_as_of_a_sandbox() {
    let mut world = World::of(1, &json!({}));
    world.settle();
    let waiting = json!({"reason": "ImagePullBackOff", "message": "no such image"});
    world.kubelet(&json!({"phase": "Pending", "containerStatuses": [{"name": "sandbox", "image": "", "imageID": "",
        "ready": false, "restartCount": 0, "state": {"waiting": waiting}}]}));
    assert_eq!(world.settle(), Vec::<String>::new(), "its node goes on trying");
    let ready = world.ready();
    assert_eq!(ready.reason, reason::IMAGE_PULL);
    assert!(ready.message.contains("Pod pool-m1: ImagePullBackOff: no such image"), "{ready:?}");
}

#[test]
fn without_a_template_that_can_be_used_nothing_is_made_and_it_is_said() {
    let unaccepted = {
        let mut template = template("a", &json!({}));
        template.status = None;
        template
    };
    let of = |given: Value| Some(vec![template("a", &given)]);
    let given = |defaults: Value| of(json!({ "defaults": defaults }));
    let setup = json!({"commands": ["true"]});
    for (templates, reason, leaves) in [
        (None, reason::TEMPLATE_NOT_FOUND, true),
        (Some(vec![template("b", &json!({}))]), reason::TEMPLATE_NOT_FOUND, true),
        (Some(vec![unaccepted]), reason::TEMPLATE_NOT_ACCEPTED, true),
        (given(json!({"workspace": {"size": "1Gi"}})), reason::TEMPLATE_UNSUITABLE, false),
        (
            given(json!({"setup": {"commands": ["true"], "egress": "Internet"}})),
            reason::TEMPLATE_UNSUITABLE,
            false,
        ),
        (
            given(json!({"setup": setup, "network": {"egress": "Internet"}})),
            reason::TEMPLATE_UNSUITABLE,
            false,
        ),
        (
            given(json!({"setup": setup, "network": {"allow": [{"cidr": "10.1.0.0/16"}]}})),
            reason::TEMPLATE_UNSUITABLE,
            false,
        ),
        (
            given(json!({"network": {"allow": [{"cidr": "169.254.169.254/32"}]}})),
            reason::TEMPLATE_UNSUITABLE,
            false,
        ),
    ] {
        let mut world = World { templates: templates.clone(), ..World::of(2, &json!({})) };
        assert_eq!(world.settle(), Vec::<String>::new(), "{templates:?}");
        assert_eq!(world.ready().reason, reason, "{templates:?}");

        // What is there may be of use again, unless it is known that it is not.
        let mut world = World { templates: templates.clone(), ..World::full(2) };
        let gone: &[&str] = if leaves { &[] } else { &["delete pool-m1", "delete pool-m2"] };
        assert_eq!(world.settle(), gone, "{templates:?}");
    }
    for fine in
        [json!({"setup": setup}), json!({"network": {"egress": "Internet"}, "gpu": {"count": 1}})]
    {
        let mut world = World { templates: given(fine), ..World::of(1, &json!({})) };
        assert_eq!(world.settle(), ["create pool-m1"]);
    }
}

#[test]
fn a_pool_that_goes_does_nothing_any_more() {
    let mut world = World::of(2, &json!({}));
    world.pool.metadata.deletion_timestamp = Some(Time(at(0)));
    let plan = world.plan();
    assert_eq!((plan.action, plan.status, plan.requeue), (None, None, None));
}

#[test]
fn anothers_pod_under_a_name_of_ours_is_left_alone_and_its_number_passed_over() {
    let mut world = World::of(1, &json!({}));
    let mut foreign = warm(&world.pool, 1, &json!({}));
    foreign.metadata.owner_references = None;
    world.pods.insert("pool-m1".into(), foreign);
    assert_eq!(world.settle(), ["create pool-m2"]);
}

#[test]
fn only_what_counts_pods_of_a_pool_that_has_some_ready_may_wait_to_be_said() {
    let mut world = World::full(2);
    assert!(world.plan().status.is_none());
    // A sandbox takes one, and another is being made.
    claim(world.pods.get_mut("pool-m1").unwrap());
    let first = world.plan();
    assert!(matches!(first.action, Some(Action::Create(_))), "it is made at once");
    assert!(first.passing);
    // Should it be said, that it is full again is said at once: since when it was not is what a pod that ends is judged by.
    world.settle();
    assert_eq!((world.ready().reason.as_str(), world.counts()), (reason::FILLING, (2, 1)));
    world.kubelet(&running());
    assert!(world.plan().status.is_some() && !world.plan().passing);
    world.settle();
    claim(world.pods.get_mut("pool-m2").unwrap());
    // It asks for more.
    world.pool.metadata.generation = Some(9);
    assert!(!world.plan().passing);
    world.pool.metadata.generation = pool(2).metadata.generation;
    // None is ready.
    claim(world.pods.get_mut("pool-m3").unwrap());
    assert!(!world.plan().passing);
    // What is wrong is said at once, and that it is not wrong any more.
    let mut world = World::full(2);
    world.refusal = Some(refusal(Kind::Pod, "pool-m3", "exceeded quota: small", 60));
    claim(world.pods.get_mut("pool-m1").unwrap());
    assert!(!world.plan().passing);
    world.settle();
    assert_eq!(world.ready().reason, reason::QUOTA_EXCEEDED);
    world.refusal = None;
    assert!(!world.plan().passing);
    // So is all that is said of a new pool.
    assert!(!World::of(2, &json!({})).plan().passing);
}
