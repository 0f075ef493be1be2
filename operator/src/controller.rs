//! The loop of one namespace: what is watched, what a reconcile is, what becomes of its failures.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use api::{CodeSandbox, CodeSandboxPool, CodeSandboxTemplate, reason};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::{core::v1::Pod, networking::v1::NetworkPolicy};
use kube::{
    Resource, ResourceExt,
    runtime::{
        Controller,
        controller::{Action, Config as Runner, Error as LoopError},
        reflector::{self, ObjectRef, Store, store::Writer},
        watcher,
    },
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    act::{self, Done, claim::Claimed},
    call::{Caller, Error, Kind},
    config::Config,
    events::{self, Publisher},
    injection::{Injection, Runtimes},
    memory::Memory,
    metrics::Outcome,
    network,
    news::News,
    observe::{self, Observed},
    plan::{self, Action as Step, Plan},
    pool::lull::Lulls,
    probe::Verdict,
    status, template, watch,
    watched::Watched,
};

/// How many sandboxes of a namespace are reconciled at once: each takes a connection to the API server.
const CONCURRENCY: u16 = 8;
/// How many actions a reconcile takes at most; three make a sandbox from nothing.
const MAX_ACTIONS: usize = 6;

/// What the reconciles of a namespace share.
pub(crate) struct Context {
    pub(crate) caller: Caller,
    pub(crate) config: Arc<Config>,
    /// The namespace's network policies, as its watch shows them.
    pub(crate) policies: Watched<NetworkPolicy>,
    /// Its templates.
    pub(crate) templates: Watched<CodeSandboxTemplate>,
    /// Its pools.
    pub(crate) pools: Watched<CodeSandboxPool>,
    /// The pods of its pools, and those that were.
    pub(crate) members: Watched<Pod>,
    pub(crate) memory: Memory,
    /// The same about pools.
    pub(crate) pool_memory: Memory,
    /// How long their statuses have been left as they are.
    pub(crate) lulls: Lulls,
    /// The pods of pools that sandboxes have just claimed.
    pub(crate) claimed: Claimed,
    /// That templates or policies have changed, which is of interest to all pools.
    pub(crate) made_of: News,
    /// What is known of the runtimes, which the namespaces share.
    pub(crate) runtimes: Arc<Runtimes>,
    pub(crate) publisher: Publisher,
}

/// The namespace's sandboxes as the watch shows them, and the loop over them, which runs until it is stopped.
pub(crate) fn controller(
    context: Arc<Context>,
    policies: Writer<NetworkPolicy>,
    templates: Writer<CodeSandboxTemplate>,
    stop: CancellationToken,
) -> (Store<CodeSandbox>, impl Future<Output = ()> + Send) {
    let (sandboxes, writer) = reflector::store();
    let changes = watch::sandboxes(&context.caller, writer).map(Ok);
    let pods = watch::pods(&context.caller, &context.config.instance).map(Ok);
    // The store of policies is filled by the same watch that says whom to judge again: with two, a sandbox could be
    // judged by the policies of before the change, and nobody would call again.
    let shown = sandboxes.clone();
    let told_pools = context.clone();
    let judged_anew = watch::policies(&context.caller, policies)
        .inspect(move |_| told_pools.made_of.tell())
        .flat_map(move |policy| stream::iter(affected(&policy, &shown)));
    let (shown, config) = (sandboxes.clone(), context.config.clone());
    let told_pools = context.clone();
    let made_anew = watch::templates(&context.caller, templates)
        .inspect(move |_| told_pools.made_of.tell())
        .flat_map(move |template| stream::iter(made_from(&template, &shown, &config)));
    let shown = sandboxes.clone();
    let told = context.runtimes.news().flat_map(move |()| stream::iter(waiting(&shown)));
    let runs = Controller::for_stream(changes, sandboxes.clone())
        .with_config(Runner::default().concurrency(CONCURRENCY))
        .owns_stream(pods)
        .reconcile_on(judged_anew)
        .reconcile_on(made_anew)
        .reconcile_on(told)
        .graceful_shutdown_on(async move { stop.cancelled().await })
        .run(reconcile, retry, context.clone());
    let task = runs.for_each(move |run| {
        report(&context, run);
        futures::future::ready(())
    });
    (sandboxes, task)
}

/// The sandboxes that a policy concerns: the one it was made for, or else any.
fn affected(policy: &NetworkPolicy, sandboxes: &Store<CodeSandbox>) -> Vec<ObjectRef<CodeSandbox>> {
    if let Some(owner) = network::made_for(policy) {
        let namespace = policy.namespace().unwrap_or_default();
        return vec![ObjectRef::new(&owner).within(&namespace)];
    }
    sandboxes.state().iter().map(|sandbox| ObjectRef::from_obj(sandbox.as_ref())).collect()
}

