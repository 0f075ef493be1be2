//! Container runtimes: code under each of them, and how the agent gets into their pods.
//!
//! The RuntimeClasses `gvisor` and `runc-noexec` are those of `e2e/cluster`. The latter executes nothing from image volumes.

use api::{CodeSandbox, CodeSandboxSpec, Settings, condition, reason};
use e2e::{Cluster, PATIENCE, Sandbox, kubectl, kubectl_with, local::Operator, reason, run, spec};
use kube::runtime::wait::{await_condition, conditions::is_deleted};
use serde_json::json;
use tokio::time::timeout;
use wire::v1::{self, RunSpec, outcome::How, run_spec::What};

const GVISOR: Option<&str> = Some("gvisor");
const NOEXEC: Option<&str> = Some("runc-noexec");

fn under(runtime: Option<&str>, class: &str) -> CodeSandboxSpec {
    let runtime_class_name = runtime.map(Into::into);
    let settings = Settings { runtime_class_name, ..spec() };
    CodeSandboxSpec { class_name: class.into(), ..settings.into() }
}

/// Ready's message.
fn message(sandbox: &CodeSandbox) -> String {
    let ready = sandbox.status.as_ref().and_then(|status| status.condition(condition::READY));
    ready.map(|ready| ready.message.clone()).unwrap_or_default()
}

/// How the agent got into a sandbox's pod.
async fn way(cluster: &Cluster, sandbox: &Sandbox) -> anyhow::Result<&'static str> {
    let spec = cluster.pods.get(&sandbox.pod()).await?.spec.unwrap_or_default();
    let image = spec.volumes.iter().flatten().any(|volume| volume.image.is_some());
    let installer = spec.init_containers.iter().flatten().any(|one| one.name == "install-agent");
    Ok(match (image, installer) {
        (true, false) => "ImageVolume",
        (false, true) => "InitContainer",
        other => panic!("{other:?}"),
    })
}

/// Waits until a sandbox's probe is gone.
async fn no_probe_left(cluster: &Cluster, sandbox: &str) -> anyhow::Result<()> {
    let name = format!("{sandbox}-probe");
    if let Some(probe) = cluster.pods.get_opt(&name).await? {
        let uid = probe.metadata.uid.unwrap_or_default();
        timeout(PATIENCE, await_condition(cluster.pods.clone(), &name, is_deleted(&uid))).await??;
    }
    Ok(())
}

#[tokio::test]
async fn a_sandbox_under_gvisor_runs_code() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    for (name, runtime, is_gvisor) in [("on-runc", None, false), ("on-gvisor", GVISOR, true)] {
        let sandbox = cluster.ready(name, under(runtime, "codesandbox")).await?;
        let ran = sandbox.shell("dmesg; python3 -c 'print(6 * 7)'").await?;
        assert!(ran.text().ends_with("42\n"), "{ran:?}");
        assert_eq!(ran.text().contains("Starting gVisor"), is_gvisor, "{name}: {ran:?}");
        sandbox.delete().await?;
    }
    Ok(())
}

/// Signals to a process group, and pipes that nobody inherits, are gVisor's own there.
#[tokio::test]
async fn contexts_keep_their_state_over_an_interrupt_under_gvisor() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("contexts-on-gvisor", under(GVISOR, "codesandbox")).await?;
    let session = sandbox.session();
    let cell = async |language: &str, source: &str, timeout_ms| {
        let source = source.to_owned().into();
        let code = v1::Code { language: language.into(), source, ..v1::Code::default() };
        run(&session, RunSpec { what: Some(What::Code(code)), timeout_ms, ..RunSpec::default() })
            .await
    };
    for (language, set, hang, get) in [
        ("python", "kept = 1", "import time; time.sleep(1000)", "print(kept)"),
        ("bash", "kept=1", "sleep 1000; echo 'goes on'", "echo $kept"),
    ] {
        let set = cell(language, set, 0).await?;
        assert_eq!(set.outcome.how, Some(How::Exited(0)), "{set:?}");
        let late = cell(language, hang, 500).await?;
        assert_eq!(
            (late.outcome.how, late.text()),
            (Some(How::TimedOut(v1::Empty {})), String::new())
        );
        assert!(!late.outcome.context_lost, "{late:?}");
        assert_eq!(cell(language, get, 0).await?.text(), "1\n");
    }
    sandbox.delete().await
}

