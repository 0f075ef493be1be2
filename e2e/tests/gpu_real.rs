//! Sandboxes with a GPU that exists: what they see of it, and what the next one does not. tests.md G3, G5, G8.
//!
//! Not tried where `cargo test` runs without `--ignored`: it takes a node whose device plugin hands real NVIDIA GPUs
//! on, as `hack/real-gpu.sh` makes one. `GPU_RUNTIME` names the RuntimeClass of the sandboxes.

#![allow(clippy::print_stderr, reason = "what was seen is told, for docs/gpu.md")]

use std::{env, sync::Arc, time::Instant};

use anyhow::Context;
use api::{Gpu, Settings, condition, names};
use client::Session;
use e2e::{
    Cluster, Sandbox, is,
    mcp::{Answer, Door},
    output,
};
use kube::api::DeleteParams;
use serde_json::json;
use tokio::process::Command;
use wire::v1::{
    Code, Exception, GpusReply, Outcome, RunSpec, Stream, outcome::How, run_event::Event,
    run_spec::What,
};

const CUDA: &str = include_str!("gpu_real/cuda.py");
const MIB: u64 = 1 << 20;
/// What the first tenant's memory is full of.
const PATTERN: &str = "PATTERN = b'a tenant of CodeSandbox was here, and nobody has to know'";

fn spec() -> Settings {
    let mut spec = Settings {
        gpu: Some(Gpu::new(1, names::DEFAULT_GPU)),
        runtime_class_name: env::var("GPU_RUNTIME").ok().filter(|name| !name.is_empty()),
        ..e2e::spec()
    };
    // A context on the GPU takes a few hundred MiB of the sandbox's own memory.
    spec.resources.get_or_insert_default().memory =
        Some(k8s_openapi::apimachinery::pkg::api::resource::Quantity("4Gi".into()));
    spec
}

/// What a cell said.
#[derive(Debug, Default)]
struct Said {
    stdout: String,
    exception: Option<Exception>,
    outcome: Outcome,
}

/// Runs a cell in the sandbox's Python context.
async fn cell(session: &Arc<Session>, run: &str, source: &str) -> anyhow::Result<Said> {
    let code =
        Code { language: "python".into(), source: source.to_owned().into(), ..Code::default() };
    let spec = RunSpec { what: Some(What::Code(code)), timeout_ms: 120_000, ..RunSpec::default() };
    let mut run = session.run(run.to_owned(), spec);
    let mut said = Said::default();
    while let Some(event) = run.next().await? {
        match event.event {
            Some(Event::Output(output)) if output.stream() == Stream::Stdout => {
                said.stdout.push_str(&String::from_utf8_lossy(&output.data));
            }
            Some(Event::Exception(exception)) => said.exception = Some(exception),
            Some(Event::Outcome(outcome)) => said.outcome = outcome,
            _ => {}
        }
    }
    Ok(said)
}

/// The same for what has to go well; what it printed.
async fn well(session: &Arc<Session>, run: &str, source: &str) -> anyhow::Result<String> {
    let begun = Instant::now();
    let said = cell(session, run, source).await?;
    anyhow::ensure!(said.exception.is_none(), "{run}: {:?}", said.exception);
    eprintln!("{run} ({:.2} s): {}", begun.elapsed().as_secs_f64(), said.stdout.trim_end());
    Ok(said.stdout)
}

async fn ready(cluster: &Cluster, name: &str) -> anyhow::Result<(Sandbox, Arc<Session>)> {
    let sandbox = cluster.ready(name, spec()).await?;
    let session = sandbox.session();
    Ok((sandbox, session))
}

/// How much of the only GPU is used, by anybody.
fn used(gpus: &GpusReply) -> u64 {
    assert_eq!(gpus.gpus.len(), 1, "{gpus:?}");
    assert!(gpus.gpus[0].memory_bytes > MIB, "{gpus:?}");
    gpus.gpus[0].used_bytes
}

/// What the node's own driver says, where the test runs on it: memory in use, and by which processes.
async fn node_says() -> Option<String> {
    let ask = async |what: &str| {
        output(Command::new("nvidia-smi").args([what, "--format=csv,noheader,nounits"]), "")
            .await
            .ok()
    };
    let used = ask("--query-gpu=memory.used").await?;
    let by = ask("--query-compute-apps=pid,used_memory").await?;
    Some(format!("{} MiB used, by [{}]", used.trim(), by.trim().replace('\n', "; ")))
}

