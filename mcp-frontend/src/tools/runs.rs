//! The tools that run something, and those that come back to it: what there is, what it has written, its end.

use rmcp::{handler::server::wrapper::Parameters, tool, tool_router};
use wire::v1::{Code, Command, RunSpec, run_spec::What};

use super::{Context, ToolResult, waits};
use crate::{
    args::{RunCode, RunCommand, RunId, RunList, RunOutput},
    outputs, page, run,
    server::Server,
};

#[tool_router(router = run_tool_router, vis = "pub(crate)")]
impl Server {
    /// Run Python, R, JavaScript, TypeScript or bash in a sandbox, with state kept between calls, or a whole program in another language. Returns the value of the last expression, what display() shows, stdout, stderr, exceptions, and figures as pictures.
    #[tool(annotations(
        title = "Run code",
        read_only_hint = false,
        destructive_hint = true,
        open_world_hint = true
    ))]
    async fn run_code(
        &self,
        Parameters(args): Parameters<RunCode>,
        context: Context,
    ) -> ToolResult {
        let options = args.options();
        let code = Code {
            language: args.language.as_str().into(),
            context: args.context_id,
            source: args.code.into(),
        };
        let spec = RunSpec { what: Some(What::Code(code)), ..RunSpec::default() };
        let principal = self.principal(&context)?;
        self.told(run::run(self, &principal, args.sandbox_id, spec, options, &context).await)
    }

    /// Run a program or a shell line in a sandbox. Returns exit code, stdout and stderr. Programs put in the background with & live on.
    #[tool(annotations(
        title = "Run command",
        read_only_hint = false,
        destructive_hint = true,
        open_world_hint = true
    ))]
    async fn run_command(
        &self,
        Parameters(args): Parameters<RunCommand>,
        context: Context,
    ) -> ToolResult {
        let options = args.options();
        let command = Command {
            argv: args.argv.unwrap_or_default(),
            shell: args.command.unwrap_or_default(),
            cwd: args.cwd,
            env: args.env.into_iter().collect(),
            stdin: args.stdin.into(),
        };
        let spec = RunSpec { what: Some(What::Command(command)), ..RunSpec::default() };
        let principal = self.principal(&context)?;
        self.told(run::run(self, &principal, args.sandbox_id, spec, options, &context).await)
    }

    /// Read what a run has written, while it goes on or after: the end of it, from an offset, or the lines that match a pattern. Says how it ended, and can wait for that.
    #[tool(annotations(title = "Read output", read_only_hint = true, open_world_hint = false))]
    async fn run_output(
        &self,
        Parameters(args): Parameters<RunOutput>,
        context: Context,
    ) -> ToolResult {
        let principal = self.principal(&context)?;
        let request = args.request();
        let output = self.service.output(&principal, &args.sandbox_id, &request);
        let output = self.unless_closing(output, || waits(&args.sandbox_id)).await;
        self.told(output.map(|reply| page::told(&args, &reply)))
    }

    /// List the runs of a sandbox, the newest first, with how they ended.
    #[tool(
        output_schema = rmcp::handler::server::tool::schema_for_type::<outputs::Runs>(),
        annotations(title = "List runs", read_only_hint = true, open_world_hint = false)
    )]
    async fn run_list(
        &self,
        Parameters(args): Parameters<RunList>,
        context: Context,
    ) -> ToolResult {
        let principal = self.principal(&context)?;
        let runs = self.service.runs(&principal, &args.sandbox_id, args.limit.clamp(1, 1000));
        let runs = self.unless_closing(runs, || waits(&args.sandbox_id)).await;
        self.answer(runs.map(|(runs, truncated)| outputs::Runs {
            runs: runs.into_iter().map(outputs::Run::from).collect(),
            truncated,
        }))
    }

    /// End a run: code is interrupted and its interpreter keeps its state; a command and all it has started are terminated, then killed.
    #[tool(
        output_schema = rmcp::handler::server::tool::schema_for_type::<outputs::Cancelled>(),
        annotations(title = "Cancel run", read_only_hint = false, destructive_hint = true, idempotent_hint = true, open_world_hint = false)
    )]
    async fn run_cancel(
        &self,
        Parameters(args): Parameters<RunId>,
        context: Context,
    ) -> ToolResult {
        let principal = self.principal(&context)?;
        let cancelled = self.service.cancel(&principal, &args.sandbox_id, &args.run_id);
        let cancelled = self.unless_closing(cancelled, || waits(&args.sandbox_id)).await;
        self.answer(
            cancelled.map(|was_running| outputs::Cancelled { run_id: args.run_id, was_running }),
        )
    }
}
