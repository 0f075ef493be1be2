//! The MCP server: what it says of itself, and how its tools are called and counted.

use std::{
    sync::{Arc, LazyLock},
    time::Instant,
};

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    handler::server::{router::tool::ToolRouter, tool::ToolCallContext},
    model::{
        CacheScope, CallToolRequestParams, CallToolResponse, Implementation, ListToolsResult,
        PaginatedRequestParams, ProtocolVersion, ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
};
use service::{Principal, Service};

use crate::{
    metrics::{Metrics, Outcome},
    schema,
};

/// How long clients may keep the list of tools: it changes with our version only.
const TOOLS_TTL_MS: u64 = 300_000;

const INSTRUCTIONS: &str = "\
Isolated machines for running code. sandbox_create makes one and names it (sandbox_id); pass that id to every other tool. \
It lives until its ttl ends or sandbox_delete; files in /workspace live as long as it does.

run_code runs Python in an interpreter that keeps its state between calls; run_command runs a program or a shell line. \
Both answer with a line of facts (exit_code, run_id), then the result, stdout and stderr. A non-zero exit code is an answer, not a fault of the tool. \
If a run takes longer than wait_seconds the answer says status=running: call again with the same arguments and that run_id to wait on; it never runs twice. \
Long output is cut in the middle and the cut is marked: write large output to a file.

By default a sandbox reaches no network at all, DNS included; create it with network=internet if it needs public addresses. \
Errors begin with a stable code and say what to do next. After SANDBOX_NOT_FOUND create a new sandbox.";

/// All tools, made once: the macro's own way makes them anew at every call.
static TOOLS: LazyLock<ToolRouter<Server>> = LazyLock::new(|| {
    let mut tools = Server::tool_router();
    for route in tools.map.values_mut() {
        route.attr = schema::tidy(route.attr.clone());
    }
    tools
});

/// The MCP server of this front end.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) service: Arc<Service>,
    metrics: Arc<Metrics>,
}

impl Server {
    pub(crate) fn new(service: Arc<Service>, metrics: Arc<Metrics>) -> Self {
        Self { service, metrics }
    }
}

/// Who calls: what `guard` found out.
pub(crate) fn principal(context: &RequestContext<RoleServer>) -> Result<Principal, ErrorData> {
    let parts = context.extensions.get::<http::request::Parts>();
    parts
        .and_then(|parts| parts.extensions.get::<Principal>())
        .cloned()
        .ok_or_else(|| ErrorData::internal_error("the request has no principal", None))
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::new(ServerCapabilities::builder().enable_tools().build());
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
        let tools = ListToolsResult::with_all_items(TOOLS.list_all());
        let caches = context
            .protocol_version()
            .is_some_and(|version| version >= ProtocolVersion::V_2026_07_28);
        Ok(if caches {
            tools.with_ttl_ms(TOOLS_TTL_MS).with_cache_scope(CacheScope::Public)
        } else {
            tools
        })
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        TOOLS.get(name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let began = Instant::now();
        // The label is our own name for the tool: a caller's word would be an unbounded one.
        let tool = TOOLS.map.keys().find(|name| **name == request.name);
        let tool = match tool {
            Some(std::borrow::Cow::Borrowed(name)) => name,
            _ => "unknown",
        };
        let cancelled = context.ct.clone();
        let result = TOOLS.call(ToolCallContext::new(self, request, context)).await;
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
    use super::*;

    /// What clients are told of every tool; a change here is a change of the product.
    #[test]
    fn the_tools_as_clients_see_them() {
        insta::assert_json_snapshot!(TOOLS.list_all());
    }

    /// mcp.md §4.2: clients cut descriptions and instructions at 2 KB, and pay for every token.
    #[test]
    fn the_catalogue_keeps_its_budget() {
        assert!(INSTRUCTIONS.len() <= 2000, "{}", INSTRUCTIONS.len());
        for tool in TOOLS.list_all() {
            let description = tool.description.unwrap_or_default();
            assert!(description.len() <= 600, "{}: {}", tool.name, description.len());
        }
        let all = serde_json::to_string(&TOOLS.list_all()).unwrap();
        assert!(all.len() <= 12_000, "{} bytes are more than 3 k tokens", all.len());
    }
}