#[tokio::test]
#[ignore = "takes a real GPU: hack/real-gpu.sh"]
async fn a_sandbox_sees_its_gpu_and_computes_on_it() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let (name, begun) = ("gpu-sees", Instant::now());
    let sandbox = cluster.ready_for_mcp(name, spec()).await?;
    eprintln!("ready after {:.2} s", begun.elapsed().as_secs_f64());
    let session = sandbox.session();
    let begun = Instant::now();
    let gpus = session.gpus().await?;
    eprintln!("the agent says ({:.2} s): {gpus:?}", begun.elapsed().as_secs_f64());
    used(&gpus);
    let gpu = &gpus.gpus[0];
    assert!(gpu.name.contains("NVIDIA") && gpu.uuid.starts_with("GPU-"), "{gpu:?}");

    let look = "PATH=$PATH:/usr/local/nvidia/bin; id; ls -l /dev/nvidia*; ls /proc/driver/nvidia; cat /proc/driver/nvidia/version; nvidia-smi";
    let seen = sandbox.shell(look).await?;
    eprintln!("{}{}", seen.text(), String::from_utf8_lossy(&seen.stderr));
    assert!(seen.text().contains(&gpus.driver), "{gpus:?}");

    well(&session, "cuda", CUDA).await?;
    let named = well(&session, "begin", "print(begin(), free_and_total())").await?;
    assert!(named.contains(&gpu.name), "{named}");
    let sum = "sums = add_indexes([7] * 100_000); print(sums == [7 + i for i in range(100_000)])";
    assert_eq!(well(&session, "compute", sum).await?.trim(), "True");

    match Door::from_env()?.call("sandbox_get", json!({"sandbox_id": name})).await {
        Answer::Told(told) => {
            let told = &told["structuredContent"]["gpu"];
            eprintln!("sandbox_get says: {told}");
            assert_eq!((&told["asked_for"], &told["driver"]), (&json!(1), &json!(gpus.driver)));
            assert_eq!(told["devices"][0]["uuid"], json!(gpu.uuid));
            assert_eq!(told["devices"][0]["memory_mib"], json!(gpu.memory_bytes / MIB));
            assert!(told.get("reason").is_none(), "{told}");
        }
        other => anyhow::bail!("{other:?}"),
    }
    sandbox.delete().await
}

#[tokio::test]
#[ignore = "takes a real GPU: hack/real-gpu.sh"]
async fn a_sandbox_that_asks_for_no_gpu_has_none() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let spec = Settings { gpu: None, ..spec() };
    let sandbox = cluster.ready("gpu-none", spec).await?;
    let look = "ls /dev/nvidia* /usr/local/nvidia; nvidia-smi; python3 -c 'import ctypes; ctypes.CDLL(\"libcuda.so.1\")'";
    let seen = sandbox.shell(look).await?;
    eprintln!("{}{}", seen.text(), String::from_utf8_lossy(&seen.stderr));
    assert_eq!(seen.text(), "");
    assert_eq!(sandbox.session().gpus().await?.gpus, []);
    sandbox.delete().await
}

