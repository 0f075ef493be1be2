//! Sandboxes with a GPU, of which a node has as many as its device plugin says. tests.md E11, G1, G2, G6, G7.

use std::collections::BTreeSet;

use anyhow::Context;
use api::{CodeSandbox, Gpu, OnIdle, Settings, condition, reason};
use e2e::{
    Cluster, STUBBORN, Sandbox,
    deaths::node,
    is, kubectl,
    mcp::{Answer, Door},
    reason,
};
use futures::future::join_all;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{Resource, ResourceExt, api::DeleteParams};
use serde_json::{Value, json};
use tokio::sync::Mutex;

const GPU: &str = "nvidia.com/gpu";
const DEVICES: &str = "printenv NVIDIA_VISIBLE_DEVICES";

/// There are as many GPUs as one test says.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Gives the node of e2e/cluster a number of GPUs, by a real device plugin without devices.
async fn offer(gpus: u8) -> anyhow::Result<()> {
    node::cluster(&["gpu", &gpus.to_string()]).await
}

fn spec() -> Settings {
    Settings { gpu: Some(Gpu::new(1, GPU)), ..e2e::spec() }
}

/// The same, paused when nobody uses it for a moment.
fn giving_back() -> Settings {
    let (idle_timeout, on_idle) = (Some("2s".into()), Some(OnIdle::Pause));
    Settings { idle_timeout, on_idle, ..spec() }
}

/// One that can be done without.
fn modest() -> Settings {
    Settings { gpu: Some(Gpu { optional: Some(true), ..Gpu::new(1, GPU) }), ..e2e::spec() }
}

/// What a sandbox's Ready says once no node takes it.
async fn unschedulable(cluster: &Cluster, name: &str) -> anyhow::Result<String> {
    let waits = |sandbox: &CodeSandbox| reason(sandbox, condition::READY) == reason::UNSCHEDULABLE;
    let status = cluster.wait(name, "Unschedulable", waits).await?.status.context("it has one")?;
    Ok(status.condition(condition::READY).context("it has one")?.message.clone())
}

/// What `sandbox_get` says of a sandbox.
async fn looked_at(door: &Door, name: &str) -> anyhow::Result<Value> {
    match door.call("sandbox_get", json!({"sandbox_id": name})).await {
        Answer::Told(told) => Ok(told["structuredContent"].clone()),
        other => anyhow::bail!("{other:?}"),
    }
}

async fn device(sandbox: &Sandbox) -> anyhow::Result<String> {
    Ok(sandbox.shell(DEVICES).await?.text())
}

#[tokio::test]
async fn a_gpu_is_given_to_one_sandbox_at_a_time_and_is_free_when_its_pod_has_ended()
-> anyhow::Result<()> {
    let _alone = ALONE.lock().await;
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
    let told = looked_at(&Door::from_env()?, "gpu-b").await?;
    let gpu = &told["gpu"];
    assert_eq!(gpu["reason"], "AgentReportsNoGPU", "{told}");
    assert_eq!((&gpu["asked_for"], &gpu["devices"]), (&json!(1), &json!([])), "{gpu}");

    // The third waits, and the sandbox says so in the scheduler's words.
    cluster.create("gpu-c", spec()).await?;
    let message = unschedulable(&cluster, "gpu-c").await?;
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

/// A wish that cannot be granted makes one pod that waits, however often it is told, and is taken back. tests.md E11, G7.
#[tokio::test]
async fn a_paused_sandbox_gives_its_gpu_back_and_waits_for_one_when_woken() -> anyhow::Result<()> {
    let _alone = ALONE.lock().await;
    offer(1).await?;
    e2e::finally(Box::pin(give_back()), offer(0)).await
}

async fn give_back() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    cluster.delete("gpu-b").await?;
    let a = cluster.ready_for_mcp("gpu-a", giving_back()).await?;
    cluster.create("gpu-b", spec()).await?;
    let b = cluster.wait("gpu-b", "Ready", |s| is(s, condition::READY)).await?;
    let paused = cluster.sandboxes.get("gpu-a").await?;
    assert_eq!(reason(&paused, condition::SUSPENDED), reason::PAUSED);
    let uid = paused.uid().context("it has one")?;
    let door = Door::from_env()?;
    let calls = [1, 2, 3]
        .map(|_| door.call("run_command", json!({"sandbox_id": "gpu-a", "command": "true"})));
    for answer in join_all(calls).await {
        let Answer::Refused(_, said) = answer else { anyhow::bail!("{answer:?}") };
        let said = said["content"][0]["text"].as_str().context("it is text")?.to_owned();
        let expected = "SANDBOX_NOT_READY: sandbox gpu-a is not ready yet (Unschedulable: 0/";
        assert!(said.starts_with(expected), "{said}");
    }
    assert_eq!(cluster.pods_of(&uid).await?.len(), 1, "however many wanted it");
    // Back to where it was, by the word of its user.
    cluster.suspend("gpu-a", true).await?;
    cluster.wait("gpu-a", "suspended", |s| is(s, condition::SUSPENDED)).await?;
    assert_eq!(cluster.pods_of(&uid).await?.len(), 0);
    cluster.suspend("gpu-a", false).await?;
    cluster.sandbox(b).delete().await?;
    cluster.wait("gpu-a", "Ready", |s| is(s, condition::READY)).await?;
    a.delete().await
}

