//! What the tools about runs take.

use std::{collections::BTreeMap, time::Duration};

use rmcp::schemars::JsonSchema;
use serde::Deserialize;
use wire::v1::{OutputRequest, Stream};

use super::{MAX_WAIT, default_wait, lenient_text, lenient_text_option};

/// How much of each output stream an answer holds where its caller says nothing, in characters.
const DEFAULT_OUTPUT: usize = 16_000;
const MAX_OUTPUT: usize = 100_000;

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
            /// Seconds to wait before answering that it still runs.
            #[serde(default = "default_wait")]
            #[schemars(range(max = 45))]
            wait_seconds: u64,
            /// Characters of each stream; the middle of more is omitted.
            #[serde(default = "default_output")]
            #[schemars(range(min = 200, max = 100_000))]
            max_output_chars: usize,
            /// Tell which files, packages and ports it changes.
            #[serde(default)]
            changes: bool,
            /// Your id for the run, which never runs twice: call again with it to wait on, or after a lost answer. It goes on when the call is cancelled.
            run_id: Option<String>,
        }

        impl $name {
            /// How the run is waited for and told, within the bounds the schema names.
            pub(crate) fn options(&self) -> RunOptions {
                RunOptions {
                    timeout: Duration::from_secs(self.timeout_seconds.unwrap_or(0)),
                    wait: Duration::from_secs(self.wait_seconds.min(MAX_WAIT)),
                    max_output: self.max_output_chars.clamp(200, MAX_OUTPUT),
                    changes: self.changes,
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
    /// Whether to tell what the run changes.
    pub(crate) changes: bool,
    pub(crate) run_id: Option<String>,
}

run_arguments!(RunCode {
    /// Source code. Variables, imports and functions stay for later calls; top-level await works.
    #[serde(deserialize_with = "lenient_text")]
    #[schemars(with = "String")]
    code: String,
    /// python (default), javascript, typescript, bash, r and jshell keep state; others are whole programs.
    #[serde(default)]
    language: Language,
    /// The interpreter whose state is shared. Default: one for each language.
    #[serde(default)]
    context_id: String,
});

run_arguments!(RunCommand {
    /// A line for /bin/sh. Give either this or argv.
    #[serde(default, deserialize_with = "lenient_text_option")]
    #[schemars(with = "Option<String>")]
    command: Option<String>,
    /// Program and arguments, without a shell.
    argv: Option<Vec<String>>,
    /// Directory to run in. Default /workspace.
    #[serde(default)]
    cwd: String,
    /// Environment variables of this run.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Standard input. Without it the program reads end of file.
    #[serde(default)]
    stdin: String,
});

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Language {
    #[default]
    Python,
    JavaScript,
    TypeScript,
    Bash,
    C,
    Cpp,
    Go,
    Rust,
    Java,
    Ruby,
    Php,
    Perl,
    Lua,
    R,
    JShell,
    Julia,
}

impl Language {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::JavaScript => "javascript",
            Self::TypeScript => "typescript",
            Self::Bash => "bash",
            Self::C => "c",
            Self::Cpp => "cpp",
            Self::Go => "go",
            Self::Rust => "rust",
            Self::Java => "java",
            Self::Ruby => "ruby",
            Self::Php => "php",
            Self::Perl => "perl",
            Self::Lua => "lua",
            Self::R => "r",
            Self::JShell => "jshell",
            Self::Julia => "julia",
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunOutput {
    /// From sandbox_create.
    #[schemars(extend("x-mcp-header" = "Sandbox"))]
    pub(crate) sandbox_id: String,
    /// From run_code or run_command.
    pub(crate) run_id: String,
    /// "both" (default) in the order of writing, "stdout" or "stderr".
    #[serde(default)]
    pub(crate) stream: OutputStream,
    /// Where to begin, in bytes. Omit for the end of the output, or with a pattern, for all of it.
    pub(crate) offset: Option<u64>,
    /// Only lines that match this regular expression.
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
    /// What a run has written behind an offset.
    pub(crate) fn behind(
        sandbox_id: String,
        run_id: String,
        offset: u64,
        wait_seconds: u64,
        max_output_chars: usize,
    ) -> Self {
        Self {
            sandbox_id,
            run_id,
            stream: OutputStream::Both,
            offset: Some(offset),
            pattern: String::new(),
            wait_seconds,
            max_output_chars,
        }
    }

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
            quiet_ms: 0,
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
    /// From run_code or run_command.
    pub(crate) run_id: String,
}

pub(super) fn default_output() -> usize {
    DEFAULT_OUTPUT
}
fn default_runs() -> u32 {
    20
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
