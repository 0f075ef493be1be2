//! The MCP server: what it says of itself, and how its tools are called and counted.

use std::{sync::Arc, time::Instant};

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    handler::server::tool::ToolCallContext,
    model::{
        CacheScope, CallToolRequestParams, CallToolResponse, ContentBlock, Implementation,
        ListResourceTemplatesResult, ListToolsResult, PaginatedRequestParams,
        ProgressNotificationParam, ProtocolVersion, ReadResourceRequestParams,
        ReadResourceResponse, ReadResourceResult, ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
};
use service::{Principal, Service};

use crate::{
    metrics::{Metrics, Outcome},
    resources,
    shutdown::Shutdown,
    toolsets::{self, Tools},
};

/// How rmcp begins its words about arguments.
const ARGUMENTS: &str = "failed to deserialize parameters:";
/// How long clients may keep our lists: they change with our version only.
const LISTS_TTL_MS: u64 = 300_000;

const INSTRUCTIONS: &str = "\
Isolated machines for running code. sandbox_create makes one and names it (sandbox_id); pass that id to every other tool. \
It lives until its ttl ends (sandbox_extend) or sandbox_delete; files in /workspace live as long as it does.

run_code runs Python, R, JavaScript, TypeScript or bash in an interpreter that keeps its state between calls; run_command runs a program or a shell line. \
Both answer with a line of facts (exit_code, run_id), then the result, stdout and stderr. A non-zero exit code is an answer, not a fault of the tool. \
If a run takes longer than wait_seconds the answer says status=running: run_output with that run_id waits on, as does the same call with it; a run_id never runs twice. \
Long output is cut in the middle and the cut is marked: run_output reads the rest, by place or by pattern. \
To change a file use file_edit, to find text in files file_search.

By default a sandbox reaches no network at all, DNS included; create it with network=internet if it needs public addresses. \
Errors begin with a stable code and say what to do next. After SANDBOX_NOT_FOUND create a new sandbox.";

/// The MCP server of this front end.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) service: Arc<Service>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) shutdown: Shutdown,
    tools: Arc<Tools>,
    /// Who calls where requests do not say: whoever started us on stdio.
    caller: Option<Principal>,
}

impl Server {
    pub(crate) fn new(service: Arc<Service>, metrics: Arc<Metrics>, shutdown: Shutdown) -> Self {
        Self { service, metrics, shutdown, tools: toolsets::tools(&[]), caller: None }
    }

    /// The server with other tools.
    pub(crate) fn with(self, tools: Arc<Tools>) -> Self {
        Self { tools, ..self }
    }

    /// The server of one caller.
    pub(crate) fn of(self, caller: Principal) -> Self {
        Self { caller: Some(caller), ..self }
    }

    /// Who calls: what `guard` found out, or who started us.
    pub(crate) fn principal(
        &self,
        context: &RequestContext<RoleServer>,
    ) -> Result<Principal, ErrorData> {
        let parts = context.extensions.get::<http::request::Parts>();
        parts
            .and_then(|parts| parts.extensions.get::<Principal>())
            .or(self.caller.as_ref())
            .cloned()
            .ok_or_else(|| ErrorData::internal_error("the request has no principal", None))
    }
}

