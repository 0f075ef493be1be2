//! What the tools about sandboxes take.

use std::collections::BTreeMap;

use rmcp::schemars::JsonSchema;
use serde::Deserialize;

use super::default_wait;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SandboxCreate {
    /// Name (a-z, 0-9, -; at most 50). The same name gives the same sandbox.
    pub(crate) name: Option<String>,
    /// A template's name.
    pub(crate) template: Option<String>,
    /// Container image. Default: Python with pip, numpy, pandas, matplotlib; node, bash, git, curl.
    pub(crate) image: Option<String>,
    /// Environment variables.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Processors, such as "500m". Default 1.
    pub(crate) cpu: Option<String>,
    /// Memory, such as "512Mi". Default 1Gi.
    pub(crate) memory: Option<String>,
    /// GPUs.
    #[serde(default)]
    #[schemars(range(max = 16))]
    pub(crate) gpu: u8,
    /// What it may reach: "deny" (default) nothing, "internet" public addresses.
    #[serde(default)]
    #[schemars(with = "NetworkAccess")]
    pub(crate) network: Option<NetworkAccess>,
    /// How long it lives, such as "30m"; then it and its files are deleted. Default 1h.
    pub(crate) ttl: Option<String>,
    /// End it when unused for so long, such as "10m".
    pub(crate) idle_timeout: Option<String>,
    /// Instead: "pause" it until its next use.
    #[serde(default)]
    #[schemars(with = "OnIdle")]
    pub(crate) on_idle: Option<OnIdle>,
    /// A disk of this size for its files, such as "5Gi": they are kept while it is paused.
    pub(crate) workspace: Option<String>,
    /// Shell lines run first, with internet: "pip install x".
    #[serde(default)]
    pub(crate) setup: Vec<String>,
    /// Seconds to wait until ready.
    #[serde(default = "default_wait")]
    #[schemars(range(max = 45))]
    pub(crate) wait_seconds: u64,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum NetworkAccess {
    Deny,
    Internet,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum OnIdle {
    Delete,
    Pause,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SandboxList {}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SandboxId {
    /// From sandbox_create.
    #[schemars(extend("x-mcp-header" = "Sandbox"))]
    pub(crate) sandbox_id: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SandboxExtend {
    /// From sandbox_create.
    #[schemars(extend("x-mcp-header" = "Sandbox"))]
    pub(crate) sandbox_id: String,
    /// From now on, such as "30m".
    pub(crate) ttl: String,
}
