//! `make bench`: how long and how much, on the cluster of `KUBECONFIG`, with counts that do not depend on the machine.
//!
//! Reads `CODESANDBOX_URL` and `CODESANDBOX_TOKEN`. Where the cluster is the embedded one,
//! `CLUSTER_AUDIT_LOG` and `ETCD_METRICS` say where writes are counted.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

mod bulk;
mod calls;
mod cold;
mod mcp;
mod report;
mod writes;

use anyhow::Context;
use e2e::Cluster;

/// How many sandboxes are made from nothing.
const COLD: usize = 25;
/// How many times the live context is asked.
const CALLS: usize = 1000;
/// How many lives the writes are counted over.
const LIVES: usize = 10;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let mcp = mcp::Mcp::from_env()?;
    let mut report = report::Report::new().context("what machine is this?")?;

    report.say(&format!("cold create → first output, {COLD} times"));
    report.cold(&cold::measure(&cluster, COLD).await?);

    report.say(&format!("calls on a live sandbox, {CALLS} times each"));
    let live = mcp.create("bench-live").await?;
    report.calls(calls::measure(&mcp, &live, CALLS).await?);
    mcp.delete(&live).await?;

    report.say("100 MiB up and down");
    let sandbox = cluster.ready("bench-bulk", e2e::spec()).await?;
    report.bulk(&bulk::measure(&sandbox).await?);
    sandbox.delete().await?;

    report.say(&format!("writes of a sandbox's life, {LIVES} lives"));
    report.writes(&writes::measure(&mcp, LIVES).await?);
    report.save()
}
