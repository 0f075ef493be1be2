//! One exec stream over a long time, through the API server, the kubelet and containerd.

use std::{io::Write, time::Duration};

use anyhow::{Context, ensure};
use api::names;
use client::Session;
use e2e::{Cluster, NAMESPACE, deaths::node, run};
use http::{HeaderValue, Request, header::SEC_WEBSOCKET_PROTOCOL};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::AttachParams, client::Body};
use tokio::time::timeout;
use wire::v1::{Command, RunSpec, outcome::How, run_spec::What};

/// How long nothing is said. `e2e/cluster` has containerd close a stream on which nothing has come for 30 s; elsewhere
/// it waits for four hours.
const SILENCE: Duration = Duration::from_secs(45);

/// For the shell: says which bridges there are, which is which streams.
const BRIDGES: &str = r#"bridges() {
  for process in /proc/[0-9]*; do
    [ "$(tr '\0' ' ' <$process/cmdline)" != '/.codesandbox/bin/agent connect ' ] || echo ${process#/proc/}
  done 2>/dev/null
}"#;

/// A client whose streams go to containerd as they are. With the subprotocol that kube would rather have, somebody on the
/// way (of Kubernetes 1.36 the kubelet) speaks SPDY with containerd, and pings it every 5 s, whatever we do.
fn untranslated(client: &Client) -> Client {
    let client = client.clone();
    let service = tower::service_fn(move |mut request: Request<Body>| {
        if let Some(protocols) = request.headers_mut().get_mut(SEC_WEBSOCKET_PROTOCOL) {
            *protocols = HeaderValue::from_static("v4.channel.k8s.io");
        }
        let client = client.clone();
        async move { client.send(request).await }
    });
    Client::new(service, NAMESPACE)
}

/// tests.md A6; exec.md 6.2 and 6.9. A stream that keeps quiet beside it is closed, so that is what would be.
#[tokio::test]
async fn a_silent_run_keeps_its_stream_beyond_the_idle_timeout_of_the_node() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("silent", e2e::spec()).await?;
    let pods: Api<Pod> = Api::namespaced(untranslated(&cluster.client), NAMESPACE);

    let params = AttachParams::default().container(names::CONTAINER).stdin(true);
    let mut quiet = pods.exec(&sandbox.pod(), ["sleep", "100"], &params).await?;
    let closed = quiet.take_status().context("nobody took it before")?;

    let uid = sandbox.object.status.clone().and_then(|status| status.pod_uid);
    let session = Session::new(pods, sandbox.pod(), uid.context("it is ready")?);
    let shell = format!("{BRIDGES}\nbridges; sleep {}; bridges", SILENCE.as_secs());
    let command = Command { shell, ..Command::default() };
    let spec = RunSpec { what: Some(What::Command(command)), ..RunSpec::default() };
    let (ran, closed) = tokio::join!(run(&session, spec), timeout(SILENCE, closed));
    let ran = ran?;
    assert_eq!(ran.outcome.how, Some(How::Exited(0)));
    let text = ran.text();
    let bridges: Vec<&str> = text.lines().collect();
    let [before, after] = bridges[..] else { panic!("of one bridge: {bridges:?}") };
    assert_eq!(before, after, "another stream took the place of the first");

    let Ok(status) = closed else {
        ensure!(!node::is_here(), "containerd has closed no idle stream within {SILENCE:?}");
        let said = "only e2e/cluster closes a stream so soon: that ours stays shows nothing here";
        writeln!(std::io::stderr(), "{said}")?;
        return sandbox.delete().await;
    };
    assert_eq!(status, None, "it was to be cut off, not to end");
    sandbox.delete().await
}
