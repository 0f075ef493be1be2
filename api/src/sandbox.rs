//! CodeSandbox: what a user asks for.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{CodeSandboxStatus, Duration, names};

/// An isolated machine for running code: one hardened pod that lives until its ttl ends.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "codesandbox.dev",
    version = "v1alpha1",
    kind = "CodeSandbox",
    plural = "codesandboxes",
    shortname = "csb",
    namespaced,
    status = "CodeSandboxStatus",
    derive = "PartialEq",
    doc = "An isolated machine for running code: one hardened pod that lives until its ttl ends.",
    printcolumn(json_path = r#".status.conditions[?(@.type=="Ready")].status"#, name = "Ready", type_ = "string"),
    printcolumn(json_path = r#".status.conditions[?(@.type=="Ready")].reason"#, name = "Reason", type_ = "string"),
    printcolumn(json_path = ".status.node", name = "Node", type_ = "string"),
    printcolumn(json_path = ".status.expiresAt", name = "Expires", type_ = "string"),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date"),
    validation = Rule::new("size(self.metadata.name) <= 50 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must be a DNS label (a-z, 0-9, -) of at most 50 characters, because pods are named after it"),
)]
// With has() and not with `self.?x == oldSelf.?x`: the API server takes the cost of comparing optionals to be unbounded
// and refuses the whole CRD.
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.className == oldSelf.className && (has(self.image) == has(oldSelf.image) && (!has(self.image) || self.image == oldSelf.image)) && (has(self.imagePullPolicy) == has(oldSelf.imagePullPolicy) && (!has(self.imagePullPolicy) || self.imagePullPolicy == oldSelf.imagePullPolicy)) && (has(self.imagePullSecrets) == has(oldSelf.imagePullSecrets) && (!has(self.imagePullSecrets) || self.imagePullSecrets == oldSelf.imagePullSecrets)) && (has(self.env) == has(oldSelf.env) && (!has(self.env) || self.env == oldSelf.env)) && self.workingDir == oldSelf.workingDir && self.resources == oldSelf.resources && (has(self.gpu) == has(oldSelf.gpu) && (!has(self.gpu) || self.gpu == oldSelf.gpu)) && self.network == oldSelf.network && (has(self.runtimeClassName) == has(oldSelf.runtimeClassName) && (!has(self.runtimeClassName) || self.runtimeClassName == oldSelf.runtimeClassName)) && (has(self.idleTimeout) == has(oldSelf.idleTimeout) && (!has(self.idleTimeout) || self.idleTimeout == oldSelf.idleTimeout)) && self.ttlAfterFinished == oldSelf.ttlAfterFinished")
        .message("only spec.ttl can be changed; to change anything else, delete the CodeSandbox and create a new one"),
)]
pub struct CodeSandboxSpec {
    /// The installation whose operator makes this sandbox.
    #[serde(default = "default::class")]
    #[schemars(length(min = 1, max = 63))]
    pub class_name: String,

    /// The container image. Default: the operator's (chart value `sandbox.image`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,

    /// When to pull the image, as in a pod. Default: Kubernetes' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,

    /// Secrets of this namespace with which to pull the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub image_pull_secrets: Option<Vec<LocalObjectReference>>,

    /// Environment variables of everything that runs in the sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Option<Vec<EnvVar>>,

    /// The directory in which commands start.
    #[serde(default = "default::working_dir")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self.startsWith('/')").message("must be an absolute path, such as /workspace"))]
    pub working_dir: String,

    /// What the sandbox may use at most. Memory and disk are reserved for it, of CPU a part (chart value `sandbox.cpuRequestPercent`).
    #[serde(default)]
    pub resources: Resources,

    /// GPUs. The node's device plugin decides which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<Gpu>,

    /// What the sandbox may reach.
    #[serde(default)]
    pub network: Network,

    /// The RuntimeClass of the pod, such as gvisor. Default: the cluster's runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub runtime_class_name: Option<String>,

    /// How long the sandbox lives from its creation, such as 30m or 2h. The one field that can be changed.
    #[serde(default = "default::ttl")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('168h')")
        .message("must be between 1s and 168h (a week)"))]
    pub ttl: Duration,

    /// How long nobody may use the sandbox before it finishes, such as 15m. Default: as long as it lives. A run that goes on,
    /// a transfer and a look at files are use; an open connection, a live context that waits and what a run left in the background are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('168h')")
        .message("must be between 1s and 168h (a week)"))]
    pub idle_timeout: Option<Duration>,

    /// How long the object stays once the sandbox has finished, so that its end can be read.
    #[serde(default = "default::ttl_after_finished")]
    #[x_kube(validation = Rule::new("duration(self) <= duration('168h')").message("must be at most 168h (a week)"))]
    pub ttl_after_finished: Duration,
}

/// When to pull an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// At every start.
    Always,
    /// Where the node has none.
    IfNotPresent,
    /// Never: the node has it, or the sandbox does not start.
    Never,
}

