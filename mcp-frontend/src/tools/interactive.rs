//! The tools for programs that ask and are answered: a set that is added where agents debug, install or log in.

use rmcp::{
    handler::server::wrapper::Parameters,
    schemars::{self, JsonSchema},
    tool, tool_router,
};
use serde::Serialize;
use service::{Code, Error, Principal};
use wire::v1::{InputReply, OutputReply, OutputRequest};

use super::{Context, ToolResult};
use crate::{
    args::{RunInput, RunOutput, RunSignal, RunStart},
    page, run,
    server::Server,
};

/// How long nothing has to come before an answer is taken to be whole, in milliseconds: programs write in bursts.
const QUIET_MS: u64 = 300;

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Signaled {
    run_id: String,
    /// Whether it was going on.
    was_running: bool,
}

impl Server {
    /// What a run has written behind a place, waited for until it has come to rest.
    async fn burst(&self, principal: &Principal, at: &RunOutput) -> Result<OutputReply, Error> {
        let request = OutputRequest { quiet_ms: QUIET_MS, ..at.request() };
        self.service.output(principal, &at.sandbox_id, &request).await
    }
}

#[tool_router(router = interactive_tool_router, vis = "pub(crate)")]
impl Server {
    /// Start a program whose input stays open, such as a debugger, a REPL, an installer that asks, or a server. Returns what it has written when it has come to rest; go on with run_input, and read more with run_output.
    #[tool(annotations(
        title = "Start program",
        read_only_hint = false,
        destructive_hint = true,
        idempotent_hint = false,
        open_world_hint = true
    ))]
    async fn run_start(
        &self,
        Parameters(args): Parameters<RunStart>,
        context: Context,
    ) -> ToolResult {
        let principal = self.principal(&context)?;
        let id = args.run_id.clone().unwrap_or_else(run::new_id);
        let (own_id, sandbox) = (args.run_id.is_some(), args.sandbox_id.clone());
        let RunStart { wait_seconds: wait, max_output_chars: most, .. } = args;
        let at = RunOutput::behind(sandbox.clone(), id.clone(), 0, wait, most);
        let spec = args.spec();
        let started = async {
            let run = self.service.interactive(&principal, &sandbox, id.clone(), spec);
            // Its first event: until then it has not begun, or cannot.
            run.await?.next().await?;
            self.burst(&principal, &at).await
        };
        let next = "Call run_start again with that run_id: the same id never runs twice.";
        let started = tokio::select! {
            started = self.unless_closing(started, || unknown(&id, next)) => started,
            () = context.ct.cancelled(), if !own_id => {
                // Nobody could come back for it.
                let cancelled = self.service.cancel(&principal, &sandbox, &id).await;
                cancelled.and_then(|_| Err(unknown(&id, "It was ended with the call.")))
            }
        };
        self.told(started.map(|reply| page::answer(&at, &reply, "call run_output", None)))
    }

    /// Write to the input of a program that was started with run_start. Returns what it has written since.
    #[tool(annotations(
        title = "Write input",
        read_only_hint = false,
        destructive_hint = true,
        idempotent_hint = false,
        open_world_hint = true
    ))]
    async fn run_input(
        &self,
        Parameters(args): Parameters<RunInput>,
        context: Context,
    ) -> ToolResult {
        let principal = self.principal(&context)?;
        let (sandbox, request) = (args.sandbox_id.clone(), args.request());
        let written = async {
            let reply = self.service.input(&principal, &sandbox, request).await?;
            let (run, most) = (args.run_id.clone(), args.max_output_chars);
            let wait = args.wait_seconds;
            let at = RunOutput::behind(sandbox.clone(), run, reply.output, wait, most);
            let output = self.burst(&principal, &at).await;
            let output = output.map_err(|error| unread(&args.run_id, &reply, &error))?;
            let note = input_note(&reply, args.close);
            Ok(page::answer(&at, &output, "call run_output", Some(note)))
        };
        let next =
            "Look with run_output before sending it again, or send it with its input_offset.";
        let written = self.unless_closing(written, || unknown(&args.run_id, next)).await;
        self.told(written)
    }

    /// Send a signal to a program and all that runs in its process group. run_cancel ends all that a run has started.
    #[tool(
        output_schema = rmcp::handler::server::tool::schema_for_type::<Signaled>(),
        annotations(title = "Send signal", read_only_hint = false, destructive_hint = true, open_world_hint = false)
    )]
    async fn run_signal(
        &self,
        Parameters(args): Parameters<RunSignal>,
        context: Context,
    ) -> ToolResult {
        let principal = self.principal(&context)?;
        let RunSignal { sandbox_id: sandbox, run_id, signal } = args;
        let sent = self.service.signal(&principal, &sandbox, &run_id, signal as i32);
        let next = "Look with run_output before sending it again.";
        let sent = self.unless_closing(sent, || unknown(&run_id, next)).await;
        self.answer(sent.map(|was_running| Signaled { run_id, was_running }))
    }
}

/// What became of input: where the next begins, or where this one stopped.
fn input_note(reply: &InputReply, close: bool) -> String {
    let InputReply { taken, left, closed, .. } = reply;
    let end = if close && !closed { " and the end" } else { "" };
    match left {
        0 if end.is_empty() => format!("input: {taken} bytes so far"),
        _ => format!(
            "input: {taken} bytes so far; the last {left}{end} were not taken, for the program does not read: send them again with input_offset={taken} when it does"
        ),
    }
}

/// Of input that was taken, and whose answer could not be read: sent again it would be written twice.
fn unread(run: &str, reply: &InputReply, error: &Error) -> Error {
    let note = input_note(reply, false);
    Error {
        code: error.code,
        message: format!(
            "run {run} has taken its input ({note}), and what it wrote since could not be read ({}). Do not send what was taken again; read with run_output from offset={}.",
            error.message, reply.output
        ),
    }
}

/// Of a verb that may have done what it does although its answer does not come.
fn unknown(run: &str, next: &str) -> Error {
    Error {
        code: Code::OutcomeUnknown,
        message: format!(
            "the call about run {run} broke off, and what became of it is not known. {next}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_that_was_not_taken_is_told_with_what_to_do() {
        let all = InputReply { taken: 12, closed: true, ..InputReply::default() };
        assert_eq!(input_note(&all, true), "input: 12 bytes so far");
        let open = InputReply { closed: false, ..all };
        assert_eq!(input_note(&open, false), "input: 12 bytes so far");
        for (reply, close, words) in [
            (InputReply { left: 3, ..open }, false, "; the last 3 were not taken"),
            (InputReply { left: 3, ..open }, true, "; the last 3 and the end were not taken"),
            (open, true, "; the last 0 and the end were not taken"),
        ] {
            let note = input_note(&reply, close);
            assert!(note.contains(words) && note.contains("input_offset=12"), "{note}");
        }
    }

    /// The service's own words would be to try again.
    #[test]
    fn input_that_was_taken_is_not_asked_for_again_when_its_answer_is_lost() {
        let lost = Error { code: Code::Unavailable, message: "lost the stream. Try again.".into() };
        let reply = InputReply { taken: 12, output: 7, ..InputReply::default() };
        assert_eq!(
            unread("r", &reply, &lost).to_string(),
            "UNAVAILABLE: run r has taken its input (input: 12 bytes so far), and what it wrote since could not be read (lost the stream. Try again.). Do not send what was taken again; read with run_output from offset=7."
        );
    }
}
