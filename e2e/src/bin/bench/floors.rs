//! What the same costs otherwise, in the same run: a fresh `pods/exec` for every call, and a bare Jupyter kernel
//! without sandbox, network or server.

use anyhow::{Context, ensure};
use e2e::Sandbox;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::AttachParams};
use tokio::{io::AsyncReadExt, process::Command};

use crate::calls::{Calls, times};

/// What the bare kernel is asked by; it prints the milliseconds of each answer as a list.
const JUPYTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/jupyter.py");

/// A new exec session for each call, as clients without an agent make it.
pub(crate) async fn exec(
    pods: &Api<Pod>,
    sandbox: &Sandbox,
    count: usize,
) -> anyhow::Result<Calls> {
    let mut all = Vec::new();
    for (what, argv, answer) in [
        ("a fresh pods/exec of `true`", &["true"][..], ""),
        (
            "a fresh pods/exec of `python3 -c \"print(1+1)\"`",
            &["python3", "-c", "print(1+1)"],
            "2\n",
        ),
    ] {
        let took = times(count, async || {
            let params = AttachParams::default().stderr(false).container("sandbox");
            let mut session = pods.exec(&sandbox.pod(), argv.iter().copied(), &params).await?;
            let mut text = String::new();
            session.stdout().context("it was asked for")?.read_to_string(&mut text).await?;
            session.join().await?;
            ensure!(text == answer, "{what}: {text}");
            Ok(())
        });
        all.push((what.into(), took.await?));
    }
    Ok(all)
}

/// `1+1` in an IPython kernel of this machine, over its own ZeroMQ sockets.
pub(crate) async fn jupyter(python: &str, count: usize) -> anyhow::Result<Calls> {
    let output = Command::new(python).args([JUPYTER, &count.to_string()]).output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(vec![("a bare local Jupyter kernel, `1+1`".into(), serde_json::from_slice(&output.stdout)?)])
}
