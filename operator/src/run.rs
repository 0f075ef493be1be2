//! `operator run`: the wiring. One HTTP server, one Lease, one loop per namespace, one signal that stops them all.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use kube::Client;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing_subscriber::EnvFilter;

use crate::{
    call::Caller,
    cli::{ElectionArgs, RunArgs},
    config::Config,
    elector::Elector,
    events::Publisher,
    health::Health,
    http,
    injection::Runtimes,
    metrics::Metrics,
    namespace,
};

/// How long reconciles may take to end when the operator is stopped; the kubelet waits 30 s.
const SHUTDOWN: Duration = Duration::from_secs(20);
/// How long what is left may take after that: events that wait, scrapes under way.
const LAST_WORDS: Duration = Duration::from_secs(3);

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
    let stop = on_signal()?;
    let client = client().await?;
    let metrics = Metrics::new();
    let health = Health::default();
    let ElectionArgs { leader_elect, lease_namespace, lease_name, pod_name } = args.election;
    let elector = lease_namespace.filter(|_| leader_elect).map(|namespace| {
        let caller = Caller { client: client.clone(), namespace, metrics: metrics.clone() };
        Elector::new(caller, lease_name, &pod_name, health.clone())
    });

    let mut services = JoinSet::new();
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("could not listen on {}", args.listen))?;
    let done = CancellationToken::new();
    let server = http::serve(listener, metrics.clone(), health.clone(), done.clone());
    services.spawn(async move { server.await.context("the HTTP server failed") });
    let (publisher, publishing) = Publisher::new(client.clone(), metrics.clone());
    services.spawn(async move {
        publishing.await;
        Ok(())
    });

    let namespaces = args.namespaces;
    let work = Work {
        client,
        namespaces,
        config: Arc::new(args.config),
        metrics,
        health,
        publisher: publisher.clone(),
    };
    // Where either fails, nothing is waited for: another operator may act already.
    tokio::select! {
        ended = lead(elector, work, stop) => ended?,
        ended = services.join_next() => unexpected(ended)?,
    }
    done.cancel();
    // The publisher's task ends with the last publisher, which is this one.
    drop(publisher);
    // What is cut off here is an event or a scrape, and no failure.
    let _ = tokio::time::timeout(LAST_WORDS, services.join_all()).await;
    Ok(())
}

/// Cancelled by SIGTERM or SIGINT.
fn on_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("could not await SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("could not await SIGINT")?;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("stopping");
        stopped.cancel();
    });
    Ok(stop)
}

/// Without kube's own retries: they would repeat a request for longer than its deadline, and each reconcile that
/// fails is tried again anyway.
async fn client() -> anyhow::Result<Client> {
    let mut config = kube::Config::infer().await.context("found no way to reach a cluster")?;
    config.default_retry = false;
    Client::try_from(config).context("could not make a client")
}

/// Does the work, alone or for as long as the Lease is ours.
async fn lead(elector: Option<Elector>, work: Work, stop: CancellationToken) -> anyhow::Result<()> {
    let Some(mut elector) = elector else { return work.run(stop).await };
    tokio::select! {
        () = elector.acquire() => {}
        () = stop.cancelled() => return Ok(()),
    }
    tokio::select! {
        ended = work.run(stop) => ended?,
        lost = elector.hold() => {
            return Err(lost).context("stopped at once, since another operator may act now");
        }
    }
    // After the last write of ours, and only if it is known to be the last: else the Lease has to run out.
    elector.release().await;
    Ok(())
}

/// What the one operator that acts does.
struct Work {
    client: Client,
    namespaces: Vec<String>,
    config: Arc<Config>,
    metrics: Metrics,
    health: Health,
    publisher: Publisher,
}

impl Work {
    /// Runs the namespaces' loops until they are stopped and their reconciles have ended.
    async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        self.metrics.leads();
        self.health.begins(&self.namespaces, Instant::now());
        let mut loops = JoinSet::new();
        // Nodes and their runtimes are everybody's.
        let runtimes = Arc::new(Runtimes::new(self.config.agent_injection));
        for namespace in self.namespaces {
            info!(%namespace, class = self.config.class, "watching");
            let caller =
                Caller { client: self.client.clone(), namespace, metrics: self.metrics.clone() };
            loops.spawn(namespace::work(
                caller,
                self.config.clone(),
                runtimes.clone(),
                self.publisher.clone(),
                self.health.clone(),
                stop.clone(),
            ));
        }
        tokio::select! {
            // First, since the loops, too, end when they are told to stop.
            biased;
            () = stop.cancelled() => {}
            ended = loops.join_next() => return unexpected(ended.map(|ended| ended.map(Ok))),
        }
        let drained = async {
            while let Some(ended) = loops.join_next().await {
                ended.context("a task panicked")?;
            }
            Ok(())
        };
        match tokio::time::timeout(SHUTDOWN, drained).await {
            Ok(ended) => ended,
            Err(_) => bail!("reconciles were cut off after {} s", SHUTDOWN.as_secs()),
        }
    }
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

#[cfg(test)]
mod tests;
