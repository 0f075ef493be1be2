//! A thousand sandboxes at once, on nodes that are not there: what the operator does for each, and what it does for nothing.
//!
//! The pods are the operator's own, unchanged but for where they are scheduled: an admission policy of this test sends
//! those of its sandboxes to the fake nodes, since a CodeSandbox cannot ask for a node.

#![allow(clippy::print_stderr, reason = "figures, for whoever says --nocapture")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use api::{CodeSandbox, Settings, condition, names};
use e2e::{Cluster, NAMESPACE, RELEASE_NAMESPACE, deaths::node, is, kubectl, kubectl_with, reason};
use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::{Value, json};

const SANDBOXES: u64 = 1000;
/// Of a hundred pods each, and some more: the scheduler fills none to the last place.
const NODES: &str = "12";
/// How many are created, or deleted, at the same time. The API server answers faster than sandboxes become ready, so that
/// almost all of them wait for the operator at once.
const AT_ONCE: usize = 50;
/// What the sandboxes of this test are called, and a number.
const PREFIX: &str = "scale-";
/// More reconciles than this for a sandbox that becomes ready would be a spin. It takes one each for the object, its
/// pod, the pod's changes on the way to Ready and the operator's own words about them.
const RECONCILES: u64 = 8;
/// More writes than this for a sandbox that becomes ready would be writes without a change: its pod, a status for each
/// step on the way, two events, and a conflict or two.
const WRITES: u64 = 8;
/// How long all of them may take to be ready.
const SETTLE: Duration = Duration::from_mins(5);
/// How long all of them, and their pods, may take to be gone: the garbage collector deletes some twenty in a second.
const CLEAR: Duration = Duration::from_mins(3);
/// For how long nothing is written, once all is as it should be.
const QUIET: Duration = Duration::from_secs(10);
/// The operator may have no more than this resident, in bytes.
const MEMORY: u64 = 64 << 20;

const SELECTOR: &str = "app.kubernetes.io/component=operator";
const OPERATOR: &str = "deployment/codesandbox-operator";

async fn fake_nodes(args: &[&str]) -> anyhow::Result<()> {
    node::cluster(&[&["kwok"], args].concat()).await
}

/// Sends the pods of this test's sandboxes to the fake nodes.
async fn schedule_on_fake_nodes() -> anyhow::Result<()> {
    let api = "admissionregistration.k8s.io/v1";
    let policy = json!({
        "apiVersion": api, "kind": "MutatingAdmissionPolicy", "metadata": {"name": "e2e-scale"},
        "spec": {
            "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]},
            ]},
            "matchConditions": [
                {"name": "of-this-test", "expression": format!("has(object.metadata.name) && object.metadata.name.startsWith('{PREFIX}')")},
            ],
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[
                JSONPatch{op: 'add', path: '/spec/nodeSelector', value: {'type': 'kwok'}},
                JSONPatch{op: 'add', path: '/spec/tolerations/-', value: Object.spec.tolerations{key: 'kwok.x-k8s.io/node', operator: 'Exists'}}
            ]"}}],
        },
    });
    let binding = json!({
        "apiVersion": api, "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": "e2e-scale"},
        "spec": {
            "policyName": "e2e-scale",
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}},
        },
    });
    for object in [policy, binding] {
        kubectl_with(&["apply", "-f", "-"], &object.to_string()).await?;
    }
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("{PREFIX}try"), "namespace": NAMESPACE},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "main", "image": "registry.invalid/nothing:1",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
        },
    })
    .to_string();
    let create = ["create", "--dry-run=server", "-o", "jsonpath={.spec.nodeSelector}", "-f", "-"];
    e2e::until("the policy is in force", async || {
        Ok(kubectl_with(&create, &pod).await? == r#"{"type":"kwok"}"#)
    })
    .await
}

async fn schedule_as_ever() -> anyhow::Result<()> {
    let kinds = "mutatingadmissionpolicybinding,mutatingadmissionpolicy";
    kubectl(&["delete", kinds, "e2e-scale", "--ignore-not-found"]).await.map(drop)
}

