//! The tools. Each turns its arguments into a verb of `service` and the answer back; no more.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use rmcp::{
    ErrorData, RoleServer,
    handler::server::wrapper::Parameters,
    model::{CallToolResult, ContentBlock},
    service::RequestContext,
    tool, tool_router,
};
use serde::Serialize;
use service::{Code, Create, Error};
use tokio::time::Instant;
use wire::v1::{
    Command, ListRequest, RunSpec, SearchRequest, edit_request::Replacement, run_spec::What,
};

use crate::{
    args::{
        FileEdit, FileList, FileRead, FileSearch, FileWrite, MAX_WAIT, NetworkAccess, RunCode,
        RunCommand, SandboxCreate, SandboxId, SandboxList,
    },
    contents, found, hex, outputs, run,
    server::Server,
};

/// How much of what a search finds is told, in bytes: about as much as of a file.
const SEARCH_BYTES: u32 = 64 << 10;

pub(crate) type Context = RequestContext<RoleServer>;
pub(crate) type ToolResult = Result<CallToolResult, ErrorData>;

#[tool_router(vis = "pub(crate)")]
impl Server {
    /// Create an isolated machine for running code and wait until it is ready. Returns its sandbox_id for the other tools. With a name, asking again returns the same sandbox.
    #[tool(
        output_schema = rmcp::handler::server::tool::schema_for_type::<outputs::Sandbox>(),
        annotations(title = "Create sandbox", read_only_hint = false, destructive_hint = false, idempotent_hint = true, open_world_hint = false)
    )]
    async fn sandbox_create(
        &self,
        Parameters(args): Parameters<SandboxCreate>,
        context: Context,
    ) -> ToolResult {
        let deadline = Instant::now() + Duration::from_secs(args.wait_seconds.min(MAX_WAIT));
        let request = Create {
            name: args.name,
            image: args.image,
            env: args.env.into_iter().collect(),
            cpu: args.cpu,
            memory: args.memory,
            gpu_count: args.gpu,
            egress: match args.network {
                NetworkAccess::Deny => api::Egress::Deny,
                NetworkAccess::Internet => api::Egress::Internet,
            },
            ttl: args.ttl,
        };
        let result = match self.service.create(&self.principal(&context)?, &request).await {
            Ok(sandbox) => Ok(tokio::select! {
                settled = self.service.settled(&sandbox, deadline) => settled,
                () = self.shutdown.closing.cancelled() => sandbox,
            }),
            Err(error) => Err(error),
        };
        self.answer(result.map(|sandbox| outputs::Sandbox::from(&*sandbox)))
    }

    /// List your sandboxes with their state and expiry.
    #[tool(
        output_schema = rmcp::handler::server::tool::schema_for_type::<outputs::Sandboxes>(),
        annotations(title = "List sandboxes", read_only_hint = true, open_world_hint = false)
    )]
    async fn sandbox_list(
        &self,
        Parameters(_): Parameters<SandboxList>,
        context: Context,
    ) -> ToolResult {
        let sandboxes = self.service.list(&self.principal(&context)?);
        self.answer(Ok(outputs::Sandboxes {
            sandboxes: sandboxes.iter().map(|sandbox| outputs::Sandbox::from(&**sandbox)).collect(),
        }))
    }

    /// Look at one sandbox: whether it is ready, why not, when it expires, how it ended last.
    #[tool(
        output_schema = rmcp::handler::server::tool::schema_for_type::<outputs::Sandbox>(),
        annotations(title = "Get sandbox", read_only_hint = true, open_world_hint = false)
    )]
    async fn sandbox_get(
        &self,
        Parameters(args): Parameters<SandboxId>,
        context: Context,
    ) -> ToolResult {
        let result = self.service.get(&self.principal(&context)?, &args.sandbox_id).await;
        self.answer(result.map(|sandbox| outputs::Sandbox::from(&*sandbox)))
    }

    /// Delete a sandbox with its files and everything that runs in it. Fine if it is gone already.
    #[tool(
        output_schema = rmcp::handler::server::tool::schema_for_type::<outputs::Deleted>(),
        annotations(title = "Delete sandbox", read_only_hint = false, destructive_hint = true, idempotent_hint = true, open_world_hint = false)
    )]
    async fn sandbox_delete(
        &self,
        Parameters(args): Parameters<SandboxId>,
        context: Context,
    ) -> ToolResult {
        let result = self.service.delete(&self.principal(&context)?, &args.sandbox_id).await;
        self.answer(
            result.map(|()| outputs::Deleted { sandbox_id: args.sandbox_id, deleted: true }),
        )
    }

    /// Run Python, or bash, in a sandbox. State is kept between calls. Returns the value of the last expression, what display() shows, stdout, stderr, exceptions with the lines of your code, and matplotlib figures as pictures.
    #[tool(annotations(
        title = "Run code",
        read_only_hint = false,
        destructive_hint = true,
        idempotent_hint = false,
        open_world_hint = true
    ))]
    async fn run_code(
        &self,
        Parameters(args): Parameters<RunCode>,
        context: Context,
    ) -> ToolResult {
        let options = args.options();
        let code = wire::v1::Code {
            language: args.language.as_str().into(),
            context: args.context_id,
            source: args.code.into(),
        };
        let spec = RunSpec { what: Some(What::Code(code)), timeout_ms: 0 };
        let principal = self.principal(&context)?;
        self.told(run::run(self, &principal, args.sandbox_id, spec, options, &context).await)
    }

    /// Run a program or a shell line in a sandbox. Returns exit code, stdout and stderr. Programs put in the background with & live on.
    #[tool(annotations(
        title = "Run command",
        read_only_hint = false,
        destructive_hint = true,
        idempotent_hint = false,
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
        let spec = RunSpec { what: Some(What::Command(command)), timeout_ms: 0 };
        let principal = self.principal(&context)?;
        self.told(run::run(self, &principal, args.sandbox_id, spec, options, &context).await)
    }

    /// Read a file, or a part of it. Text comes as text, pictures as pictures, other bytes as a binary resource.
    #[tool(annotations(title = "Read file", read_only_hint = true, open_world_hint = false))]
    async fn file_read(
        &self,
        Parameters(args): Parameters<FileRead>,
        context: Context,
    ) -> ToolResult {
        let limit = args.limit.clamp(1, 1 << 20);
        let principal = self.principal(&context)?;
        let read = self.service.read(&principal, &args.sandbox_id, &args.path, args.offset, limit);
        let read = self.unless_closing(read, || waits(&args.sandbox_id)).await;
        self.told(read.map(|contents| contents::told(&args, contents)))
    }

    /// Write a file: all of it or nothing. An existing file is replaced, or with append added to.
    #[tool(
        output_schema = rmcp::handler::server::tool::schema_for_type::<outputs::Written>(),
        annotations(title = "Write file", read_only_hint = false, destructive_hint = true, idempotent_hint = false, open_world_hint = false)
    )]
    async fn file_write(
        &self,
        Parameters(mut args): Parameters<FileWrite>,
        context: Context,
    ) -> ToolResult {
        let data = match (args.content.take(), args.content_base64.take()) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(text)) => match BASE64.decode(text.as_bytes()) {
                Ok(data) => data,
                Err(error) => {
                    return self.invalid(&format!("content_base64 is not base64: {error}"));
                }
            },
            _ => return self.invalid("give either content or content_base64"),
        };
        let bytes = data.len() as u64;
        let principal = self.principal(&context)?;
        let FileWrite { sandbox_id: id, path, .. } = &args;
        let written = if args.append {
            let written = self.service.append(&principal, id, path, data);
            self.unless_closing(written, || unknown(id, path)).await
        } else {
            let written = self.service.write(&principal, id, path, data);
            self.unless_closing(written, || waits(id)).await
        };
        self.answer(written.map(|entry| outputs::Written {
            path: String::from_utf8_lossy(&entry.path).into_owned(),
            bytes,
        }))
    }

    /// Change parts of a text file: each old text becomes the new one. All edits are made or none; an old text that does not occur exactly once is an error that says where it does.
    #[tool(
        output_schema = rmcp::handler::server::tool::schema_for_type::<outputs::Edited>(),
        annotations(title = "Edit file", read_only_hint = false, destructive_hint = true, idempotent_hint = false, open_world_hint = false)
    )]
    async fn file_edit(
        &self,
        Parameters(args): Parameters<FileEdit>,
        context: Context,
    ) -> ToolResult {
        let if_sha256 = hex::bytes(&args.if_sha256);
        let Some(if_sha256) = if_sha256.filter(|digest| matches!(digest.len(), 0 | 32)) else {
            return self.invalid("if_sha256 is no sha256 in hexadecimal digits; give one, or none");
        };
        let edits = args.edits.into_iter().map(Replacement::from).collect();
        let principal = self.principal(&context)?;
        let edited = self.service.edit(&principal, &args.sandbox_id, &args.path, edits, if_sha256);
        let unknown = || unknown(&args.sandbox_id, &args.path);
        let edited = self.unless_closing(edited, unknown).await;
        self.answer(edited.map(outputs::Edited::from))
    }

    /// Search files for a regular expression, as ripgrep does: lines as path:number:text, without binary, hidden and ignored files.
    #[tool(annotations(title = "Search files", read_only_hint = true, open_world_hint = false))]
    async fn file_search(
        &self,
        Parameters(args): Parameters<FileSearch>,
        context: Context,
    ) -> ToolResult {
        let request = SearchRequest {
            pattern: args.pattern,
            path: args.path,
            glob: args.glob,
            ignore_case: args.ignore_case,
            context: args.context.min(20),
            max_matches: args.max_matches.clamp(1, 1000),
            max_bytes: SEARCH_BYTES,
            ..SearchRequest::default()
        };
        let principal = self.principal(&context)?;
        let found = self.service.search(&principal, &args.sandbox_id, request);
        let found = self.unless_closing(found, || waits(&args.sandbox_id)).await;
        self.told(found.map(|found| found::told(&found, args.context > 0)))
    }

    /// List the files below a directory, with sizes and times.
    #[tool(
        output_schema = rmcp::handler::server::tool::schema_for_type::<outputs::Files>(),
        annotations(title = "List files", read_only_hint = true, open_world_hint = false)
    )]
    async fn file_list(
        &self,
        Parameters(args): Parameters<FileList>,
        context: Context,
    ) -> ToolResult {
        let request = ListRequest {
            path: args.path,
            depth: args.depth.clamp(1, 16),
            limit: args.limit.clamp(1, 1000),
            glob: args.glob,
            after: args.after.into(),
        };
        let principal = self.principal(&context)?;
        let files = self.service.files(&principal, &args.sandbox_id, request);
        let files = self.unless_closing(files, || waits(&args.sandbox_id)).await;
        self.answer(files.map(|entries| outputs::Files {
            truncated: entries.iter().any(|entry| entry.truncated),
            entries: entries.iter().map(outputs::File::from).collect(),
        }))
    }
}

