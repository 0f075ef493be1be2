//! What the tools about files take.

use rmcp::schemars::JsonSchema;
use serde::Deserialize;
use wire::v1::edit_request::Replacement;

use super::lenient_text;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileRead {
    /// From sandbox_create.
    #[schemars(extend("x-mcp-header" = "Sandbox"))]
    pub(crate) sandbox_id: String,
    /// Relative paths begin at /workspace.
    pub(crate) path: String,
    /// Where to begin, in bytes.
    #[serde(default)]
    pub(crate) offset: u64,
    /// Bytes at most.
    #[serde(default = "default_limit")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub(crate) limit: usize,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileWrite {
    /// From sandbox_create.
    #[schemars(extend("x-mcp-header" = "Sandbox"))]
    pub(crate) sandbox_id: String,
    /// Relative paths begin at /workspace. Its directories are made.
    pub(crate) path: String,
    /// The content as text. Give either this or content_base64.
    pub(crate) content: Option<String>,
    /// The content as base64, for binary files.
    pub(crate) content_base64: Option<String>,
    /// Add the content to the end of the file instead.
    #[serde(default)]
    pub(crate) append: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileEdit {
    /// From sandbox_create.
    #[schemars(extend("x-mcp-header" = "Sandbox"))]
    pub(crate) sandbox_id: String,
    /// Relative paths begin at /workspace.
    pub(crate) path: String,
    /// Made in this order.
    pub(crate) edits: Vec<Edit>,
    /// Edit only if the file has this sha256.
    #[serde(default)]
    pub(crate) if_sha256: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(crate) struct Edit {
    /// Text to replace, exactly as in the file.
    #[serde(deserialize_with = "lenient_text")]
    #[schemars(with = "String")]
    pub(crate) old: String,
    /// Text to put there.
    #[serde(deserialize_with = "lenient_text")]
    #[schemars(with = "String")]
    pub(crate) new: String,
    /// Replace all of them.
    #[serde(default)]
    pub(crate) all: bool,
}

impl From<Edit> for Replacement {
    fn from(Edit { old, new, all }: Edit) -> Self {
        Self { old: old.into(), new: new.into(), all }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileSearch {
    /// From sandbox_create.
    #[schemars(extend("x-mcp-header" = "Sandbox"))]
    pub(crate) sandbox_id: String,
    /// Regular expression, matched line by line.
    #[serde(deserialize_with = "lenient_text")]
    #[schemars(with = "String")]
    pub(crate) pattern: String,
    /// File or directory to search.
    #[serde(default = "default_directory")]
    pub(crate) path: String,
    /// Only what matches, such as "*.py" or "src/**".
    #[serde(default)]
    pub(crate) glob: String,
    /// Whether A matches a.
    #[serde(default)]
    pub(crate) ignore_case: bool,
    /// Lines around each match.
    #[serde(default)]
    #[schemars(range(max = 20))]
    pub(crate) context: u32,
    /// Matches at most.
    #[serde(default = "default_matches")]
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) max_matches: u32,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileList {
    /// From sandbox_create.
    #[schemars(extend("x-mcp-header" = "Sandbox"))]
    pub(crate) sandbox_id: String,
    /// Directory to list.
    #[serde(default = "default_directory")]
    pub(crate) path: String,
    /// Levels to descend.
    #[serde(default = "default_depth")]
    #[schemars(range(min = 1, max = 16))]
    pub(crate) depth: u32,
    /// Entries at most.
    #[serde(default = "default_entries")]
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) limit: u32,
    /// Only files that match.
    #[serde(default)]
    pub(crate) glob: String,
    /// Begin after this path: the last of a truncated answer.
    #[serde(default)]
    pub(crate) after: String,
}

fn default_limit() -> usize {
    65_536
}
fn default_directory() -> String {
    api::names::WORKSPACE.into()
}
fn default_depth() -> u32 {
    1
}
fn default_entries() -> u32 {
    200
}
fn default_matches() -> u32 {
    100
}
