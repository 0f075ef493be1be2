//! A sandbox deleted at a bad moment leaves nothing all the same. tests.md E6, E17.

use api::{CodeSandbox, Egress, Network, Settings, condition, names};
use e2e::{Cluster, is};
use futures::future;
use kube::{
    Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;
use wire::v1::outcome::How;

/// With a policy of its own, so that there is more than a pod to leave behind.
fn spec() -> Settings {
    Settings {
        network: Some(Network { egress: Some(Egress::Internet), ..Network::default() }),
        ..e2e::spec()
    }
}

/// Waits until nothing lists as this sandbox's.
async fn nothing_is_left(cluster: &Cluster, sandbox: &CodeSandbox) -> anyhow::Result<()> {
    cluster.gone(sandbox).await?;
    let what = format!("nothing of {} is left", sandbox.name_any());
    e2e::until(&what, async || Ok(cluster.left_of(sandbox).await?.is_empty())).await
}

/// How far a sandbox has come.
type Moment = fn(&CodeSandbox) -> bool;

/// At once, when there is a pod, and when the node has it.
#[tokio::test]
async fn deleted_while_it_is_being_created_it_leaves_nothing() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let moments: [(&str, Moment); 4] = [
        ("unborn-1", |_| true),
        ("unborn-2", |sandbox| sandbox.status.is_some()),
        ("unborn-3", |sandbox| sandbox.status.as_ref().is_some_and(|s| s.pod_uid.is_some())),
        ("unborn-4", |sandbox| is(sandbox, condition::POD_SCHEDULED)),
    ];
    let deleted = moments.map(async |(name, moment)| {
        let sandbox = cluster.create(name, spec()).await?;
        cluster.wait(name, "as far as it is to come", moment).await?;
        cluster.sandboxes.delete(name, &DeleteParams::background()).await?;
        nothing_is_left(&cluster, &sandbox).await
    });
    future::try_join_all(deleted).await.map(drop)
}

#[tokio::test]
async fn deleted_while_a_command_runs_it_leaves_nothing() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("busy", spec()).await?;
    let listed = cluster.left_of(&sandbox.object).await?;
    assert_eq!(listed.len(), 3, "a pod, a policy and itself have to be seen: {listed:?}");
    let running = sandbox.shell("touch running; sleep 300");
    let deleted = async {
        let looks = async || Ok(sandbox.shell("ls").await?.text().contains("running"));
        e2e::until("the command runs", looks).await?;
        cluster.sandboxes.delete("busy", &DeleteParams::foreground()).await?;
        nothing_is_left(&cluster, &sandbox.object).await
    };
    let (ran, deleted) = tokio::join!(running, deleted);
    deleted?;
    // It was ended or cut off: whichever, not a success.
    assert!(!ran.is_ok_and(|ran| ran.outcome.how == Some(How::Exited(0))));
    Ok(())
}

/// Somebody else's finalizer keeps the object, and the object keeps what is its; but nothing new is made for it.
#[tokio::test]
async fn held_by_a_finalizer_it_gets_no_other_pod_and_leaves_nothing_without_it()
-> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let finalizers = |all: &[&str]| {
        let patch = json!({"metadata": {"finalizers": all}});
        let sandboxes = cluster.sandboxes.clone();
        async move { sandboxes.patch("held", &PatchParams::default(), &Patch::Merge(patch)).await }
    };
    if cluster.sandboxes.get_opt("held").await?.is_some() {
        finalizers(&[]).await?; // of a run that was cut off
    }
    let sandbox = cluster.ready("held", spec()).await?;
    finalizers(&["e2e.codesandbox.dev/hold"]).await?;
    cluster.sandboxes.delete("held", &DeleteParams::background()).await?;
    let held = cluster.sandboxes.get("held").await?;
    assert!(held.meta().deletion_timestamp.is_some());

    let pod = cluster.pods.get(&sandbox.pod()).await?;
    cluster.pods.delete(&sandbox.pod(), &DeleteParams::default().grace_period(0)).await?;
    // A sandbox that is made and ready now is proof that the operator has seen the pod go.
    cluster.ready("held-next", e2e::spec()).await?.delete().await?;
    let uid = pod.metadata.labels.unwrap_or_default()[names::SANDBOX_UID].clone();
    assert_eq!(cluster.pods_of(&uid).await?, vec![]);

    finalizers(&[]).await?;
    nothing_is_left(&cluster, &sandbox.object).await
}
