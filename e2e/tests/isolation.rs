//! What keeps a sandbox closed when policies come and go. A file of its own: the others count on the deny policy.

use std::future::Future;

use anyhow::Context;
use api::{CodeSandbox, Egress, Network, Settings, condition, names, reason};
use e2e::{
    Cluster, NAMESPACE, PATIENCE, RELEASE_NAMESPACE, is, kubectl, kubectl_with,
    probe::{INTERNET, from_open_pod, from_sandbox, listen, open_pods, targets},
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
    runtime::wait::await_condition,
};
use serde_json::{Value, json};
use tokio::time::timeout;

/// These tests change what all sandboxes of the namespace have in common.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const SELECTOR: &str = "app.kubernetes.io/component=operator";
const OPERATOR: &str = "deployment/codesandbox-operator";

fn policies(cluster: &Cluster) -> Api<NetworkPolicy> {
    Api::namespaced(cluster.client.clone(), NAMESPACE)
}

fn internet() -> Value {
    json!([["internet", "tcp", INTERNET, 80]])
}

/// The policy of a name once it is another object with the same spec, or the same one with its spec as it was.
async fn restored(
    cluster: &Cluster,
    before: &NetworkPolicy,
    another: bool,
) -> anyhow::Result<NetworkPolicy> {
    let name = before.name_any();
    let is_restored = |policy: Option<&NetworkPolicy>| {
        policy.is_some_and(|policy| {
            policy.spec == before.spec
                && (policy.uid() != before.uid()) == another
                && (another || policy.resource_version() != before.resource_version())
        })
    };
    timeout(PATIENCE, await_condition(policies(cluster), &name, is_restored))
        .await
        .with_context(|| format!("{name} was not restored"))??
        .context("it is there")
}

fn isolated(sandbox: &CodeSandbox) -> (String, String, String) {
    let status = sandbox.status.as_ref().expect("it is ready");
    let verdict = status.condition(condition::NETWORK_ISOLATED).expect("it is ready");
    (verdict.status.clone(), verdict.reason.clone(), verdict.message.clone())
}

/// Does something while there is no operator, and has as many as before when it is done.
async fn without_operator(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let scale = async |replicas: &str| {
        let replicas = format!("--replicas={replicas}");
        kubectl(&["scale", "-n", RELEASE_NAMESPACE, OPERATOR, &replicas]).await
    };
    let replicas = "jsonpath={.spec.replicas}";
    let before = kubectl(&["get", "-n", RELEASE_NAMESPACE, OPERATOR, "-o", replicas]).await?;
    scale("0").await?;
    let work = async {
        let gone = ["wait", "--for=delete", "pod", "-n", RELEASE_NAMESPACE, "-l", SELECTOR];
        kubectl(&gone).await?;
        work.await
    };
    // Every other test needs the operator.
    e2e::finally(work, async {
        scale(&before).await?;
        kubectl(&["rollout", "status", "-n", RELEASE_NAMESPACE, OPERATOR, "--timeout=60s"])
            .await
            .map(drop)
    })
    .await
}

#[tokio::test]
async fn the_deny_policy_is_restored_when_deleted() -> anyhow::Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("guarded", e2e::spec()).await?;
    let before = policies(&cluster).get(names::DENY_POLICY).await?;
    policies(&cluster).delete(names::DENY_POLICY, &DeleteParams::default()).await?;
    restored(&cluster, &before, true).await?;
    sandbox.delete().await
}

/// That it is the deny policy that closes a sandbox, and that it closes one which was open.
#[tokio::test]
async fn without_the_deny_policy_a_sandbox_is_open_until_an_operator_is_back() -> anyhow::Result<()>
{
    let _alone = ALONE.lock().await;
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("unguarded", e2e::spec()).await?;
    let reaches = async || Ok(from_sandbox(&sandbox, &internet()).await?["internet"]);
    assert!(!reaches().await?);
    let before = policies(&cluster).get(names::DENY_POLICY).await?;
    without_operator(async {
        policies(&cluster).delete(names::DENY_POLICY, &DeleteParams::default()).await?;
        e2e::until("the sandbox is open", reaches).await
    })
    .await?;
    restored(&cluster, &before, true).await?;
    e2e::until("the sandbox is closed again", async || Ok(!reaches().await?)).await?;
    let sandbox_now = cluster.sandboxes.get("unguarded").await?;
    assert_eq!(isolated(&sandbox_now).1, reason::DENY_POLICY);
    sandbox.delete().await
}

