//! CodeSandbox status: what the operator saw.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::BoundTemplate;

/// What the operator saw. It alone writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CodeSandboxStatus {
    /// Ready, PodScheduled, NetworkIsolated, Finished; and Suspended, once it was that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,

    /// Which pod in turn this is, from 1.
    // It grows when one was lost, suspended or could not have the GPU it can do without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("format" = "int64"))]
    pub attempt: Option<u32>,

    /// How many pods were lost. Absent: all before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "int64"))]
    pub losses: Option<u32>,

    /// Whether this attempt has no GPU, because no node had one free and it is optional.
    #[serde(default, skip_serializing_if = "std::ops::Not::not", rename = "withoutGPU")]
    pub without_gpu: bool,

    /// The annotation codesandbox.dev/wake when the sandbox was paused. Another one wakes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_wake: Option<String>,

    /// The pod of this attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,

    /// The UID of that pod. It changes when files and processes are new.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "podUID")]
    pub pod_uid: Option<String>,

    /// The node the pod runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,

    /// How the sandbox was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,

    /// Whether the setup was done on the sandbox's disk, for all later pods.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub set_up: bool,

    /// The template the sandbox was made from, as it then was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Box<BoundTemplate>>,

    /// When the sandbox is deleted: its creation and its ttl.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,

    /// How the sandbox, or an earlier attempt at it, ended last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_termination: Option<Termination>,

    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

impl CodeSandboxStatus {
    /// The condition of a type.
    pub fn condition(&self, type_: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == type_)
    }

    /// Whether the condition of a type is True.
    pub fn is_true(&self, type_: &str) -> bool {
        self.condition(type_).is_some_and(|condition| condition.status == "True")
    }

    /// How many pods were lost.
    pub fn lost_pods(&self) -> u32 {
        self.losses.unwrap_or_else(|| self.attempt.unwrap_or(1).saturating_sub(1))
    }
}

/// Conditions as Kubernetes has them, with the first sentence of what it says of each field: the rest is a kilobyte in each CRD.
pub(crate) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let mut one = Condition::json_schema(generator);
    one.remove("description");
    let properties = one.get_mut("properties").and_then(|properties| properties.as_object_mut());
    for property in properties.into_iter().flat_map(|properties| properties.values_mut()) {
        if let Some(Value::String(said)) = property.get_mut("description")
            && let Some((first, _)) = said.split_once(". ")
        {
            *said = format!("{first}.");
        }
    }
    json_schema!({
        "type": "array",
        "items": one,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}

/// How a sandbox was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Start {
    /// From a pool (Warm) or with a pod of its own (Cold).
    pub mode: StartMode,
    /// Why: Claimed; or NoPool, PoolNotFound, PoolUnknown, TemplateDiffers, SettingsDiffer, NoPodReady, ClaimRefused, LaterAttempt.
    pub reason: String,
}

/// Where a sandbox's pod came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StartMode {
    /// A pool.
    Warm,
    /// Made for it.
    Cold,
}

/// How a container or pod ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Termination {
    /// What ended it.
    pub reason: TerminationReason,
    /// The exit code of the container, where it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// What happened and what to do next.
    pub message: String,
}

/// What ended a sandbox. Each is given by one pure function of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TerminationReason {
    /// The agent ended with 0.
    Completed,
    /// Its setup failed.
    SetupFailed,
    /// Nobody used the sandbox for its idleTimeout.
    IdleTimeout,
    /// The network stayed open, which policies were to close.
    NotIsolated,
    /// The administrator's maximum lifetime was over.
    DeadlineExceeded,
    /// The container used more memory than its limit.
    OOMKilled,
    /// The node took its resources back, or the sandbox used more disk than its limit.
    Evicted,
    /// The node refused the pod: it had less than it seemed to have, or a device plugin was not there yet.
    Rejected,
    /// The node went away.
    NodeLost,
    /// The pod was deleted by somebody else.
    Killed,
    /// None of these.
    Unknown,
}

