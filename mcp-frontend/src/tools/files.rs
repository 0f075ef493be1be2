//! The tools about files.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use rmcp::{handler::server::wrapper::Parameters, tool, tool_router};
use service::{Code, Error};
use wire::v1::{ListRequest, SearchRequest, edit_request::Replacement};

use super::{Context, ToolResult, waits};
use crate::{
    args::{FileEdit, FileList, FileRead, FileSearch, FileWrite},
    contents, found, hex, outputs,
    server::Server,
};

/// How much of what a search finds is told, in bytes: about as much as of a file.
const SEARCH_BYTES: u32 = 64 << 10;

#[tool_router(router = file_tool_router, vis = "pub(crate)")]
impl Server {
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
        annotations(title = "Write file", read_only_hint = false, destructive_hint = true, open_world_hint = false)
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

    /// Change parts of a text file, all or none. An old text that does not occur exactly once is an error that says where it does.
    #[tool(
        output_schema = rmcp::handler::server::tool::schema_for_type::<outputs::Edited>(),
        annotations(title = "Edit file", read_only_hint = false, destructive_hint = true, open_world_hint = false)
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

/// Of a change that would be another one the second time.
fn unknown(sandbox: &str, path: &str) -> Error {
    Error {
        code: Code::OutcomeUnknown,
        message: format!(
            "this replica stops, and sandbox {sandbox} has not answered yet: {path} was changed once or not at all. Look at it before trying again."
        ),
    }
}