/// That there is none free is no end and no loss, and is said wherever one looks; the next pod asks again. tests.md G1, G7.
#[tokio::test]
async fn an_optional_gpu_is_taken_where_one_is_free_and_else_done_without_which_is_said()
-> anyhow::Result<()> {
    let _alone = ALONE.lock().await;
    offer(1).await?;
    e2e::finally(Box::pin(do_without()), offer(0)).await
}

async fn do_without() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    cluster.delete("gpu-b").await?;
    let lucky = cluster.ready("gpu-a", modest()).await?;
    assert_ne!(device(&lucky).await?, "", "it was free");
    let status = lucky.object.status.as_ref().context("it has one")?;
    assert_eq!((status.without_gpu, status.attempt), (false, Some(1)));

    let without = cluster.ready_for_mcp("gpu-b", modest()).await?;
    let status = without.object.status.as_ref().context("it has one")?;
    assert_eq!((status.without_gpu, status.attempt, status.losses), (true, Some(2), Some(0)));
    let said = &status.condition(condition::READY).context("it has one")?.message;
    assert!(said.starts_with("the sandbox takes calls, without a GPU: "), "{said}");
    assert_eq!(device(&without).await?, "");
    let machine = without.shell("cat /etc/codesandbox.json").await?.text();
    assert_eq!(serde_json::from_str::<Value>(&machine)?.get("gpu"), None, "{machine}");
    let gpu = &looked_at(&Door::from_env()?, "gpu-b").await?["gpu"];
    assert_eq!((&gpu["reason"], &gpu["asked_for"]), (&json!("RunsWithoutGPU"), &json!(1)), "{gpu}");
    e2e::until("an event tells of it", async || {
        let told = "involvedObject.name=gpu-b,reason=RunsWithoutGPU,type=Normal";
        let args = ["get", "events", "-n", e2e::NAMESPACE, "-o", "name", "--field-selector", told];
        Ok(!kubectl(&args).await?.is_empty())
    })
    .await?;

    // By now there is one, and who comes anew asks for it.
    cluster.suspend("gpu-b", true).await?;
    cluster.wait("gpu-b", "suspended", |s| is(s, condition::SUSPENDED)).await?;
    lucky.delete().await?;
    cluster.suspend("gpu-b", false).await?;
    let again = cluster.wait("gpu-b", "Ready", |s| is(s, condition::READY)).await?;
    assert!(again.status.as_ref().is_some_and(|status| !status.without_gpu), "{again:?}");
    let again = cluster.sandbox(again);
    assert_ne!(device(&again).await?, "");
    again.delete().await
}

