//! A pool's pod: how it is made, whose it is, how it is doing.

use std::{
    hash::{DefaultHasher, Hasher},
    time::Duration,
};

use api::{CodeSandbox, CodeSandboxPool, CodeSandboxTemplate, Termination, names};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{EnvVar, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Resource, ResourceExt};
use prometheus_client::encoding::EncodeLabelValue;

use crate::{
    config::Config,
    injection::{AgentInjection, Way},
    pod, starting,
    status::Verdict,
    template, termination,
};

/// The pod of a pool with a number, of a template as it is now.
pub(crate) fn pod(
    pool: &CodeSandboxPool,
    template: &CodeSandboxTemplate,
    number: u32,
    config: &Config,
) -> Pod {
    let nobody = template::undemanding(template::bound(template));
    let mut pod = pod::pod(&nobody, config, way(config), 1);
    let metadata = &mut pod.metadata;
    metadata.name = Some(names::member(&pool.name_any(), number));
    metadata.namespace = pool.namespace();
    metadata.owner_references = pool.controller_owner_ref(&()).map(|owner| vec![owner]);
    let labels = metadata.labels.get_or_insert_default();
    // Not empty, as its sandbox's name is, but absent: by this one a pod is told to be somebody's.
    labels.remove(names::SANDBOX_UID);
    labels.insert(names::POOL.into(), pool.name_any());
    labels.insert(names::POD_HASH.into(), hash(&nobody, config));
    let waits = EnvVar {
        name: names::AWAITS_CALL_ENV.into(),
        value: Some("true".into()),
        ..EnvVar::default()
    };
    let containers = pod.spec.iter_mut().flat_map(|spec| &mut spec.containers);
    for container in containers.filter(|one| one.name == names::CONTAINER) {
        container.env.get_or_insert_default().push(waits.clone());
    }
    pod
}

/// What stands for all that the pod of a sandbox has in it, but whose it is: what cannot be given to a pod that runs.
pub(crate) fn hash(sandbox: &CodeSandbox, config: &Config) -> String {
    let nobodys = CodeSandbox { metadata: ObjectMeta::default(), ..sandbox.clone() };
    let pod = pod::pod(&nobodys, config, way(config), 1);
    let bytes = serde_json::to_vec(&pod).expect("a pod is JSON");
    // Nobody is kept out by it. With another version of Rust it may be another, and then all pods are made anew.
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    format!("{:016x}", hasher.finish())
}

/// How the agent gets into the pods of pools. That an init container takes a second longer delays nobody here, and it works
/// without a probe, which is for a sandbox to make.
fn way(config: &Config) -> Way {
    match config.agent_injection {
        AgentInjection::ImageVolume => Way::ImageVolume,
        AgentInjection::Auto | AgentInjection::InitContainer => Way::InitContainer,
    }
}

/// Whether a pod is a pool's and no sandbox's.
pub(crate) fn is_unclaimed(pod: &Pod, pool: &CodeSandboxPool) -> bool {
    let owners = pod.metadata.owner_references.iter().flatten();
    let of_pool = owners
        .filter(|owner| owner.controller == Some(true))
        .any(|owner| Some(&owner.uid) == pool.metadata.uid.as_ref());
    let label = |key: &str| pod.metadata.labels.as_ref()?.get(key);
    pool.metadata.uid.is_some()
        && of_pool
        && label(names::MANAGED_BY).is_some_and(|manager| manager == names::MANAGER)
        && label(names::POOL) == pool.metadata.name.as_ref()
        && label(names::SANDBOX_UID).is_none()
        && pod.metadata.deletion_timestamp.is_none()
}

/// The hash a pod was made with.
pub(crate) fn hash_of(pod: &Pod) -> Option<&str> {
    pod.metadata.labels.as_ref()?.get(names::POD_HASH).map(String::as_str)
}