/// The reasons of starts.
pub mod start {
    /// Warm: the pool had a pod ready.
    pub const CLAIMED: &str = "Claimed";
    /// Cold: the sandbox names no pool.
    pub const NO_POOL: &str = "NoPool";
    /// Cold: there is no pool of the name that the sandbox names.
    pub const POOL_NOT_FOUND: &str = "PoolNotFound";
    /// Cold: it was not known in time which pools there are.
    pub const POOL_UNKNOWN: &str = "PoolUnknown";
    /// Cold: the pool is of another template than the sandbox.
    pub const TEMPLATE_DIFFERS: &str = "TemplateDiffers";
    /// Cold: the sandbox asks for something that a pod which runs already cannot be given.
    pub const SETTINGS_DIFFER: &str = "SettingsDiffer";
    /// Cold: the pool had no pod ready that is made as the sandbox's would be and lives for as long.
    pub const NO_POD_READY: &str = "NoPodReady";
    /// Cold: the API server did not let the operator give a pod of the pool to the sandbox.
    pub const CLAIM_REFUSED: &str = "ClaimRefused";
    /// Cold: it is not the sandbox's first pod.
    pub const LATER_ATTEMPT: &str = "LaterAttempt";
    /// All of them.
    pub const ALL: [&str; 9] = [
        CLAIMED,
        NO_POOL,
        POOL_NOT_FOUND,
        POOL_UNKNOWN,
        TEMPLATE_DIFFERS,
        SETTINGS_DIFFER,
        NO_POD_READY,
        CLAIM_REFUSED,
        LATER_ATTEMPT,
    ];
}

/// The types of conditions.
pub mod condition {
    /// The sandbox takes calls.
    pub const READY: &str = "Ready";
    /// The pod has a node: mirrored from the pod.
    pub const POD_SCHEDULED: &str = "PodScheduled";
    /// The namespace's deny policy is there and selects the pod, and no other policy opens it.
    pub const NETWORK_ISOLATED: &str = "NetworkIsolated";
    /// The sandbox has ended and will not start again.
    pub const FINISHED: &str = "Finished";
    /// There is no pod, because the user does not want one or nobody used it.
    pub const SUSPENDED: &str = "Suspended";
    /// Of a template: the API server takes the pods of its sandboxes.
    pub const ACCEPTED: &str = "Accepted";
}

