//! What is done in a sandbox before it takes calls.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, Egress, LocalObjectReference};

/// What is done before a sandbox takes calls, in an init container of the same image and files: git, then files, then commands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("!has(self.files) || self.files.map(f, has(f.content) ? size(f.content) : 0).sum() <= 64000")
    .message("the contents of all files must be 64000 characters at most; use a ConfigMap for more"))]
// The agent is told all of them in one variable, as JSON, in which a character takes six bytes at most.
#[x_kube(validation = Rule::new("!has(self.commands) || self.commands.map(c, size(c)).sum() <= 20000")
    .message("commands must be 20000 characters at most; use a file for more"))]
pub struct Setup {
    /// A repository to clone, with the git of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<Git>,
    /// Files to write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["path"]))]
    pub files: Vec<SetupFile>,
    /// Lines for /bin/sh in workingDir. The first that fails is the end of the sandbox (SetupFailed).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 4096)))]
    pub commands: Vec<String>,
    /// Whether to install then what requirements.txt and package.json name, or else what files import. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto: Option<bool>,
    /// What this may reach, if more than the sandbox. It is closed again before the sandbox takes calls. Default: network.egress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Egress>,
    /// How long it may take. Default: 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')")
        .message("must be between 1s and 24h"))]
    pub timeout: Option<Duration>,
}

/// A repository that is cloned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Git {
    /// Its URL, over HTTPS or HTTP and without credentials.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^/@\\\\s]+(/[^\\\\s]*)?$')")
        .message("must be a URL that begins with https:// or http:// and has no user in it; credentials are a Secret's (secretRef)"))]
    pub url: String,
    /// A branch, a tag or the 40 digits of a commit. Default: the repository's branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = "^[^-\\s][^\\s]*$"))]
    pub revision: Option<String>,
    /// How many commits of its history; 0 are all. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000), extend("format" = "int32"))]
    pub depth: Option<u32>,
    /// Where to put it, an empty directory or a new one, absolute or in workingDir. Default: workingDir.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub directory: Option<String>,
    /// A Secret with the keys username and password (kubernetes.io/basic-auth), which git alone is told. Its name has to begin with
    /// `sandbox-` or be in the template's `allow.secrets`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalObjectReference>,
}

/// A file that is written: what it says, or what a ConfigMap says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.content) != has(self.configMapKeyRef)").message("needs either content or configMapKeyRef, not both"),
)]
pub struct SetupFile {
    /// Where, absolute or in workingDir. Directories are made.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// What is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // The agent has it in an environment variable, of which the kernel takes 128 KiB: so much text of four bytes a character.
    #[schemars(length(max = 32000), regex(pattern = "^[^\\x00]*$"))]
    pub content: Option<String>,
    /// A key of a ConfigMap of this namespace, which is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<ConfigMapKeyRef>,
}

/// A key of a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigMapKeyRef {
    /// The ConfigMap's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}
