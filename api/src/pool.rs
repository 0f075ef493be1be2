//! CodeSandboxPool: pods that run before anybody asks for them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{LocalObjectReference, names, status::conditions};

/// Pods of a template that run before anybody asks for them, so that a sandbox which names the pool starts at once.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "codesandbox.dev",
    version = "v1alpha1",
    kind = "CodeSandboxPool",
    plural = "codesandboxpools",
    shortname = "csbp",
    namespaced,
    status = "CodeSandboxPoolStatus",
    derive = "PartialEq",
    doc = "Pods of a template that run before anybody asks for them, so that a sandbox which names the pool starts at once.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(json_path = ".spec.templateRef.name", name = "Template", type_ = "string"),
    printcolumn(json_path = ".spec.replicas", name = "Desired", type_ = "integer"),
    printcolumn(json_path = ".status.readyReplicas", name = "Warm", type_ = "integer"),
    printcolumn(
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        name = "Ready",
        type_ = "string"
    ),
    printcolumn(
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        name = "Reason",
        type_ = "string"
    ),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date"),
    validation = Rule::new("size(self.metadata.name) <= 50 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must be a DNS label (a-z, 0-9, -) of at most 50 characters, because pods are named after it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.className == oldSelf.className && self.templateRef == oldSelf.templateRef")
        .message("only spec.replicas can be changed; to change anything else, delete the CodeSandboxPool and create a new one")
)]
pub struct CodeSandboxPoolSpec {
    /// The installation whose operator keeps this pool.
    #[serde(default = "default::class")]
    #[schemars(length(min = 1, max = 63))]
    pub class_name: String,

    /// The CodeSandboxTemplate of this namespace from whose defaults the pods are made.
    pub template_ref: LocalObjectReference,

    /// How many pods wait for a sandbox. Those that have become a sandbox's own do not count. It can be changed.
    #[serde(default = "default::replicas")]
    #[schemars(range(min = 0, max = 100), extend("format" = "int32"))]
    pub replicas: u32,
}

/// What the operator saw of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CodeSandboxPoolStatus {
    /// Ready: whether as many pods as are asked for wait for a sandbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,

    /// How many pods there are that are no sandbox's.
    #[serde(default)]
    #[schemars(extend("format" = "int32"))]
    pub replicas: u32,

    /// How many of them are ready to become one's.
    #[serde(default)]
    #[schemars(extend("format" = "int32"))]
    pub ready_replicas: u32,

    /// What selects them, as the scale subresource has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,

    /// The generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

mod default {
    use super::names;

    pub(super) fn class() -> String {
        names::DEFAULT_CLASS.into()
    }

    pub(super) fn replicas() -> u32 {
        1
    }
}