#[tokio::test]
async fn a_policy_that_opens_a_sandbox_is_named_until_it_goes() -> anyhow::Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("opened", e2e::spec()).await?;
    open_pods(&cluster, &sandbox).await?;
    let inward = listen(&cluster, &sandbox).await?;
    let outward = async || Ok(from_sandbox(&sandbox, &internet()).await?["internet"]);
    let inward = async || Ok(from_open_pod(&inward).await?["another sandbox"]);
    assert!(!outward().await? && !inward().await?);
    let closed = isolated(&sandbox.object);
    assert_eq!((&*closed.0, &*closed.1), ("True", reason::DENY_POLICY));

    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "e2e-opener", "namespace": NAMESPACE},
        "spec": {
            "podSelector": {"matchLabels": {names::SANDBOX: "opened"}},
            "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}],
        },
    });
    kubectl_with(&["apply", "-f", "-"], &policy.to_string()).await?;
    let opened = cluster.wait("opened", "opened", |s| !is(s, condition::NETWORK_ISOLATED)).await?;
    let (_, because, message) = isolated(&opened);
    assert_eq!(because, reason::OPENED_BY_POLICY);
    assert!(
        message.starts_with("NetworkPolicy e2e-opener also selects the sandbox and opens it"),
        "{message}"
    );
    e2e::until("it is open outward", outward).await?;
    e2e::until("it is open inward", inward).await?;

    policies(&cluster).delete("e2e-opener", &DeleteParams::default()).await?;
    let after =
        cluster.wait("opened", "closed again", |s| is(s, condition::NETWORK_ISOLATED)).await?;
    assert_eq!(isolated(&after), closed);
    e2e::until("it is closed outward", async || Ok(!outward().await?)).await?;
    e2e::until("it is closed inward", async || Ok(!inward().await?)).await?;
    sandbox.delete().await
}

#[tokio::test]
async fn the_policy_of_a_sandbox_with_internet_is_restored_when_deleted_and_when_edited()
-> anyhow::Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = Cluster::connect().await?;
    let network = Some(Network { egress: Some(Egress::Internet), ..Network::default() });
    let spec = Settings { network, ..e2e::spec() };
    let sandbox = cluster.ready("restored", spec).await?;
    open_pods(&cluster, &sandbox).await?;
    let targets = targets(&cluster).await?;
    let reached = from_sandbox(&sandbox, &targets).await?;
    assert!(reached["internet, TCP"] && !reached["another pod, TCP"], "{reached:?}");

    let name = names::internet_policy("restored");
    let first = policies(&cluster).get(&name).await?;
    policies(&cluster).delete(&name, &DeleteParams::default()).await?;
    let second = restored(&cluster, &first, true).await?;
    let edit = Patch::Merge(
        json!({"spec": {"egress": [{}], "ingress": [{}], "policyTypes": ["Ingress", "Egress"]}}),
    );
    let edited = policies(&cluster).patch(&name, &PatchParams::default(), &edit).await?;
    assert_ne!(edited.spec, second.spec, "the edit has to edit");
    restored(&cluster, &second, false).await?;
    e2e::until("it reaches what it did", async || {
        Ok(from_sandbox(&sandbox, &targets).await? == reached)
    })
    .await?;
    let after =
        cluster.wait("restored", "isolated", |s| is(s, condition::NETWORK_ISOLATED)).await?;
    assert_eq!(isolated(&after).1, reason::INTERNET_POLICY);
    sandbox.delete().await
}
