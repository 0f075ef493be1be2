//! Sandboxes with a GPU, of which a node has as many as its device plugin says. tests.md G1, G2, G6.

use std::collections::BTreeSet;

use anyhow::Context;
use api::{Gpu, Settings, condition, reason};
use e2e::{
    Cluster, Sandbox, is, kubectl,
    mcp::{Answer, Door},
    output, reason,
};
use kube::{Resource, api::DeleteParams};
use serde_json::json;
use tokio::process::Command;

const GPU: &str = "nvidia.com/gpu";
const DEVICES: &str = "printenv NVIDIA_VISIBLE_DEVICES";
/// Makes the sandbox take the agent's whole grace to end: what runs has no ear for SIGTERM.
const STUBBORN: &str = "setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' >/dev/null 2>&1 &";

/// Gives the node of e2e/cluster a number of GPUs, by a real device plugin without devices.
async fn offer(gpus: u8) -> anyhow::Result<()> {
    let cluster = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster/cluster");
    output(Command::new(cluster).args(["gpu", &gpus.to_string()]), "").await.map(drop)
}

fn spec() -> Settings {
    Settings { gpu: Some(Gpu { count: 1, resource: GPU.into() }), ..e2e::spec() }
}

async fn device(sandbox: &Sandbox) -> anyhow::Result<String> {
    Ok(sandbox.shell(DEVICES).await?.text())
}

#[tokio::test]
async fn a_gpu_is_given_to_one_sandbox_at_a_time_and_is_free_when_its_pod_has_ended()
-> anyhow::Result<()> {
    offer(2).await?;
    // The other tests know no GPUs.
    // Boxed: it is too large for the stack of a test.
    e2e::finally(Box::pin(share()), offer(0)).await
}

async fn share() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    for name in ["gpu-a", "gpu-b", "gpu-c", "gpu-less"] {
        cluster.delete(name).await?;
    }
    let (a, b) =
        tokio::try_join!(cluster.ready("gpu-a", spec()), cluster.ready_for_mcp("gpu-b", spec()))?;
    let devices = BTreeSet::from([device(&a).await?, device(&b).await?]);
    assert_eq!(devices.len(), 2, "each has one of its own: {devices:?}");
    let none = cluster.ready("gpu-less", e2e::spec()).await?;
    assert_eq!(device(&none).await?, "", "who asks for none has none");
    none.delete().await?;

    // What this device plugin accounts for is not there, and that is said.
    match Door::from_env()?.call("sandbox_get", json!({"sandbox_id": "gpu-b"})).await {
        Answer::Told(told) => {
            let gpu = &told["structuredContent"]["gpu"];
            assert_eq!(gpu["reason"], "AgentReportsNoGPU", "{told}");
            assert_eq!((&gpu["asked_for"], &gpu["devices"]), (&json!(1), &json!([])), "{gpu}");
        }
        other => anyhow::bail!("{other:?}"),
    }

    // The third waits, and the sandbox says so in the scheduler's words.
    cluster.create("gpu-c", spec()).await?;
    let waiting = cluster
        .wait("gpu-c", "Unschedulable", |s| reason(s, condition::READY) == reason::UNSCHEDULABLE)
        .await?;
    let status = waiting.status.context("it has one")?;
    let message = &status.condition(condition::READY).context("it has one")?.message;
    assert!(
        message.starts_with("0/") && message.contains("Insufficient nvidia.com/gpu"),
        "{message}"
    );

    // Deleted is not gone: as long as the first's pod ends, its GPU is not free.
    a.shell(STUBBORN).await?;
    let freed = device(&a).await?;
    cluster.sandboxes.delete("gpu-a", &DeleteParams::background()).await?;
    let mut ending = 0;
    e2e::until("the third has a node", async || {
        // In this order: had the third got its node too early, the first's pod would still be there after.
        let scheduled =
            cluster.pods.get("gpu-c-1").await?.spec.is_some_and(|spec| spec.node_name.is_some());
        let first = cluster.pods.get_opt(&a.pod()).await?;
        // A pod whose phase is final has nothing left that runs; its object goes a moment later.
        let phase = first.as_ref().and_then(|pod| pod.status.as_ref()?.phase.as_deref());
        let over = first.is_none() || matches!(phase, Some("Succeeded" | "Failed"));
        assert!(!scheduled || over, "the GPU was given away while its pod ran: {phase:?}");
        ending += u32::from(first.is_some_and(|pod| pod.meta().deletion_timestamp.is_some()));
        Ok(scheduled)
    })
    .await?;
    assert!(ending > 3, "the first's pod was seen ending {ending} times only");
    let c = cluster.wait("gpu-c", "Ready", |s| is(s, condition::READY)).await?;
    let pod = c.status.and_then(|status| status.pod_name).context("it is ready")?;
    let got = kubectl(&["exec", "-n", e2e::NAMESPACE, &pod, "--", "sh", "-c", DEVICES]).await?;
    assert_eq!(got, freed);
    cluster.delete("gpu-c").await?;
    b.delete().await
}
