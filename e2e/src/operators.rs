//! The operators of the release: how many, which of them leads, what each has asked of the API server.

use anyhow::Context;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;

use crate::{Cluster, RELEASE_NAMESPACE, kubectl, until};

/// The Deployment, for kubectl.
pub const DEPLOYMENT: &str = "deployment/codesandbox-operator";
/// What selects the operators' pods.
pub const SELECTOR: &str = "app.kubernetes.io/component=operator";
const LEASE: &str = "codesandbox-operator";

/// Has so many operators run, and waits until all of them are ready.
pub async fn scale(replicas: u32) -> anyhow::Result<()> {
    let replicas = format!("--replicas={replicas}");
    kubectl(&["scale", "-n", RELEASE_NAMESPACE, DEPLOYMENT, &replicas]).await?;
    rolled_out().await
}

/// Waits until the Deployment is as it should be.
pub async fn rolled_out() -> anyhow::Result<()> {
    let status = ["rollout", "status", "-n", RELEASE_NAMESPACE, DEPLOYMENT, "--timeout=60s"];
    kubectl(&status).await.map(drop)
}

/// The names of the pods there are.
pub async fn pods() -> anyhow::Result<Vec<String>> {
    let get = ["get", "pods", "-n", RELEASE_NAMESPACE, "-l", SELECTOR, "-o", "name"];
    let names = kubectl(&get).await?;
    Ok(names.lines().map(|name| name.trim_start_matches("pod/").to_owned()).collect())
}

/// Who holds the Lease: a process, which the name of its pod begins. Nobody, for a moment, between two.
pub async fn holder(cluster: &Cluster) -> anyhow::Result<Option<String>> {
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), RELEASE_NAMESPACE);
    let lease = leases.get_opt(LEASE).await?;
    Ok(lease.and_then(|lease| lease.spec?.holder_identity))
}

/// Who holds the Lease next, once it is somebody else than `last`.
pub async fn next_holder(cluster: &Cluster, last: Option<&str>) -> anyhow::Result<String> {
    let mut next = None;
    until("another operator leads", async || {
        next = holder(cluster).await?;
        Ok(next.is_some() && next.as_deref() != last)
    })
    .await?;
    next.context("it was just seen")
}

/// The pod of a holder.
pub fn pod(holder: &str) -> &str {
    holder.split_once('_').map_or(holder, |(pod, _)| pod)
}

/// What an operator counts.
pub async fn metrics(pod: &str) -> anyhow::Result<String> {
    let path = format!("/api/v1/namespaces/{RELEASE_NAMESPACE}/pods/{pod}:8080/proxy/metrics");
    kubectl(&["get", "--raw", &path]).await
}

/// How many requests an operator has made about anything but its Lease: all, or writes alone.
pub async fn requests(pod: &str, writes_only: bool) -> anyhow::Result<u64> {
    let counted = |line: &&str| {
        line.starts_with("codesandbox_operator_api_requests_total{")
            && !line.contains(r#""Lease""#)
            && !(writes_only && [r#""Get""#, r#""List""#].iter().any(|verb| line.contains(verb)))
    };
    let metrics = metrics(pod).await?;
    let value = |line: &str| Ok(line.rsplit(' ').next().context("a value")?.parse::<u64>()?);
    metrics.lines().filter(counted).map(value).sum()
}