impl Server {
    /// The caller of a call and the sandbox that it is about, if that is paused and the call would wake it.
    fn paused(
        &self,
        tool: &str,
        request: &CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Option<(Principal, String)> {
        if matches!(tool, "sandbox_get" | "sandbox_extend" | "sandbox_delete") {
            return None;
        }
        let id = request.arguments.as_ref()?.get("sandbox_id")?.as_str()?;
        let principal = self.principal(context).ok()?;
        let paused = self.service.is_paused(&principal, id) == Some(true);
        paused.then(|| (principal, id.to_owned()))
    }

    /// rmcp says in words of its own that arguments are not what a tool takes. Ours begin with a code and say what next.
    fn coded(&self, response: CallToolResponse, tool: &str) -> Result<CallToolResponse, ErrorData> {
        let words = match &response {
            // What succeeded is the caller's own data, such as a file that begins with these words.
            CallToolResponse::Complete(result) if result.is_error == Some(true) => result
                .content
                .first()
                .and_then(ContentBlock::as_text)
                .and_then(|block| block.text.strip_prefix(ARGUMENTS)),
            _ => None,
        };
        match words {
            Some(words) => {
                let said = format!(
                    "{}. Correct the arguments: the input schema of {tool} says what it takes.",
                    words.trim()
                );
                self.invalid(&said).map(Into::into)
            }
            None => Ok(response),
        }
    }
}

/// Answers a caller who asked for progress at once. Over HTTP the answer then is a stream from its
/// beginning, whose keep-alives hold it open through proxies however long the call waits.
async fn tell_begun(tool: &str, context: &RequestContext<RoleServer>) {
    let Some(token) = context.meta.get_progress_token() else { return };
    let begun = ProgressNotificationParam::new(token, 0.0).with_message(format!("{tool} began"));
    if let Err(error) = context.peer.notify_progress(begun).await {
        tracing::debug!(%error, "could not tell progress");
    }
}

/// The answer of a call that has woken its sandbox, which it says.
fn woken(sandbox: &str, mut response: CallToolResponse) -> CallToolResponse {
    if let CallToolResponse::Complete(result) = &mut response {
        result.content.push(ContentBlock::text(format!(
            "note: sandbox {sandbox} was paused, since nobody had used it, and was woken for this call. Its variables, processes and earlier runs are gone; of its files those in /workspace and /home/sandbox are kept if it was created with a workspace."
        )));
    }
    response
}

/// Whether a caller keeps lists for as long as it is told.
fn caches(context: &RequestContext<RoleServer>) -> bool {
    context.protocol_version().is_some_and(|spoken| spoken >= ProtocolVersion::V_2026_07_28)
}

/// An answer as a caller of this version takes it: those before links would refuse all of one that has some.
fn fitting(spoken: Option<ProtocolVersion>, mut response: CallToolResponse) -> CallToolResponse {
    let links = spoken.is_some_and(|spoken| spoken >= ProtocolVersion::V_2025_06_18);
    if let CallToolResponse::Complete(result) = &mut response {
        result.content.retain(|block| links || block.as_resource_link().is_none());
    }
    response
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::new(
            ServerCapabilities::builder().enable_tools().enable_resources().build(),
        );
        info.protocol_version = ProtocolVersion::LATEST;
        info.server_info = Implementation::new("codesandbox", env!("CARGO_PKG_VERSION"));
        info.instructions = Some(INSTRUCTIONS.into());
        info
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = ListToolsResult::with_all_items(self.tools.list_all());
        Ok(if caches(&context) {
            tools.with_ttl_ms(LISTS_TTL_MS).with_cache_scope(CacheScope::Public)
        } else {
            tools
        })
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let templates = ListResourceTemplatesResult::with_all_items(resources::templates());
        Ok(if caches(&context) {
            templates.with_ttl_ms(LISTS_TTL_MS).with_cache_scope(CacheScope::Public)
        } else {
            templates
        })
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let began = Instant::now();
        let _in_flight = self.metrics.begin();
        let result = self.resource(&self.principal(&context)?, &request.uri).await;
        let outcome = match &result {
            _ if context.ct.is_cancelled() => Outcome::Cancelled,
            Ok(_) => Outcome::Ok,
            Err(_) => Outcome::ProtocolError,
        };
        self.metrics.call("resources/read", outcome, began.elapsed());
        match result {
            Ok(contents) => Ok(ReadResourceResult::new(contents).into()),
            Err(error) => {
                self.metrics.error(error.code.as_str());
                Err(resources::refusal(&error))
            }
        }
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.tools.get(name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let began = Instant::now();
        let _in_flight = self.metrics.begin();
        // The label is our own name for the tool: a caller's word would be an unbounded one.
        let tool = self.tools.map.keys().find(|name| **name == request.name);
        let tool = match tool {
            Some(std::borrow::Cow::Borrowed(name)) => {
                tell_begun(name, &context).await;
                name
            }
            _ => "unknown",
        };
        let cancelled = context.ct.clone();
        let spoken = context.protocol_version();
        let paused = self.paused(tool, &request, &context);
        let result = self.tools.call(ToolCallContext::new(self, request, context)).await;
        let result = result.and_then(|response| self.coded(response, tool));
        let result = result.map(|response| match &paused {
            Some((principal, id)) if self.service.is_paused(principal, id) == Some(false) => {
                woken(id, response)
            }
            _ => response,
        });
        let result = result.map(|response| fitting(spoken, response));
        let outcome = match &result {
            _ if cancelled.is_cancelled() => Outcome::Cancelled,
            Ok(CallToolResponse::Complete(result)) if result.is_error == Some(true) => {
                Outcome::ToolError
            }
            Ok(_) => Outcome::Ok,
            Err(_) => Outcome::ProtocolError,
        };
        self.metrics.call(tool, outcome, began.elapsed());
        result
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;
    use rmcp::model::{CallToolResult, Tool};
    use serde_json::json;

    use super::*;
    use crate::{testing, toolsets::Toolset};

    #[tokio::test]
    async fn only_an_error_about_arguments_is_put_in_our_words() {
        let server = Server::new(testing::service(), Arc::default(), Shutdown::default());
        let said = |result: CallToolResult| {
            let coded = server.coded(result.into(), "file_read").unwrap();
            let CallToolResponse::Complete(result) = coded else { panic!("it was complete") };
            let value = serde_json::to_value(result).unwrap();
            (value["isError"].clone(), value["content"][0]["text"].clone())
        };
        let words = || vec![ContentBlock::text(format!("{ARGUMENTS} bad x"))];
        assert_eq!(
            said(CallToolResult::success(words())),
            (json!(false), json!("failed to deserialize parameters: bad x"))
        );
        assert_eq!(
            said(CallToolResult::error(words())),
            (
                json!(true),
                json!(
                    "INVALID_ARGUMENT: bad x. Correct the arguments: the input schema of file_read says what it takes."
                )
            )
        );
    }

    #[test]
    fn who_knows_no_links_gets_none() {
        let link = ContentBlock::resource_link(rmcp::model::Resource::new("sandbox://a", "a"));
        let (text, all) = (ContentBlock::text("text"), [ContentBlock::text("text"), link]);
        for (version, expected) in [
            (None, &[text][..]),
            (Some(ProtocolVersion::V_2025_03_26), &all[..1]),
            (Some(ProtocolVersion::V_2025_06_18), &all),
            (Some(ProtocolVersion::V_2026_07_28), &all),
        ] {
            let answer = fitting(version, CallToolResult::success(all.to_vec()).into());
            let CallToolResponse::Complete(answer) = answer else { panic!("it was complete") };
            assert_eq!(answer.content, expected);
        }
    }

    /// What clients are told of every tool; a change here is a change of the product.
    #[test]
    fn the_tools_as_clients_see_them() {
        insta::assert_json_snapshot!(toolsets::tools(&[]).list_all());
    }

    /// The tools of a set alone.
    fn set(set: Toolset) -> Vec<Tool> {
        let plain = toolsets::tools(&[]);
        let mut all = toolsets::tools(&[set]).list_all();
        all.retain(|tool| plain.get(&tool.name).is_none());
        all
    }

    #[test]
    fn the_tools_about_contexts_as_clients_see_them() {
        insta::assert_json_snapshot!(set(Toolset::Contexts));
    }

    #[test]
    fn the_tools_for_interactive_runs_as_clients_see_them() {
        insta::assert_json_snapshot!(set(Toolset::Interactive));
    }

    /// So that a gateway can route, meter and authorise by sandbox without reading bodies.
    #[test]
    fn every_sandbox_id_is_in_a_header_too() {
        let mut with_id = 0;
        for tool in toolsets::tools(Toolset::value_variants()).list_all() {
            let id = tool.input_schema.get("properties").and_then(|all| all.get("sandbox_id"));
            if let Some(id) = id {
                assert_eq!(id["x-mcp-header"], "Sandbox", "{}", tool.name);
                with_id += 1;
            }
        }
        assert_eq!(with_id, 21);
    }

    /// mcp.md §4.2: clients cut descriptions and instructions at 2 KB, and pay for every token.
    #[test]
    fn the_catalogue_keeps_its_budget() {
        assert!(INSTRUCTIONS.len() <= 2000, "{}", INSTRUCTIONS.len());
        for tool in toolsets::tools(Toolset::value_variants()).list_all() {
            let description = tool.description.unwrap_or_default();
            assert!(description.len() <= 600, "{}: {}", tool.name, description.len());
        }
        let all = serde_json::to_string(&toolsets::tools(&[]).list_all()).unwrap();
        // 12 000 until agents could edit, search and come back to runs: each spares them more than it
        // costs, such as writing whole files anew and reading all of them.
        assert!(all.len() <= 16 * 1024, "{} bytes are more than 4 k tokens", all.len());
    }
}
