//! What the tools take. The doc comments are what models read.

use std::{collections::BTreeMap, time::Duration};

use rmcp::schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use wire::v1::{OutputRequest, Stream, edit_request::Replacement};

/// The longest a call waits before it answers that the run goes on, in seconds: clients give up at 60.
pub(crate) const MAX_WAIT: u64 = 45;
/// How long a call waits where its caller says nothing, in seconds.
const DEFAULT_WAIT: u64 = 30;
/// How much of each output stream an answer holds where its caller says nothing, in characters.
const DEFAULT_OUTPUT: usize = 16_000;
const MAX_OUTPUT: usize = 100_000;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SandboxCreate {
    /// Name of the sandbox (a-z, 0-9, -; at most 50). Asking twice for the same name gives the same sandbox. Omit for a new one.
    pub(crate) name: Option<String>,
    /// Container image. Omit for the default: Python with numpy, pandas, matplotlib, plus node, bash, git, curl.
    pub(crate) image: Option<String>,
    /// Environment variables.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Processors, such as "500m" or "2". Default 1.
    pub(crate) cpu: Option<String>,
    /// Memory, such as "512Mi" or "4Gi". Default 1Gi.
    pub(crate) memory: Option<String>,
    /// Number of GPUs. Default 0.
    #[serde(default)]
    #[schemars(range(max = 16))]
    pub(crate) gpu: u8,
    /// What it may reach: "deny" (default) nothing at all, "internet" public addresses.
    #[serde(default)]
    pub(crate) network: NetworkAccess,
    /// How long it lives, such as "30m" or "2h"; then it and its files are deleted. Default 1h, at most 168h.
    pub(crate) ttl: Option<String>,
    /// How many seconds to wait until it is ready.
    #[serde(default = "default_wait")]
    #[schemars(range(max = 45))]
    pub(crate) wait_seconds: u64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum NetworkAccess {
    #[default]
    Deny,
    Internet,
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

/// The arguments of a tool that runs something: its own, and how the run is waited for and told.
/// (`#[serde(flatten)]` would let unknown arguments pass in silence.)
macro_rules! run_arguments {
    ($name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* }) => {
        #[derive(Debug, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name {
            /// From sandbox_create.
            #[schemars(extend("x-mcp-header" = "Sandbox"))]
            pub(crate) sandbox_id: String,
            $($(#[$attribute])* pub(crate) $field: $type,)*
            /// Seconds after which the run is ended. Default 300.
            #[schemars(range(min = 1, max = 86400))]
            timeout_seconds: Option<u64>,
            /// Seconds to wait before answering that the run still goes on.
            #[serde(default = "default_wait")]
            #[schemars(range(max = 45))]
            wait_seconds: u64,
            /// Characters of output to return for each stream; the middle of more is omitted, and that is said.
            #[serde(default = "default_output")]
            #[schemars(range(min = 200, max = 100_000))]
            max_output_chars: usize,
            /// An id of your choice (letters, digits, _ . -). The same id never runs twice: call again with it to wait on, or after a lost answer. Such a run goes on when the call is cancelled.
            run_id: Option<String>,
        }

        impl $name {
            /// How the run is waited for and told, within the bounds the schema names.
            pub(crate) fn options(&self) -> RunOptions {
                RunOptions {
                    timeout: Duration::from_secs(self.timeout_seconds.unwrap_or(0)),
                    wait: Duration::from_secs(self.wait_seconds.min(MAX_WAIT)),
                    max_output: self.max_output_chars.clamp(200, MAX_OUTPUT),
                    run_id: self.run_id.clone(),
                }
            }
        }
    };
}

/// How a run is waited for and told.
pub(crate) struct RunOptions {
    /// Zero: the agent's default.
    pub(crate) timeout: Duration,
    pub(crate) wait: Duration,
    /// In bytes a stream, which for most output are characters.
    pub(crate) max_output: usize,
    pub(crate) run_id: Option<String>,
}

run_arguments!(RunCode {
    /// Source code. Variables, imports and functions stay for later calls; top-level await works.
    #[serde(deserialize_with = "lenient_text")]
    #[schemars(with = "String")]
    code: String,
    /// "python" (default), or "bash" for a shell that keeps its directory, variables and functions.
    #[serde(default)]
    language: Language,
    /// The interpreter whose state is shared. Different ids share nothing. Default: one for each language.
    #[serde(default)]
    context_id: String,
});

run_arguments!(RunCommand {
    /// A line for /bin/sh. Give either this or argv.
    #[serde(default, deserialize_with = "lenient_text_option")]
    #[schemars(with = "Option<String>")]
    command: Option<String>,
    /// Program and arguments, taken as they are, without a shell.
    argv: Option<Vec<String>>,
    /// Directory to run in. Default /workspace.
    #[serde(default)]
    cwd: String,
    /// Environment variables of this run only.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Standard input. Without it the program reads end of file at once.
    #[serde(default)]
    stdin: String,
});

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Language {
    #[default]
    Python,
    Bash,
}

impl Language {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Bash => "bash",
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunOutput {
    /// From sandbox_create.
    #[schemars(extend("x-mcp-header" = "Sandbox"))]
    pub(crate) sandbox_id: String,
    /// From run_code, run_command or run_list.
    pub(crate) run_id: String,
    /// "both" (default) in the order of writing, "stdout" or "stderr".
    #[serde(default)]
    pub(crate) stream: OutputStream,
    /// Where to begin, in bytes. Omit for the end of the output, or with a pattern, for all of it.
    pub(crate) offset: Option<u64>,
    /// Return only lines that match this regular expression.
    #[serde(default)]
    pub(crate) pattern: String,
    /// Seconds to wait for the run's end, or from an offset, for more output.
    #[serde(default)]
    #[schemars(range(max = 45))]
    pub(crate) wait_seconds: u64,
    /// Characters at most.
    #[serde(default = "default_output")]
    #[schemars(range(min = 200, max = 100_000))]
    pub(crate) max_output_chars: usize,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum OutputStream {
    #[default]
    Both,
    Stdout,
    Stderr,
}

impl RunOutput {
    /// What the agent is asked for, within the bounds the schema names.
    pub(crate) fn request(&self) -> OutputRequest {
        let stream = match self.stream {
            OutputStream::Both => Stream::Unspecified,
            OutputStream::Stdout => Stream::Stdout,
            OutputStream::Stderr => Stream::Stderr,
        };
        OutputRequest {
            run_id: self.run_id.clone(),
            stream: stream.into(),
            offset: self.offset.unwrap_or(0),
            length: self.max_output_chars.clamp(200, MAX_OUTPUT) as u64,
            from_end: self.offset.is_none() && self.pattern.is_empty(),
            pattern: self.pattern.clone(),
            wait_ms: self.wait_seconds.min(MAX_WAIT) * 1000,
            until_end: self.offset.is_none(),
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunList {
    /// From sandbox_create.
    #[schemars(extend("x-mcp-header" = "Sandbox"))]
    pub(crate) sandbox_id: String,
    /// How many at most.
    #[serde(default = "default_runs")]
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) limit: u32,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunId {
    /// From sandbox_create.
    #[schemars(extend("x-mcp-header" = "Sandbox"))]
    pub(crate) sandbox_id: String,
    /// From run_code, run_command or run_list.
    pub(crate) run_id: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileRead {
    /// From sandbox_create.
    #[schemars(extend("x-mcp-header" = "Sandbox"))]
    pub(crate) sandbox_id: String,
    /// Path of the file; relative ones begin at /workspace.
    pub(crate) path: String,
    /// Where to begin, in bytes.
    #[serde(default)]
    pub(crate) offset: u64,
    /// How many bytes to read at most. Default 65536.
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
    /// Path of the file; relative ones begin at /workspace. Its directories are made.
    pub(crate) path: String,
    /// The whole new content as text. Give either this or content_base64.
    pub(crate) content: Option<String>,
    /// The whole new content as base64, for binary files.
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
    /// Path of the file; relative ones begin at /workspace.
    pub(crate) path: String,
    /// Made in this order, each in what the one before it left.
    pub(crate) edits: Vec<Edit>,
    /// Edit only if the file has this sha256.
    #[serde(default)]
    pub(crate) if_sha256: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(crate) struct Edit {
    /// Text to replace, exactly as in the file; it has to occur once.
    #[serde(deserialize_with = "lenient_text")]
    #[schemars(with = "String")]
    pub(crate) old: String,
    /// Text to put there.
    #[serde(deserialize_with = "lenient_text")]
    #[schemars(with = "String")]
    pub(crate) new: String,
    /// Replace every occurrence.
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
    /// File or directory to search. Default /workspace.
    #[serde(default = "default_directory")]
    pub(crate) path: String,
    /// Only files that match, such as "*.py" or "src/**".
    #[serde(default)]
    pub(crate) glob: String,
    /// Whether A matches a.
    #[serde(default)]
    pub(crate) ignore_case: bool,
    /// Lines to show around each match.
    #[serde(default)]
    #[schemars(range(max = 20))]
    pub(crate) context: u32,
    /// How many matches to return at most.
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
    /// Directory to list. Default /workspace.
    #[serde(default = "default_directory")]
    pub(crate) path: String,
    /// How many levels to descend.
    #[serde(default = "default_depth")]
    #[schemars(range(min = 1, max = 16))]
    pub(crate) depth: u32,
    /// How many entries to return at most.
    #[serde(default = "default_entries")]
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) limit: u32,
    /// Only what matches, such as "*.py" or "src/**".
    #[serde(default)]
    pub(crate) glob: String,
    /// Begin after this path: the last of a truncated answer.
    #[serde(default)]
    pub(crate) after: String,
}

fn default_wait() -> u64 {
    DEFAULT_WAIT
}
fn default_output() -> usize {
    DEFAULT_OUTPUT
}
fn default_runs() -> u32 {
    20
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

/// Text, or a number or truth value as its text: some clients turn `"1"` into `1` on the way.
fn lenient_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Scalar {
        Text(String),
        Number(serde_json::Number),
        Bool(bool),
    }
    match Scalar::deserialize(deserializer) {
        Ok(Scalar::Text(text)) => Ok(text),
        Ok(Scalar::Number(number)) => Ok(number.to_string()),
        Ok(Scalar::Bool(truth)) => Ok(truth.to_string()),
        Err(_) => Err(serde::de::Error::custom("expected a string")),
    }
}

fn lenient_text_option<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    struct Lenient(#[serde(deserialize_with = "lenient_text")] String);
    let text = Option::<Lenient>::deserialize(deserializer)?;
    Ok(text.map(|Lenient(text)| text))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_command_may_be_a_number_or_null() {
        let command = |command: Value| {
            let args = json!({"sandbox_id": "a", "command": command});
            serde_json::from_value::<RunCommand>(args).map(|args| args.command)
        };
        assert_eq!(command(json!("ls")).unwrap(), Some("ls".into()));
        assert_eq!(command(json!(1)).unwrap(), Some("1".into()));
        assert_eq!(command(Value::Null).unwrap(), None);
        assert!(command(json!(["ls"])).unwrap_err().to_string().contains("expected a string"));
    }
}
