//! From nothing to the first byte of output, and where the time goes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Instant,
};

use anyhow::Context;
use api::{CodeSandbox, Settings, condition};
use client::Sandboxes;
use e2e::{Cluster, NAMESPACE, deaths::node, is};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use wire::v1::{Command, RunSpec, run_event::Event, run_spec::What};

/// What is seen on the way, in order.
pub(crate) const STEPS: [&str; 7] = [
    "CodeSandbox created",
    "pod created",
    "pod scheduled",
    "pod running and ready",
    "CodeSandbox Ready",
    "agent connected",
    "first output",
];

/// What was measured, for each sandbox.
#[derive(Default)]
pub(crate) struct Cold {
    /// Milliseconds from the request to each step.
    pub(crate) spans: Vec<[f64; STEPS.len()]>,
    /// The memory of an agent that nobody has come to yet, in KiB. None where the node is not this machine, or the runtime
    /// shows it no processes.
    pub(crate) fresh_kib: Vec<f64>,
    /// The same once somebody has come and nothing has been run: an open stream is no use of a sandbox, so it is idle.
    pub(crate) idle_kib: Vec<f64>,
}

type Seen = Arc<Mutex<BTreeMap<String, BTreeMap<&'static str, Instant>>>>;

/// Makes sandboxes one after the other, as a program over `client` would.
pub(crate) async fn measure(
    cluster: &Cluster,
    spec: &Settings,
    count: usize,
) -> anyhow::Result<Cold> {
    let seen = Seen::default();
    watch(cluster.sandboxes.clone(), seen.clone(), |sandbox: &CodeSandbox| {
        is(sandbox, condition::READY).then_some("CodeSandbox Ready").into_iter().collect()
    });
    watch(cluster.pods.clone(), seen.clone(), pod_steps);
    let sandboxes = Sandboxes::new(cluster.client.clone(), NAMESPACE);
    anyhow::ensure!(sandboxes.synced(e2e::PATIENCE).await, "the cache was not filled");

    let mut cold = Cold::default();
    for index in 0..count {
        let name = format!("bench-cold-{index}");
        cluster.delete(&name).await?;
        let began = Instant::now();
        let created = sandboxes.create(&CodeSandbox::new(&name, spec.clone().into())).await?;
        note(&seen, &name, "CodeSandbox created");
        let deadline = tokio::time::Instant::now() + e2e::PATIENCE;
        let ready =
            |sandbox: Option<&CodeSandbox>| sandbox.filter(|s| is(s, condition::READY)).cloned();
        let ready =
            sandboxes.wait(&created, deadline, ready).await.context("it never was ready")?;
        let fresh = agent_kib(&ready);
        let session = sandboxes.session(&ready).context("a ready sandbox has a pod")?;
        session.warm().await?;
        note(&seen, &name, "agent connected");
        let idle = agent_kib(&ready);
        let command = Command { argv: vec!["echo".into(), "x".into()], ..Command::default() };
        let mut run = session.run(
            "first".into(),
            RunSpec { what: Some(What::Command(command)), ..RunSpec::default() },
        );
        while let Some(event) = run.next().await? {
            if matches!(event.event, Some(Event::Output(_))) {
                note(&seen, &name, "first output");
            }
        }
        let steps = seen.lock().expect("nobody panics").remove(&name).unwrap_or_default();
        cold.fresh_kib.extend(fresh);
        cold.idle_kib.extend(idle);
        cold.spans.push(STEPS.map(|step| {
            steps.get(step).map_or(f64::NAN, |at| at.duration_since(began).as_secs_f64() * 1e3)
        }));
        cluster.delete(&name).await?;
    }
    Ok(cold)
}

#[expect(clippy::cast_precision_loss, reason = "some thousands")]
fn agent_kib(sandbox: &CodeSandbox) -> Option<f64> {
    let pod = sandbox.status.as_ref()?.pod_uid.as_deref()?;
    let agent = node::processes(pod).into_iter().find(node::Process::is_agent)?;
    Some(agent.usage()?.rss_kib as f64)
}

fn pod_steps(pod: &Pod) -> Vec<&'static str> {
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