/// The one operator: its pod, once there is no other.
async fn operator() -> anyhow::Result<String> {
    let mut name = String::new();
    e2e::until("there is one operator", async || {
        let list = ["get", "pods", "-n", RELEASE_NAMESPACE, "-l", SELECTOR, "-o", "name"];
        let pods = kubectl(&list).await?;
        name = pods.trim().trim_start_matches("pod/").into();
        Ok(pods.lines().count() == 1)
    })
    .await?;
    Ok(name)
}

/// What an operator has counted of reconciles and of writes.
async fn counted(pod: &str) -> anyhow::Result<(u64, u64)> {
    let path = format!("/api/v1/namespaces/{RELEASE_NAMESPACE}/pods/{pod}:8080/proxy/metrics");
    let metrics = kubectl(&["get", "--raw", &path]).await?;
    let sum = |name: &str, counts: fn(&str) -> bool| -> anyhow::Result<u64> {
        let lines = metrics.lines().filter(|line| line.starts_with(name) && counts(line));
        lines.map(|line| Ok(line.rsplit(' ').next().context("a value")?.parse::<u64>()?)).sum()
    };
    let writes = |line: &str| {
        !["verb=\"Get\"", "verb=\"List\"", "kind=\"Lease\""].iter().any(|not| line.contains(not))
    };
    Ok((
        sum("codesandbox_operator_reconciles_total{", |_| true)?,
        sum("codesandbox_operator_api_requests_total{", writes)?,
    ))
}

/// What an operator has counted once it has told of all that happened: its events wait in a queue.
async fn told(pod: &str) -> anyhow::Result<(u64, u64)> {
    let mut now = counted(pod).await?;
    e2e::until("all events are written", async || {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = std::mem::replace(&mut now, counted(pod).await?);
        Ok(now == before)
    })
    .await?;
    Ok(now)
}

/// What an operator has resident, as its node's kubelet says.
async fn resident(pod: &str) -> anyhow::Result<u64> {
    let node = ["get", "pod", pod, "-n", RELEASE_NAMESPACE, "-o", "jsonpath={.spec.nodeName}"];
    let path = format!("/api/v1/nodes/{}/proxy/stats/summary", kubectl(&node).await?);
    let stats: Value = serde_json::from_str(&kubectl(&["get", "--raw", &path]).await?)?;
    let mut pods = stats["pods"].as_array().context("a list")?.iter();
    let of =
        pods.find(|stats| stats["podRef"]["name"] == pod).context("the operator's are there")?;
    of["containers"][0]["memory"]["rssBytes"].as_u64().context("a number")
}

async fn ours(cluster: &Cluster) -> anyhow::Result<Vec<CodeSandbox>> {
    let all = cluster.sandboxes.list(&ListParams::default()).await?;
    Ok(all.into_iter().filter(|sandbox| sandbox.name_any().starts_with(PREFIX)).collect())
}

async fn delete_all(cluster: &Cluster) -> anyhow::Result<()> {
    let deleted = stream::iter(ours(cluster).await?).map(|sandbox| {
        let sandboxes = cluster.sandboxes.clone();
        async move { sandboxes.delete(&sandbox.name_any(), &DeleteParams::background()).await }
    });
    deleted.buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
    cleared("they are gone", async || Ok(ours(cluster).await?.is_empty())).await
}

/// Waits for their pods to be gone.
async fn pods_gone(cluster: &Cluster) -> anyhow::Result<()> {
    let selector = ListParams::default().labels(names::SANDBOX);
    cleared("their pods are gone", async || {
        let pods = cluster.pods.list_metadata(&selector).await?;
        Ok(!pods.iter().any(|pod| pod.name_any().starts_with(PREFIX)))
    })
    .await
}

