//! What a sandbox reaches: nothing that an unrestricted pod was seen to reach in the same run.

use std::collections::BTreeMap;

use anyhow::Context;
use api::{CodeSandboxSpec, Egress, Network};
use e2e::{Cluster, NAMESPACE, PATIENCE, RELEASE_NAMESPACE, kubectl};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use kube::{
    Api,
    api::{DeleteParams, ObjectMeta, PostParams},
    runtime::{conditions::is_pod_running, wait::await_condition},
};
use serde_json::json;
use tokio::time::timeout;

/// Where the pod without policies lives.
const OPEN: &str = "e2e-open";

/// Connects, or asks and waits for an answer; prints what it reached. The same text runs in both pods.
const PROBE: &str = r#"
import json, socket, struct, sys
def tcp(host, port):
    socket.create_connection((host, port), 3).close()
def udp(host, port, message=b"ping"):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(3)
        s.sendto(message, (host, port))
        s.recvfrom(512)
def dns(host, port):
    query = struct.pack(">HHHHHH", 7, 256, 1, 0, 0, 0)
    query += b"".join(bytes([len(p)]) + p.encode() for p in "kubernetes.default.svc.cluster.local".split(".")) + b"\0"
    udp(host, port, query + struct.pack(">HH", 1, 1))
reached = {}
for name, kind, host, port in json.loads(sys.argv[1]):
    try:
        globals()[kind](host, port)
        reached[name] = True
    except OSError:
        reached[name] = False
print(json.dumps(reached))
"#;

/// Starts a server and waits until it listens.
const LISTEN: &str = "python3 -m http.server 8000 >/dev/null 2>&1 & \
    until python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 8000), 1)' 2>/dev/null; do sleep 0.1; done";

type Reached = BTreeMap<String, bool>;

async fn from_open_pod(targets: &str) -> anyhow::Result<Reached> {
    let out =
        kubectl(&["exec", "-n", OPEN, "probe", "--", "python3", "-c", PROBE, targets]).await?;
    Ok(serde_json::from_str(&out)?)
}

async fn from_sandbox(sandbox: &e2e::Sandbox, targets: &str) -> anyhow::Result<Reached> {
    let argv = ["python3", "-c", PROBE, targets].map(String::from).into();
    let command = wire::v1::Command { argv, ..wire::v1::Command::default() };
    let spec =
        wire::v1::RunSpec { what: Some(wire::v1::run_spec::What::Command(command)), timeout_ms: 0 };
    let ran = e2e::run(&sandbox.session(), spec).await?;
    serde_json::from_slice(&ran.stdout)
        .with_context(|| String::from_utf8_lossy(&ran.stderr).into_owned())
}

/// A pod that no policy selects, with the sandboxes' image, listening on 8000.
async fn open_pod(cluster: &Cluster, image: &str) -> anyhow::Result<String> {
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let metadata = ObjectMeta { name: Some(OPEN.into()), ..ObjectMeta::default() };
    match namespaces
        .create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() })
        .await
    {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        result => drop(result?),
    }
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), OPEN);
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "probe"},
        "spec": {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false, "containers": [{
            "name": "main", "image": image, "imagePullPolicy": "IfNotPresent",
            "command": ["python3", "-m", "http.server", "8000"],
        }]},
    }))?;
    match pods.create(&PostParams::default(), &pod).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        result => drop(result?),
    }
    let running =
        timeout(PATIENCE, await_condition(pods.clone(), "probe", is_pod_running())).await??;
    running.and_then(|pod| pod.status?.pod_ip).context("a running pod has an address")
}

