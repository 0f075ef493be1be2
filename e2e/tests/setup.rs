//! What is done before a sandbox takes calls, in a network that is wider than its own and closed again.

use anyhow::Context;
use api::{
    CodeSandbox, Egress, Network, Settings, Setup, SetupFile, TerminationReason, Workspace,
    condition, names, reason,
};
use e2e::{
    Cluster, NAMESPACE, is, kubectl,
    probe::{INTERNET, OPEN, from_open_pod, from_sandbox, label, open_pods, targets},
    reason, run, spec,
};
use k8s_openapi::{
    api::{core::v1::Pod, networking::v1::NetworkPolicy},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{Api, ResourceExt};
use serde_json::json;
use wire::v1::{Code, Command, RunSpec, run_spec::What};

/// Says whether somebody answers on a port, tried again and again for as many seconds as it is told.
const REACHES: &str = r#"
import socket, sys, time
end = time.monotonic() + float(sys.argv[3])
while True:
    try:
        socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=0.2).close()
        sys.exit(print("reached"))
    except OSError:
        if time.monotonic() > end:
            sys.exit(print("not reached"))
"#;

/// Makes a distribution of a module and a program, as pip installs it without a network.
const WHEEL: &str = r#"
import zipfile
with zipfile.ZipFile("/tmp/madehere-1.0-py3-none-any.whl", "w") as wheel:
    def write(name, *lines):
        wheel.writestr(name, "\n".join(lines) + "\n")
    info = "madehere-1.0.dist-info/"
    write("madehere.py", "WORD = \"here\"", "def main():", "    print(WORD)")
    write(info + "METADATA", "Metadata-Version: 2.1", "Name: madehere", "Version: 1.0")
    write(info + "WHEEL", "Wheel-Version: 1.0", "Generator: e2e", "Root-Is-Purelib: true", "Tag: py3-none-any")
    write(info + "entry_points.txt", "[console_scripts]", "madehere = madehere:main")
    write(info + "RECORD", *[name + ",," for name in wheel.namelist()], info + "RECORD,,")
"#;

fn with_setup(commands: &[&str], egress: Egress) -> Settings {
    let commands = commands.iter().map(ToString::to_string).collect();
    let setup = Setup { commands, egress: Some(egress), ..Setup::default() };
    Settings { setup: Some(setup), ..spec() }
}

/// The same on a disk, with the Internet.
fn on_a_disk(commands: &[&str]) -> Settings {
    let workspace =
        Workspace { size: Quantity("64Mi".into()), storage_class_name: None, retain: None };
    Settings { workspace: Some(workspace), ..with_setup(commands, Egress::Internet) }
}

/// The first instruction of a sandbox, sent as soon as its container runs: the operator may not have heard of that yet, and
/// the policy that opened the network to the setup is still there.
async fn first_instruction(cluster: &Cluster, name: &str, port: u16) -> anyhow::Result<String> {
    let session = cluster.early(name).await?;
    let argv =
        ["python3", "-c", REACHES, INTERNET, &port.to_string(), "1"].map(String::from).into();
    let command = Command { argv, ..Command::default() };
    let ran = run(&session, RunSpec { what: Some(What::Command(command)), ..RunSpec::default() });
    Ok(ran.await?.text())
}