impl ImagePullPolicy {
    /// The value a pod takes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// An object of the sandbox's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocalObjectReference {
    /// The object's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// An environment variable: a value, or a key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.value) != has(self.valueFrom)").message("needs either value or valueFrom, not both"),
    validation = Rule::new("!self.name.startsWith('CODESANDBOX_') && !self.name.startsWith('KUBERNETES_')").message("names that begin with CODESANDBOX_ or KUBERNETES_ are reserved"),
)]
pub struct EnvVar {
    /// The variable's name.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// Its value, taken as it is: nothing in it is expanded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub value: Option<String>,
    /// Where its value comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<EnvSource>,
}

/// Where a variable's value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvSource {
    /// A key of a Secret of this namespace.
    pub secret_key_ref: SecretKeyRef,
}

/// A key of a Secret that was made for sandboxes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct SecretKeyRef {
    /// The Secret's name, which has to begin with `sandbox-`: whoever may create a CodeSandbox may not read every Secret.
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new("self.startsWith('sandbox-')")
        .message("only Secrets whose name begins with sandbox- can be used; copy what the sandbox needs into one"))]
    pub name: String,
    /// The key in the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// What a sandbox may use at most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Processors, such as 500m or 2.
    #[serde(default = "default::cpu")]
    #[schemars(schema_with = "quantity")]
    pub cpu: Quantity,
    /// Memory, such as 512Mi or 4Gi. Above it the sandbox is stopped and started again (OOMKilled).
    #[serde(default = "default::memory")]
    #[schemars(schema_with = "quantity")]
    pub memory: Quantity,
    /// Disk for files and logs. Above it the node evicts the sandbox.
    #[serde(default = "default::ephemeral_storage")]
    #[schemars(schema_with = "quantity")]
    pub ephemeral_storage: Quantity,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            cpu: default::cpu(),
            memory: default::memory(),
            ephemeral_storage: default::ephemeral_storage(),
        }
    }
}

impl Resources {
    /// The resources by the names a container knows them by.
    pub fn list(&self) -> BTreeMap<String, Quantity> {
        [
            ("cpu", &self.cpu),
            ("memory", &self.memory),
            ("ephemeral-storage", &self.ephemeral_storage),
        ]
        .map(|(name, quantity)| (name.to_owned(), quantity.clone()))
        .into()
    }
}

/// GPUs of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Gpu {
    /// How many.
    #[schemars(range(min = 1, max = 16), extend("format" = "int32"))]
    pub count: u8,
    /// The extended resource that the device plugin offers.
    #[serde(default = "default::gpu")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new("self.contains('/')").message("must be an extended resource such as nvidia.com/gpu"))]
    pub resource: String,
}

/// What a sandbox may reach over the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Network {
    /// Deny reaches nothing, DNS included. Internet reaches public addresses and DNS, nothing of the cluster.
    #[serde(default)]
    pub egress: Egress,
}

/// What a sandbox may reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Egress {
    /// Nothing.
    #[default]
    Deny,
    /// Public addresses and DNS.
    Internet,
}

mod default {
    use super::{Duration, Quantity, names};

    pub(super) fn class() -> String {
        names::DEFAULT_CLASS.into()
    }
    pub(super) fn working_dir() -> String {
        names::WORKSPACE.into()
    }
    pub(super) fn ttl() -> Duration {
        "1h".into()
    }
    pub(super) fn ttl_after_finished() -> Duration {
        "10m".into()
    }
    pub(super) fn gpu() -> String {
        names::DEFAULT_GPU.into()
    }
    pub(super) fn cpu() -> Quantity {
        Quantity("1".into())
    }
    pub(super) fn memory() -> Quantity {
        Quantity("1Gi".into())
    }
    pub(super) fn ephemeral_storage() -> Quantity {
        Quantity("2Gi".into())
    }
}

impl Default for CodeSandboxSpec {
    /// What an empty `spec: {}` means.
    fn default() -> Self {
        Self {
            class_name: default::class(),
            image: None,
            image_pull_policy: None,
            image_pull_secrets: None,
            env: None,
            working_dir: default::working_dir(),
            resources: Resources::default(),
            gpu: None,
            network: Network::default(),
            runtime_class_name: None,
            ttl: default::ttl(),
            idle_timeout: None,
            ttl_after_finished: default::ttl_after_finished(),
        }
    }
}

/// A quantity in one line, where Kubernetes' own schema has five kilobytes of prose.
fn quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        // Said, because kube makes it true otherwise: the server would keep a null, `cpu:` in YAML, which nobody can read.
        "nullable": false,
        "pattern": "^[0-9]+(\\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$",
        "maxLength": 32,
        "x-kubernetes-validations": [{
            "rule": "quantity(string(self)).isGreaterThan(quantity('0'))",
            "message": "must be more than 0",
        }],
    })
}
