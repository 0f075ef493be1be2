//! What the tools for interactive programs take.

use std::collections::BTreeMap;

use rmcp::schemars::{self, JsonSchema};
use serde::Deserialize;
use wire::v1::{Command, InputRequest, Interactive, RunSpec, Terminal, run_spec::What};

use super::{default_output, lenient_text, lenient_text_option};

/// How long a program is waited for where its caller says nothing, in seconds: it need not answer at all.
const DEFAULT_WAIT: u64 = 3;
/// How long such a run may take where its caller says nothing, in seconds: somebody thinks between two inputs.
const DEFAULT_TIMEOUT: u64 = 3600;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunStart {
    /// From sandbox_create.
    #[schemars(extend("x-mcp-header" = "Sandbox"))]
    pub(crate) sandbox_id: String,
    /// A line for /bin/sh. Give either this or argv.
    #[serde(default, deserialize_with = "lenient_text_option")]
    #[schemars(with = "Option<String>")]
    pub(crate) command: Option<String>,
    /// Program and arguments, without a shell.
    pub(crate) argv: Option<Vec<String>>,
    /// Directory to run in. Default /workspace.
    #[serde(default)]
    pub(crate) cwd: String,
    /// Environment variables of this run only.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Give it a terminal, as shells, debuggers and editors want. Its output then has what it draws, and the echo of its input.
    #[serde(default)]
    pub(crate) terminal: bool,
    /// Of the terminal. Default 24.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) rows: Option<u32>,
    /// Of the terminal. Default 80.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) columns: Option<u32>,
    /// Seconds after which the run is ended.
    #[serde(default = "default_timeout")]
    #[schemars(range(min = 1, max = 86400))]
    pub(crate) timeout_seconds: u64,
    /// Seconds to wait for output at most; the answer comes when it has come to rest.
    #[serde(default = "default_wait")]
    #[schemars(range(max = 45))]
    pub(crate) wait_seconds: u64,
    /// Characters of output at most.
    #[serde(default = "default_output")]
    #[schemars(range(min = 200, max = 100_000))]
    pub(crate) max_output_chars: usize,
    /// An id of your choice (letters, digits, _ . -). The same id never runs twice.
    pub(crate) run_id: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunInput {
    /// From sandbox_create.
    #[schemars(extend("x-mcp-header" = "Sandbox"))]
    pub(crate) sandbox_id: String,
    /// From run_start.
    pub(crate) run_id: String,
    /// What to write, with its line ends. At a terminal "\u0003" is Ctrl-C, "\u001b[A" the arrow up.
    #[serde(default, deserialize_with = "lenient_text")]
    #[schemars(with = "String")]
    pub(crate) input: String,
    /// End of input behind it.
    #[serde(default)]
    pub(crate) close: bool,
    /// How many bytes of input came before: what is sent again after a lost answer is then not written twice.
    pub(crate) input_offset: Option<u64>,
    /// New size of the terminal.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) rows: Option<u32>,
    /// New size of the terminal.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) columns: Option<u32>,
    /// Seconds to wait for output at most; the answer comes when it has come to rest.
    #[serde(default = "default_wait")]
    #[schemars(range(max = 45))]
    pub(crate) wait_seconds: u64,
    /// Characters of output at most.
    #[serde(default = "default_output")]
    #[schemars(range(min = 200, max = 100_000))]
    pub(crate) max_output_chars: usize,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunSignal {
    /// From sandbox_create.
    #[schemars(extend("x-mcp-header" = "Sandbox"))]
    pub(crate) sandbox_id: String,
    /// From run_start, run_command or run_list.
    pub(crate) run_id: String,
    pub(crate) signal: Signal,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
pub(crate) enum Signal {
    Hup = 1,
    Int = 2,
    Quit = 3,
    Kill = 9,
    Usr1 = 10,
    Usr2 = 12,
    Term = 15,
    Cont = 18,
    Stop = 19,
}

impl RunStart {
    pub(crate) fn spec(self) -> RunSpec {
        let size = size(self.rows, self.columns);
        let command = Command {
            argv: self.argv.unwrap_or_default(),
            shell: self.command.unwrap_or_default(),
            cwd: self.cwd,
            env: self.env,
            ..Command::default()
        };
        let what = Interactive { command: Some(command), terminal: self.terminal.then_some(size) };
        let timeout_ms = self.timeout_seconds.saturating_mul(1000);
        RunSpec { what: Some(What::Interactive(what)), timeout_ms, ..RunSpec::default() }
    }
}

impl RunInput {
    pub(crate) fn request(&self) -> InputRequest {
        let size = size(self.rows, self.columns);
        InputRequest {
            run_id: self.run_id.clone(),
            data: self.input.clone().into(),
            offset: self.input_offset,
            close: self.close,
            terminal: (size != Terminal::default()).then_some(size),
        }
    }
}

/// A terminal's size, in which a 0 is what nobody says.
fn size(rows: Option<u32>, columns: Option<u32>) -> Terminal {
    Terminal { rows: rows.unwrap_or(0), columns: columns.unwrap_or(0) }
}

fn default_wait() -> u64 {
    DEFAULT_WAIT
}

fn default_timeout() -> u64 {
    DEFAULT_TIMEOUT
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_terminal_is_given_to_who_asks_for_one() {
        let terminal = |more: serde_json::Value| {
            let mut all = json!({"sandbox_id": "a", "argv": ["bash"]});
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let spec = serde_json::from_value::<RunStart>(all).unwrap().spec();
            let Some(What::Interactive(what)) = spec.what else { panic!("an interactive run") };
            (what.terminal, spec.timeout_ms)
        };
        assert_eq!(terminal(json!({"rows": 50})), (None, 3_600_000));
        let size = Terminal { rows: 50, columns: 0 };
        let given = json!({"terminal": true, "rows": 50, "timeout_seconds": 5});
        assert_eq!(terminal(given), (Some(size), 5000));
    }

    #[test]
    fn a_size_is_sent_when_one_is_given() {
        let request = |more: serde_json::Value| {
            let mut all = json!({"sandbox_id": "a", "run_id": "r"});
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::from_value::<RunInput>(all).unwrap().request()
        };
        let plain = InputRequest { run_id: "r".into(), ..InputRequest::default() };
        assert_eq!(request(json!({})), plain);
        let terminal = Some(Terminal { rows: 0, columns: 100 });
        let whole =
            InputRequest { data: "1".into(), offset: Some(7), close: true, terminal, ..plain };
        assert_eq!(
            request(json!({"input": 1, "input_offset": 7, "close": true, "columns": 100})),
            whole
        );
    }
}
