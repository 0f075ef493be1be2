//! The tools about contexts: a set that is added where agents keep several interpreters, or copy them.

use std::collections::BTreeMap;

use rmcp::{
    handler::server::wrapper::Parameters,
    schemars::{self, JsonSchema},
    tool, tool_router,
};
use serde::{Deserialize, Serialize};
use wire::v1::{ContextInfo, CreateContextRequest};

use super::{Context, ToolResult, waits};
use crate::{
    args::{Language, SandboxId},
    server::Server,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ContextCreate {
    /// From sandbox_create.
    #[schemars(extend("x-mcp-header" = "Sandbox"))]
    sandbox_id: String,
    /// A name of your choice (letters, digits, _ . -). Asking twice for the same gives the same context. Omit for a new one.
    context_id: Option<String>,
    /// "python" (default), "javascript", "typescript", "bash", "r" or "jshell".
    #[serde(default)]
    language: Interpreter,
    /// Directory to start in. Default /workspace.
    #[serde(default)]
    cwd: String,
    /// Environment variables of this context only.
    #[serde(default)]
    env: BTreeMap<String, String>,
}

/// The languages that keep state.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum Interpreter {
    #[default]
    Python,
    JavaScript,
    TypeScript,
    Bash,
    R,
    JShell,
}

impl From<Interpreter> for Language {
    fn from(interpreter: Interpreter) -> Self {
        match interpreter {
            Interpreter::Python => Self::Python,
            Interpreter::JavaScript => Self::JavaScript,
            Interpreter::TypeScript => Self::TypeScript,
            Interpreter::Bash => Self::Bash,
            Interpreter::R => Self::R,
            Interpreter::JShell => Self::JShell,
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ContextId {
    /// From sandbox_create.
    #[schemars(extend("x-mcp-header" = "Sandbox"))]
    sandbox_id: String,
    /// From context_create or context_list.
    context_id: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ContextFork {
    /// From sandbox_create.
    #[schemars(extend("x-mcp-header" = "Sandbox"))]
    sandbox_id: String,
    /// The context to copy.
    context_id: String,
    /// Names for the copies, at most 32. One that is a copy of this context already stays as it is.
    copies: Vec<String>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Contexts {
    contexts: Vec<About>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct About {
    /// The id to call run_code with.
    context_id: String,
    language: String,
    /// Where it started, and starts anew when it has died.
    cwd: String,
    /// How many runs have begun in it.
    executions: u64,
    /// Milliseconds since 1970 when the last began; 0: none has.
    last_used_unix_ms: u64,
    /// The run it is at.
    #[serde(skip_serializing_if = "Option::is_none")]
    running_run_id: Option<String>,
    /// How many runs wait for it.
    queued: u32,
    /// The context it is a copy of.
    #[serde(skip_serializing_if = "Option::is_none")]
    forked_from: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct DeletedContext {
    context_id: String,
    /// Whether there was one.
    existed: bool,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Interrupted {
    context_id: String,
    /// The run that was cancelled; absent where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<String>,
}

impl From<ContextInfo> for About {
    fn from(context: ContextInfo) -> Self {
        Self {
            context_id: context.name,
            language: context.language,
            cwd: context.cwd,
            executions: context.executions,
            last_used_unix_ms: context.last_used_unix_ms,
            running_run_id: said(context.running),
            queued: context.queued,
            forked_from: said(context.forked_from),
        }
    }
}

impl From<Vec<ContextInfo>> for Contexts {
    fn from(contexts: Vec<ContextInfo>) -> Self {
        Self { contexts: contexts.into_iter().map(About::from).collect() }
    }
}

#[tool_router(router = context_tool_router, vis = "pub(crate)")]
impl Server {
    /// Make a context: an interpreter with a state, a directory and environment variables of its own, for run_code. It stays until it is deleted; one that dies is started anew by its next run.
    #[tool(
        output_schema = rmcp::handler::server::tool::schema_for_type::<About>(),
        annotations(title = "Create context", read_only_hint = false, destructive_hint = false, idempotent_hint = true, open_world_hint = false)
    )]
    async fn context_create(
        &self,
        Parameters(args): Parameters<ContextCreate>,
        context: Context,
    ) -> ToolResult {
        let request = CreateContextRequest {
            name: args.context_id.unwrap_or_else(new_name),
            language: Language::from(args.language).as_str().into(),
            cwd: args.cwd,
            env: args.env,
        };
        let principal = self.principal(&context)?;
        let made = self.service.create_context(&principal, &args.sandbox_id, &request);
        let made = self.unless_closing(made, || waits(&args.sandbox_id)).await;
        self.answer(made.map(|(made, _)| About::from(made)))
    }

    /// List the contexts of a sandbox: what each is at, how many runs wait for it, when it was used last.
    #[tool(
        output_schema = rmcp::handler::server::tool::schema_for_type::<Contexts>(),
        annotations(title = "List contexts", read_only_hint = true, open_world_hint = false)
    )]
    async fn context_list(
        &self,
        Parameters(args): Parameters<SandboxId>,
        context: Context,
    ) -> ToolResult {
        let principal = self.principal(&context)?;
        let contexts = self.service.contexts(&principal, &args.sandbox_id);
        let contexts = self.unless_closing(contexts, || waits(&args.sandbox_id)).await;
        self.answer(contexts.map(Contexts::from))
    }

    /// Copy a live Python context with all its variables: try several ways from one state, each in a copy. It is copied when it has finished what it is at. Threads are not copied.
    #[tool(
        output_schema = rmcp::handler::server::tool::schema_for_type::<Contexts>(),
        annotations(title = "Fork context", read_only_hint = false, destructive_hint = false, idempotent_hint = true, open_world_hint = false)
    )]
    async fn context_fork(
        &self,
        Parameters(args): Parameters<ContextFork>,
        context: Context,
    ) -> ToolResult {
        let ContextFork { sandbox_id: id, context_id: origin, copies } = &args;
        let principal = self.principal(&context)?;
        let made = self.service.fork_context(&principal, id, origin, copies);
        let made = self.unless_closing(made, || waits(id)).await;
        self.answer(made.map(Contexts::from))
    }

    /// Interrupt what a context is at, as Ctrl-C does: its state stays, and runs that wait for it go on.
    #[tool(
        output_schema = rmcp::handler::server::tool::schema_for_type::<Interrupted>(),
        annotations(title = "Interrupt context", read_only_hint = false, destructive_hint = true, open_world_hint = false)
    )]
    async fn context_interrupt(
        &self,
        Parameters(args): Parameters<ContextId>,
        context: Context,
    ) -> ToolResult {
        let ContextId { sandbox_id: id, context_id } = args;
        let principal = self.principal(&context)?;
        let cancelled = self.service.interrupt_context(&principal, &id, &context_id);
        let cancelled = self.unless_closing(cancelled, || waits(&id)).await;
        self.answer(cancelled.map(|run_id| Interrupted { context_id, run_id }))
    }