/// The sandboxes that a template concerns: those that were made from it, and those that are to be.
fn made_from(
    template: &CodeSandboxTemplate,
    sandboxes: &Store<CodeSandbox>,
    config: &Config,
) -> Vec<ObjectRef<CodeSandbox>> {
    let changed = template.name_any();
    let concerned = |sandbox: &CodeSandbox| {
        let bound = sandbox.status.as_ref().and_then(|status| status.template.as_ref());
        let name = bound.map(|bound| bound.name.as_str());
        name.or_else(|| template::name(sandbox, config)) == Some(changed.as_str())
    };
    let shown = sandboxes.state().into_iter().filter(|sandbox| concerned(sandbox));
    shown.map(|sandbox| ObjectRef::from_obj(sandbox.as_ref())).collect()
}

/// The sandboxes that may wait for a probe, as far as the watch shows. Who says something else is not woken: those that
/// are refused, for want of their RuntimeClass perhaps, would wake each other.
fn waiting(sandboxes: &Store<CodeSandbox>) -> Vec<ObjectRef<CodeSandbox>> {
    let shown = sandboxes.state().into_iter();
    shown
        .filter(|sandbox| sandbox.status.is_none() || observe::is_probing(sandbox))
        .map(|sandbox| ObjectRef::from_obj(sandbox.as_ref()))
        .collect()
}

/// Brings one sandbox closer to what it should be.
async fn reconcile(sandbox: Arc<CodeSandbox>, context: Arc<Context>) -> Result<Action, Error> {
    let metrics = &context.caller.metrics;
    if sandbox.spec.class_name != context.config.class {
        metrics.reconciled(Outcome::Ignored, Duration::ZERO);
        return Ok(Action::await_change());
    }
    let (start, now) = (Instant::now(), Timestamp::now());
    let name = sandbox.name_any();
    let sandbox = context.memory.newest(sandbox, start);
    let result = settle(&sandbox, &context, now).await;
    let outcome = match &result {
        Ok(_) if context.memory.refusal(&name, now).is_some() => Outcome::Refused,
        Ok(_) => Outcome::Ok,
        Err(Error::Conflict { .. }) => Outcome::Conflict,
        Err(_) => Outcome::Error,
    };
    metrics.reconciled(outcome, start.elapsed());
    if let Ok(requeue) = result {
        metrics.progressed(now);
        context.memory.succeeded(&name, outcome == Outcome::Refused);
        return Ok(requeue.map_or_else(Action::await_change, Action::requeue));
    }
    result.map(|_| Action::await_change())
}

/// Observes, plans and acts until nothing is left to do, then writes the status. Gives when to look again.
async fn settle(
    sandbox: &CodeSandbox,
    context: &Context,
    now: Timestamp,
) -> Result<Option<Duration>, Error> {
    let Context { caller, config, memory, runtimes, .. } = context;
    let name = sandbox.name_any();
    // Asked once: what becomes known meanwhile is for the next reconcile, which looks at what that depends on.
    let injection = runtimes.injection(sandbox, now);
    let mut observed = observe::observe(context, sandbox, injection, now).await?;
    observed.refusal = memory.refusal(&name, now);
    let asks = observed.pod.is_none() && sandbox.rest().is_none();
    if !asks && matches!(injection, Injection::Asking(_)) {
        // It has a pod by now, or wants none, and will not look at its probe any more.
        runtimes.release(&caller.namespace, &name);
    }
    runtimes.saw(sandbox, observed.pod.as_ref());

    let mut failure = None;
    let mut plan = plan::plan(sandbox, &observed, config, now);
    for _ in 0..MAX_ACTIONS {
        let Some(action) = &plan.action else { break };
        if plan.ends() {
            memory.ends(&name, (plan.events.clone(), sandbox.object_ref(&())));
        }
        match carry_out(action, sandbox, &mut observed, context, now).await {
            Ok(Done::Observed) => {}
            Ok(Done::Refused { kind, object, words }) => {
                observed.refusal = Some(memory.refused(&name, kind, object, words, now));
            }
            Ok(Done::Gone) => {
                tell_end(context, &name);
                return Ok(None);
            }
            Err(error) => {
                if matches!(error, Error::Conflict { .. }) {
                    // It was judged from an old copy: what ends it, if anything, is to be judged anew.
                    memory.last_words(&name);
                }
                failure = Some(error);
                break;
            }
        }
        plan = plan::plan(sandbox, &observed, config, now);
    }
    if plan.action.is_some() && failure.is_none() {
        failure = Some(Error::Unsettled { object: name.clone() });
    }
    if plan.events.iter().any(|notice| notice.reason == reason::AGENT_INJECTION_FAILED) {
        runtimes.doubt(sandbox, now);
    }
    // Even after a failure to make something: what was seen is true all the same, and isolation may have been lost.
    if !plan.deletes() {
        write_status(sandbox, context, &mut plan).await?;
    }
    if let Some((warning, _)) = plan.warning.filter(|(_, end)| memory.warns(&name, *end)) {
        context.publisher.publish(vec![warning], &sandbox.object_ref(&()));
    }
    failure.map_or(Ok(plan.requeue), Err)
}