impl Server {
    /// A structured answer, or the error in words.
    pub(crate) fn answer<T: Serialize>(&self, result: Result<T, Error>) -> ToolResult {
        self.told(match result {
            Ok(output) => {
                let value = serde_json::to_value(output)
                    .map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
                Ok(CallToolResult::structured(value))
            }
            Err(error) => Err(error),
        })
    }

    /// A fault of the sandbox or the request is a result the model can read, not an error of the protocol.
    #[expect(clippy::unnecessary_wraps, reason = "what a tool returns")]
    pub(crate) fn told(&self, result: Result<CallToolResult, Error>) -> ToolResult {
        Ok(result.unwrap_or_else(|error| {
            self.metrics.error(error.code.as_str());
            failure(&error.to_string())
        }))
    }

    /// A verb's result, or another if the process closes first: a connection that ends without a word
    /// would not say what became of it.
    pub(crate) async fn unless_closing<T>(
        &self,
        verb: impl Future<Output = Result<T, Error>>,
        closing: impl FnOnce() -> Error,
    ) -> Result<T, Error> {
        tokio::select! {
            biased;
            result = verb => result,
            () = self.shutdown.closing.cancelled() => Err(closing()),
        }
    }

    pub(crate) fn invalid(&self, message: &str) -> ToolResult {
        self.told(Err(Error { code: Code::InvalidArgument, message: message.into() }))
    }
}

/// Of a verb that may be tried again whatever became of it.
pub(crate) fn waits(sandbox: &str) -> Error {
    Error {
        code: Code::Unavailable,
        message: format!(
            "this replica stops, and sandbox {sandbox} has not answered yet. Try again."
        ),
    }
}

/// Of a change that would be another one the second time.
fn unknown(sandbox: &str, path: &str) -> Error {
    Error {
        code: Code::OutcomeUnknown,
        message: format!(
            "this replica stops, and sandbox {sandbox} has not answered yet: {path} was changed once or not at all. Look at it before trying again."
        ),
    }
}

fn failure(text: &str) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text)])
}
