//! Who reaches what: probes from pods that no policy selects and from sandboxes. The same text runs in both.

use std::collections::BTreeMap;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use kube::{
    Api,
    api::{ListParams, ObjectMeta, PostParams},
    runtime::wait::await_condition,
};
use serde_json::{Value, json};
use tokio::time::timeout;
use wire::v1;

use crate::{Cluster, PATIENCE, RELEASE_NAMESPACE, Sandbox, kubectl};

/// Where the pods without policies live.
pub const OPEN: &str = "e2e-open";
/// The address of the test cluster's internet.
pub const INTERNET: &str = "198.51.100.10";

/// Connects, or asks and waits for an answer; prints what it reached.
const PROBE: &str = r#"
import concurrent.futures, json, socket, struct, sys
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
def reached(target):
    name, kind, host, port = target
    try:
        globals()[kind](host, port)
        return name, True
    except OSError:
        return name, False
with concurrent.futures.ThreadPoolExecutor(32) as pool:
    print(json.dumps(dict(pool.map(reached, json.loads(sys.argv[1])))))
"#;

/// Answers on TCP 8000, and on UDP 9000 whether it was asked itself or as one of a group. Says what it got that is marked.
const NEIGHBOUR: &str = r#"
import socket, threading
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("", 9000))
udp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("239.1.2.3") + socket.inet_aton("0.0.0.0"))
def answer():
    while True:
        message, asker = udp.recvfrom(512)
        if message.startswith(b"mark "):
            print(message.decode(), flush=True)
        udp.sendto(message, asker)
threading.Thread(target=answer, daemon=True).start()
both = socket.has_dualstack_ipv6()
tcp = socket.create_server(("", 8000), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both)
while True:
    tcp.accept()[0].close()
"#;

/// Prints the link-local address that eth0 has, if any.
const LINK_LOCAL: &str = r#"
import socket
for line in open("/proc/net/if_inet6"):
    fields = line.split()
    if fields[0].startswith("fe80") and fields[5] == "eth0":
        print(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[0])))
"#;

/// Starts a server and waits until it listens.
const LISTEN: &str = "python3 -m http.server 8000 >/dev/null 2>&1 & \
    until python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 8000), 1)' 2>/dev/null; do sleep 0.1; done";

/// What was reached, by the name of the target.
pub type Reached = BTreeMap<String, bool>;

/// Probes `[name, tcp|udp|dns, host, port]`s from a pod that no policy selects.
pub async fn from_open_pod(targets: &Value) -> anyhow::Result<Reached> {
    from_pod("probe", targets).await
}

/// Probes them from one of those pods.
pub async fn from_pod(pod: &str, targets: &Value) -> anyhow::Result<Reached> {
    let targets = targets.to_string();
    let probe = ["exec", "-n", OPEN, pod, "--", "python3", "-c", PROBE, &targets];
    Ok(serde_json::from_str(&kubectl(&probe).await?)?)
}

/// Gives one of those pods a label, by which a policy may select it.
pub async fn label(pod: &str, label: &str) -> anyhow::Result<()> {
    kubectl(&["label", "pod", pod, "-n", OPEN, "--overwrite", label]).await.map(drop)
}

/// Probes them from a sandbox.
pub async fn from_sandbox(sandbox: &Sandbox, targets: &Value) -> anyhow::Result<Reached> {
    let argv = ["python3", "-c", PROBE, &targets.to_string()].map(String::from).into();
    let command = v1::Command { argv, ..v1::Command::default() };
    let spec =
        v1::RunSpec { what: Some(v1::run_spec::What::Command(command)), ..v1::RunSpec::default() };
    let ran = crate::run(&sandbox.session(), spec).await?;
    serde_json::from_slice(&ran.stdout)
        .with_context(|| String::from_utf8_lossy(&ran.stderr).into_owned())
}

/// Starts a server in a sandbox; the target it is.
pub async fn listen(cluster: &Cluster, sandbox: &Sandbox) -> anyhow::Result<Value> {
    sandbox.shell(LISTEN).await?;
    let status = cluster.pods.get(&sandbox.pod()).await?.status;
    let address =
        status.and_then(|status| status.pod_ip).context("a running pod has an address")?;
    Ok(json!([["another sandbox", "tcp", address, 8000]]))
}

/// The pods that no policy selects, with a sandbox's image: one to probe from, and one that answers.
pub async fn open_pods(cluster: &Cluster, sandbox: &Sandbox) -> anyhow::Result<()> {
    let exec = json!({"exec": {"command": ["true"]}});
    open_pod(cluster, sandbox, "probe", &json!(["sleep", "infinity"]), exec).await?;
    answering_pod(cluster, sandbox, "neighbour", NEIGHBOUR).await.map(drop)
}

