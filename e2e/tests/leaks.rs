//! What outlives its sandbox is found, told of and removed, and nothing else is. It takes minutes, since the operator
//! looks every two and waits for one.

use std::time::Duration;

use anyhow::Context;
use api::{Egress, Network, Settings, condition, names};
use e2e::{Cluster, NAMESPACE, is, kubectl, kubectl_with, operators};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;
use tokio::{process::Command, time::timeout};

/// Two minutes until it is found, one more until it is removed, and what a busy machine adds.
const SWEPT: Duration = Duration::from_mins(5);
/// What is left over, of two sandboxes and of one that never was.
const PODS: [&str; 2] = ["forsaken-1", "outgrown-1"];
const POLICIES: [&str; 2] = ["forsaken-internet", "e2e-ours-internet"];
/// The same as the last of them, of another installation.
const OTHERS: &str = "e2e-anothers-internet";
/// The UID of no sandbox.
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

/// A policy as an operator makes it for a sandbox, but by somebody else and for one that never was. Without an owner, which
/// the garbage collector would look for, it stays.
async fn forge(name: &str, instance: &str) -> anyhow::Result<()> {
    let labels = json!({
        names::MANAGED_BY: names::MANAGER, names::INSTANCE: instance,
        names::SANDBOX: "nobody", names::SANDBOX_UID: NOBODY,
    });
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {"podSelector": {"matchLabels": {names::SANDBOX_UID: NOBODY}}, "policyTypes": ["Egress"]},
    });
    kubectl_with(&["apply", "--server-side", "-f", "-"], &policy.to_string()).await.map(drop)
}

/// What `make leaks` lists, and whether it is content.
async fn listed() -> anyhow::Result<(bool, String)> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../hack/leaks.sh");
    // The cluster of the tests, whichever it is.
    let mut look = Command::new(script);
    look.env("CLUSTER", "current").env("CONFIRM", "yes").env("AGAIN", "1");
    let said = timeout(e2e::PATIENCE, look.output()).await.context("it hangs")??;
    Ok((said.status.success(), String::from_utf8(said.stdout)?))
}

/// How many leaks of a kind the operator has found.
async fn counted(kind: &str, why: &str) -> anyhow::Result<u64> {
    let mut pods = vec![];
    e2e::until("there is one operator", async || {
        pods = operators::pods().await?;
        Ok(pods.len() == 1)
    })
    .await?;
    let metrics = operators::metrics(&pods[0]).await?;
    let series = format!(r#"codesandbox_operator_leaks_found_total{{kind="{kind}",why="{why}"}} "#);
    let count = metrics.lines().find_map(|line| line.strip_prefix(&series));
    Ok(count.map_or(Ok(0), str::parse)?)
}

async fn policies() -> anyhow::Result<String> {
    kubectl(&["get", "networkpolicies", "-n", NAMESPACE, "-o", "name"]).await
}

/// Waits for as long as anything is left over.
async fn swept(cluster: &Cluster) -> anyhow::Result<()> {
    loop {
        let (pods, policies) =
            (cluster.pods.list(&ListParams::default()).await?, policies().await?);
        let mut pods = pods.iter().map(ResourceExt::name_any);
        let pod = pods.any(|pod| PODS.contains(&&*pod));
        if !pod && !POLICIES.iter().any(|name| policies.contains(name)) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Takes away what the test has made, or one that was cut off.
async fn clean(cluster: &Cluster) -> anyhow::Result<()> {
    for name in ["forsaken", "outgrown"] {
        cluster.delete(name).await?;
    }
    let delete = ["delete", "-n", NAMESPACE, "--ignore-not-found"];
    kubectl(&[&delete[..], &["pods"], &PODS].concat()).await?;
    kubectl(&[&delete[..], &["networkpolicies", OTHERS], &POLICIES].concat()).await.map(drop)
}

#[tokio::test]
async fn what_outlives_its_sandbox_goes_and_what_is_anothers_stays() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    clean(&cluster).await?;
    e2e::finally(sweep(&cluster), clean(&cluster)).await
}

async fn sweep(cluster: &Cluster) -> anyhow::Result<()> {
    let before = [counted("Pod", "Orphaned").await?, counted("Pod", "Superseded").await?];
    let policies_before = counted("NetworkPolicy", "Orphaned").await?;

    // Deleted, but not what is its.
    let network = Some(Network { egress: Some(Egress::Internet), ..Network::default() });
    let spec = Settings { network, ..e2e::spec() };
    let forsaken = cluster.ready("forsaken", spec).await?;
    cluster.sandboxes.delete("forsaken", &DeleteParams::orphan()).await?;
    e2e::until("it is gone", async || Ok(cluster.sandboxes.get_opt("forsaken").await?.is_none()))
        .await?;
    let pod = cluster.pods.get(&forsaken.pod()).await?;
    assert!(pod.owner_references().is_empty(), "it has nobody to go with");

    // A pod that is taken away from its sandbox, which gets another.
    let outgrown = cluster.ready("outgrown", e2e::spec()).await?;
    let patch = |patch| Patch::Merge(json!({"metadata": patch}));
    let params = PatchParams::default();
    let disown = patch(json!({"ownerReferences": null}));
    cluster.pods.patch(&outgrown.pod(), &params, &disown).await?;
    // The operator is told of pods by their owners, so that this one's change is not heard of.
    let look = patch(json!({"annotations": {"e2e.codesandbox.dev/look": "now"}}));
    cluster.sandboxes.patch("outgrown", &params, &look).await?;
    let second = cluster
        .wait("outgrown", "at its second attempt", |s| {
            is(s, condition::READY) && s.status.as_ref().is_some_and(|s| s.attempt == Some(2))
        })
        .await?;

    forge(POLICIES[1], "codesandbox").await?;
    forge(OTHERS, "another").await?;

    let (content, list) = listed().await?;
    let pods = PODS.map(|name| format!("Pod/{name} "));
    for one in pods.into_iter().chain(POLICIES.map(|name| format!("NetworkPolicy/{name} "))) {
        assert!(list.lines().any(|line| line.starts_with(&one)), "{one} is not in {list}");
    }
    assert!(!content && !list.contains(OTHERS) && !list.contains("outgrown-2"), "{list}");

    timeout(SWEPT, swept(cluster)).await.context("it was not swept")??;

    assert!(policies().await?.contains(OTHERS), "it is not ours to take");
    assert!(policies().await?.contains(names::DENY_POLICY));
    let now = cluster.sandboxes.get("outgrown").await?;
    assert!(is(&now, condition::READY));
    assert_eq!(now.status.and_then(|s| s.pod_uid), second.status.and_then(|s| s.pod_uid));
    e2e::until("nothing is listed", async || Ok(listed().await?.0)).await?;

    let after = [counted("Pod", "Orphaned").await?, counted("Pod", "Superseded").await?];
    assert_eq!(after, before.map(|count| count + 1));
    assert_eq!(counted("NetworkPolicy", "Orphaned").await?, policies_before + 2);
    e2e::until("its events tell of it", async || {
        let about = "jsonpath={range .items[*]}{.reason} {.involvedObject.name}{\"\\n\"}{end}";
        let events = kubectl(&["get", "events", "-n", NAMESPACE, "-o", about]).await?;
        let expected =
            ["Orphaned forsaken-1", "Orphaned forsaken-internet", "Superseded outgrown-1"];
        Ok(expected.iter().all(|one| events.lines().any(|line| line == *one)))
    })
    .await
}