#[tokio::test]
async fn a_setup_reaches_the_internet_and_the_sandbox_after_it_never_does() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let image = cluster.ready("setup-image", spec()).await?;
    open_pods(&cluster, &image).await?;
    let control = from_open_pod(&json!([["internet", "tcp", INTERNET, 80]])).await?;
    assert!(control["internet"], "there has to be an Internet");
    image.delete().await?;

    let policies: Api<NetworkPolicy> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let reach = format!("python3 -c '{REACHES}' {INTERNET} 80 10 | tee reached");
    for runtime in [None, Some("gvisor")] {
        for number in 0..5 {
            let name = format!("setup-{}-{number}", runtime.unwrap_or("runc"));
            let settings = Settings {
                runtime_class_name: runtime.map(Into::into),
                ..with_setup(&[&reach], Egress::Internet)
            };
            cluster.create(&name, settings).await?;
            assert_eq!(first_instruction(&cluster, &name, 80).await?, "not reached\n", "{name}");
            let object = cluster.wait(&name, "Ready", |one| is(one, condition::READY)).await?;
            assert_eq!(reason(&object, condition::NETWORK_ISOLATED), reason::DENY_POLICY);
            assert!(policies.get_opt(&names::internet_policy(&name)).await?.is_none());
            let sandbox = cluster.sandbox(object);
            assert_eq!(sandbox.says("cat reached").await?, "reached\n", "{name}");
            let resolvers = sandbox.says("cat /etc/resolv.conf").await?;
            assert_eq!(resolvers, "nameserver 127.0.0.1\n", "names fail at once");
            sandbox.delete().await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_the_sandbox_may_reach_as_well_is_not_closed_after_its_setup() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let reach = format!("python3 -c '{REACHES}' {INTERNET} 80 10");
    let settings = Settings {
        network: Some(Network { egress: Some(Egress::Internet), ..Network::default() }),
        ..with_setup(&[&reach], Egress::Internet)
    };
    let sandbox = cluster.ready("setup-open", settings).await?;
    assert_eq!(sandbox.says(&reach).await?, "reached\n");
    sandbox.delete().await
}

/// The same address on two ports, of which one is the sandbox's own, and a pod: whom a setup has spoken with is to be out of
/// reach only where the sandbox may not speak with them.
#[tokio::test]
async fn after_its_setup_a_sandbox_reaches_its_list_and_no_more_of_the_internet()
-> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let image = cluster.ready("setup-list-image", spec()).await?;
    open_pods(&cluster, &image).await?;
    image.delete().await?;
    label("neighbour", "e2e=answers").await?;
    let targets = targets(&cluster).await?;
    let control = from_open_pod(&targets).await?;
    assert!(control.values().all(|reached| *reached), "the control has to reach all: {control:?}");

    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), OPEN);
    let neighbour = pods.get("neighbour").await?.status.and_then(|status| status.pod_ip);
    let neighbour = neighbour.context("it has an address")?;
    let reach = [(&*neighbour, 8000), (INTERNET, 80), (INTERNET, 7)]
        .map(|(host, port)| format!("python3 -c '{REACHES}' {host} {port} 10 | tee -a reached"));
    let network = json!({"allow": [
        {"podSelector": {"matchLabels": {"e2e": "answers"}}, "ports": [{"port": 8000}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": OPEN}}},
        {"cidr": format!("{INTERNET}/32"), "ports": [{"port": 80}]},
    ]});
    let settings = Settings {
        network: Some(serde_json::from_value(network)?),
        ..with_setup(&reach.each_ref().map(String::as_str), Egress::Internet)
    };
    cluster.create("setup-list", settings).await?;
    assert_eq!(first_instruction(&cluster, "setup-list", 7).await?, "not reached\n");
    let object = cluster.wait("setup-list", "Ready", |one| is(one, condition::READY)).await?;
    assert!(is(&object, condition::NETWORK_ISOLATED));
    assert_eq!(reason(&object, condition::NETWORK_ISOLATED), reason::ALLOW_POLICY);
    let sandbox = cluster.sandbox(object);
    assert_eq!(sandbox.says("cat reached").await?, "reached\n".repeat(3));
    let reached = from_sandbox(&sandbox, &targets).await?;
    let reached: Vec<_> =
        reached.iter().filter(|(_, reached)| **reached).map(|(name, _)| name.as_str()).collect();
    assert_eq!(reached, ["another pod, TCP", "internet, TCP"]);
    sandbox.delete().await
}

#[tokio::test]
async fn a_setup_reaches_nothing_where_it_is_not_asked_to() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let reach = format!("python3 -c '{REACHES}' {INTERNET} 80 1 > reached");
    let sandbox = cluster.ready("setup-denied", with_setup(&[&reach], Egress::Deny)).await?;
    assert_eq!(sandbox.says("cat reached").await?, "not reached\n");
    sandbox.delete().await
}

#[tokio::test]
async fn what_a_setup_has_made_is_there_and_nothing_of_it_runs() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let commands =
        ["echo made > made; echo said; python3 --version > ~/version", "setsid sleep 4321 &"];
    let sandbox = cluster.ready("setup-made", with_setup(&commands, Egress::Deny)).await?;
    assert_eq!(sandbox.says("cat made; wc -l < ~/version").await?, "made\n1\n");
    let log = sandbox.says("cat /tmp/setup.log").await?;
    assert_eq!(log, format!("$ {}\nsaid\n$ {}\n", commands[0], commands[1]));
    let running = sandbox.says("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '").await?;
    assert!(!running.contains("4321"), "{running}");
    sandbox.delete().await
}

