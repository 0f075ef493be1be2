//! The tools. Each turns its arguments into a verb of `service` and the answer back; no more.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use rmcp::{
    ErrorData, RoleServer,
    handler::server::wrapper::Parameters,
    model::{CallToolResult, ContentBlock, ResourceContents},
    service::RequestContext,
    tool, tool_router,
};
use serde::Serialize;
use service::{Code, Create, Error};
use tokio::time::Instant;
use wire::v1::{Command, RunSpec, run_spec::What};

use crate::{
    args::{
        FileList, FileRead, FileWrite, MAX_WAIT, NetworkAccess, RunCode, RunCommand, SandboxCreate,
        SandboxId, SandboxList,
    },
    outputs, run,
    server::Server,
};

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
        let read = self.unless_closing(&args.sandbox_id, read).await;
        self.told(read.map(|contents| file(&args, contents)))
    }

    /// Write a file: all of it or nothing. An existing file is replaced.
    #[tool(
        output_schema = rmcp::handler::server::tool::schema_for_type::<outputs::Written>(),
        annotations(title = "Write file", read_only_hint = false, destructive_hint = true, idempotent_hint = true, open_world_hint = false)
    )]
    async fn file_write(
        &self,
        Parameters(args): Parameters<FileWrite>,
        context: Context,
    ) -> ToolResult {
        let data = match (args.content, args.content_base64) {
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
        let written = self.service.write(&principal, &args.sandbox_id, &args.path, data);
        let written = self.unless_closing(&args.sandbox_id, written).await;
        self.answer(written.map(|entry| outputs::Written {
            path: String::from_utf8_lossy(&entry.path).into_owned(),
            bytes,
        }))
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
        let (depth, limit) = (args.depth.clamp(1, 16), args.limit.clamp(1, 1000));
        let principal = self.principal(&context)?;
        let files = self.service.files(&principal, &args.sandbox_id, &args.path, depth, limit);
        let files = self.unless_closing(&args.sandbox_id, files).await;
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

    /// A verb's result, unless the process closes first. For verbs that may be tried again whatever
    /// became of them: a connection that ends without a word would not say so.
    pub(crate) async fn unless_closing<T>(
        &self,
        sandbox: &str,
        verb: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::select! {
            biased;
            result = verb => result,
            () = self.shutdown.closing.cancelled() => Err(Error {
                code: Code::Unavailable,
                message: format!("this replica stops, and sandbox {sandbox} has not answered yet. Try again."),
            }),
        }
    }

    pub(crate) fn invalid(&self, message: &str) -> ToolResult {
        self.told(Err(Error { code: Code::InvalidArgument, message: message.into() }))
    }
}

fn failure(text: &str) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text)])
}

/// A file's bytes in the form its reader can use.
fn file(args: &FileRead, contents: client::Contents) -> CallToolResult {
    let client::Contents { entry, mut data } = contents;
    let whole = args.offset == 0 && data.len() as u64 == entry.size;
    if whole && let Some(mime) = image(&data) {
        return CallToolResult::success(vec![ContentBlock::image(BASE64.encode(&data), mime)]);
    }
    if !whole {
        data.truncate(whole_characters(&data));
    }
    // What the agent says of a file need not be true, or even fit.
    let end = args.offset.saturating_add(data.len() as u64);
    let mut content = vec![match String::from_utf8(data) {
        Ok(text) => ContentBlock::text(text),
        Err(error) => {
            let blob = BASE64.encode(error.as_bytes());
            let uri = format!(
                "sandbox://{}/files/{}",
                args.sandbox_id,
                args.path.trim_start_matches('/')
            );
            ContentBlock::resource(
                ResourceContents::blob(blob, uri).with_mime_type("application/octet-stream"),
            )
        }
    }];
    if !whole {
        let part = format!("bytes {}..{end} of {} in {}", args.offset, entry.size, args.path);
        let more = if end < entry.size {
            format!("; call again with offset={end} for more")
        } else {
            String::new()
        };
        content.push(ContentBlock::text(format!("[{part}{more}]")));
    }
    CallToolResult::success(content)
}

/// How much of a part of a file is whole characters, if it is a text that was cut within one.
pub(crate) fn whole_characters(data: &[u8]) -> usize {
    match str::from_utf8(data) {
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => error.valid_up_to(),
        _ => data.len(),
    }
}

/// The picture formats clients show, by their first bytes.
fn image(data: &[u8]) -> Option<&'static str> {
    [
        (&b"\x89PNG\r\n\x1a\n"[..], "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF8", "image/gif"),
    ]
    .into_iter()
    .find_map(|(magic, mime)| data.starts_with(magic).then_some(mime))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of what reading six bytes of a file says.
    fn read(offset: u64, size: u64, data: &[u8]) -> Vec<Option<String>> {
        let args = FileRead { sandbox_id: "a".into(), path: "/x".into(), offset, limit: 6 };
        let entry = wire::v1::Entry { size, ..wire::v1::Entry::default() };
        let result = file(&args, client::Contents { entry, data: data.into() });
        result.content.iter().map(|block| Some(block.as_text()?.text.clone())).collect()
    }

    fn texts<const N: usize>(texts: [&str; N]) -> Vec<Option<String>> {
        texts.map(|text| Some(text.to_owned())).into()
    }

    #[test]
    fn a_part_of_a_text_is_text_wherever_it_is_cut() {
        assert_eq!(read(0, 3, b"abc"), texts(["abc"]));
        let cut = &"abcdeé".as_bytes()[..6];
        let more = "[bytes 0..5 of 7 in /x; call again with offset=5 for more]";
        assert_eq!(read(0, 7, cut), texts(["abcde", more]));
        assert_eq!(read(5, 7, "é".as_bytes()), texts(["é", "[bytes 5..7 of 7 in /x]"]));
        assert_eq!(read(0, 9, b"a\xff\xffdef")[0], None);
    }

    #[test]
    fn what_an_agent_says_of_a_file_need_not_fit() {
        let note = format!("[bytes {0}..{0} of 1 in /x]", u64::MAX);
        assert_eq!(read(u64::MAX, 1, b"lie"), texts(["lie", &note]));
    }
}