/// G3. The second tenant has been waiting for the GPU when the first is deleted, so that it comes as early as it can.
#[tokio::test]
#[ignore = "takes a real GPU: hack/real-gpu.sh"]
async fn what_a_tenant_left_in_the_gpu_s_memory_the_next_does_not_find() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    for name in ["gpu-first", "gpu-next"] {
        cluster.delete(name).await?;
    }
    let (first, session) = ready(&cluster, "gpu-first").await?;
    let idle = used(&session.gpus().await?);
    well(&session, "cuda", CUDA).await?;
    well(&session, "begin", &format!("{PATTERN}\nprint(begin())")).await?;
    // The probe has to find what is there to be found.
    let found = well(
        &session,
        "fill",
        "first = fill(1024 * MIB, PATTERN)\nprint(*scan([(first, 1024 * MIB)], PATTERN))",
    )
    .await?;
    assert_eq!(found.trim(), format!("{} 8 8", 1024 * MIB));
    let busy = used(&session.gpus().await?);
    eprintln!(
        "used: {} MiB idle, {} MiB by the first; the node: {:?}",
        idle / MIB,
        busy / MIB,
        node_says().await
    );
    assert!(busy >= idle + 1024 * MIB, "{busy} after {idle}");

    cluster.create("gpu-next", spec()).await?;
    e2e::until("the next waits", async || {
        let next = cluster.sandboxes.get("gpu-next").await?;
        Ok(e2e::reason(&next, condition::READY) == api::reason::UNSCHEDULABLE)
    })
    .await?;
    let begun = Instant::now();
    cluster.sandboxes.delete("gpu-first", &DeleteParams::background()).await?;
    e2e::until("the next has a node", async || {
        let pod = cluster.pods.get("gpu-next-1").await?;
        Ok(pod.spec.is_some_and(|spec| spec.node_name.is_some()))
    })
    .await?;
    // As soon as the GPU counts as free.
    let node = node_says().await;
    eprintln!("free after {:.2} s; the node: {node:?}", begun.elapsed().as_secs_f64());
    if let Some(node) = node {
        assert!(node.ends_with("by []"), "{node}");
    }
    cluster.gone(&first.object).await?;
    let object = cluster.wait("gpu-next", "Ready", |s| is(s, condition::READY)).await?;
    let status = object.status.context("it is ready")?;
    let pod = (status.pod_name.context("it has one")?, status.pod_uid.context("it has one")?);
    let session = Session::new(cluster.pods.clone(), pod.0, pod.1);
    assert_eq!(used(&session.gpus().await?), idle, "nothing of the first is left on the GPU");

    well(&session, "cuda", CUDA).await?;
    well(&session, "begin", &format!("{PATTERN}\nprint(begin(), free_and_total())")).await?;
    let all = "blocks, end = take_all()\nprint(len(blocks), sum(length for _, length in blocks), free_and_total()[1], end)";
    let all = well(&session, "all", all).await?;
    let words: Vec<_> = all.split(' ').collect();
    let (taken, total): (u64, u64) = (words[1].parse()?, words[2].parse()?);
    assert!(taken > total / 100 * 97, "{taken} of {total}");
    // An allocation for the host's side of the copy has to fit, too.
    let scan = "free(blocks.pop()[0])\nprint(*scan(blocks, PATTERN))";
    let scan = well(&session, "scan", scan).await?;
    let words: Vec<_> = scan.trim().split(' ').collect();
    let (read, dirty, found): (u64, u64, u64) =
        (words[0].parse()?, words[1].parse()?, words[2].parse()?);
    assert!(read > total / 100 * 97, "{read} of {total}");
    assert_eq!((dirty, found), (0, 0));
    cluster.delete("gpu-next").await
}

/// G5.
#[tokio::test]
#[ignore = "takes a real GPU: hack/real-gpu.sh"]
async fn a_gpu_without_memory_left_is_an_exception_and_the_context_lives_on() -> anyhow::Result<()>
{
    let cluster = Cluster::connect().await?;
    let (sandbox, session) = ready(&cluster, "gpu-oom").await?;
    well(&session, "cuda", CUDA).await?;
    well(&session, "begin", "kept = 41\nprint(begin())").await?;
    let said =
        cell(&session, "oom", "blocks = []\nwhile True: blocks.append(alloc(1024 * MIB))").await?;
    eprintln!("{said:?}");
    let exception = said.exception.context("it was raised")?;
    assert_eq!(exception.name, "CudaError");
    assert_eq!(exception.value, "CUDA_ERROR_OUT_OF_MEMORY: out of memory");
    assert!(matches!(said.outcome.how, Some(How::Exited(1))), "{:?}", said.outcome);
    // Nothing was lost, and there is nothing to be had yet.
    let after = well(&session, "after", "print(kept + 1, len(blocks) > 30)").await?;
    assert_eq!(after.trim(), "42 True");
    let freed = "for block in blocks: free(block)\nblock = alloc(1024 * MIB); put(block, b'again'); print(get(block, 5))";
    assert_eq!(well(&session, "freed", freed).await?.trim(), "b'again'");
    let pod = cluster.pods.get(&sandbox.pod()).await?;
    let containers = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
    assert!(containers.iter().all(|container| container.restart_count == 0), "{containers:?}");
    let object = cluster.sandboxes.get("gpu-oom").await?;
    assert_eq!(object.status.and_then(|status| status.last_termination), None);
    sandbox.delete().await
}
