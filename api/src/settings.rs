//! How a sandbox is made: what a CodeSandbox asks for, and what a template gives.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{Duration, Network, Setup, names};

/// How a sandbox is made. What is absent is the template's, or else the default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
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

    /// Environment variables of everything that runs in the sandbox, joined to the template's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Option<Vec<EnvVar>>,

    /// The directory in which commands start. Default: /workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self.startsWith('/')").message("must be an absolute path, such as /workspace"),
        validation = Rule::new("!self.startsWith('/.codesandbox')").message("must not be where the agent is"))]
    pub working_dir: Option<String>,

    /// What the sandbox may use at most. Memory and disk are reserved, of CPU a part (chart value `sandbox.cpuRequestPercent`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// GPUs. The node's device plugin decides which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<Gpu>,

    /// What the sandbox may reach, and who may reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,

    /// A disk for /workspace and the home directory, which outlives pods. Default: they are the pod's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<Workspace>,

    /// What is done before the sandbox takes calls, such as installing packages: in each new pod, or once on a workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<Setup>,

    /// The RuntimeClass of the pod, such as gvisor. Default: the cluster's runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub runtime_class_name: Option<String>,

    /// How long the sandbox lives from its creation, such as 30m. It can be changed. Default: 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('168h')")
        .message("must be between 1s and 168h (a week)"))]
    pub ttl: Option<Duration>,

    /// How long nobody may use the sandbox before onIdle, such as 15m: no run goes on, nothing is transferred or looked at. Default:
    /// as long as it lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('168h')")
        .message("must be between 1s and 168h (a week)"))]
    pub idle_timeout: Option<Duration>,

    /// What becomes of the sandbox when its idleTimeout is over. Default: Delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_idle: Option<OnIdle>,

    /// Whether a lost pod is replaced. Default: Recreate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,

    /// How often Recreate makes a sandbox anew: at once, then after 10s, 20s and so on up to 5m. Containers that start again
    /// in their pod do not count. Default: 6.
    // A Job's word, default and times for the same thing: pods that were made for one that failed. "Restarts" would be those
    // of the container, which have no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000), extend("format" = "int32"))]
    pub backoff_limit: Option<u32>,

    /// How long the object stays once the sandbox has finished. Default: 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) <= duration('168h')").message("must be at most 168h (a week)"))]
    pub ttl_after_finished: Option<Duration>,
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

/// Whether a sandbox whose pod was lost (Evicted, Rejected, NodeLost, Killed) is made anew, without its contexts and runs, and
/// without its files unless it has a workspace. Default: Recreate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestartPolicy {
    /// By no other: the sandbox finishes.
    Never,
    /// By another, under the name of the next attempt.
    #[default]
    Recreate,
}

/// What becomes of a sandbox that nobody uses. Default: Delete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnIdle {
    /// It finishes, and is deleted after its ttlAfterFinished.
    #[default]
    Delete,
    /// Its pod ends, until somebody uses it again. Its files are kept where it has a workspace, and else are gone.
    Pause,
}

/// A disk of the sandbox's own: a PersistentVolumeClaim by the name of the sandbox and `-workspace`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Workspace {
    /// How large it is, such as 10Gi.
    #[schemars(schema_with = "required_quantity")]
    pub size: Quantity,
    /// The StorageClass. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// Whether the disk stays when the sandbox goes, for the next of its name, owner and class that retains. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain: Option<bool>,
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
    // In bytes four times as many at most, which the kernel takes.
    #[schemars(length(max = 32000))]
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

/// A key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeyRef {
    /// The Secret's name. It has to begin with `sandbox-` or be in the template's `allow.secrets`.
    // Whoever may create a CodeSandbox may not read every Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// What a sandbox may use at most.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Processors, such as 500m or 2. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quantity")]
    pub cpu: Option<Quantity>,
    /// Memory, such as 4Gi. Above it the sandbox is stopped and started again (OOMKilled). Default: 1Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quantity")]
    pub memory: Option<Quantity>,
    /// Disk for files and logs. Above it the node evicts the sandbox. Default: 2Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quantity")]
    pub ephemeral_storage: Option<Quantity>,
}

/// GPUs of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("!has(self.memory) || self.resource.startsWith('nvidia.com/')").message("memory can be asked for of nvidia.com resources only; of others name a product"),
)]
pub struct Gpu {
    /// How many.
    #[schemars(range(min = 1, max = 16), extend("format" = "int32"))]
    pub count: u8,
    /// An extended resource, or deviceclass.resource.kubernetes.io/CLASS.
    #[serde(default = "default::gpu")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new("self.contains('/')").message("must be an extended resource such as nvidia.com/gpu"))]
    pub resource: String,
    /// The product by the vendor's labels on nodes, such as NVIDIA-H100-80GB-HBM3. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = "^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
    )]
    pub product: Option<String>,
    /// The memory that each has at least, such as 40Gi. NVIDIA's only. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quantity")]
    pub memory: Option<Quantity>,
    /// Whether the sandbox runs without where no node has them free (status.withoutGPU). Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

impl Gpu {
    /// So many of a resource, whatever they are.
    pub fn new(count: u8, resource: impl Into<String>) -> Self {
        Self { count, resource: resource.into(), product: None, memory: None, optional: None }
    }
}

mod default {
    pub(super) fn gpu() -> String {
        super::names::DEFAULT_GPU.into()
    }
}

/// A quantity that may be absent.
pub(crate) fn quantity(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = required_quantity(generator);
    // Said, because a null, `cpu:` in YAML, is what is absent.
    schema.insert("nullable".into(), true.into());
    schema
}

/// A quantity in one line, where Kubernetes' own schema has five kilobytes of prose.
fn required_quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "pattern": "^[0-9]+(\\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$",
        "maxLength": 32,
        "x-kubernetes-validations": [{
            "rule": "quantity(string(self)).isGreaterThan(quantity('0'))",
            "message": "must be more than 0",
        }],
    })
}