/// Labels as NVIDIA's feature discovery gives them, on every node there is; `-` takes one off.
async fn label(product: &str, memory: &str) -> anyhow::Result<()> {
    let labels = ["product", "memory"].map(|name| format!("nvidia.com/gpu.{name}"));
    let [product, memory] =
        [(&labels[0], product), (&labels[1], memory)].map(|(label, value)| match value {
            "-" => format!("{label}-"),
            value => format!("{label}={value}"),
        });
    kubectl(&["label", "nodes", "--all", "--overwrite", &product, &memory]).await.map(drop)
}

/// tests.md G1.
#[tokio::test]
async fn a_gpu_of_a_kind_is_had_on_nodes_that_have_it_and_else_waited_for() -> anyhow::Result<()> {
    let _alone = ALONE.lock().await;
    offer(1).await?;
    let undo = async {
        label("-", "-").await?;
        offer(0).await
    };
    e2e::finally(Box::pin(of_a_kind()), undo).await
}

async fn of_a_kind() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    label("E2E-GPU-40GB", "40537").await?;
    let of = |product: Option<&str>, memory: Option<&str>, resource| {
        let (product, memory) =
            (product.map(Into::into), memory.map(|least| Quantity(least.into())));
        Settings { gpu: Some(Gpu { product, memory, ..Gpu::new(1, resource) }), ..e2e::spec() }
    };
    for kind in [of(Some("E2E-GPU-80GB"), None, GPU), of(None, Some("40Gi"), GPU)] {
        cluster.create("gpu-a", kind).await?;
        let said = unschedulable(&cluster, "gpu-a").await?;
        assert!(said.contains("didn't match Pod's node affinity"), "{said}");
    }
    cluster.delete("gpu-a").await?;
    // 40537 MiB are enough for themselves, and for less.
    for memory in ["40537Mi", "39Gi"] {
        let fits = of(Some("E2E-GPU-40GB"), Some(memory), GPU);
        let sandbox = cluster.ready("gpu-b", fits).await?;
        assert_ne!(device(&sandbox).await?, "");
        sandbox.delete().await?;
    }
    let kind = of(Some("E2E-GPU-80GB"), None, GPU);
    let gpu = kind.gpu.map(|gpu| Gpu { optional: Some(true), ..gpu });
    let without = cluster.ready("gpu-b", Settings { gpu, ..e2e::spec() }).await?;
    assert!(without.object.status.as_ref().is_some_and(|status| status.without_gpu));
    without.delete().await?;

    let refused = cluster.create("gpu-b", of(None, Some("1Gi"), "amd.com/gpu")).await;
    let said = refused.expect_err("nobody could tell").to_string();
    assert!(said.contains("memory can be asked for of nvidia.com resources only"), "{said}");
    Ok(())
}

/// tests.md G7.
#[tokio::test]
async fn who_waits_for_a_gpu_is_told_how_many_wait_and_where_it_stands() -> anyhow::Result<()> {
    let _alone = ALONE.lock().await;
    offer(1).await?;
    e2e::finally(Box::pin(queue_up()), offer(0)).await
}

async fn queue_up() -> anyhow::Result<()> {
    let (cluster, door) = (Cluster::connect().await?, Door::from_env()?);
    let first = cluster.ready_for_mcp("gpu-a", spec()).await?;
    for name in ["gpu-b", "gpu-c"] {
        cluster.create_for_mcp(name, spec()).await?;
        unschedulable(&cluster, name).await?;
    }
    let stands = async |name: &str, place: usize, waiting: usize| {
        let expected = json!({"place": place, "waiting": waiting});
        e2e::until(&format!("{name} is told {expected}"), async || {
            Ok(looked_at(&door, name).await?["queue"] == expected)
        })
        .await
    };
    stands("gpu-b", 1, 2).await?;
    stands("gpu-c", 2, 2).await?;
    assert_eq!(looked_at(&door, "gpu-a").await?.get("queue"), None, "it waits for nothing");
    first.delete().await?;
    let b = cluster.wait("gpu-b", "Ready", |s| is(s, condition::READY)).await?;
    stands("gpu-c", 1, 1).await?;
    assert_eq!(looked_at(&door, "gpu-b").await?.get("queue"), None, "it waits no more");
    cluster.sandbox(b).delete().await?;
    cluster.delete("gpu-c").await
}
