//! Sandboxes that are suspended, paused and woken, and the disk that stays meanwhile. tests.md E11, E18, G7.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use api::{
    CodeSandbox, CodeSandboxSpec, OnIdle, Settings, TerminationReason, Workspace, condition, names,
    reason,
};
use e2e::{Cluster, NAMESPACE, STUBBORN, Sandbox, is, kubectl, reason, spec};
use futures::future::try_join_all;
use k8s_openapi::{
    api::core::v1::PersistentVolumeClaim, apimachinery::pkg::api::resource::Quantity,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};

/// Where the test of ten sandboxes leaves its word.
const KEPT: [&str; 2] = ["/workspace/kept", "/home/sandbox/kept"];

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/workspace.yaml");

/// A disk, and what else a test asks for.
fn with_disk(settings: Settings) -> Settings {
    let workspace =
        Workspace { size: Quantity("64Mi".into()), storage_class_name: None, retain: None };
    Settings { workspace: Some(workspace), ..settings }
}

/// The sandbox once it runs in the pod of an attempt.
async fn running(cluster: &Cluster, name: &str, attempt: u32) -> anyhow::Result<Sandbox> {
    let pod = names::pod(name, attempt);
    let judge = |sandbox: &CodeSandbox| {
        let status = sandbox.status.as_ref();
        is(sandbox, condition::READY)
            && status.is_some_and(|status| status.pod_name.as_ref() == Some(&pod))
    };
    let object = cluster.wait(name, &format!("ready as {pod}"), judge).await?;
    Ok(cluster.sandbox(object))
}

/// Each is resumed the moment it is suspended, so that the next pod comes while the one before ends. tests.md E18.
#[tokio::test]
async fn fifty_resumes_directly_after_their_suspension_keep_all_files_and_the_identity()
-> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let one = async |number: u32| {
        let name = format!("resumed-{number}");
        let mut sandbox = cluster.ready(&name, with_disk(spec())).await?;
        let uid = sandbox.object.uid();
        for round in 1..=10 {
            let [workspace, home] = KEPT;
            sandbox
                .says(&format!("echo {round} | tee -a {workspace} >> {home}; touch /tmp/new"))
                .await?;
            cluster.suspend(&name, true).await?;
            // Not before it has been heard: one that is taken back at once is none.
            cluster
                .wait(&name, "suspended", |one| reason(one, condition::READY) == reason::SUSPENDED)
                .await?;
            cluster.suspend(&name, false).await?;
            sandbox = running(&cluster, &name, round + 1).await?;
            let kept = sandbox.says(&format!("cat {workspace} {home}; ls -A /tmp")).await?;
            let expected: Vec<_> = (1..=round).chain(1..=round).collect();
            let kept: Result<Vec<u32>, _> = kept.lines().map(str::parse).collect();
            assert_eq!(kept?, expected, "{name}, round {round}");
        }
        assert_eq!(sandbox.object.uid(), uid);
        let pods = cluster.pods_of(&uid.context("it has one")?).await?;
        assert_eq!(pods.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), [sandbox.pod()]);
        let object = sandbox.object.clone();
        sandbox.delete().await?;
        assert_eq!(cluster.left_of(&object).await?, Vec::<String>::new());
        anyhow::Ok(())
    };
    try_join_all((0..5).map(one)).await.map(drop)
}

#[tokio::test]
async fn a_suspended_sandbox_has_no_pod_and_says_so_until_it_is_resumed() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    cluster.delete("kept").await?;
    kubectl(&["apply", "-n", NAMESPACE, "-f", EXAMPLE]).await?;
    running(&cluster, "kept", 1).await?;
    cluster.suspend("kept", true).await?;
    let object = cluster.wait("kept", "Suspended", |one| is(one, condition::SUSPENDED)).await?;
    let left = cluster.left_of(&object).await?;
    assert_eq!(left, ["\"PersistentVolumeClaim\"/\"kept-workspace\"", "\"CodeSandbox\"/\"kept\""]);
    let table = kubectl(&["get", "csb", "kept", "-n", NAMESPACE, "--no-headers"]).await?;
    let row: Vec<_> = table.split_whitespace().take(3).collect();
    assert_eq!(row, ["kept", "False", "Suspended"]);
    let described = kubectl(&["describe", "csb", "kept", "-n", NAMESPACE]).await?;
    assert!(described.contains("spec.suspend is true"), "{described}");
    cluster.suspend("kept", false).await?;
    running(&cluster, "kept", 2).await?.delete().await
}