/// The reasons of conditions.
pub mod reason {
    /// Ready: the pod runs and is ready.
    pub const POD_READY: &str = "PodReady";
    /// Not Ready: the pod was made and is not known to do anything yet.
    pub const CREATING: &str = "Creating";
    /// Not Ready: no node takes the pod yet.
    pub const UNSCHEDULABLE: &str = "Unschedulable";
    /// Not Ready: the pod has scheduling gates, which somebody else takes off.
    pub const SCHEDULING_GATED: &str = "SchedulingGated";
    /// Not Ready: no node had the GPU free that the sandbox can do without; another pod is made, which asks for none.
    pub const RUNS_WITHOUT_GPU: &str = "RunsWithoutGPU";
    /// Not Ready: the container is being started.
    pub const STARTING: &str = "Starting";
    /// Not Ready: the image cannot be had.
    pub const IMAGE_PULL: &str = "ImagePull";
    /// Not Ready: the container cannot be started as it was asked for.
    pub const START_FAILED: &str = "StartFailed";
    /// Not Ready: the agent cannot be put into the sandbox.
    pub const AGENT_INJECTION_FAILED: &str = "AgentInjectionFailed";
    /// Not Ready, and not NetworkIsolated: the setup goes on, which may reach more than the sandbox.
    pub const SETTING_UP: &str = "SettingUp";
    /// Not Ready: the container ended and is started again.
    pub const RESTARTING: &str = "Restarting";
    /// Not Ready: the agent saw the network open, and runs nothing in it.
    pub const NOT_ISOLATED: &str = "NotIsolated";
    /// Not Ready: the API server refused the pod.
    pub const ADMISSION_REFUSED: &str = "AdmissionRefused";
    /// Not Ready: a ResourceQuota of the namespace is used up.
    pub const QUOTA_EXCEEDED: &str = "QuotaExceeded";
    /// Not Ready: the RuntimeClass that the sandbox names is not there.
    pub const RUNTIME_CLASS_NOT_FOUND: &str = "RuntimeClassNotFound";
    /// Not Ready: there is no template of the name that the sandbox names.
    pub const TEMPLATE_NOT_FOUND: &str = "TemplateNotFound";
    /// Not Ready: the operator has not accepted the template.
    pub const TEMPLATE_NOT_ACCEPTED: &str = "TemplateNotAccepted";
    /// Not Ready: the template does not let a sandbox have what this one asks for.
    pub const TEMPLATE_FORBIDS: &str = "TemplateForbids";
    /// Not Ready: something that the sandbox is to reach is closed to every sandbox, or is no range of addresses.
    pub const NETWORK_FORBIDDEN: &str = "NetworkForbidden";
    /// Not Ready: the sandbox takes down which template it is made from.
    pub const TEMPLATE_BOUND: &str = "TemplateBound";
    /// Accepted: the API server takes such a pod.
    pub const ACCEPTED: &str = "Accepted";
    /// Not Accepted: podPatch is no part of a pod, or changes what it may not.
    pub const PATCH_INVALID: &str = "PatchInvalid";
    /// Not Accepted: the API server refuses such a pod.
    pub const POD_REFUSED: &str = "PodRefused";
    /// Not Ready: the first pod of a runtime finds out how the agent gets into the others.
    pub const PROBING: &str = "Probing";
    /// Not Ready: an object with the pod's name belongs to somebody else.
    pub const NAME_TAKEN: &str = "NameTaken";
    /// Not Ready: the pod went away; another is made.
    pub const POD_LOST: &str = "PodLost";
    /// Not Ready: the disk on which the setup was done was deleted; it is done anew on another.
    pub const DISK_LOST: &str = "DiskLost";
    /// Not Ready: the pod is being deleted; another is made.
    pub const TERMINATING: &str = "Terminating";
    /// Suspended, and not Ready: the user wants no pod.
    pub const SUSPENDED: &str = "Suspended";
    /// Suspended, and not Ready: nobody used the sandbox.
    pub const PAUSED: &str = "Paused";
    /// Not Suspended any more.
    pub const RESUMED: &str = "Resumed";
    /// Of a pool, Ready: as many pods as are asked for wait for a sandbox.
    pub const POOL_READY: &str = "PoolReady";
    /// Of a pool, not Ready: pods are being made.
    pub const FILLING: &str = "Filling";
    /// Of a pool, not Ready: a pod ended before a sandbox claimed it.
    pub const MEMBER_FAILED: &str = "MemberFailed";
    /// Of a pool, not Ready: a pod of such a template cannot be made before its sandbox.
    pub const TEMPLATE_UNSUITABLE: &str = "TemplateUnsuitable";
    /// PodScheduled: the pod has a node. Kubernetes gives that no reason.
    pub const SCHEDULED: &str = "Scheduled";
    /// Not Finished: the sandbox lives.
    pub const RUNNING: &str = "Running";
    /// NetworkIsolated: the deny policy selects the pod.
    pub const DENY_POLICY: &str = "DenyPolicy";
    /// NetworkIsolated: the deny policy selects the pod, and its own policy lets it reach public addresses.
    pub const INTERNET_POLICY: &str = "InternetPolicy";
    /// NetworkIsolated: the deny policy selects the pod, and its own policy lets through what its `network` names.
    pub const ALLOW_POLICY: &str = "AllowPolicy";
    /// Not NetworkIsolated: the deny policy is missing, was changed or does not select the pod.
    pub const NOT_DENIED: &str = "NotDenied";
    /// Not NetworkIsolated: the policies are there, but the node does not enforce them.
    pub const NOT_ENFORCED: &str = "NotEnforced";
    /// Not NetworkIsolated: a policy of somebody else opens the pod.
    pub const OPENED_BY_POLICY: &str = "OpenedByPolicy";
}
