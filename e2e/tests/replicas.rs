//! Two operators: one acts, the other takes over. A file of its own: cargo runs it by itself.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use api::names;
use e2e::{Cluster, RELEASE_NAMESPACE, Sandbox, kubectl, kubectl_with, operators, until};
use kube::{ResourceExt, api::ListParams};
use serde_json::json;

/// How long the next sandbox may take when the leader stops in good order.
const HANDED_OVER: Duration = Duration::from_secs(5);
/// How long until another leads when the leader dies: the Lease's 10 s, and 2 s between looks.
const TAKEN_OVER: Duration = Duration::from_secs(15);
const KILLER: &str = "e2e-killer";

#[tokio::test]
async fn two_operators_one_acts_and_another_takes_over() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    operators::scale(2).await?;
    let outcome = take_turns(&cluster).await;
    // Whatever came of it: the other tests know one operator.
    kubectl(&["delete", "pod", "-n", "default", KILLER, "--ignore-not-found", "--now"]).await?;
    operators::scale(1).await?;
    outcome
}

#[expect(clippy::print_stdout, reason = "how long it took, with --nocapture")]
async fn take_turns(cluster: &Cluster) -> anyhow::Result<()> {
    // Of an upgrade just before this one may be ending still, and be the one that leads.
    until("there are two", async || Ok(operators::pods().await?.len() == 2)).await?;
    let first = operators::next_holder(cluster, None).await?;
    let standby = operators::pods().await?.into_iter().find(|pod| pod != operators::pod(&first));
    let standby = standby.context("a second operator")?;
    let a = cluster.ready("replicas-a", e2e::spec()).await?;
    ensure!(operators::requests(operators::pod(&first), true).await? > 0, "the leader acts");
    assert_eq!(operators::requests(&standby, false).await?, 0, "a standby asks for nothing");
    assert_eq!(leaders().await?, [operators::pod(&first)]);

    let stopped = Instant::now();
    let pod = operators::pod(&first);
    kubectl(&["delete", "pod", "-n", RELEASE_NAMESPACE, pod, "--wait=false"]).await?;
    let b = cluster.ready("replicas-b", e2e::spec()).await?;
    let took = stopped.elapsed();
    println!("a sandbox was ready {took:?} after the leader was told to stop");
    ensure!(took < HANDED_OVER, "handing over took {took:?}");
    let second = operators::holder(cluster).await?.context("somebody leads")?;
    assert_ne!(second, first);

    operators::rolled_out().await?;
    let killed = kill(operators::pod(&second), &image(cluster, &b).await?).await?;
    let third = operators::next_holder(cluster, Some(&second)).await?;
    let took = killed.elapsed();
    println!("another led {took:?} after the leader was killed");
    ensure!(took < TAKEN_OVER, "taking over took {took:?}");
    let c = cluster.ready("replicas-c", e2e::spec()).await?;
    println!("and a sandbox was ready {:?} after it", killed.elapsed());
    operators::rolled_out().await?;
    until("one leads by its own word, too", async || {
        Ok(leaders().await? == [operators::pod(&third)])
    })
    .await?;

    // Nothing was done twice, and nothing was lost.
    for sandbox in [a, b, c] {
        let now = cluster.sandboxes.get(&sandbox.name()).await?;
        assert_eq!(now.status, sandbox.object.status, "{}", sandbox.name());
        let selector = format!("{}={}", names::SANDBOX, sandbox.name());
        let pods = cluster.pods.list(&ListParams::default().labels(&selector)).await?;
        let pods: Vec<_> = pods.iter().map(ResourceExt::name_any).collect();
        assert_eq!(pods, [sandbox.pod()]);
        sandbox.delete().await?;
    }
    Ok(())
}

/// An image that the node has.
async fn image(cluster: &Cluster, sandbox: &Sandbox) -> anyhow::Result<String> {
    let spec = cluster.pods.get(&sandbox.pod()).await?.spec.context("a spec")?;
    spec.containers[0].image.clone().context("an image")
}

/// The operators that say that they lead.
async fn leaders() -> anyhow::Result<Vec<String>> {
    let mut leaders = Vec::new();
    for pod in operators::pods().await? {
        // One that is starting answers nothing yet.
        let metrics = operators::metrics(&pod).await.unwrap_or_default();
        if metrics.lines().any(|line| line == "codesandbox_operator_leader 1") {
            leaders.push(pod);
        }
    }
    Ok(leaders)
}

/// Kills an operator's process as the kernel would, from a pod on its node that sees all processes. Gives when.
async fn kill(operator: &str, image: &str) -> anyhow::Result<Instant> {
    let get = |path| ["get", "pod", "-n", RELEASE_NAMESPACE, operator, "-o", path];
    let uid = kubectl(&get("jsonpath={.metadata.uid}")).await?;
    let node = kubectl(&get("jsonpath={.spec.nodeName}")).await?;
    let killer = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": KILLER},
        "spec": {
            "hostPID": true, "nodeName": node, "restartPolicy": "Never",
            "containers": [{"name": "killer", "image": image, "imagePullPolicy": "IfNotPresent",
                "command": ["sleep", "300"], "securityContext": {"runAsUser": 0}}],
        },
    });
    kubectl(&["delete", "pod", "-n", "default", KILLER, "--ignore-not-found", "--now"]).await?;
    kubectl_with(&["apply", "-n", "default", "-f", "-"], &killer.to_string()).await?;
    kubectl(&["wait", "pod", "-n", "default", KILLER, "--for=condition=Ready", "--timeout=60s"])
        .await?;
    // Control groups are named after the pods' UIDs, by systemd with underscores.
    let script = format!(
        "for p in /proc/[0-9]*; do \
           [ \"$(cat $p/comm)\" = operator ] && tr _ - <$p/cgroup | grep -q {uid} && kill -9 ${{p#/proc/}} && echo killed; \
         done 2>/dev/null; true"
    );
    let at = Instant::now();
    let said = kubectl(&["exec", "-n", "default", KILLER, "--", "sh", "-c", &script]).await?;
    assert_eq!(said, "killed\n");
    Ok(at)
}
