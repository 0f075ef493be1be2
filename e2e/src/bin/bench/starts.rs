//! A sandbox from the request to the first byte of output, and where the time goes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Instant,
};

use anyhow::Context;
use api::{CodeSandbox, CodeSandboxSpec, condition, names};
use client::{Sandboxes, Session};
use e2e::{Cluster, NAMESPACE, is};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use wire::v1::{Command, RunSpec, run_event::Event, run_spec::What};

/// What is seen on the way, in order.
pub(crate) const STEPS: [&str; 8] = [
    "CodeSandbox created",
    "pod created",
    "pod scheduled",
    "pod running and ready",
    "pod of the pool claimed",
    "CodeSandbox Ready",
    "agent connected",
    "first output",
];

/// Milliseconds from the request to each step; no number where it was not seen.
pub(crate) type Spans = [f64; STEPS.len()];

type Seen = Arc<Mutex<BTreeMap<String, BTreeMap<&'static str, Instant>>>>;

/// Whoever makes sandboxes, as a program over `client` would, and watches how they come.
#[derive(Clone)]
pub(crate) struct Starter {
    cluster: Cluster,
    sandboxes: Arc<Sandboxes>,
    seen: Seen,
}

/// A sandbox that was asked for.
pub(crate) struct Start {
    name: String,
    began: Instant,
    /// As it was when it was ready.
    pub(crate) sandbox: CodeSandbox,
    session: Arc<Session>,
}

impl Starter {
    pub(crate) async fn new(cluster: &Cluster) -> anyhow::Result<Self> {
        let seen = Seen::default();
        watch(cluster.sandboxes.clone(), seen.clone(), |sandbox: &CodeSandbox| {
            is(sandbox, condition::READY).then_some("CodeSandbox Ready").into_iter().collect()
        });
        watch(cluster.pods.clone(), seen.clone(), pod_steps);
        let sandboxes = Sandboxes::new(cluster.client.clone(), NAMESPACE);
        anyhow::ensure!(sandboxes.synced(e2e::PATIENCE).await, "the cache was not filled");
        Ok(Self { cluster: cluster.clone(), sandboxes, seen })
    }

    /// Makes a sandbox and waits until it is ready.
    pub(crate) async fn ready(&self, name: &str, spec: CodeSandboxSpec) -> anyhow::Result<Start> {
        let began = Instant::now();
        let created = self.sandboxes.create(&CodeSandbox::new(name, spec)).await?;
        note(&self.seen, name, "CodeSandbox created");
        let deadline = tokio::time::Instant::now() + e2e::PATIENCE;
        let ready =
            |sandbox: Option<&CodeSandbox>| sandbox.filter(|s| is(s, condition::READY)).cloned();
        let sandbox =
            self.sandboxes.wait(&created, deadline, ready).await.context("it never was ready")?;
        let session = self.sandboxes.session(&sandbox).context("a ready sandbox has a pod")?;
        Ok(Start { name: name.into(), began, sandbox, session })
    }

    /// Connects to its agent.
    pub(crate) async fn connect(&self, start: &Start) -> anyhow::Result<()> {
        start.session.warm().await?;
        note(&self.seen, &start.name, "agent connected");
        Ok(())
    }

    /// Runs a first command, and says how long everything took.
    pub(crate) async fn run(&self, start: &Start) -> anyhow::Result<Spans> {
        let command = Command { argv: vec!["echo".into(), "x".into()], ..Command::default() };
        let mut run = start.session.run(
            "first".into(),
            RunSpec { what: Some(What::Command(command)), ..RunSpec::default() },
        );
        while let Some(event) = run.next().await? {
            if matches!(event.event, Some(Event::Output(_))) {
                note(&self.seen, &start.name, "first output");
            }
        }
        let steps = self.seen.lock().expect("nobody panics").remove(&start.name);
        let steps = steps.unwrap_or_default();
        Ok(STEPS.map(|step| {
            steps
                .get(step)
                .map_or(f64::NAN, |at| at.duration_since(start.began).as_secs_f64() * 1e3)
        }))
    }

    /// Deletes it, and waits until it is gone.
    pub(crate) async fn delete(&self, name: &str) -> anyhow::Result<()> {
        self.cluster.delete(name).await
    }
}

/// What a pod shows of its sandbox's start. One of a pool is known for its sandbox's once that has claimed it.
fn pod_steps(pod: &Pod) -> Vec<&'static str> {
    if pod.labels().contains_key(names::POOL) {
        return vec!["pod of the pool claimed"];
    }
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref());
    let is = |type_: &str| {
        conditions.unwrap_or_default().iter().any(|c| c.type_ == type_ && c.status == "True")
    };
    [
        (true, "pod created"),
        (is("PodScheduled"), "pod scheduled"),
        (is("Ready"), "pod running and ready"),
    ]
    .into_iter()
    .filter_map(|(seen, step)| seen.then_some(step))
    .collect()
}

fn note(seen: &Seen, name: &str, step: &'static str) {
    let mut seen = seen.lock().expect("nobody panics");
    seen.entry(name.into()).or_default().entry(step).or_insert_with(Instant::now);
}

/// Notes when each object first shows each step. A pod counts for the sandbox that owns it.
fn watch<K>(
    api: Api<K>,
    seen: Seen,
    steps: impl Fn(&K) -> Vec<&'static str> + Send + Sync + 'static,
) where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
    K: serde::de::DeserializeOwned,
{
    tokio::spawn(async move {
        let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
        while let Some(event) = futures::StreamExt::next(&mut events).await {
            let Ok(watcher::Event::Apply(object)) = event else { continue };
            let name = match object.owner_references().first() {
                Some(owner) => owner.name.clone(),
                None => object.name_any(),
            };
            for step in steps(&object) {
                note(&seen, &name, step);
            }
        }
    });
}
