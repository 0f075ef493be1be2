//! Inputs of tests.

use std::{str::FromStr, sync::Arc};

use api::{CodeSandbox, CodeSandboxSpec, CodeSandboxStatus, CodeSandboxTemplate, condition};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        core::v1::Pod,
        networking::v1::{NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicySpec},
    },
    apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, ObjectMeta, Time},
};
use kube::{
    Client, Resource,
    runtime::{
        reflector::{self, Store},
        watcher::Event,
    },
};
use serde_json::{Value, json};

use crate::{
    act::claim::Claimed,
    call::{Caller, Kind},
    config::Config,
    controller::Context,
    events::Publisher,
    injection::{AgentInjection, Injection, Runtimes, Way},
    leaks::{self, Leak, Why},
    memory::Memory,
    metrics::Metrics,
    news::News,
    observe::Observed,
    pod,
    pool::lull::Lulls,
    watched::Watched,
};

mod server;

pub(crate) use server::{Answer, Log, server};

/// When every sandbox of the tests was created: 2026-01-01T00:00:00Z.
pub(crate) const CREATED: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// So many seconds after the creation.
pub(crate) fn at(seconds: i64) -> Timestamp {
    CREATED + SignedDuration::from_secs(seconds)
}

pub(crate) fn config() -> Config {
    Config {
        class: "codesandbox".into(),
        instance: "release".into(),
        agent_image: "ghcr.io/codesandbox-dev/agent:0.1.0".into(),
        agent_image_pull_policy: Some(api::ImagePullPolicy::IfNotPresent),
        agent_injection: AgentInjection::Auto,
        sandbox_image: "docker.io/library/python:3.14-slim".into(),
        sandbox_image_pull_policy: None,
        default_template: None,
        templates: crate::template::shipped::Shipped::default(),
        max_lifetime: std::time::Duration::from_hours(24),
        cpu_request_percent: 10,
        require_network_isolation: true,
        network_canary: None,
        api_server_address: None,
        dns_servers: vec!["1.1.1.1".parse().unwrap(), "2606:4700:4700::1111".parse().unwrap()],
        cluster_cidrs: ["203.0.113.0/24", "2001:db8::/32"]
            .map(|cidr| FromStr::from_str(cidr).unwrap())
            .into(),
    }
}

/// A sandbox as the API server has it: `box` in namespace `demo`, with an empty spec and no status.
pub(crate) fn sandbox() -> CodeSandbox {
    CodeSandbox {
        metadata: ObjectMeta {
            name: Some("box".into()),
            namespace: Some("demo".into()),
            uid: Some("sandbox-uid".into()),
            resource_version: Some("1".into()),
            generation: Some(1),
            creation_timestamp: Some(Time(CREATED)),
            ..ObjectMeta::default()
        },
        spec: CodeSandboxSpec::default(),
        status: None,
    }
}

/// The sandbox with such a `spec.network`.
pub(crate) fn asking(network: &Value) -> CodeSandbox {
    let mut sandbox = sandbox();
    sandbox.spec.settings.network = Some(serde_json::from_value(network.clone()).unwrap());
    sandbox
}

/// The sandbox that may reach the Internet.
pub(crate) fn internet() -> CodeSandbox {
    asking(&json!({"egress": "Internet"}))
}

/// The pod of a sandbox that is gone and has not taken it along.
pub(crate) fn orphan() -> Leak {
    let mut pod = pod::pod(&sandbox(), &config(), Way::ImageVolume, 1).metadata;
    (pod.uid, pod.owner_references) = (Some("pod-uid".into()), None);
    let object = leaks::marked(Kind::Pod, &pod, &config().instance).unwrap();
    Leak { object, why: Why::Orphaned }
}

/// The status of a sandbox that finished at a time.
pub(crate) fn finished(time: Timestamp) -> CodeSandboxStatus {
    let condition = Condition {
        type_: condition::FINISHED.into(),
        status: "True".into(),
        reason: "Completed".into(),
        message: String::new(),
        observed_generation: Some(1),
        last_transition_time: Time(time),
    };
    CodeSandboxStatus { conditions: vec![condition], ..CodeSandboxStatus::default() }
}

/// The status of a sandbox that was made from a template of this spec.
pub(crate) fn bound(spec: &Value) -> CodeSandboxStatus {
    let template = json!({"name": "a", "generation": 1, "spec": spec});
    serde_json::from_value(json!({"template": template})).unwrap()
}

/// A template as the operator has accepted it.
pub(crate) fn template(name: &str, spec: &Value) -> CodeSandboxTemplate {
    let accepted = json!({"type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
        "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"});
    serde_json::from_value(
        json!({"metadata": {"name": name, "namespace": "demo", "generation": 1}, "spec": spec,
        "status": {"conditions": [accepted]}}),
    )
    .unwrap()
}

/// What reconciles share where the watches show nothing, and how they ask. Events wait in the queue.
pub(crate) fn context(client: Client, injection: AgentInjection) -> Context {
    let metrics = Metrics::new();
    let (publisher, publishing) = Publisher::new(client.clone(), metrics.clone());
    std::mem::forget(publishing);
    Context {
        caller: Caller { client, namespace: "demo".into(), metrics },
        config: Arc::new(config()),
        policies: Watched::new(store_of(Vec::new())),
        templates: Watched::new(store_of(Vec::new())),
        pools: Watched::new(store_of(Vec::new())),
        members: Watched::new(store_of(Vec::new())),
        memory: Memory::default(),
        pool_memory: Memory::default(),
        lulls: Lulls::default(),
        claimed: Claimed::default(),
        made_of: News::default(),
        runtimes: Arc::new(Runtimes::new(injection)),
        publisher,
    }
}

/// A store that shows these objects.
pub(crate) fn store_of<K>(shown: Vec<K>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let (store, mut writer) = reflector::store();
    writer.apply_watcher_event(&Event::Init);
    for object in shown {
        writer.apply_watcher_event(&Event::InitApply(object));
    }
    writer.apply_watcher_event(&Event::InitDone);
    std::mem::forget(writer);
    store
}

/// A pod with a status and nothing else.
pub(crate) fn pod_with(status: &Value) -> Pod {
    serde_json::from_value(json!({"status": status})).unwrap()
}

/// The status of a pod that runs and is ready.
pub(crate) fn running() -> Value {
    json!({
        "phase": "Running",
        "conditions": [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": "True"},
        ],
        "containerStatuses": [{"name": "sandbox", "image": "", "imageID": "", "ready": true,
            "restartCount": 0, "state": {"running": {}}}],
    })
}

/// Somebody else's policy, which selects everything and lets everything out.
pub(crate) fn opener(name: &str) -> NetworkPolicy {
    NetworkPolicy {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some("demo".into()),
            ..ObjectMeta::default()
        },
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector::default()),
            policy_types: Some(vec!["Egress".into()]),
            egress: Some(vec![NetworkPolicyEgressRule::default()]),
            ingress: None,
        }),
    }
}

pub(crate) fn observed(pod: Option<Pod>, policies: Vec<NetworkPolicy>) -> Observed {
    Observed {
        pod,
        policies: policies.into_iter().map(Arc::new).collect(),
        injection: Injection::By(Way::ImageVolume),
        ..Observed::default()
    }
}
