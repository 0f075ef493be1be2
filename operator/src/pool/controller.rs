//! The loop over the pools of a namespace.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use api::{CodeSandboxPool, names};
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::{core::v1::Pod, networking::v1::NetworkPolicy};
use kube::{
    Api, ResourceExt,
    runtime::{
        controller::{Action, Config as Runner, Controller, Error as LoopError},
        reflector::{ObjectRef, Store, store::Writer},
        watcher,
    },
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::plan::{self, Action as Step, Observed};
use crate::{
    act::{self, Done},
    call::{DEADLINE, Error, Kind},
    controller::Context,
    observe::TEMPLATES,
    watch,
};

/// How many pools of a namespace are reconciled at once: each takes a connection to the API server.
const CONCURRENCY: u16 = 2;
/// How many actions a reconcile takes at most, so that the status of a large pool does not lag far behind.
const MAX_ACTIONS: usize = 20;

/// The loop over a namespace's pools, until it is stopped.
pub(crate) fn controller(
    context: Arc<Context>,
    pools: Writer<CodeSandboxPool>,
    members: Writer<Pod>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send {
    let (caller, config) = (&context.caller, &context.config);
    let changes = watch::pools(caller, pools).map(Ok);
    let of_pool = |pod: Pod| {
        let pool = pod.labels().get(names::POOL).cloned().unwrap_or_default();
        ObjectRef::new(&pool).within(&pod.namespace().unwrap_or_default())
    };
    let touched = watch::members(caller, &config.instance, members).map(of_pool);
    let (shown, stopped) = (context.pools.store.clone(), stop.clone());
    let runs = Controller::for_stream(changes, shown.clone())
        .with_config(Runner::default().concurrency(CONCURRENCY))
        .reconcile_on(touched)
        .reconcile_all_on(context.made_of.news())
        .graceful_shutdown_on(async move { stop.cancelled().await })
        .run(reconcile, retry, context.clone());
    async move {
        tokio::select! {
            () = runs.for_each(|run| { report(&context, run); futures::future::ready(()) }) => {}
            () = stopped_early(&shown, &stopped) => {}
        }
    }
}

/// Returns when the loop is stopped before its first list has come, for which it would wait for ever.
async fn stopped_early(shown: &Store<CodeSandboxPool>, stop: &CancellationToken) {
    stop.cancelled().await;
    if shown.wait_until_ready().now_or_never().is_some() {
        std::future::pending::<()>().await;
    }
}

/// Brings one pool closer to what it should be.
async fn reconcile(pool: Arc<CodeSandboxPool>, context: Arc<Context>) -> Result<Action, Error> {
    if pool.spec.class_name != context.config.class {
        return Ok(Action::await_change());
    }
    let (name, now) = (pool.name_any(), Timestamp::now());
    let mut observed = observe(&pool, &context, now).await?;
    let waiting = |observed: &Observed| plan::waiting(&pool, observed);
    let (before, mut denied, mut failure) = (waiting(&observed), false, None);
    for _ in 0..MAX_ACTIONS {
        let plan = plan::plan(&pool, &observed, &context.config, now);
        let Some(action) = plan.action else { break };
        let applies = matches!(action, Step::Apply(_));
        if applies && denied {
            break;
        }
        denied |= applies;
        match act(&context, &action, &mut observed).await {
            Ok(Done::Refused { kind, object, words }) => {
                let refusal = context.pool_memory.refused(&name, kind, object, words, now);
                observed.refusal = Some(refusal);
            }
            Ok(Done::Observed | Done::Gone) => {}
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    let plan = plan::plan(&pool, &observed, &context.config, now);
    if plan.action.is_some() && waiting(&observed) == before && failure.is_none() {
        // Not at once again, or it would go on so for ever.
        failure = Some(Error::Unsettled { object: name.clone() });
    }
    // Even after a failure: what was seen is true all the same, and pods may be gone.
    let wait = if plan.passing && failure.is_none() {
        context.lulls.wait(&name, Instant::now())
    } else {
        context.lulls.end(&name);
        None
    };
    if let Some(status) = plan.status.filter(|_| wait.is_none()) {
        act::write_status(&context.caller, Kind::CodeSandboxPoolStatus, &*pool, &status).await?;
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    context.pool_memory.succeeded(&name, observed.refusal.is_some());
    let later = plan.requeue.into_iter().chain(wait).min();
    let again = plan.action.map(|_| Duration::ZERO).or(later);
    Ok(again.map_or_else(Action::await_change, Action::requeue))
}

/// Reads what a pool depends on, all of it from watches.
async fn observe(
    pool: &CodeSandboxPool,
    context: &Context,
    now: Timestamp,
) -> Result<Observed, Error> {
    let Context { caller, policies, templates, members, .. } = context;
    let namespace = || caller.namespace.clone();
    if !policies.shown_within(DEADLINE).await {
        return Err(Error::PoliciesUnknown { namespace: namespace() });
    }
    if !members.shown_within(DEADLINE).await {
        return Err(Error::MembersUnknown { namespace: namespace() });
    }
    let known = templates.shown_within(TEMPLATES).await;
    let name = pool.name_any();
    let deny = ObjectRef::<NetworkPolicy>::new(names::DENY_POLICY).within(&caller.namespace);
    Ok(Observed {
        pods: members.store.state_filter(|pod| pod.labels().get(names::POOL) == Some(&name)),
        deny: policies.store.get(&deny),
        templates: known.then(|| templates.store.state()),
        refusal: context.pool_memory.refusal(&name, now),
    })
}

/// Carries out an action and lets the observation know what came of it.
async fn act(context: &Context, action: &Step, observed: &mut Observed) -> Result<Done, Error> {
    let caller = &context.caller;
    match action {
        Step::Apply(policy) => match act::apply(caller, policy).await? {
            Ok(live) => observed.deny = Some(Arc::new(live)),
            Err(refused) => return Ok(refused),
        },
        Step::Create(pod) => {
            let mut seen = None;
            let done = act::create(caller, Kind::Pod, &**pod, &mut seen).await?;
            if let Some(pod) = seen {
                observed.see(pod);
            }
            return Ok(done);
        }
        Step::Delete { name, uid, resource_version } => {
            let (pods, only): (Api<Pod>, _) =
                (caller.api(), act::only(uid, Some(resource_version)));
            observed.forget(name);
            match act::delete(caller, &pods, Kind::Pod, name, only).await {
                Ok(going) => going.into_iter().for_each(|pod| observed.see(pod)),
                // It is another since it was seen, perhaps a sandbox's, and the watch tells of that.
                Err(Error::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(Done::Observed)
}

/// When to try again after a failure.
#[expect(clippy::needless_pass_by_value, reason = "kube's signature")]
fn retry(pool: Arc<CodeSandboxPool>, _: &Error, context: Arc<Context>) -> Action {
    Action::requeue(context.pool_memory.failed(&pool.name_any()))
}

/// Logs what became of a reconcile.
fn report(
    context: &Context,
    run: Result<(ObjectRef<CodeSandboxPool>, Action), LoopError<Error, watcher::Error>>,
) {
    match run {
        Ok((pool, _)) => debug!(%pool, "reconciled"),
        Err(LoopError::ObjectNotFound(pool)) => {
            context.pool_memory.forget(&pool.name);
            context.lulls.end(&pool.name);
        }
        Err(LoopError::ReconcilerFailed(error @ Error::Conflict { .. }, pool)) => {
            debug!(%pool, %error, "reconciled from an old copy; trying again");
        }
        Err(LoopError::ReconcilerFailed(error, pool)) => {
            warn!(%pool, %error, "reconcile of a pool failed; trying again");
        }
        Err(error) => debug!(%error, "stopped before the pools were known"),
    }
}

#[cfg(test)]
mod tests;
