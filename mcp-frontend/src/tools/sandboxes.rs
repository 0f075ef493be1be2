//! The tools about sandboxes.

use std::time::Duration;

use api::Egress;
use rmcp::{handler::server::wrapper::Parameters, tool, tool_router};
use service::Create;
use tokio::time::{Instant, timeout};

use super::{Context, ToolResult, waits};
use crate::{
    args::{MAX_WAIT, NetworkAccess, OnIdle, SandboxCreate, SandboxExtend, SandboxId, SandboxList},
    gpus::Gpus,
    looked::{LookedAt, RefusedNames},
    outputs,
    server::Server,
};

/// How long a sandbox may take to say which languages and GPUs it has, and which names it was refused.
const PATIENCE: Duration = Duration::from_secs(3);

#[tool_router(router = sandbox_tool_router, vis = "pub(crate)")]
impl Server {
    /// Create an isolated machine for running code and wait until it is ready. Returns its sandbox_id for the other tools.
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
            template: args.template,
            image: args.image,
            env: args.env.into_iter().collect(),
            cpu: args.cpu,
            memory: args.memory,
            gpu_count: args.gpu,
            egress: args.network.map(|network| match network {
                NetworkAccess::Deny => Egress::Deny,
                NetworkAccess::Internet => Egress::Internet,
            }),
            ttl: args.ttl,
            idle_timeout: args.idle_timeout,
            on_idle: args.on_idle.map(|on_idle| match on_idle {
                OnIdle::Delete => api::OnIdle::Delete,
                OnIdle::Pause => api::OnIdle::Pause,
            }),
            workspace: args.workspace,
            setup: args.setup,
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

    /// Look at one sandbox: whether it is ready, why not, when it expires, how it ended last, its languages.
    #[tool(
        output_schema = rmcp::handler::server::tool::schema_for_type::<LookedAt>(),
        annotations(title = "Get sandbox", read_only_hint = true, open_world_hint = false)
    )]
    async fn sandbox_get(
        &self,
        Parameters(args): Parameters<SandboxId>,
        context: Context,
    ) -> ToolResult {
        let principal = self.principal(&context)?;
        let looked = async {
            let sandbox = self.service.get(&principal, &args.sandbox_id).await?;
            let queue = self.service.queue(&sandbox).map(Into::into);
            let mut looked = LookedAt::new(&sandbox, queue);
            if looked.sandbox.ready {
                let greeting = self.service.greeting(&principal, &args.sandbox_id);
                let effective = sandbox.effective();
                let gpus = async {
                    let seen = self.service.gpus(&principal, &args.sandbox_id);
                    Some(Gpus::new(&effective.gpu?, timeout(PATIENCE, seen).await.ok()))
                };
                let refused = async {
                    // In others names are resolved, or not, by other resolvers.
                    if effective.egress != Egress::Deny {
                        return None;
                    }
                    let refused = self.service.refused_names(&principal, &args.sandbox_id);
                    RefusedNames::some(timeout(PATIENCE, refused).await.ok()?.ok()?)
                };
                let (greeting, gpus, refused) =
                    tokio::join!(timeout(PATIENCE, greeting), gpus, refused);
                looked.greeted(greeting.ok().and_then(Result::ok).unwrap_or_default());
                looked.gpu = gpus.or(looked.gpu);
                looked.refused_names = refused;
            }
            Ok(looked)
        };
        let looked = self.unless_closing(looked, || waits(&args.sandbox_id)).await;
        self.answer(looked)
    }

    /// Let a sandbox live for at least so long from now on.
    #[tool(annotations(
        title = "Extend sandbox",
        read_only_hint = false,
        destructive_hint = false,
        idempotent_hint = true,
        open_world_hint = false
    ))]
    async fn sandbox_extend(
        &self,
        Parameters(SandboxExtend { sandbox_id, ttl }): Parameters<SandboxExtend>,
        context: Context,
    ) -> ToolResult {
        let extended = self.service.extend(&self.principal(&context)?, &sandbox_id, &ttl).await;
        self.answer(extended.map(|end| {
            let expires_at = end.map(|end| end.to_string());
            outputs::Extended { sandbox_id, expires_at }
        }))
    }

    /// Delete a sandbox with its files and everything that runs in it. Fine if it is gone already.
    #[tool(annotations(
        title = "Delete sandbox",
        read_only_hint = false,
        destructive_hint = true,
        idempotent_hint = true,
        open_world_hint = false
    ))]
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
}