/// Carries out an action, and keeps what is known of the runtimes in step with it.
async fn carry_out(
    action: &Step,
    sandbox: &CodeSandbox,
    observed: &mut Observed,
    context: &Context,
    now: Timestamp,
) -> Result<Done, Error> {
    let Context { caller, runtimes, .. } = context;
    if let Step::Claim(claims) = action {
        return act::claim::claim(caller, claims, &context.claimed, observed).await;
    }
    if matches!(action, Step::CreateProbe(_)) {
        observed.injection = runtimes.ask(sandbox, now);
        if !matches!(observed.injection, Injection::Asking(_)) {
            return Ok(Done::Observed);
        }
    }
    let done = act::act(caller, action, observed).await?;
    let verdict = match (action, &done) {
        (Step::Conclude(verdict), _) => verdict.clone(),
        (Step::CreateProbe(_), Done::Refused { words, .. }) => {
            runtimes.release(&caller.namespace, &sandbox.name_any());
            if status::missing_runtime_class(sandbox, words).is_some() {
                return Ok(done);
            }
            Verdict::Unclear(words.clone())
        }
        _ => return Ok(done),
    };
    info!(runtime_class = sandbox.effective().runtime_class_name, ?verdict, "probed image volumes");
    observed.injection = Injection::By(verdict.way());
    runtimes.settle(sandbox, &verdict, now);
    let notices = events::judged(&verdict).into_iter().collect();
    context.publisher.publish(notices, &sandbox.object_ref(&()));
    Ok(Done::Observed)
}

/// Writes the status where it is another one, then tells about it.
async fn write_status(
    sandbox: &CodeSandbox,
    context: &Context,
    plan: &mut Plan,
) -> Result<(), Error> {
    let Some(status) = plan.status.take() else { return Ok(()) };
    let Some(written) =
        act::write_status(&context.caller, Kind::CodeSandboxStatus, sandbox, &status).await?
    else {
        return Ok(());
    };
    context.memory.wrote(sandbox, written);
    let had = sandbox.status.as_ref().and_then(|status| status.pod_uid.as_ref());
    if let Some(start) = status.start.as_ref().filter(|_| status.pod_uid.as_ref() != had) {
        context.caller.metrics.started(start);
    }
    if status.is_true(api::condition::READY)
        && let Some(took) = context.memory.ready(&sandbox.name_any(), Instant::now())
    {
        context.caller.metrics.ready(took);
    }
    context.publisher.publish(std::mem::take(&mut plan.events), &sandbox.object_ref(&()));
    Ok(())
}

/// Tells how a sandbox ended that is gone, where its deletion was ours. One that somebody else deleted has no event of its
/// own: it would be one more write in most lives, and that the watch shows a sandbox no more does not say that it was deleted.
fn tell_end(context: &Context, name: &str) {
    if let Some((notices, about)) = context.memory.last_words(name) {
        context.publisher.publish(notices, &about);
    }
}

/// When to try again after a failure.
#[expect(clippy::needless_pass_by_value, reason = "kube's signature")]
fn retry(sandbox: Arc<CodeSandbox>, _: &Error, context: Arc<Context>) -> Action {
    Action::requeue(context.memory.failed(&sandbox.name_any()))
}

/// Logs what became of a reconcile: failures once, here, with their causes.
fn report(
    context: &Context,
    run: Result<(ObjectRef<CodeSandbox>, Action), LoopError<Error, watcher::Error>>,
) {
    match run {
        Ok((sandbox, _)) => debug!(%sandbox, "reconciled"),
        Err(LoopError::ObjectNotFound(sandbox)) => {
            tell_end(context, &sandbox.name);
            context.memory.forget(&sandbox.name);
            context.runtimes.release(&context.caller.namespace, &sandbox.name);
        }
        Err(LoopError::ReconcilerFailed(error @ Error::Conflict { .. }, sandbox)) => {
            debug!(%sandbox, %error, "reconciled from an old copy; trying again");
        }
        Err(LoopError::ReconcilerFailed(error, sandbox)) => {
            warn!(%sandbox, %error, "reconcile failed; trying again");
        }
        Err(LoopError::QueueError(error)) => {
            warn!(%error, "a watch failed; trying again");
        }
        Err(LoopError::RunnerError(error)) => {
            info!(
                %error,
                "stopped before the sandboxes were known"
            );
        }
    }
}

#[cfg(test)]
mod tests;
