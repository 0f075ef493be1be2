//! What a sandbox reaches: nothing that an unrestricted pod was seen to reach in the same run.

use api::{Egress, Network, Settings, names};
use e2e::{
    Cluster, NAMESPACE, Sandbox, kubectl, kubectl_with,
    probe::{Reached, from_open_pod, from_sandbox, listen, open_pods, targets},
};
use serde_json::{Value, json};

/// The targets, another sandbox that a policy opens among them, and that an open pod reaches every one of them now.
async fn control(
    cluster: &Cluster,
    sandbox: &Sandbox,
    peer: &Sandbox,
) -> anyhow::Result<(Value, Reached)> {
    open_pods(cluster, sandbox).await?;
    let mut all = targets(cluster).await?;
    let other = listen(cluster, peer).await?;
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": format!("e2e-opens-{}", peer.name()), "namespace": NAMESPACE},
        "spec": {
            "podSelector": {"matchLabels": {names::SANDBOX: peer.name()}},
            "policyTypes": ["Ingress"], "ingress": [{}],
        },
    });
    kubectl_with(&["apply", "-f", "-"], &policy.to_string()).await?;
    e2e::until("the peer is open", async || Ok(from_open_pod(&other).await?["another sandbox"]))
        .await?;
    all.as_array_mut().expect("a list").push(other[0].clone());
    let reached = from_open_pod(&all).await?;
    assert!(reached.values().all(|reached| *reached), "the control has to reach all: {reached:?}");
    Ok((all, reached))
}

async fn close(peer: Sandbox) -> anyhow::Result<()> {
    let policy = format!("e2e-opens-{}", peer.name());
    kubectl(&["delete", "networkpolicy", &policy, "-n", NAMESPACE]).await?;
    peer.delete().await
}

/// tests.md F7; and exec works all the while.
#[tokio::test]
async fn a_denied_sandbox_reaches_nothing_an_open_pod_reaches() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("denied", e2e::spec()).await?;
    let peer = cluster.ready("denied-peer", e2e::spec()).await?;
    let (targets, control) = control(&cluster, &sandbox, &peer).await?;
    let denied = from_sandbox(&sandbox, &targets).await?;
    assert_eq!(denied.keys().collect::<Vec<_>>(), control.keys().collect::<Vec<_>>());
    assert!(denied.values().all(|reached| !*reached), "{denied:?}");

    // The other way: something listens in the sandbox, and the open pod does not get there, as it gets to the peer.
    let inward = listen(&cluster, &sandbox).await?;
    let inside = from_sandbox(&sandbox, &json!([["itself", "tcp", "127.0.0.1", 8000]])).await?;
    assert!(inside["itself"], "the server in the sandbox has to listen");
    assert!(!from_open_pod(&inward).await?["another sandbox"]);
    close(peer).await?;
    sandbox.delete().await
}

/// tests.md F6, as far as there is no list of allowed names: no query leaves, so that none carries anything out.
#[tokio::test]
async fn names_fail_at_once_under_deny() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("nameless", e2e::spec()).await?;
    let ran = sandbox
        .shell("python3 -c \"import socket, time; t = time.monotonic()\ntry: socket.getaddrinfo('example.test', 80)\nexcept OSError: print(time.monotonic() - t < 1)\"")
        .await?;
    assert_eq!(ran.text(), "True\n");
    sandbox.delete().await
}

#[tokio::test]
async fn internet_reaches_public_addresses_and_nothing_private() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let network = Some(Network { egress: Some(Egress::Internet) });
    let spec = Settings { network, ..e2e::spec() };
    let sandbox = cluster.ready("outward", spec).await?;
    let peer = cluster.ready("outward-peer", e2e::spec()).await?;
    let (targets, _) = control(&cluster, &sandbox, &peer).await?;
    let reached = from_sandbox(&sandbox, &targets).await?;
    let public: Vec<&str> =
        reached.iter().filter(|(_, reached)| **reached).map(|(name, _)| name.as_str()).collect();
    // Its resolver is the internet's, so that not even the cluster's DNS is in reach.
    assert_eq!(
        public,
        ["internet, DNS", "internet, TCP", "internet, TCP echo", "internet, UDP"],
        "{reached:?}"
    );
    let named = from_sandbox(&sandbox, &json!([["by name", "tcp", "example.test", 80]])).await?;
    assert!(named["by name"], "names are resolved");
    close(peer).await?;
    sandbox.delete().await
}
