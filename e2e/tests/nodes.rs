//! Nodes that are drained or go away, and pods that are not to be scheduled yet. tests.md E9, E10.

use anyhow::{Context, ensure};
use api::{CodeSandbox, TerminationReason, condition, names, reason};
use e2e::{Cluster, NAMESPACE, STUBBORN, deaths::node, is, kubectl, kubectl_with, reason, spec};
use kube::{Api, ResourceExt, api::EvictParams};
use serde_json::json;

/// Held by each: one of them takes the kubelet away.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What a sandbox's last pod ended by, and which attempt it is at.
fn last(sandbox: &CodeSandbox) -> Option<(TerminationReason, u32)> {
    let status = sandbox.status.as_ref()?;
    Some((status.last_termination.as_ref()?.reason, status.attempt.unwrap_or(1)))
}

/// As `kubectl drain` does it. tests.md E9.
#[tokio::test]
async fn a_sandbox_that_is_drained_is_ready_no_more_and_made_anew() -> anyhow::Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("drained", spec()).await?;
    // What has no ear for SIGTERM takes the agent's whole grace to end: all that time the pod is there.
    sandbox.shell(STUBBORN).await?;
    cluster.pods.evict(&sandbox.pod(), &EvictParams::default()).await?;
    let unready = |one: &CodeSandbox| !is(one, condition::READY);
    let object = cluster.wait("drained", "ready no more", unready).await?;
    assert_eq!(last(&object), Some((TerminationReason::Evicted, 2)));
    ensure!(cluster.pods.get_opt(&sandbox.pod()).await?.is_some(), "it was said while it ended");
    let object = cluster.wait("drained", "Ready", |one| is(one, condition::READY)).await?;
    assert_eq!(last(&object), Some((TerminationReason::Evicted, 2)));
    cluster.delete("drained").await
}

/// The kubelet is gone for as long as it takes the cluster to give the node up. Another node stays, a fake one: where all are
/// gone at once the control plane takes itself for what is cut off, and gives up none.
#[tokio::test]
async fn a_sandbox_whose_node_is_lost_says_so_and_is_made_anew_when_there_is_one()
-> anyhow::Result<()> {
    if !node::is_here() {
        return Ok(());
    }
    let _alone = ALONE.lock().await;
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("bereaved", spec()).await?;
    node::cluster(&["kwok", "up", "1"]).await?;
    let lost = async {
        node::cluster(&["kill", "kubelet"]).await?;
        let lost = |one: &CodeSandbox| last(one) == Some((TerminationReason::NodeLost, 2));
        let waited = async || Ok(lost(&cluster.sandboxes.get("bereaved").await?));
        e2e::until_within(std::time::Duration::from_mins(4), "its node is lost", waited).await?;
        let object = cluster.sandboxes.get("bereaved").await?;
        assert!(!is(&object, condition::READY), "{:?}", object.status);
        anyhow::Ok(())
    };
    let outcome = lost.await;
    // Whatever came of it: every other test needs the node.
    node::cluster(&["revive"]).await?;
    node::cluster(&["kwok", "down"]).await?;
    outcome?;
    let ready = |one: &CodeSandbox| is(one, condition::READY);
    let object = cluster.wait("bereaved", "Ready", ready).await?;
    let pod = object.status.as_ref().and_then(|status| status.pod_name.clone());
    assert_eq!(pod.context("it is ready")?, names::pod("bereaved", 2));
    assert_eq!(object.uid(), sandbox.object.uid());
    e2e::until("the first pod is gone", async || {
        Ok(cluster.pods.get_opt(&sandbox.pod()).await?.is_none())
    })
    .await?;
    cluster.delete("bereaved").await
}

/// Whoever admits pods, such as Kueue, gates them: those are neither lost nor reaped. tests.md E10.
#[tokio::test]
async fn a_gated_pod_is_waited_for_and_runs_once_its_gate_is_taken_off() -> anyhow::Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = Cluster::connect().await?;
    cluster.delete("gated").await?;
    let template = json!({
        "apiVersion": "codesandbox.dev/v1alpha1", "kind": "CodeSandboxTemplate",
        "metadata": {"name": "gated", "namespace": NAMESPACE},
        "spec": {"trusted": true, "podPatch": {"spec": {"schedulingGates": [{"name": "e2e.example/queue"}]}}},
    });
    kubectl_with(&["apply", "-f", "-"], &template.to_string()).await?;
    let mut wants = api::CodeSandboxSpec::from(spec());
    wants.template_ref = Some(api::LocalObjectReference { name: "gated".into() });
    let sandbox = cluster.create("gated", wants).await?;
    let gated = |one: &CodeSandbox| reason(one, condition::READY) == reason::SCHEDULING_GATED;
    let object = cluster.wait("gated", "gated", gated).await?;
    let status = object.status.context("it has one")?;
    let said = &status.condition(condition::READY).context("it has one")?.message;
    assert!(said.contains("(e2e.example/queue)"), "{said}");
    let uid = sandbox.uid().context("it has one")?;
    let before = cluster.pods_of(&uid).await?;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let after = cluster.pods_of(&uid).await?;
    let uids = |pods: &[k8s_openapi::api::core::v1::Pod]| {
        pods.iter().filter_map(ResourceExt::uid).collect::<Vec<_>>()
    };
    assert_eq!((uids(&before), before.len()), (uids(&after), 1), "it is left alone");

    let pods: Api<k8s_openapi::api::core::v1::Pod> = cluster.pods.clone();
    let ungate = kube::api::Patch::Merge(json!({"spec": {"schedulingGates": null}}));
    pods.patch(&names::pod("gated", 1), &kube::api::PatchParams::default(), &ungate).await?;
    cluster.wait("gated", "Ready", |one| is(one, condition::READY)).await?;
    cluster.delete("gated").await?;
    kubectl(&["delete", "csbt", "gated", "-n", NAMESPACE]).await.map(drop)
}
