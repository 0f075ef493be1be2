//! CodeSandboxTemplate: what an administrator gives to sandboxes, and how far they may go.

use k8s_openapi::{
    api::core::v1::PodTemplateSpec,
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::Condition},
};
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Duration, Egress, Settings, settings::quantity, status::conditions};

/// What an administrator gives to the sandboxes that name this template, and how far they may go. A sandbox keeps what the
/// template was when it was made.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "codesandbox.dev",
    version = "v1alpha1",
    kind = "CodeSandboxTemplate",
    plural = "codesandboxtemplates",
    shortname = "csbt",
    namespaced,
    status = "CodeSandboxTemplateStatus",
    derive = "PartialEq",
    doc = "What an administrator gives to the sandboxes that name this template, and how far they may go.",
    printcolumn(
        json_path = r#".status.conditions[?(@.type=="Accepted")].status"#,
        name = "Accepted",
        type_ = "string"
    ),
    printcolumn(
        json_path = r#".status.conditions[?(@.type=="Accepted")].reason"#,
        name = "Reason",
        type_ = "string"
    ),
    printcolumn(json_path = ".spec.description", name = "Description", type_ = "string"),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date")
)]
#[serde(rename_all = "camelCase")]
pub struct CodeSandboxTemplateSpec {
    /// What the template is for, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub description: Option<String>,

    /// What a sandbox is where it says nothing itself.
    #[serde(default)]
    pub defaults: Settings,

    /// How far a sandbox may differ from the defaults.
    #[serde(default)]
    pub allow: Allow,

    /// Whether sandboxes of several tenants are made from it. None of them then has a GPU that is shared with others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub multi_tenant: bool,

    /// What else the pods of such sandboxes have: `metadata` and `spec` as in a pod, merged into what the operator makes. Of
    /// `spec` only what decides where a pod runs (nodeSelector, affinity, tolerations, topologySpreadConstraints, priorityClassName,
    /// preemptionPolicy, schedulerName) and `hostUsers: false`, unless the template is trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_patch: Option<PodPatch>,

    /// Lets podPatch change all of the pod, its hardening included. Whoever may write such a template may run anything on a node.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trusted: bool,
}

/// How far a sandbox may differ from its template's defaults. Of what is not said here, images, RuntimeClasses, StorageClasses and a wider
/// network are the template's own alone, and amounts are free.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Allow {
    /// Images, in which * stands for anything: registry.example.com/team/*, or * for every image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 512)))]
    pub images: Vec<String>,

    /// RuntimeClasses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63)))]
    pub runtime_class_names: Vec<String>,

    /// StorageClasses of workspaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub storage_class_names: Vec<String>,

    /// The widest network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Egress>,

    /// Ranges of addresses within which network.allow and network.ports may name others than the defaults do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(max = 49), regex(pattern = r"^[0-9a-fA-F:.]+/(0|[1-9][0-9]{0,2})$"))
    )]
    pub network: Vec<String>,

    /// Secrets that env and setup.git may name beside those whose name begins with `sandbox-`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    pub secrets: Vec<String>,

    /// The largest amounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Max>,
}

/// The largest amounts that a sandbox may ask for. What is absent has no bound here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Max {
    /// Processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quantity")]
    pub cpu: Option<Quantity>,
    /// Memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quantity")]
    pub memory: Option<Quantity>,
    /// Disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quantity")]
    pub ephemeral_storage: Option<Quantity>,
    /// The disk of a workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quantity")]
    pub workspace: Option<Quantity>,
    /// GPUs; 0 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 16), extend("format" = "int32"))]
    pub gpus: Option<u8>,
    /// How long a pod runs, whatever its ttl says. The operator's own bound (chart value `sandbox.maxLifetime`) holds too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s')").message("must be at least 1s"))]
    pub lifetime: Option<Duration>,
}

/// A part of a pod: `metadata` and `spec`. What is in it is not in the schema; the template's condition says what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PodPatch(pub Map<String, Value>);

impl PodPatch {
    /// The patch as the part of a pod that it is.
    ///
    /// # Errors
    ///
    /// Where it is not one, in serde's words.
    pub fn read(&self) -> Result<PodTemplateSpec, String> {
        serde_json::from_value(Value::Object(self.0.clone())).map_err(|error| error.to_string())
    }
}

impl JsonSchema for PodPatch {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PodPatch".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
    }
}

/// What the operator saw of a template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CodeSandboxTemplateStatus {
    /// Accepted: whether the API server takes the pods of such sandboxes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,

    /// The generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

impl CodeSandboxTemplate {
    /// What the operator says of the template as it is now; nothing where it has not looked yet.
    pub fn accepted(&self) -> Option<&Condition> {
        let conditions = &self.status.as_ref()?.conditions;
        let accepted = conditions.iter().find(|one| one.type_ == crate::condition::ACCEPTED)?;
        (accepted.observed_generation == self.metadata.generation).then_some(accepted)
    }
}

/// The template a sandbox was made from, as it then was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BoundTemplate {
    /// Its name.
    pub name: String,
    /// Its generation.
    pub generation: i64,
    /// Whether it is another by now. What is new in it is for new sandboxes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outdated: bool,
    /// What it said: the spec of a CodeSandboxTemplate.
    #[schemars(schema_with = "opaque")]
    pub spec: CodeSandboxTemplateSpec,
}

fn opaque(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}
