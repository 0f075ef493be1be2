//! Inputs of the tests about pools.

use api::{CodeSandboxPool, names};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Time};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::member;
use crate::{
    pod,
    testing::{CREATED, config, pod_with, running, sandbox, template},
};

/// A pool as the API server has it: `pool` in namespace `demo`, of template `a`.
pub(crate) fn pool(replicas: u32) -> CodeSandboxPool {
    let metadata = json!({"name": "pool", "namespace": "demo", "uid": "pool-uid", "generation": 1, "resourceVersion": "1"});
    let spec = json!({"templateRef": {"name": "a"}, "replicas": replicas});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

/// A pod of a pool as the API server has it, when its template gives this.
pub(crate) fn made(pool: &CodeSandboxPool, number: u32, given: &Value) -> Pod {
    let mut pod = member::pod(pool, &template("a", given), number, &config());
    pod.metadata.uid = Some(format!("uid-{number}"));
    pod.metadata.resource_version = Some("5".into());
    pod.metadata.creation_timestamp = Some(Time(CREATED));
    pod
}

/// The same when it waits for a sandbox.
pub(crate) fn warm(pool: &CodeSandboxPool, number: u32, given: &Value) -> Pod {
    Pod { status: pod_with(&running()).status, ..made(pool, number, given) }
}

/// Makes a pod that of `sandbox()`, as a claim does.
pub(crate) fn claim(pod: &mut Pod) {
    let sandbox = sandbox();
    pod.labels_mut().insert(names::SANDBOX.into(), sandbox.name_any());
    pod.labels_mut().insert(names::SANDBOX_UID.into(), sandbox.uid().unwrap());
    pod.metadata.owner_references = pod::owner(&sandbox);
}
