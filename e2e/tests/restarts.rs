//! What must not change when our own parts restart. A file of its own: cargo runs it by itself.

use std::time::Duration;

use api::names;
use e2e::{Cluster, NAMESPACE, RELEASE_NAMESPACE, kubectl, kubectl_with, operators};
use kube::ResourceExt;
use serde_json::json;

/// Held by whoever restarts the operator: these tests cannot share it.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The leader's own count of its writes, over all kinds and verbs.
async fn writes(cluster: &Cluster) -> anyhow::Result<u64> {
    let leader = operators::next_holder(cluster, None).await?;
    operators::requests(operators::pod(&leader), true).await
}

/// The no-spin test, and tests.md H8: the list is the same and nothing is written again.
#[tokio::test]
async fn a_settled_sandbox_is_written_no_more_even_by_a_new_operator() -> anyhow::Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("settled", e2e::spec()).await?;
    let before = cluster.sandboxes.get("settled").await?;
    let pod = cluster.pods.get(&sandbox.pod()).await?;
    let written = writes(&cluster).await?;
    assert!(written > 0, "the count has to count");
    // Longer than any requeue but the ttl's, so that a spin would show.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(writes(&cluster).await?, written);

    let before_restart = operators::next_holder(&cluster, None).await?;
    kubectl(&["rollout", "restart", "-n", RELEASE_NAMESPACE, operators::DEPLOYMENT]).await?;
    operators::rolled_out().await?;
    operators::next_holder(&cluster, Some(&before_restart)).await?;
    // A sandbox made now is proof that the new one has been through its list.
    let next = cluster.ready("settled-next", e2e::spec()).await?;
    let after = cluster.sandboxes.get("settled").await?;
    assert_eq!(after.resource_version(), before.resource_version());
    assert_eq!(cluster.pods.get(&sandbox.pod()).await?.uid(), pod.uid());
    next.delete().await?;
    sandbox.delete().await
}

/// One that the chart's value `templates` had once and has no more goes; what somebody has changed or deleted is put back.
#[tokio::test]
async fn a_new_operator_makes_the_templates_what_the_chart_says() -> anyhow::Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = Cluster::connect().await?;
    let template = |name: &str, labels: serde_json::Value| {
        json!({"apiVersion": "codesandbox.dev/v1alpha1", "kind": "CodeSandboxTemplate",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels}, "spec": {}})
        .to_string()
    };
    let ours = json!({names::MANAGED_BY: names::MANAGER, names::INSTANCE: "codesandbox"});
    let others = json!({names::MANAGED_BY: names::MANAGER, names::INSTANCE: "another"});
    // As the operator applies them, and as somebody does who has copied one of them with its labels.
    let manager = format!("--field-manager={}", names::OPERATOR);
    let by_operator = ["apply", "--server-side", &manager, "-f", "-"];
    kubectl_with(&by_operator, &template("e2e-ours", ours.clone())).await?;
    for one in [template("e2e-copied", ours), template("e2e-others", others)] {
        kubectl_with(&["apply", "-f", "-"], &one).await?;
    }
    let description =
        ["get", "csbt", "python", "-n", NAMESPACE, "-o", "jsonpath={.spec.description}"];
    let shipped = kubectl(&description).await?;
    let edit = r#"{"spec":{"description":"edited"}}"#;
    kubectl(&["patch", "csbt", "python", "-n", NAMESPACE, "--type=merge", "-p", edit]).await?;
    kubectl(&["delete", "csbt", "any-image", "-n", NAMESPACE]).await?;
    let before = operators::next_holder(&cluster, None).await?;
    kubectl(&["rollout", "restart", "-n", RELEASE_NAMESPACE, operators::DEPLOYMENT]).await?;
    operators::rolled_out().await?;
    operators::next_holder(&cluster, Some(&before)).await?;
    kubectl(&["wait", "--for=create", "csbt/any-image", "-n", NAMESPACE, "--timeout=60s"]).await?;
    let back = format!("--for=jsonpath={{.spec.description}}={shipped}");
    kubectl(&["wait", &back, "csbt/python", "-n", NAMESPACE, "--timeout=60s"]).await?;
    let gone = ["wait", "--for=delete", "csbt/e2e-ours", "-n", NAMESPACE, "--timeout=60s"];
    kubectl(&gone).await?;
    // Both are there.
    let left = ["delete", "csbt", "e2e-copied", "e2e-others", "-n", NAMESPACE];
    kubectl(&left).await.map(drop)
}

#[tokio::test]
async fn a_ttl_that_ends_while_the_operator_is_away_is_kept() -> anyhow::Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("away", e2e::spec()).await?.object;
    operators::scale(0).await?;
    let outcome = async {
        let gone = [
            "wait",
            "--for=delete",
            "pod",
            "-n",
            RELEASE_NAMESPACE,
            "-l",
            operators::SELECTOR,
            "--timeout=60s",
        ];
        kubectl(&gone).await?;
        let shorter = r#"{"spec":{"ttl":"1s"}}"#;
        kubectl(&["patch", "csb", "away", "-n", NAMESPACE, "--type=merge", "-p", shorter]).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        anyhow::ensure!(
            cluster.sandboxes.get_opt("away").await?.is_some(),
            "nobody was there to delete it"
        );
        anyhow::Ok(())
    }
    .await;
    // Whatever came of it: every other test needs the operator.
    operators::scale(1).await?;
    outcome?;
    cluster.gone(&sandbox).await?;
    assert_eq!(cluster.left_of(&sandbox).await?, Vec::<String>::new());
    Ok(())
}