/// Also for what looks in the same setup for imports that nobody has, and finds none.
#[tokio::test]
async fn what_pip_installs_in_a_setup_is_there_for_contexts_and_commands() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let commands = [
        &*format!("python3 -c '{WHEEL}'"),
        "pip install --no-index --disable-pip-version-check /tmp/madehere-1.0-py3-none-any.whl",
    ];
    let mut settings = with_setup(&commands, Egress::Deny);
    let setup = settings.setup.as_mut().context("it has one")?;
    let main = "import json, numpy, madehere\nprint(madehere.WORD)\n";
    setup.files = vec![SetupFile {
        path: "main.py".into(),
        content: Some(main.into()),
        config_map_key_ref: None,
    }];
    setup.auto = Some(true);
    let sandbox = cluster.ready("setup-pip", settings).await?;
    let log = sandbox.says("cat /tmp/setup.log").await?;
    assert!(log.ends_with("\n$ install the imports of main.py\nnothing to install\n"), "{log}");
    let lines = "python3 main.py; python3 -c 'import madehere; print(madehere.WORD)'; madehere";
    assert_eq!(sandbox.says(lines).await?, "here\n".repeat(3));
    let source = "import madehere; print(madehere.WORD)".into();
    let code = Code { language: "python".into(), source, ..Code::default() };
    let spec = RunSpec { what: Some(What::Code(code)), ..RunSpec::default() };
    assert_eq!(run(&sandbox.session(), spec).await?.text(), "here\n");
    // What it brings does not come before what the image has.
    let git =
        ": > ~/.local/bin/git; chmod +x ~/.local/bin/git; command -v git; command -v madehere";
    let found = "/usr/bin/git\n/home/sandbox/.local/bin/madehere\n";
    assert_eq!(sandbox.says(git).await?, found);
    sandbox.delete().await
}

#[tokio::test]
async fn a_setup_that_fails_ends_the_sandbox_which_says_why() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let commands = ["echo first", "echo no such package >&2; exit 7", "touch never"];
    cluster.create("setup-failed", with_setup(&commands, Egress::Internet)).await?;
    let finished = |one: &CodeSandbox| is(one, condition::FINISHED);
    let object = cluster.wait("setup-failed", "finished", finished).await?;
    let last = object.status.as_ref().and_then(|status| status.last_termination.clone());
    let last = last.context("it has one")?;
    let expected = "spec.setup failed: `echo no such package >&2; exit 7` ended with exit code 7, and said at last: $ echo first\nfirst\n$ echo no such package >&2; exit 7\nno such package; correct it and create the sandbox anew";
    let said = (last.reason, last.exit_code, last.message.as_str());
    assert_eq!(said, (TerminationReason::SetupFailed, Some(1), expected));
    e2e::until("its pod and policy are gone", async || {
        Ok(cluster.left_of(&object).await? == ["\"CodeSandbox\"/\"setup-failed\""])
    })
    .await?;
    let table = kubectl(&["get", "csb", "setup-failed", "-n", NAMESPACE, "--no-headers"]).await?;
    let row: Vec<_> = table.split_whitespace().take(3).collect();
    assert_eq!(row, ["setup-failed", "False", "SetupFailed"]);
    cluster.delete("setup-failed").await
}

#[tokio::test]
async fn a_setup_is_done_once_on_a_disk() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("setup-once", on_a_disk(&["echo again >> count"])).await?;
    for suspend in [true, false] {
        cluster.suspend("setup-once", suspend).await?;
        let condition = if suspend { condition::SUSPENDED } else { condition::READY };
        cluster.wait("setup-once", condition, |one| is(one, condition)).await?;
    }
    drop(sandbox);
    let object = cluster.sandboxes.get("setup-once").await?;
    let sandbox = cluster.sandbox(object);
    assert_eq!(sandbox.pod(), "setup-once-2");
    assert_eq!(sandbox.says("cat count").await?, "again\n");
    sandbox.delete().await
}

#[tokio::test]
async fn a_setup_is_done_anew_where_its_disk_was_deleted() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("setup-anew", on_a_disk(&["echo made > made"])).await?;
    assert_eq!(sandbox.says("echo mine > mine; cat made").await?, "made\n");
    drop(sandbox);
    cluster.suspend("setup-anew", true).await?;
    cluster.wait("setup-anew", "suspended", |one| is(one, condition::SUSPENDED)).await?;
    kubectl(&["delete", "pvc", &names::workspace("setup-anew"), "-n", NAMESPACE]).await?;

    cluster.suspend("setup-anew", false).await?;
    let object = cluster.wait("setup-anew", "Ready", |one| is(one, condition::READY)).await?;
    let sandbox = cluster.sandbox(object.clone());
    assert_eq!(sandbox.says("cat made; cat mine 2>/dev/null || echo gone").await?, "made\ngone\n");
    // Not of one before it that had its name.
    let uid = object.uid().context("it has one")?;
    let selector = format!("involvedObject.uid={uid},reason={}", reason::DISK_LOST);
    e2e::until("it is told", async || {
        let events =
            ["get", "events", "-n", NAMESPACE, "--field-selector", &selector, "-o", "name"];
        Ok(kubectl(&events).await?.lines().count() == 1)
    })
    .await?;
    sandbox.delete().await
}
