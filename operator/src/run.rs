//! `operator run`: the wiring. One loop per namespace, one HTTP server, one token that stops them all.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use api::CodeSandbox;
use kube::{
    Api, Client, ResourceExt,
    api::ListParams,
    runtime::reflector::{self, ObjectRef, Store},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::{
    call::{Caller, Error, Kind, Verb},
    cli::RunArgs,
    config::Config,
    controller::{self, Context},
    events::Publisher,
    health::{HEARTBEAT, Health},
    http,
    memory::Memory,
    metrics::Metrics,
};

/// How often to look whether the CustomResourceDefinition has come.
const CRD_RETRY: Duration = Duration::from_secs(2);
/// How long reconciles may take to end when the operator is stopped; the kubelet waits 30 s.
const SHUTDOWN: Duration = Duration::from_secs(20);

/// Runs the operator until SIGTERM or SIGINT.
pub(crate) fn run(args: RunArgs) -> anyhow::Result<()> {
    // The client logs each connection that fails, and so do we, with what for.
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,kube=warn,kube_client::client::builder=off"));
    // A log nobody reads any more must not end the process.
    tracing_subscriber::fmt().json().with_env_filter(filter).log_internal_errors(false).init();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("could not start the runtime")?
        .block_on(serve(args))
}

async fn serve(mut args: RunArgs) -> anyhow::Result<()> {
    args.namespaces.sort();
    args.namespaces.dedup();
    let client = client().await?;
    let metrics = Metrics::new();
    let health = Health::new(&args.namespaces, Instant::now());
    let config = Arc::new(args.config);
    let stop = CancellationToken::new();

    let mut tasks = JoinSet::new();
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("could not listen on {}", args.listen))?;
    let server = http::serve(listener, metrics.clone(), health.clone(), stop.clone());
    tasks.spawn(async move { server.await.context("the HTTP server failed") });

    let (publisher, publishing) = Publisher::new(client.clone(), metrics.clone());
    tasks.spawn(async move {
        publishing.await;
        Ok(())
    });
    for namespace in args.namespaces {
        info!(%namespace, class = config.class, "watching");
        let caller = Caller { client: client.clone(), namespace, metrics: metrics.clone() };
        let namespace = watch_namespace(
            caller,
            config.clone(),
            publisher.clone(),
            health.clone(),
            stop.clone(),
        );
        tasks.spawn(async move {
            namespace.await;
            Ok(())
        });
    }
    // The publisher ends when the last namespace has dropped its own.
    drop(publisher);
    supervise(tasks, stop).await
}

/// Without kube's own retries: they would repeat a request for longer than its deadline, and each reconcile that
/// fails is tried again anyway.
async fn client() -> anyhow::Result<Client> {
    let mut config = kube::Config::infer().await.context("found no way to reach a cluster")?;
    config.default_retry = false;
    Client::try_from(config).context("could not make a client")
}

/// Waits for the signal, or for a task to end that should not, then gives the others time to end.
async fn supervise(
    mut tasks: JoinSet<anyhow::Result<()>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("could not await SIGTERM")?;
    let mut result = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
        ended = tasks.join_next() => unexpected(ended),
    };
    info!("stopping");
    stop.cancel();
    let rest = async {
        while let Some(ended) = tasks.join_next().await {
            let ended = ended.context("a task panicked").and_then(|ended| ended);
            if result.is_ok() {
                result = ended;
            }
        }
    };
    if tokio::time::timeout(SHUTDOWN, rest).await.is_err() {
        bail!("reconciles were cut off after {} s", SHUTDOWN.as_secs());
    }
    result
}

fn unexpected(
    ended: Option<Result<anyhow::Result<()>, tokio::task::JoinError>>,
) -> anyhow::Result<()> {
    match ended {
        Some(Ok(Err(error))) => Err(error),
        Some(Err(error)) => Err(error).context("a task panicked"),
        Some(Ok(Ok(()))) | None => bail!("a task ended early"),
    }
}

/// Waits for the CustomResourceDefinition, then runs the namespace's loop.
async fn watch_namespace(
    caller: Caller,
    config: Arc<Config>,
    publisher: Publisher,
    health: Health,
    stop: CancellationToken,
) {
    let namespace = caller.namespace.clone();
    tokio::select! {
        () = wait_for_crd(&caller, &health) => {}
        () = stop.cancelled() => return,
    }
    let (policies, writer) = reflector::store();
    let context = Arc::new(Context {
        caller: caller.clone(),
        config,
        policies: policies.clone(),
        memory: Memory::default(),
        publisher,
    });
    let (sandboxes, running) = controller::controller(context, writer, stop);
    let watching = async {
        health.waits(&namespace, "waiting for the first lists");
        // These fail only when the loop has ended.
        if sandboxes.wait_until_ready().await.is_ok() && policies.wait_until_ready().await.is_ok() {
            info!(%namespace, sandboxes = sandboxes.len(), "ready");
            health.works(&namespace);
        }
        heartbeat(&caller, &sandboxes, &health).await;
    };
    tokio::select! {
        () = running => {}
        () = watching => {}
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

/// Any one sandbox of the namespace.
async fn look(caller: &Caller) -> Result<Option<CodeSandbox>, Error> {
    let sandboxes: Api<CodeSandbox> = caller.api();
    let first = ListParams::default().limit(1);
    let list = caller.request(Verb::List, Kind::CodeSandbox, "", sandboxes.list(&first)).await?;
    Ok(list.items.into_iter().next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Answer, server};

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
            let health = Health::new(&["demo".into()], Instant::now());
            wait_for_crd(&caller, &health).await;
            assert_eq!(log.requests().len(), 2);
            let waiting = health.ready().unwrap_err();
            assert!(waiting.contains(expected), "{waiting}");
        }
    }
}