#[tokio::test]
async fn one_that_nobody_uses_is_paused_and_woken_by_an_annotation_alone() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let settings = Settings {
        idle_timeout: Some("10s".into()),
        on_idle: Some(OnIdle::Pause),
        ..with_disk(spec())
    };
    let sandbox = cluster.ready("paused", settings).await?;
    sandbox.says("echo still here > kept").await?;
    let object = cluster.wait("paused", "Suspended", |one| is(one, condition::SUSPENDED)).await?;
    assert_eq!(reason(&object, condition::SUSPENDED), reason::PAUSED);
    let last = object.status.and_then(|status| status.last_termination).context("it has one")?;
    assert_eq!(last.reason, TerminationReason::IdleTimeout);
    assert_eq!(object.spec.suspend, None, "that is the user's alone");
    for round in 2..=3 {
        let wake = format!("{}={round}", names::WAKE);
        kubectl(&["annotate", "--overwrite", "csb", "paused", "-n", NAMESPACE, &wake]).await?;
        let sandbox = running(&cluster, "paused", round).await?;
        assert_eq!(sandbox.says("cat kept").await?, "still here\n");
        cluster.wait("paused", "Suspended", |one| is(one, condition::SUSPENDED)).await?;
    }
    cluster.delete("paused").await
}

#[tokio::test]
async fn a_pod_that_is_lost_leaves_the_disk_to_the_next() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("bereft", with_disk(spec())).await?;
    sandbox.says("echo still here > kept").await?;
    cluster.pods.delete(&sandbox.pod(), &DeleteParams::default()).await?;
    let sandbox = running(&cluster, "bereft", 2).await?;
    assert_eq!(sandbox.says("cat kept").await?, "still here\n");
    let status = sandbox.object.status.clone().context("it has one")?;
    let last = status.last_termination.context("it has one")?;
    assert_eq!(
        last.message,
        "the pod was deleted; its disk is kept, its contexts are gone and its runs are lost"
    );
    sandbox.delete().await
}

#[tokio::test]
async fn a_disk_that_is_retained_is_the_next_ones_of_the_same_name_and_owner_only()
-> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let remove = async || {
        cluster.delete("retained").await?;
        let claim = names::workspace("retained");
        kubectl(&["delete", "pvc", &claim, "-n", NAMESPACE, "--ignore-not-found"]).await.map(drop)
    };
    remove().await?;
    let mut settings = with_disk(spec());
    settings.workspace.as_mut().context("it has one")?.retain = Some(true);
    let sandbox = cluster.ready("retained", settings.clone()).await?;
    sandbox.says("echo still here > kept").await?;
    // At another attempt than the next sandbox begins with, whose pod's name is not in use then, and with a pod that takes
    // the agent's whole grace to end.
    cluster.pods.delete(&sandbox.pod(), &DeleteParams::default()).await?;
    let sandbox = running(&cluster, "retained", 2).await?;
    sandbox.says(STUBBORN).await?;
    cluster.sandboxes.delete("retained", &DeleteParams::background()).await?;
    let created = Instant::now();
    // The object is gone at once; its pod is not.
    let next = CodeSandbox::new("retained", CodeSandboxSpec::from(settings.clone()));
    cluster.sandboxes.create(&PostParams::default(), &next).await?;
    let object = cluster.wait("retained", "Ready", |one| is(one, condition::READY)).await?;
    ensure!(created.elapsed() > Duration::from_secs(2), "the pod before had the disk meanwhile");
    let before = cluster.pods.get_opt(&sandbox.pod()).await?;
    let phase = before.as_ref().map(|pod| pod.status.as_ref().and_then(|one| one.phase.as_deref()));
    // What has ended writes nothing any more; its object goes a moment later.
    let ended = matches!(phase, None | Some(Some("Succeeded" | "Failed")));
    assert!(ended, "never two at once: {phase:?}");
    cluster.sandbox(object).delete().await?;
    let claim = claims.get(&names::workspace("retained")).await?.uid();

    let sandbox = cluster.ready("retained", settings.clone()).await?;
    assert_eq!(sandbox.says("cat kept").await?, "still here\n");
    assert_eq!(claims.get(&names::workspace("retained")).await?.uid(), claim);
    sandbox.delete().await?;

    let mut others = CodeSandbox::new("retained", CodeSandboxSpec::from(settings));
    others.annotations_mut().insert(names::OWNER.into(), "somebody-else".into());
    cluster.sandboxes.create(&PostParams::default(), &others).await?;
    let refused = |one: &CodeSandbox| reason(one, condition::READY) == reason::NAME_TAKEN;
    let object = cluster.wait("retained", "refused", refused).await?;
    assert_eq!(cluster.pods_of(&object.uid().context("it has one")?).await?.len(), 0);
    remove().await
}