/// Orphans become the agent's there, too, and a program is executed by its descriptor.
#[tokio::test]
async fn contexts_are_copied_under_runc_and_gvisor() -> anyhow::Result<()> {
    // A copy's supervisor is told whom it looks after.
    let source = "import os\nown = open(f'/proc/{os.getppid()}/cmdline').read()\nprint(own.split('\\0')[:3] == ['agent', 'supervise', str(os.getpid())], x)\nx += 1";
    let cluster = Cluster::connect().await?;
    for (name, runtime) in [("copies-on-runc", None), ("copies-on-gvisor", GVISOR)] {
        let sandbox = cluster.ready(name, under(runtime, "codesandbox")).await?;
        let session = sandbox.session();
        let cell = async |context: &str, source: &str| {
            let (language, context) = ("python".into(), context.into());
            let code = v1::Code { language, context, source: source.to_owned().into() };
            run(&session, RunSpec { what: Some(What::Code(code)), ..RunSpec::default() }).await
        };
        cell("origin", "x = 1").await?;
        assert_eq!(cell("origin", source).await?.text(), "True 1\n", "{name}");
        let copies = ["one".to_owned(), "two".to_owned()];
        let made = session.fork_context("origin", &copies).await?;
        assert_eq!(made.iter().map(|copy| &copy.name).collect::<Vec<_>>(), ["one", "two"]);
        for context in ["one", "two", "origin"] {
            assert_eq!(cell(context, source).await?.text(), "True 2\n", "{name}: {context}");
        }
        assert!(session.delete_context("origin").await?);
        let names = session.contexts().await?.into_iter().map(|context| context.name);
        assert_eq!(names.collect::<Vec<_>>(), ["one", "two"]);
        sandbox.delete().await?;
    }
    Ok(())
}

#[tokio::test]
async fn both_ways_of_injection_work_under_runc_and_gvisor() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    for (class, injection) in [("e2e-image", "ImageVolume"), ("e2e-init", "InitContainer")] {
        let operator = Operator::start(class, injection).await?;
        for (suffix, runtime) in [("runc", None), ("gvisor", GVISOR)] {
            let sandbox =
                cluster.ready(&format!("{class}-{suffix}"), under(runtime, class)).await?;
            assert_eq!(way(&cluster, &sandbox).await?, injection);
            // Whoever put it there: user code puts no other one in its place.
            let ran = sandbox
                .shell("cd /.codesandbox/bin; touch x || echo no; rm agent || echo no; ./agent version")
                .await?;
            let version = (env!("CARGO_PKG_VERSION"), wire::PROTOCOL);
            let expected = format!("no\nno\nagent {} protocol {}\n", version.0, version.1);
            assert_eq!(ran.text(), expected, "{injection} {suffix}");
            sandbox.delete().await?;
        }
        assert_eq!(operator.verdicts(), [], "nothing is probed where it was chosen");
        operator.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_probe_decides_and_leaves_nothing() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let operator = Operator::start("e2e-auto", "Auto").await?;
    // Two at once of a runtime nobody knows yet: one asks, the other waits for the answer.
    let (first, second) = tokio::join!(
        cluster.ready("auto-1", under(None, "e2e-auto")),
        cluster.ready("auto-2", under(None, "e2e-auto")),
    );
    let works = |runtime: Option<&str>| (runtime.map(Into::into), "Works".to_owned());
    assert_eq!(operator.verdicts(), [works(None)]);
    let third = cluster.ready("auto-3", under(GVISOR, "e2e-auto")).await?;
    assert_eq!(operator.verdicts(), [works(None), works(GVISOR)]);

    for sandbox in [first?, second?, third] {
        let name = sandbox.name();
        assert_eq!(way(&cluster, &sandbox).await?, "ImageVolume");
        no_probe_left(&cluster, &name).await?;
        let left = cluster.left_of(&sandbox.object).await?;
        assert_eq!(left, [format!("\"Pod\"/\"{name}-1\""), format!("\"CodeSandbox\"/\"{name}\"")]);
        sandbox.delete().await?;
    }
    operator.stop().await
}

