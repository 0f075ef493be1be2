//! One namespace, from the wait for its CustomResourceDefinition to its end: the loop over its sandboxes, whether that
//! loop still sees what is there, and the sweep of what is left over.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use api::CodeSandbox;
use futures::future;
use kube::{
    Api, ResourceExt,
    api::ListParams,
    core::DeserializeGuard,
    runtime::reflector::{self, ObjectRef, Store},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    act::claim::Claimed,
    call::{Caller, Error, Kind, Verb},
    config::Config,
    controller::{self, Context},
    events::Publisher,
    health::{HEARTBEAT, Health},
    injection::Runtimes,
    memory::Memory,
    news::News,
    pool::{self, lull::Lulls},
    sweep, template,
    watched::Watched,
};

/// How often to look whether the CustomResourceDefinition has come.
const CRD_RETRY: Duration = Duration::from_secs(2);

/// How long to wait until templates that could not be applied are tried again.
const TEMPLATES_RETRY: Duration = Duration::from_secs(10);

/// Waits for the CustomResourceDefinition, then runs the namespace's loop.
pub(crate) async fn work(
    caller: Caller,
    config: Arc<Config>,
    runtimes: Arc<Runtimes>,
    publisher: Publisher,
    health: Health,
    stop: CancellationToken,
) {
    let namespace = caller.namespace.clone();
    tokio::select! {
        () = wait_for_crd(&caller, &health) => {}
        () = stop.cancelled() => return,
    }
    let judging = {
        let (caller, config, stop) = (caller.clone(), config.clone(), stop.clone());
        async move {
            stop.run_until_cancelled(apply_templates(&caller, &config)).await;
            template::controller::controller(caller, config, stop).await;
        }
    };
    let ((policies, policies_writer), (templates, templates_writer)) =
        (reflector::store(), reflector::store());
    let ((pools, pools_writer), (members, members_writer)) =
        (reflector::store(), reflector::store());
    let class = config.class.clone();
    let context = Arc::new(Context {
        caller: caller.clone(),
        config,
        policies: Watched::new(policies),
        templates: Watched::new(templates),
        pools: Watched::new(pools),
        members: Watched::new(members),
        memory: Memory::default(),
        pool_memory: Memory::default(),
        lulls: Lulls::default(),
        claimed: Claimed::default(),
        made_of: News::default(),
        runtimes,
        publisher,
    });
    let (sandboxes, running) =
        controller::controller(context.clone(), policies_writer, templates_writer, stop.clone());
    let pooling =
        pool::controller::controller(context.clone(), pools_writer, members_writer, stop.clone());
    caller.metrics.shows(sandboxes.clone(), class, context.members.store.clone());
    let watching = async {
        health.waits(&namespace, "waiting for the first lists");
        // These fail only when the loop has ended.
        if sandboxes.wait_until_ready().await.is_ok() && context.policies.shown().await.is_ok() {
            info!(%namespace, sandboxes = sandboxes.len(), "ready");
            health.works(&namespace);
        }
        heartbeat(&caller, &sandboxes, &health).await;
    };
    // They end when they are told to stop, and not before: what the sweep removes just then is a write, too.
    let sweeping = sweep::run(&context, &sandboxes, &stop);
    let working = future::join4(running, judging, pooling, sweeping);
    tokio::select! {
        ((), (), (), ()) = working => {}
        () = watching => {}
    }
}

/// Makes the templates that come with the installation, however long it takes. Sandboxes can be made meanwhile.
async fn apply_templates(caller: &Caller, config: &Config) {
    while let Err(error) =
        template::shipped::apply(&config.templates, &config.instance, caller).await
    {
        warn!(namespace = caller.namespace, %error, "could not apply the templates of the chart's value `templates`; trying again");
        tokio::time::sleep(TEMPLATES_RETRY).await;
    }
}

/// Returns once the kind can be listed. To ask for the CRD itself would take rights in the whole cluster.
async fn wait_for_crd(caller: &Caller, health: &Health) {
    let mut said = "";
    loop {
        let Err(error) = look(caller).await else { return };
        let waiting = if error.has_code(404) {
            "waiting for the CustomResourceDefinition codesandboxes.codesandbox.dev; install it (crds/codesandboxes.yaml)"
        } else if error.has_code(403) {
            "waiting for the right to list codesandboxes in this namespace; see the chart's Role"
        } else {
            "waiting for the API server"
        };
        if said != waiting {
            warn!(namespace = caller.namespace, %error, "{waiting}");
            said = waiting;
        }
        health.waits(&caller.namespace, waiting);
        health.beat(&caller.namespace, Instant::now());
        tokio::time::sleep(CRD_RETRY).await;
    }
}

