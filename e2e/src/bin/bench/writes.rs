//! The writes of a sandbox's life, from create to nothing left, as the API server's audit log and etcd count them.

use std::{collections::BTreeMap, env, fs, time::Duration};

use anyhow::Context;
use e2e::{Cluster, pool::Pool};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::mcp::Mcp;

/// What is still to be said of the last life is said by then: events, and how many pods a pool has.
const LATE: Duration = Duration::from_secs(4);

/// Counts over all lives.
pub(crate) struct Writes {
    pub(crate) lives: usize,
    /// Writes that were kept, by who and what (`verb resource`), as the audit log has them. Empty without one.
    pub(crate) by: BTreeMap<(String, String), usize>,
    /// Puts of etcd in the meantime, Leases and Events included.
    pub(crate) etcd_puts: Option<f64>,
}

/// The writes of so many lives through MCP, of sandboxes that start cold.
pub(crate) async fn cold(mcp: &Mcp, lives: usize) -> anyhow::Result<Writes> {
    let cluster = Cluster::connect().await?;
    let life = async |index| {
        let id = mcp.create(&format!("bench-life-{index}")).await?;
        mcp.call("run_code", json!({"sandbox_id": id, "code": "1+1"})).await?;
        let sandbox = cluster.sandboxes.get(&id).await?;
        mcp.delete(&id).await?;
        cluster.gone(&sandbox).await
    };
    measure(lives, life).await
}

/// The same of sandboxes of a pool, made and deleted through the kube API, until the pool is full again.
pub(crate) async fn warm(pool: &Pool, replicas: usize, lives: usize) -> anyhow::Result<Writes> {
    let life = async |index| {
        let sandbox = pool.sandbox(&format!("bench-pooled-{index}"), json!({})).await?;
        sandbox.says("true").await?;
        sandbox.delete().await?;
        pool.full(replicas).await
    };
    measure(lives, life).await
}

async fn measure(
    lives: usize,
    life: impl AsyncFn(usize) -> anyhow::Result<()>,
) -> anyhow::Result<Writes> {
    let log = env::var("CLUSTER_AUDIT_LOG").ok();
    let audit =
        || log.as_ref().map(|path| fs::read_to_string(path).context("the audit log")).transpose();
    let skip = audit()?.map_or(0, |text| text.lines().count());
    let puts = etcd_puts().await;
    for index in 0..lives {
        life(index).await?;
    }
    sleep(LATE).await;
    let after = etcd_puts().await;
    let mut writes = Writes {
        lives,
        by: BTreeMap::new(),
        etcd_puts: puts.zip(after).map(|(before, after)| after - before),
    };
    for line in audit()?.unwrap_or_default().lines().skip(skip) {
        if let Some(written) = written(&serde_json::from_str(line)?) {
            *writes.by.entry(written).or_default() += 1;
        }
    }
    Ok(writes)
}

/// Who wrote what, where the line is of a write that was kept: reviews are questions, exec is a connection.
fn written(line: &Value) -> Option<(String, String)> {
    let verb = line["verb"].as_str()?;
    let object = &line["objectRef"];
    let resource = object["resource"].as_str()?;
    let sub = object["subresource"].as_str();
    let kept = matches!(verb, "create" | "update" | "patch" | "delete")
        && !resource.ends_with("reviews")
        && !matches!(sub, Some("exec" | "token"))
        && line["responseStatus"]["code"].as_u64()? < 300;
    let what =
        sub.map_or_else(|| format!("{verb} {resource}"), |sub| format!("{verb} {resource}/{sub}"));
    let user = line["user"]["username"].as_str().unwrap_or_default();
    kept.then(|| (user.rsplit(':').next().unwrap_or(user).into(), what))
}

impl Writes {
    /// Whether an account is one of ours.
    pub(crate) fn is_ours(who: &str) -> bool {
        who.starts_with("codesandbox-")
    }
}

async fn etcd_puts() -> Option<f64> {
    let url = env::var("ETCD_METRICS").ok()?;
    let output =
        tokio::process::Command::new("curl").args(["-sf", "-m", "5", &url]).output().await.ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().find(|line| line.starts_with("etcd_mvcc_put_total "))?;
    line.rsplit(' ').next()?.parse().ok()
}
