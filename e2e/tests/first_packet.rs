//! The first packet of a sandbox: none leaves before the node enforces its policy. tests.md F9.
//!
//! kube-router learns of a pod when it already runs, so that for its first 60 to 230 ms what a policy denies gets through,
//! and what was connected until then stays connected. STARTS (10) says how many sandboxes try, of each runtime.

use std::{io::Write, sync::Arc};

use anyhow::{Context, ensure};
use api::{CodeSandbox, Settings, condition, reason};
use client::Session;
use e2e::{
    Cluster,
    deaths::node,
    is, kubectl,
    probe::{INTERNET, OPEN, open_pods},
    reason, run,
};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::{Value, json};
use wire::v1::{Command, RunSpec, run_spec::What};

/// One of these tests stops the network plugin.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Sends to everybody for 400 ms, and says whom it reached.
const FLOOD: &str = r#"
import json, select, socket, sys, time
targets, mark = json.loads(sys.argv[1]), b"mark " + sys.argv[2].encode()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.setblocking(False)
reached, connecting, end = set(), {}, time.monotonic() + 0.4
while time.monotonic() < end:
    for name, kind, host, port in targets:
        try:
            if kind == "udp":
                udp.sendto(mark, (host, port))
            else:
                tcp = socket.socket()
                tcp.setblocking(False)
                tcp.connect_ex((host, port))
                connecting[tcp] = name
        except OSError:
            pass
    read, written, _ = select.select([udp], list(connecting), [], 0.005)
    for tcp in written:
        if tcp.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            reached.add(connecting[tcp])
        del connecting[tcp]
        tcp.close()
    try:
        for _ in read:
            reached.add("udp " + udp.recvfrom(512)[1][0])
    except OSError:
        pass
print(json.dumps(sorted(reached)))
"#;

fn flood(targets: &Value, mark: &str) -> Vec<String> {
    ["python3", "-c", FLOOD, &targets.to_string(), mark].map(String::from).into()
}

/// A new sandbox as soon as its pod runs, before its status says that it is ready.
async fn fresh(
    cluster: &Cluster,
    name: &str,
    runtime: Option<&str>,
) -> anyhow::Result<Arc<Session>> {
    let spec = Settings { runtime_class_name: runtime.map(Into::into), ..e2e::spec() };
    cluster.create(name, spec).await?;
    cluster.early(name).await
}

/// Whom it reaches.
async fn reaches(
    session: &Arc<Session>,
    targets: &Value,
    mark: &str,
) -> anyhow::Result<Vec<String>> {
    let command = Command { argv: flood(targets, mark), ..Command::default() };
    let ran =
        run(session, RunSpec { what: Some(What::Command(command)), ..RunSpec::default() }).await?;
    serde_json::from_slice(&ran.stdout).with_context(|| format!("{ran:?}"))
}

/// What an open pod was seen to reach just now, and how many marked packets its neighbour got.
async fn targets(cluster: &Cluster) -> anyhow::Result<Value> {
    let sandbox = cluster.ready("first-image", e2e::spec()).await?;
    open_pods(cluster, &sandbox).await?;
    sandbox.delete().await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), OPEN);
    let neighbour = pods.get("neighbour").await?.status.and_then(|status| status.pod_ip);
    let neighbour = neighbour.context("a running pod has an address")?;
    let api = ["get", "service", "kubernetes", "-n", "default", "-o", "jsonpath={.spec.clusterIP}"];
    let targets = json!([
        ["API server", "tcp", kubectl(&api).await?, 443],
        ["another pod", "tcp", neighbour, 8000],
        ["internet", "tcp", INTERNET, 80],
        ["another pod, UDP", "udp", neighbour, 9000],
        ["internet, UDP", "udp", INTERNET, 7],
    ]);
    let control = flood(&targets, "control");
    let exec = ["exec", "-n", OPEN, "probe", "--"].into_iter();
    let control = exec.chain(control.iter().map(String::as_str)).collect::<Vec<_>>();
    let reached: Vec<String> = serde_json::from_str(&kubectl(&control).await?)?;
    let udp = |host: &str| format!("udp {host}");
    let mut all = ["API server", "another pod", "internet"].map(String::from).to_vec();
    all.extend([udp(&neighbour), udp(INTERNET)]);
    all.sort();
    assert_eq!(reached, all, "the control has to reach all");
    ensure!(marks("control").await? > 0, "what arrives has to be seen");
    Ok(targets)
}

/// How many packets the open pod got with such a mark: what left a sandbox and was not answered counts, too.
async fn marks(of: &str) -> anyhow::Result<usize> {
    let seen = kubectl(&["logs", "-n", OPEN, "neighbour"]).await?;
    Ok(seen.lines().filter(|line| line.starts_with(&format!("mark {of}"))).count())
}

#[tokio::test]
async fn no_packet_leaves_a_sandbox_before_its_policy_is_enforced() -> anyhow::Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = Cluster::connect().await?;
    let targets = targets(&cluster).await?;
    let before = marks("first-").await?;
    let starts = std::env::var("STARTS").map_or(Ok(10), |text| text.parse::<usize>())?;
    let mut reached = Vec::new();
    for runtime in [None, Some("gvisor")] {
        for number in 0..starts {
            let name = format!("first-{}-{number}", runtime.unwrap_or("runc"));
            let session = fresh(&cluster, &name, runtime).await?;
            let whom = reaches(&session, &targets, &name).await?;
            cluster.delete(&name).await?;
            if !whom.is_empty() {
                reached.push((name, whom));
            }
        }
    }
    let seen = marks("first-").await? - before;
    assert_eq!((reached, seen), (vec![], 0), "of {starts} starts with each runtime");
    Ok(())
}

/// The same on a node that is slow to enforce policies, so that nobody is too early by luck alone.
#[tokio::test]
async fn a_sandbox_runs_nothing_while_its_node_enforces_no_policy_and_says_so() -> anyhow::Result<()>
{
    if !node::is_here() {
        let why = "not tried: the network plugin can be stopped on the embedded cluster only";
        writeln!(std::io::stderr(), "{why}")?;
        return Ok(());
    }
    let _alone = ALONE.lock().await;
    let cluster = Cluster::connect().await?;
    let targets = targets(&cluster).await?;
    let before = marks("late").await?;
    node::cluster(&["kill", "kube-router"]).await?;
    let mut flood = None;
    let work = async {
        let session = fresh(&cluster, "late", None).await?;
        let own = targets.clone();
        let begun = tokio::spawn(async move { reaches(&session, &own, "late").await });
        let open = |s: &CodeSandbox| reason(s, condition::NETWORK_ISOLATED) == reason::NOT_ENFORCED;
        let said = cluster.wait("late", "not isolated", open).await?;
        let ready = said.status.as_ref().and_then(|status| status.condition(condition::READY));
        let ready = ready.context("it has the condition")?;
        assert_eq!((&*ready.status, &*ready.reason), ("False", reason::NOT_ISOLATED));
        assert!(ready.message.contains("enforces NetworkPolicy"), "{}", ready.message);
        assert!(!begun.is_finished(), "nothing has run");
        flood = Some(begun);
        Ok(())
    };
    e2e::finally(work, node::cluster(&["revive"])).await?;
    let whom = flood.context("it was begun")?.await??;
    assert_eq!((whom, marks("late").await? - before), (vec![], 0));
    let closed = |s: &CodeSandbox| is(s, condition::READY) && is(s, condition::NETWORK_ISOLATED);
    cluster.wait("late", "ready", closed).await?;
    cluster.delete("late").await
}