/// Looks at the namespace for ever, and sees whether the watch shows the same.
async fn heartbeat(caller: &Caller, sandboxes: &Store<CodeSandbox>, health: &Health) {
    let mut suspect = None;
    loop {
        if let Ok(first) = look(caller).await {
            let differs = first.filter(|seen| !shown(sandboxes, seen));
            // A watch may be behind for a moment, but not for a minute.
            let version = differs.as_ref().and_then(ResourceExt::resource_version);
            if version.is_none() || version != suspect {
                health.beat(&caller.namespace, Instant::now());
                caller.metrics.progressed(jiff::Timestamp::now());
            }
            suspect = version;
        }
        tokio::time::sleep(HEARTBEAT).await;
    }
}

/// Whether the watch shows a sandbox as it is.
fn shown(sandboxes: &Store<CodeSandbox>, seen: &CodeSandbox) -> bool {
    let shown = sandboxes.get(&ObjectRef::from_obj(seen));
    shown.is_some_and(|shown| shown.resource_version() == seen.resource_version())
}

/// Any one sandbox of the namespace. One that cannot be decoded tells nothing, since the watch does not show it.
async fn look(caller: &Caller) -> Result<Option<CodeSandbox>, Error> {
    let sandboxes: Api<DeserializeGuard<CodeSandbox>> = caller.api();
    let first = ListParams::default().limit(1);
    let list = caller.request(Verb::List, Kind::CodeSandbox, "", sandboxes.list(&first)).await?;
    Ok(list.items.into_iter().find_map(|sandbox| sandbox.0.ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        call::DEADLINE,
        injection::{AgentInjection, Way},
        metrics::Metrics,
        pod,
        testing::{Answer, config, sandbox, server},
    };

    #[tokio::test(start_paused = true)]
    async fn the_operator_waits_for_what_is_missing_and_says_so() {
        for (answer, expected) in [
            (Answer::Text(404, "404 page not found"), "CustomResourceDefinition"),
            (Answer::Refuse(403, "Forbidden", "cannot list"), "the right to list"),
            (Answer::Drop, "the API server"),
        ] {
            let mut answer = Some(answer);
            let empty = serde_json::json!({"metadata": {}, "items": []});
            let (client, log) =
                server(move |_| answer.take().unwrap_or_else(|| Answer::Object(empty.clone())));
            let caller = Caller { client, namespace: "demo".into(), metrics: Metrics::new() };
            let health = Health::default();
            health.begins(&["demo".into()], Instant::now());
            wait_for_crd(&caller, &health).await;
            assert_eq!(log.requests().len(), 2);
            let waiting = health.ready().unwrap_err();
            assert!(waiting.contains(expected), "{waiting}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_removal_under_way_is_waited_for_when_the_operator_stops() {
        let pod = pod::pod(&sandbox(), &config(), Way::ImageVolume, 1).metadata;
        let mut pod = serde_json::to_value(pod).unwrap();
        pod["uid"] = "pod-uid".into();
        pod["ownerReferences"].take();
        let list =
            |items| serde_json::json!({"metadata": {"resourceVersion": "5"}, "items": items});
        let orphans = list(vec![serde_json::json!({"metadata": pod})]);
        let (client, log) = server(move |request| match request {
            "GET pods" => Answer::Object(orphans.clone()),
            "GET codesandboxes" | "GET codesandboxtemplates" | "GET networkpolicies" => {
                Answer::Object(list(vec![]))
            }
            _ => Answer::Silence,
        });
        let metrics = Metrics::new();
        let (publisher, publishing) = Publisher::new(client.clone(), metrics.clone());
        std::mem::forget(publishing);
        let caller = Caller { client, namespace: "demo".into(), metrics };
        let (runtimes, stop) =
            (Arc::new(Runtimes::new(AgentInjection::Auto)), CancellationToken::new());
        let config = Arc::new(config());
        let work = work(caller, config, runtimes, publisher, Health::default(), stop.clone());
        let mut work = std::pin::pin!(work);
        tokio::time::timeout(Duration::from_secs(181), &mut work).await.unwrap_err();
        assert_eq!(log.requests().last().unwrap(), "DELETE pods/box-1");
        stop.cancel();
        tokio::time::timeout(DEADLINE / 2, &mut work).await.unwrap_err();
        tokio::time::timeout(DEADLINE, work).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_sandbox_that_cannot_be_decoded_holds_up_nothing() {
        let bad = serde_json::json!({"metadata": {"name": "bad"}, "spec": 7});
        let list = serde_json::json!({"metadata": {}, "items": [bad]});
        let (client, log) = server(move |_| Answer::Object(list.clone()));
        let caller = Caller { client, namespace: "demo".into(), metrics: Metrics::new() };
        let health = Health::default();
        tokio::time::timeout(CRD_RETRY, wait_for_crd(&caller, &health)).await.unwrap();
        assert_eq!(log.requests().len(), 1);
    }
}