    /// Delete a context with its state, what it has started, and the runs that wait for it. Fine if it is gone already.
    #[tool(
        output_schema = rmcp::handler::server::tool::schema_for_type::<DeletedContext>(),
        annotations(title = "Delete context", read_only_hint = false, destructive_hint = true, idempotent_hint = true, open_world_hint = false)
    )]
    async fn context_delete(
        &self,
        Parameters(args): Parameters<ContextId>,
        context: Context,
    ) -> ToolResult {
        let ContextId { sandbox_id: id, context_id } = args;
        let principal = self.principal(&context)?;
        let deleted = self.service.delete_context(&principal, &id, &context_id);
        let deleted = self.unless_closing(deleted, || waits(&id)).await;
        self.answer(deleted.map(|existed| DeletedContext { context_id, existed }))
    }
}

fn said(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// A name nobody has.
fn new_name() -> String {
    format!("c-{:016x}", rand::random::<u64>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_context_is_told_without_what_it_has_not() {
        let idle = ContextInfo {
            name: "a".into(),
            language: "python".into(),
            cwd: "/workspace".into(),
            created_unix_ms: 5,
            ..ContextInfo::default()
        };
        let plain = json!({
            "context_id": "a", "language": "python", "cwd": "/workspace",
            "executions": 0, "last_used_unix_ms": 0, "queued": 0,
        });
        let told = |context: ContextInfo| serde_json::to_value(About::from(context)).unwrap();
        assert_eq!(told(idle.clone()), plain);
        let mut full = plain;
        full["running_run_id"] = json!("r");
        full["forked_from"] = json!("b");
        let busy = ContextInfo { running: "r".into(), forked_from: "b".into(), ..idle };
        assert_eq!(told(busy), full);
    }

    #[test]
    fn a_context_without_a_name_gets_one_that_nobody_has() {
        assert_ne!(new_name(), new_name());
        assert_eq!(new_name().len(), 18);
    }
}
