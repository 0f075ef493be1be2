//! A namespace's quota, which a sandbox waits for and says so.

use api::{CodeSandbox, CodeSandboxSpec, LocalObjectReference, condition, reason};
use e2e::{Cluster, NAMESPACE, is, kubectl, kubectl_with, reason, spec};
use serde_json::json;

/// A quota of one pod, for the pods of a priority that only this test's template gives.
async fn quota() -> anyhow::Result<()> {
    let name = "e2e-quota";
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": 0,
        },
        {
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [
                {"scopeName": "PriorityClass", "operator": "In", "values": [name]}]}},
        },
        {
            "apiVersion": "codesandbox.dev/v1alpha1", "kind": "CodeSandboxTemplate", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"podPatch": {"spec": {"priorityClassName": name}}},
        },
    ]});
    kubectl_with(&["apply", "-f", "-"], &objects.to_string()).await.map(drop)
}

async fn no_quota() -> anyhow::Result<()> {
    kubectl(&["delete", "resourcequota,csbt", "e2e-quota", "-n", NAMESPACE]).await?;
    kubectl(&["delete", "priorityclass", "e2e-quota"]).await.map(drop)
}

#[tokio::test]
async fn a_sandbox_beyond_the_quota_waits_says_so_and_is_made_when_there_is_room()
-> anyhow::Result<()> {
    quota().await?;
    e2e::finally(Box::pin(wait_for_room()), no_quota()).await
}

async fn wait_for_room() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let wants = || CodeSandboxSpec {
        template_ref: Some(LocalObjectReference { name: "e2e-quota".into() }),
        ..spec().into()
    };
    let first = cluster.ready("quota-first", wants()).await?;
    cluster.create("quota-second", wants()).await?;
    let exceeded = |one: &CodeSandbox| reason(one, condition::READY) == reason::QUOTA_EXCEEDED;
    let second = cluster.wait("quota-second", "refused for the quota", exceeded).await?;
    let status = second.status.unwrap_or_default();
    let said = &status.condition(condition::READY).expect("it has one").message;
    assert!(
        said.contains(
            "exceeded quota: e2e-quota, requested: pods=1, used: pods=1, limited: pods=1"
        ),
        "{said}"
    );
    first.delete().await?;
    // The longest pause between two tries is a minute.
    e2e::until_within(std::time::Duration::from_secs(90), "it is made", async || {
        Ok(is(&cluster.sandboxes.get("quota-second").await?, condition::READY))
    })
    .await?;
    cluster.delete("quota-second").await
}