#[tokio::test]
async fn where_image_volumes_do_not_work_an_init_container_brings_the_agent() -> anyhow::Result<()>
{
    let cluster = Cluster::connect().await?;
    // That they do not is what the sandbox says that has nothing else.
    let image = Operator::start("e2e-noexec-image", "ImageVolume").await?;
    cluster.create("noexec-image", under(NOEXEC, &image.class)).await?;
    let failed = |s: &CodeSandbox| reason(s, condition::READY) == reason::AGENT_INJECTION_FAILED;
    let failed = cluster.wait("noexec-image", "AgentInjectionFailed", failed).await?;
    assert!(message(&failed).contains("permission denied"), "{}", message(&failed));
    cluster.delete("noexec-image").await?;
    image.stop().await?;

    let operator = Operator::start("e2e-noexec", "Auto").await?;
    let sandbox = cluster.ready("noexec", under(NOEXEC, &operator.class)).await?;
    assert_eq!(way(&cluster, &sandbox).await?, "InitContainer");
    assert_eq!(sandbox.shell("echo $((6 * 7))").await?.text(), "42\n");
    let verdicts = operator.verdicts();
    let [(Some(class), verdict)] = &verdicts[..] else { panic!("{verdicts:?}") };
    assert_eq!(class, "runc-noexec");
    assert!(verdict.starts_with("Fails(") && verdict.contains("permission denied"), "{verdict}");
    no_probe_left(&cluster, "noexec").await?;
    sandbox.delete().await?;
    operator.stop().await
}

#[tokio::test]
async fn without_a_runtime_class_the_condition_says_so_and_it_heals() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    kubectl(&["delete", "runtimeclass", "e2e-later", "--ignore-not-found"]).await?;
    cluster.create("later", under(Some("e2e-later"), "codesandbox")).await?;
    let missing = |s: &CodeSandbox| reason(s, condition::READY) == reason::RUNTIME_CLASS_NOT_FOUND;
    let sandbox = cluster.wait("later", "RuntimeClassNotFound", missing).await?;
    assert!(message(&sandbox).contains("no RuntimeClass e2e-later"), "{}", message(&sandbox));
    assert_eq!(cluster.left_of(&sandbox).await?, ["\"CodeSandbox\"/\"later\""]);

    runtime_class("e2e-later", "runc").await?;
    let ready = |s: &CodeSandbox| e2e::is(s, condition::READY);
    cluster.wait("later", "Ready", ready).await?;
    cluster.delete("later").await?;
    kubectl(&["delete", "runtimeclass", "e2e-later"]).await?;
    Ok(())
}

/// The node says it in events alone: in the pod's status it only looks as if it took long.
#[tokio::test]
async fn a_start_that_hangs_for_want_of_a_handler_says_so_in_the_nodes_words() -> anyhow::Result<()>
{
    let cluster = Cluster::connect().await?;
    runtime_class("e2e-nohandler", "nohandler").await?;
    let operator = Operator::start("e2e-nohandler", "ImageVolume").await?;
    cluster.create("nohandler", under(Some("e2e-nohandler"), &operator.class)).await?;
    let failed = |s: &CodeSandbox| reason(s, condition::READY) == reason::START_FAILED;
    let sandbox = cluster.wait("nohandler", "StartFailed", failed).await?;
    let said = message(&sandbox);
    assert!(said.contains("no runtime for \"nohandler\" is configured"), "{said}");
    assert!(said.contains("may not have the handler of RuntimeClass e2e-nohandler"), "{said}");
    cluster.delete("nohandler").await?;
    operator.stop().await?;
    kubectl(&["delete", "runtimeclass", "e2e-nohandler"]).await?;
    Ok(())
}

async fn runtime_class(name: &str, handler: &str) -> anyhow::Result<()> {
    let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
        "metadata": {"name": name}, "handler": handler});
    kubectl_with(&["apply", "-f", "-"], &class.to_string()).await?;
    Ok(())
}
