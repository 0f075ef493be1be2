//! `make bench`: how long and how much, on the cluster of `KUBECONFIG`, with counts that do not depend on the machine.
//!
//! Reads `CODESANDBOX_URL` and `CODESANDBOX_TOKEN`. Where the cluster is the embedded one,
//! `CLUSTER_AUDIT_LOG` and `ETCD_METRICS` say where writes are counted.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

mod bulk;
mod calls;
mod cold;
mod contexts;
mod floors;
mod mcp;
mod report;
mod starts;
mod warm;
mod writes;

use anyhow::Context;
use api::Settings;
use e2e::{Cluster, pool::Pool};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Api;

use report::Report;

/// How many sandboxes are made from nothing.
const COLD: usize = 25;
/// How many sandboxes are taken from a pool, two a second.
const WARM: u32 = 80;
/// How many times the live context is asked.
const CALLS: usize = 1000;
/// How many times what others do is done.
const FLOORS: usize = 200;
/// How many lives the writes are counted over.
const LIVES: usize = 10;
/// The RuntimeClass that is measured beside the default, where the cluster has it.
const GVISOR: &str = "gvisor";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let mcp = mcp::Mcp::from_env()?;
    let mut report = Report::new().context("what machine is this?")?;
    let classes: Api<RuntimeClass> = Api::all(cluster.client.clone());
    let gvisor = classes.get_opt(GVISOR).await?.map(|_| GVISOR);

    for runtime in std::iter::once(None).chain(gvisor.map(Some)) {
        let name = runtime.unwrap_or("runc");
        let spec = Settings { runtime_class_name: runtime.map(String::from), ..e2e::spec() };
        report.say(&format!("{name}: cold create → first output, {COLD} times"));
        report.cold(name, &cold::measure(&cluster, &spec, COLD).await?);

        let sandbox = cluster.ready_for_mcp(&format!("bench-{name}"), spec).await?;
        report.say(&format!("{name}: calls on a live sandbox, {CALLS} times each"));
        report.calls(name, &calls::live(&mcp, &sandbox.name(), CALLS).await?);
        if runtime.is_none() {
            report.say(&format!("{name}: contexts, {FLOORS} times each"));
            report.contexts(name, &contexts::measure(&sandbox, FLOORS).await?);
            report.say(&format!("calls that reach no sandbox, {CALLS} times each"));
            report.trivial(&calls::trivial(&mcp, &sandbox.name(), CALLS).await?);
        }
        report.say(&format!("{name}: a fresh pods/exec for each call, {FLOORS} times each"));
        report.floors(name, &floors::exec(&cluster.pods, &sandbox, FLOORS).await?);
        report.say(&format!("{name}: 100 MiB up and down"));
        report.bulk(name, &bulk::measure(&sandbox).await?);
        sandbox.delete().await?;
    }
    if let Ok(python) = std::env::var("JUPYTER_PYTHON") {
        report.say(&format!("a bare Jupyter kernel, {FLOORS} times"));
        report.floors("no sandbox", &floors::jupyter(&python, FLOORS).await?);
    }

    report.say(&format!("writes of a sandbox's life, {LIVES} lives"));
    report.writes(
        "Writes of a sandbox's life",
        "Made, one run, deleted, through MCP",
        &writes::cold(&mcp, LIVES).await?,
    );

    let pool = warm::pool().await?;
    e2e::finally(warm(&pool, &mut report), pool.remove()).await?;
    report.save()
}

/// What concerns sandboxes of a pool.
async fn warm(pool: &Pool, report: &mut Report) -> anyhow::Result<()> {
    report.say(&format!("warm create → first output, {WARM} times"));
    report.warm(&warm::measure(pool, WARM).await?);
    pool.full(warm::REPLICAS).await?;
    report.say(&format!("writes of a warm sandbox's life, {LIVES} lives"));
    let how = "With a pod of a pool: made, one run, deleted, through the kube API (not through MCP), until the pool is full again";
    let writes = writes::warm(pool, warm::REPLICAS, LIVES).await?;
    report.writes("Writes of a warm sandbox's life", how, &writes);
    Ok(())
}