/// A pod that no policy selects, with a sandbox's image, a program in Python that listens on port 8000, and the label `e2e` with
/// its name; its address.
pub async fn answering_pod(
    cluster: &Cluster,
    sandbox: &Sandbox,
    name: &str,
    program: &str,
) -> anyhow::Result<String> {
    let listens = json!({"tcpSocket": {"port": 8000}});
    open_pod(cluster, sandbox, name, &json!(["python3", "-c", program]), listens).await
}

/// A pod that no policy selects and that is ready; its address.
async fn open_pod(
    cluster: &Cluster,
    sandbox: &Sandbox,
    name: &str,
    command: &Value,
    mut readiness: Value,
) -> anyhow::Result<String> {
    let pod = cluster.pods.get(&sandbox.pod()).await?;
    let container = pod.spec.and_then(|spec| spec.containers.into_iter().next());
    let image = container.and_then(|container| container.image).context("the pod has an image")?;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let metadata = ObjectMeta { name: Some(OPEN.into()), ..ObjectMeta::default() };
    there(namespaces, Namespace { metadata, ..Namespace::default() }).await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), OPEN);
    readiness["periodSeconds"] = json!(1);
    let pod = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"e2e": name}},
        "spec": {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false, "containers": [{
            "name": "main", "image": image, "imagePullPolicy": "IfNotPresent",
            "command": command, "readinessProbe": readiness,
        }]},
    }))?;
    there(pods.clone(), pod).await?;
    let ready = timeout(PATIENCE, await_condition(pods, name, is_ready)).await;
    let pod = ready.with_context(|| format!("{name} never was ready"))??;
    pod.and_then(|pod| pod.status?.pod_ip).context("a ready pod has an address")
}

/// Every address of the cluster and around it that a sandbox must not reach, and the internet.
pub async fn targets(cluster: &Cluster) -> anyhow::Result<Value> {
    let service = async |namespace: &str, name: &str| {
        let services: Api<Service> = Api::namespaced(cluster.client.clone(), namespace);
        let spec = services.get(name).await?.spec.context("a spec")?;
        spec.cluster_ip.context("an address")
    };
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let node = nodes.list(&ListParams::default().labels("type!=kwok")).await?.items.remove(0);
    let node = node
        .status
        .and_then(|status| status.addresses)
        .and_then(|all| all.into_iter().find(|address| address.type_ == "InternalIP"))
        .context("a node has an address")?
        .address;
    let api = service("default", "kubernetes").await?;
    let dns = service("kube-system", "kube-dns").await?;
    let mcp = service(RELEASE_NAMESPACE, "codesandbox-mcp-frontend").await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), OPEN);
    let neighbour = pods.get("neighbour").await?.status.and_then(|status| status.pod_ip);
    let mut targets = json!([
        ["cluster DNS", "dns", dns, 53],
        ["API server", "tcp", api, 443],
        ["API server on the node", "tcp", node, 6443],
        ["kubelet", "tcp", node, 10250],
        ["front end", "tcp", mcp, 8080],
        ["another pod, TCP", "tcp", neighbour, 8000],
        ["another pod, UDP", "udp", neighbour, 9000],
        ["another pod, multicast", "udp", "239.1.2.3", 9000],
        ["metadata address", "tcp", "169.254.169.254", 80],
        ["private, 172.16.0.0/12", "tcp", "172.16.0.10", 80],
        ["private, 192.168.0.0/16", "tcp", "192.168.0.10", 80],
        ["shared, 100.64.0.0/10", "tcp", "100.64.0.10", 80],
        ["Azure's host", "tcp", "168.63.129.16", 80],
        ["special, 192.0.0.0/24", "tcp", "192.0.0.10", 80],
        ["benchmarking, 198.18.0.0/15", "tcp", "198.18.0.10", 80],
        ["reserved, 240.0.0.0/4", "tcp", "240.0.0.10", 80],
        ["internet, TCP", "tcp", INTERNET, 80],
        ["internet, TCP echo", "tcp", INTERNET, 7],
        ["internet, UDP", "udp", INTERNET, 7],
        ["internet, DNS", "dns", INTERNET, 53],
    ]);
    // Where pods have IPv6 it needs policies, too: these addresses are in no pod's status.
    let link_local = ["exec", "-n", OPEN, "neighbour", "--", "python3", "-c", LINK_LOCAL];
    if let Some(address) = kubectl(&link_local).await?.lines().next() {
        let target = json!(["another pod, link-local", "tcp", format!("{address}%eth0"), 8000]);
        targets.as_array_mut().context("a list")?.push(target);
    }
    Ok(targets)
}

/// Creates an object that may be there already.
async fn there<K>(api: Api<K>, object: K) -> anyhow::Result<()>
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    match api.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        result => Ok(result.map(drop)?),
    }
}

fn is_ready(pod: Option<&Pod>) -> bool {
    let status = pod.and_then(|pod| pod.status.as_ref());
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
