//! What an agent says of the sandbox's GPUs.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use common::{Agent, Client, DEADLINE};
use tempfile::TempDir;
use wire::limits::GPU_PATIENCE;
use wire::v1::{Gpu, GpusReply, GpusRequest};

/// An agent whose nvidia-smi is this script, and the directory that is in.
fn with_smi(script: &str) -> (Agent, TempDir) {
    let bin = tempfile::tempdir().unwrap();
    let path = bin.path().join("nvidia-smi");
    let script = script.replace("$BIN", &bin.path().display().to_string());
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    let variable = format!("{}:/usr/bin:/bin", bin.path().display());
    (Agent::start_with(&[("PATH", variable.leak())]), bin)
}

async fn told(mut client: Client) -> GpusReply {
    client.gpus(GpusRequest {}).await.unwrap().into_inner()
}

async fn gpus(script: &str) -> GpusReply {
    let (agent, _bin) = with_smi(script);
    told(agent.client().await).await
}

const ONE: &str = "GPU-1, NVIDIA H200, 143771, 512, 580.159.04";

fn one() -> GpusReply {
    let gpu = Gpu {
        uuid: "GPU-1".into(),
        name: "NVIDIA H200".into(),
        memory_bytes: 143_771 << 20,
        used_bytes: 512 << 20,
    };
    GpusReply { driver: "580.159.04".into(), gpus: vec![gpu] }
}

#[tokio::test]
async fn nvidia_smi_is_asked_for_the_gpus() {
    let asked = r#"[ "$*" = "--query-gpu=uuid,name,memory.total,memory.used,driver_version --format=csv,noheader,nounits" ] &&"#;
    assert_eq!(gpus(&format!("{asked} echo '{ONE}'")).await, one());
}

/// The driver's files are read then; a machine that tests are run on has none.
#[tokio::test]
async fn what_nvidia_smi_says_when_it_fails_is_not_taken_for_a_gpu() {
    for script in [
        &format!("echo '{ONE}'; exit 9"),
        "echo 'No devices were found'; exit 6",
        "yes 'GPU-1, A, 10, 1, 5.1' | head -c 1000000",
        "kill -9 $$",
    ] {
        assert_eq!(gpus(script).await.gpus, [], "{script}");
    }
}

#[tokio::test]
async fn an_nvidia_smi_that_hangs_is_not_waited_for_any_longer() {
    let begun = Instant::now();
    assert_eq!(gpus("exec sleep 1000").await.gpus, []);
    let took = begun.elapsed();
    assert!(took >= GPU_PATIENCE && took < DEADLINE / 2, "{took:?}");
}

#[tokio::test]
async fn many_who_ask_at_once_are_all_told() {
    // It fails if another of it runs.
    let alone = format!("mkdir $BIN/lock || exit 1; sleep 0.05; rmdir $BIN/lock; echo '{ONE}'");
    let (agent, _bin) = with_smi(&alone);
    let client = agent.client().await;
    let answers = futures::future::join_all((0..8).map(|_| told(client.clone()))).await;
    assert_eq!(answers, vec![one(); 8]);
}