/// Asks again until the answer is yes, within [`CLEAR`]; seldom, since the answers are long.
async fn cleared(
    what: &str,
    mut ask: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let start = Instant::now();
    while !ask().await? {
        ensure!(start.elapsed() < CLEAR, "it never was so that {what}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_thousand_sandboxes_settle_and_are_written_no_more() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    delete_all(&cluster).await?;
    pods_gone(&cluster).await?;
    fake_nodes(&["up", NODES]).await?;
    // The other tests know one node.
    e2e::finally(settle(&cluster), async {
        let deleted = delete_all(&cluster).await;
        schedule_as_ever().await?;
        // Their pods go with them, at once.
        fake_nodes(&["down"]).await?;
        deleted?;
        pods_gone(&cluster).await
    })
    .await
}

async fn settle(cluster: &Cluster) -> anyhow::Result<()> {
    schedule_on_fake_nodes().await?;
    let spec = Settings { ttl: Some("1h".into()), ..e2e::spec() };
    let first = operator().await?;
    let (reconciles, writes) = counted(&first).await?;
    let start = Instant::now();
    let created = stream::iter(0..SANDBOXES).map(|number| {
        let sandbox = CodeSandbox::new(&format!("{PREFIX}{number}"), spec.clone().into());
        let sandboxes = cluster.sandboxes.clone();
        async move { sandboxes.create(&PostParams::default(), &sandbox).await }
    });
    created.buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
    while let waiting = waiting(cluster).await?
        && !waiting.is_empty()
    {
        ensure!(start.elapsed() < SETTLE, "not ready, and why: {waiting:?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let settled = start.elapsed();
    let after = told(&first).await?;
    let each = (after.0 - reconciles).div_ceil(SANDBOXES);
    let writes = (after.1 - writes).div_ceil(SANDBOXES);
    let memory = resident(&first).await?;

    // Where nothing changes, nothing is written.
    let versions = versions(cluster).await?;
    assert_eq!(versions.len() as u64, SANDBOXES, "they are all there");
    tokio::time::sleep(QUIET).await;
    let (_, later) = counted(&first).await?;
    assert_eq!(later, after.1, "nothing has changed, and nothing is written");

    // Another operator finds everything as it should be: it looks, and writes nothing.
    kubectl(&["rollout", "restart", "-n", RELEASE_NAMESPACE, OPERATOR]).await?;
    kubectl(&["rollout", "status", "-n", RELEASE_NAMESPACE, OPERATOR, "--timeout=60s"]).await?;
    let second = operator().await?;
    ensure!(second != first, "there is another operator");
    let looked = async || Ok(counted(&second).await?.0 >= SANDBOXES);
    e2e::until("it has looked at all of them", looked).await?;
    let (again, written) = counted(&second).await?;
    let of_new = resident(&second).await?;
    eprintln!(
        "{SANDBOXES} sandboxes ready in {settled:.1?}; {each} reconciles and {writes} writes each, {} reconciles for a new operator; resident {} and {} MiB",
        again.div_ceil(SANDBOXES),
        memory >> 20,
        of_new >> 20
    );
    assert_eq!(written, 0, "a new operator writes nothing");
    assert_eq!(self::versions(cluster).await?, versions);
    assert!(each <= RECONCILES, "{each} reconciles for each sandbox");
    assert!(writes <= WRITES, "{writes} writes for each sandbox");
    assert!(memory.max(of_new) <= MEMORY, "{memory} and {of_new} bytes are resident");
    Ok(())
}

/// How many sandboxes are not ready, by reason.
async fn waiting(cluster: &Cluster) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut waiting = BTreeMap::new();
    for sandbox in ours(cluster).await?.iter().filter(|one| !is(one, condition::READY)) {
        *waiting.entry(reason(sandbox, condition::READY)).or_default() += 1;
    }
    Ok(waiting)
}

/// The resourceVersion of each sandbox.
async fn versions(cluster: &Cluster) -> anyhow::Result<BTreeMap<String, Option<String>>> {
    let all = ours(cluster).await?;
    Ok(all.iter().map(|sandbox| (sandbox.name_any(), sandbox.resource_version())).collect())
}