async fn targets(cluster: &Cluster, open: &str) -> anyhow::Result<String> {
    let service = async |namespace: &str, name: &str| {
        let services: Api<Service> = Api::namespaced(cluster.client.clone(), namespace);
        let spec = services.get(name).await?.spec.context("a spec")?;
        spec.cluster_ip.context("an address")
    };
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let node =
        nodes.list(&kube::api::ListParams::default().labels("type!=kwok")).await?.items.remove(0);
    let node = node
        .status
        .and_then(|status| status.addresses)
        .and_then(|all| all.into_iter().find(|address| address.type_ == "InternalIP"))
        .context("a node has an address")?
        .address;
    let api = service("default", "kubernetes").await?;
    let dns = service("kube-system", "kube-dns").await?;
    let mcp = service(RELEASE_NAMESPACE, "codesandbox-mcp-frontend").await?;
    Ok(json!([
        ["cluster DNS", "dns", dns, 53],
        ["API server", "tcp", api, 443],
        ["kubelet", "tcp", node, 10250],
        ["API server on the node", "tcp", node, 6443],
        ["metadata address", "tcp", "169.254.169.254", 80],
        ["another pod", "tcp", open, 8000],
        ["front end", "tcp", mcp, 8080],
        ["internet, TCP", "tcp", "198.51.100.10", 80],
        ["internet, UDP", "udp", "198.51.100.10", 7],
        ["internet, DNS", "dns", "198.51.100.10", 53],
    ])
    .to_string())
}

/// The targets, and that an open pod with the sandbox's image reaches every one of them now.
async fn control(cluster: &Cluster, sandbox: &e2e::Sandbox) -> anyhow::Result<(String, Reached)> {
    let pod = cluster.pods.get(&sandbox.pod()).await?;
    let container = pod.spec.and_then(|spec| spec.containers.into_iter().next());
    let image = container.and_then(|container| container.image).context("the pod has an image")?;
    let open = open_pod(cluster, &image).await?;
    let targets = targets(cluster, &open).await?;
    let reached = from_open_pod(&targets).await?;
    assert!(reached.values().all(|reached| *reached), "the control has to reach all: {reached:?}");
    Ok((targets, reached))
}

/// tests.md F7; and exec works all the while.
#[tokio::test]
async fn a_denied_sandbox_reaches_nothing_an_open_pod_reaches() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("denied", e2e::spec()).await?;
    let (targets, control) = control(&cluster, &sandbox).await?;
    let denied = from_sandbox(&sandbox, &targets).await?;
    assert_eq!(denied.keys().collect::<Vec<_>>(), control.keys().collect::<Vec<_>>());
    assert!(denied.values().all(|reached| !*reached), "{denied:?}");

    // The other way: something listens in the sandbox, and the open pod does not get there.
    sandbox.shell(LISTEN).await?;
    let inside = from_sandbox(&sandbox, r#"[["itself", "tcp", "127.0.0.1", 8000]]"#).await?;
    assert!(inside["itself"], "the server in the sandbox has to listen");
    let address = cluster.pods.get(&sandbox.pod()).await?.status.unwrap().pod_ip.unwrap();
    let inward = from_open_pod(&json!([["sandbox", "tcp", address, 8000]]).to_string()).await?;
    assert!(!inward["sandbox"]);
    sandbox.delete().await
}

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
    let network = Network { egress: Egress::Internet };
    let spec = CodeSandboxSpec { network, ..e2e::spec() };
    let sandbox = cluster.ready("outward", spec).await?;
    let (targets, _) = control(&cluster, &sandbox).await?;
    let reached = from_sandbox(&sandbox, &targets).await?;
    let public: Vec<&str> =
        reached.iter().filter(|(_, reached)| **reached).map(|(name, _)| name.as_str()).collect();
    // Its resolver is the internet's, so that not even the cluster's DNS is in reach.
    assert_eq!(public, ["internet, DNS", "internet, TCP", "internet, UDP"]);
    let named = from_sandbox(&sandbox, r#"[["by name", "tcp", "example.test", 80]]"#).await?;
    assert!(named["by name"], "names are resolved");
    sandbox.delete().await
}

#[tokio::test]
async fn the_deny_policy_is_restored_when_deleted() -> anyhow::Result<()> {
    use k8s_openapi::api::networking::v1::NetworkPolicy;
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("guarded", e2e::spec()).await?;
    let policies: Api<NetworkPolicy> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let before = policies.get(api::names::DENY_POLICY).await?;
    policies.delete(api::names::DENY_POLICY, &DeleteParams::default()).await?;
    let restored = |policy: Option<&NetworkPolicy>| {
        policy.is_some_and(|policy| policy.metadata.uid != before.metadata.uid)
    };
    let after =
        timeout(PATIENCE, await_condition(policies, api::names::DENY_POLICY, restored)).await??;
    assert_eq!(after.unwrap().spec, before.spec);
    sandbox.delete().await
}