/// When a pod was made; the beginning of time where that is not known.
pub(crate) fn made_at(pod: &Pod) -> Timestamp {
    pod.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// The share of a pod's time that it waits in its pool: the rest is a sandbox's for sure.
const WAITS: u32 = 2;

/// Until when a pod can run; none where that is for ever.
pub(crate) fn deadline(pod: &Pod) -> Option<Timestamp> {
    after(pod, lifetime(pod)?)
}

/// Until when a pod is kept for a sandbox; none where it may run for ever.
pub(crate) fn kept_until(pod: &Pod) -> Option<Timestamp> {
    after(pod, lifetime(pod)? / WAITS)
}

/// How long a pod may run.
fn lifetime(pod: &Pod) -> Option<Duration> {
    let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

/// So long after a pod was made. The kubelet counts from when it heard of it, which is later.
fn after(pod: &Pod, time: Duration) -> Option<Timestamp> {
    made_at(pod).checked_add(time).ok()
}

/// How a pod of a pool is doing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    /// It waits for a sandbox.
    Ready,
    /// It is not ready yet, as Ready would say it of a sandbox.
    Starting(Verdict),
    /// It will never be ready, or any more.
    Ended(Termination),
}

/// As what a pod that is or was a pool's is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelValue)]
pub(crate) enum Counted {
    Ready,
    Starting,
    Ended,
    Claimed,
}

impl Counted {
    pub(crate) const ALL: [Self; 4] = [Self::Ready, Self::Starting, Self::Ended, Self::Claimed];
}

pub(crate) fn counted(pod: &Pod, now: Timestamp) -> Counted {
    if pod.labels().contains_key(names::SANDBOX_UID) {
        return Counted::Claimed;
    }
    match state(pod, now) {
        State::Ready => Counted::Ready,
        State::Starting(_) => Counted::Starting,
        State::Ended(_) => Counted::Ended,
    }
}

/// How a pod is doing that is a pool's and no sandbox's.
pub(crate) fn state(pod: &Pod, now: Timestamp) -> State {
    if let Some(end) = termination::ended(pod).or_else(|| termination::setup_failed(pod)) {
        return State::Ended(end);
    }
    match starting::ready(pod, now) {
        ready if ready.status == "True" => State::Ready,
        ready => State::Starting(ready),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        network,
        pool::testing::{self, made, pool},
        testing::{at, bound, config, pod_with, running, sandbox, template},
    };

    /// The hash of a sandbox that asks for this, of a template that gives that.
    fn of(asked: &Value, given: &Value) -> String {
        let mut sandbox = sandbox();
        sandbox.spec = serde_json::from_value(asked.clone()).unwrap();
        sandbox.status = Some(bound(given));
        hash(&sandbox, &config())
    }

    #[test]
    fn a_pools_pod_is_as_hardened_as_a_sandboxs() {
        let mut pod = made(&pool(1), 3, &json!({"defaults": {"idleTimeout": "5m"}}));
        pod.labels_mut().insert(names::POD_HASH.into(), "of all that is here".into());
        insta::assert_yaml_snapshot!(pod);
    }

    #[test]
    fn the_deny_policy_selects_a_pools_pod_as_it_does_every_sandboxs() {
        let labels = made(&pool(1), 1, &json!({})).metadata.labels.unwrap();
        assert!(network::selects(&network::deny("demo"), &labels));
    }

    #[test]
    fn what_can_be_given_late_makes_no_other_hash_and_all_else_does() {
        let given = json!({"defaults": {"image": "a:1", "idleTimeout": "5m", "network": {"egress": "Internet"}}});
        let member =
            hash(&template::undemanding(template::bound(&template("a", &given))), &config());
        for late in [
            json!({}),
            json!({"ttl": "2h", "ttlAfterFinished": "1m"}),
            json!({"restartPolicy": "Never", "backoffLimit": 1, "onIdle": "Pause"}),
            json!({"templateRef": {"name": "a"}, "suspend": false}),
            // What the template gives anyway.
            json!({"image": "a:1", "resources": {"cpu": "1"}}),
        ] {
            assert_eq!(of(&late, &given), member, "{late}");
        }
        for early in [
            json!({"image": "a:2"}),
            json!({"imagePullPolicy": "Always"}),
            json!({"imagePullSecrets": [{"name": "pull"}]}),
            json!({"env": [{"name": "A", "value": "b"}]}),
            json!({"workingDir": "/tmp"}),
            json!({"resources": {"memory": "2Gi"}}),
            json!({"gpu": {"count": 1}}),
            // The file that describes the machine says what it may reach, and names are resolved otherwise.
            json!({"network": {"egress": "Deny"}}),
            json!({"network": {"allow": [{"cidr": "10.0.0.0/8"}]}}),
            json!({"network": {"ports": [{"port": 80, "from": [{"cidr": "10.0.0.0/8"}]}]}}),
            json!({"workspace": {"size": "1Gi"}}),
            json!({"setup": {"commands": ["true"]}}),
            json!({"runtimeClassName": "gvisor"}),
            json!({"idleTimeout": "6m"}),
        ] {
            assert_ne!(of(&early, &given), member, "{early}");
        }
        let mut config = config();
        config.agent_image = "agent:2".into();
        assert_ne!(
            hash(&template::undemanding(template::bound(&template("a", &given))), &config),
            member
        );
    }

    #[test]
    fn a_pod_is_a_pools_only_with_its_labels_and_owner_and_without_a_sandboxs() {
        let pool = pool(1);
        let pod = made(&pool, 1, &json!({}));
        assert!(is_unclaimed(&pod, &pool));
        let changed = |change: fn(&mut Pod)| {
            let mut pod = pod.clone();
            change(&mut pod);
            is_unclaimed(&pod, &pool)
        };
        assert!(!changed(|pod| pod.metadata.owner_references = None));
        assert!(
            !changed(|pod| pod.metadata.owner_references.as_mut().unwrap()[0].uid = "x".into())
        );
        assert!(!changed(|pod| drop(pod.labels_mut().remove(names::MANAGED_BY))));
        assert!(!changed(|pod| drop(pod.labels_mut().insert(names::POOL.into(), "x".into()))));
        assert!(!changed(testing::claim));
        // Whatever else somebody has left of the pool.
        assert!(!changed(|pod| drop(
            pod.labels_mut().insert(names::SANDBOX_UID.into(), "x".into())
        )));
        assert!(!changed(|pod| {
            let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(1));
            pod.metadata.deletion_timestamp = Some(now);
        }));
    }

    #[test]
    fn half_of_a_pods_time_is_its_sandboxs() {
        let pod = made(&pool(1), 1, &json!({"allow": {"max": {"lifetime": "2h"}}}));
        assert_eq!(kept_until(&pod), Some(at(3600)));
        assert_eq!(kept_until(&Pod::default()), None);
    }

    #[test]
    fn a_pod_is_ready_on_its_way_or_over_as_a_sandboxs_is() {
        let is = |status: Value| match state(&pod_with(&status), at(0)) {
            State::Ready => "Ready".to_owned(),
            State::Starting(why) => why.reason,
            State::Ended(end) => format!("{:?}", end.reason),
        };
        assert_eq!(is(running()), "Ready");
        assert_eq!(is(json!({"phase": "Pending"})), "Creating");
        assert_eq!(is(json!({"phase": "Failed", "reason": "Evicted"})), "Evicted");
        let failed = json!({"command": "false", "how": "failed", "tail": ""}).to_string();
        let setup = json!({"phase": "Pending", "initContainerStatuses": [{"name": "setup", "image": "", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 1, "message": failed}}}]});
        assert_eq!(is(setup), "SetupFailed");
    }
}
