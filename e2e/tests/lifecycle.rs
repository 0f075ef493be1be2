//! A sandbox from its manifest to nothing.

use std::time::{Duration, Instant};

use anyhow::Context;
use api::{
    CodeSandbox, Resources, RestartPolicy, Settings, TerminationReason, condition, names, reason,
};
use bytes::Bytes;
use e2e::{Cluster, NAMESPACE, Sandbox, is, kubectl, kubectl_with, reason, spec};
use k8s_openapi::{
    api::{core::v1::Pod, networking::v1::NetworkPolicy},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::wait::await_condition,
};
use serde_json::json;
use tokio::time::timeout;

const HELLO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/hello.yaml");

#[tokio::test]
async fn the_hello_example_becomes_ready_and_its_deletion_leaves_nothing() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    cluster.delete("hello").await?;
    kubectl(&["apply", "-n", NAMESPACE, "-f", HELLO]).await?;
    let sandbox = cluster.wait("hello", "Ready", |s| is(s, condition::READY)).await?;
    assert_eq!(reason(&sandbox, condition::NETWORK_ISOLATED), reason::DENY_POLICY);

    let table = kubectl(&["get", "csb", "hello", "-n", NAMESPACE]).await?;
    let header: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["NAME", "READY", "REASON", "NODE", "EXPIRES", "AGE"]);
    let described = kubectl(&["describe", "csb", "hello", "-n", NAMESPACE]).await?;
    assert!(described.contains("Events:") && described.contains("Ready"), "{described}");

    kubectl(&["delete", "csb", "hello", "-n", NAMESPACE]).await?;
    cluster.gone(&sandbox).await?;
    assert_eq!(cluster.left_of(&sandbox).await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn the_ttl_leaves_nothing_but_the_deny_policy() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    // That of a run before this one would only be changed, and the right to make it would look idle to rights.rs.
    let (end, there) = (names::last_event("short"), ["-n", NAMESPACE]);
    kubectl(&[&["delete", "event", &end, "--ignore-not-found"][..], &there].concat()).await?;
    let spec = Settings { ttl: Some("15s".into()), ..spec() };
    let sandbox = cluster.ready("short", spec).await?.object;
    let living = cluster.left_of(&sandbox).await?;
    assert_eq!(
        living,
        ["\"Pod\"/\"short-1\"", "\"CodeSandbox\"/\"short\""],
        "the count has to count"
    );
    cluster.gone(&sandbox).await?;
    assert_eq!(cluster.left_of(&sandbox).await?, Vec::<String>::new());
    let policies: Api<NetworkPolicy> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    assert!(policies.get_opt(names::DENY_POLICY).await?.is_some());
    let end = format!("event/{end}");
    kubectl(&[&["wait", "--for=create", &end, "--timeout=30s"][..], &there].concat()).await?;
    let said = kubectl(&[&["get", &end, "-o", "jsonpath={.message}"][..], &there].concat()).await?;
    assert_eq!(said, "its ttl (15s) was over");
    Ok(())
}

/// `cpu:` with nothing behind it is null, which everybody has to read as what is not said.
#[tokio::test]
async fn what_is_left_blank_is_what_is_not_said() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    cluster.delete("blank").await?;
    let manifest = json!({
        "apiVersion": "codesandbox.dev/v1alpha1", "kind": "CodeSandbox",
        "metadata": {"name": "blank", "namespace": NAMESPACE},
        "spec": {"resources": {"cpu": null, "memory": "64Mi"}, "image": null, "network": null, "ttl": "10m"},
    });
    kubectl_with(&["apply", "-f", "-"], &manifest.to_string()).await?;
    let sandbox = cluster.wait("blank", "ready", |s| is(s, condition::READY)).await?;
    let pod = cluster.pods.get(&names::pod(&sandbox.name_any(), 1)).await?;
    let limits =
        serde_json::to_value(&pod.spec.unwrap().containers[0].resources)?["limits"].clone();
    assert_eq!(limits, json!({"cpu": "1", "memory": "64Mi", "ephemeral-storage": "2Gi"}));
    cluster.delete("blank").await
}

#[tokio::test]
async fn a_pod_killed_behind_our_back_gets_a_successor() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("killed", spec()).await?;
    let first = sandbox.object.status.clone().unwrap();
    cluster.pods.delete(&sandbox.pod(), &DeleteParams::default().grace_period(0)).await?;
    let second = cluster
        .wait("killed", "Ready again", |s| {
            is(s, condition::READY) && s.status.as_ref().unwrap().pod_uid != first.pod_uid
        })
        .await?
        .status
        .unwrap();
    assert_eq!((first.attempt, second.attempt), (Some(1), Some(2)));
    assert_eq!(second.pod_name.as_deref(), Some("killed-2"));
    let last = second.last_termination.unwrap();
    assert_eq!(last.reason, TerminationReason::Killed, "{}", last.message);
    cluster.delete("killed").await
}

#[tokio::test]
async fn a_pod_killed_behind_our_back_is_the_end_where_no_other_is_asked_for() -> anyhow::Result<()>
{
    let cluster = Cluster::connect().await?;
    let never = Settings { restart_policy: Some(RestartPolicy::Never), ..spec() };
    let sandbox = cluster.ready("once", never).await?;
    cluster.pods.delete(&sandbox.pod(), &DeleteParams::default().grace_period(0)).await?;
    let ended = cluster.wait("once", "Finished", |s| is(s, condition::FINISHED)).await?;
    let status = ended.status.clone().unwrap();
    let last = status.last_termination.unwrap();
    assert_eq!((last.reason, status.attempt), (TerminationReason::Killed, Some(1)));
    assert!(last.message.contains("spec.restartPolicy is Never"), "{}", last.message);
    let pods = cluster.pods_of(&ended.uid().context("it has a UID")?).await?;
    assert_eq!(pods.len(), 0, "no other was made");
    cluster.delete("once").await
}

/// tests.md D6. What is done in it takes longer than the idle timeout; then nothing is.
#[tokio::test]
async fn a_sandbox_finishes_when_nobody_uses_it_and_not_before() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let idle_timeout = Duration::from_secs(8);
    let spec = Settings { idle_timeout: Some("8s".into()), ..spec() };
    let sandbox = cluster.ready("unused", spec).await?;
    let ran = sandbox.shell("sleep 12; echo done").await?;
    assert_eq!(ran.text(), "done\n");
    let (session, data) = (sandbox.session(), Bytes::from(vec![7; 100 << 20]));
    let since = Instant::now();
    while since.elapsed() < idle_timeout * 3 / 2 {
        session.write("file", data.clone(), 0, false).await?;
    }

    // Though a stream is open.
    let used = Instant::now();
    let ended = cluster.wait("unused", "Finished", |s| is(s, condition::FINISHED)).await?;
    assert!(used.elapsed() >= idle_timeout, "{:?}", used.elapsed());
    let last = ended.status.clone().unwrap().last_termination.unwrap();
    assert_eq!((last.reason, last.exit_code), (TerminationReason::IdleTimeout, Some(0)));
    assert_eq!(reason(&ended, condition::READY), "IdleTimeout");
    assert!(last.message.contains("create another one"), "{}", last.message);
    cluster.delete("unused").await
}

/// How long the kubelet may take to see that a disk is full: it looks at a new pod's within a minute, and then every
/// one or two.
const DISK_IS_SEEN: Duration = Duration::from_secs(150);

/// A sandbox with a small disk, which is full; nothing fails in it, since an emptyDir takes what the node has until the
/// kubelet looks. Then as it is when that has come to `end`.
async fn filled(
    cluster: &Cluster,
    name: &str,
    settings: Settings,
    end: impl Fn(&CodeSandbox) -> bool,
) -> anyhow::Result<(Sandbox, CodeSandbox)> {
    let resources =
        Resources { ephemeral_storage: Some(Quantity("32Mi".into())), ..Resources::default() };
    let sandbox = cluster.ready(name, Settings { resources: Some(resources), ..settings }).await?;
    let filled = sandbox.shell("head -c 64M /dev/urandom >fill; wc -c <fill").await?;
    assert_eq!(filled.text(), "67108864\n");
    let end = |s: Option<&CodeSandbox>| s.is_some_and(&end);
    let after = await_condition(cluster.sandboxes.clone(), name, end);
    let after = timeout(DISK_IS_SEEN, after).await.context("the kubelet did not see it")??;
    Ok((sandbox, after.context("it was deleted")?))
}

/// tests.md F3.
#[tokio::test]
async fn a_full_disk_ends_the_sandbox_which_says_so_and_leaves_nothing() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let never = Settings { restart_policy: Some(RestartPolicy::Never), ..spec() };
    let finished = |s: &CodeSandbox| is(s, condition::FINISHED);
    let (_, ended) = filled(&cluster, "disk", never, finished).await?;
    let status = ended.status.clone().unwrap();
    let last = status.last_termination.unwrap();
    assert_eq!(reason(&ended, condition::READY), format!("{:?}", last.reason));
    assert_eq!((last.reason, status.attempt.unwrap_or(1)), (TerminationReason::Evicted, 1));
    let remedy =
        "create another sandbox, with more spec.resources.ephemeralStorage if its disk was full";
    assert!(last.message.contains(remedy), "{}", last.message);
    cluster.delete("disk").await?;
    assert_eq!(cluster.left_of(&ended).await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn an_evicted_sandbox_is_made_anew_within_its_budget() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let once = Settings { backoff_limit: Some(1), ..spec() };
    let again =
        |s: &CodeSandbox| is(s, condition::READY) && s.status.as_ref().unwrap().attempt == Some(2);
    let (first, second) = filled(&cluster, "anew", once, again).await?;
    let status = second.status.clone().unwrap();
    let last = status.last_termination.unwrap();
    assert_eq!(last.reason, TerminationReason::Evicted);
    let gone = "its files and contexts are gone and its runs are lost";
    assert!(last.message.contains(gone), "{}", last.message);
    assert_eq!(second.uid(), first.object.uid(), "the same sandbox");
    assert_eq!(status.pod_name.as_deref(), Some("anew-2"));
    assert!(cluster.pods.get_opt(&first.pod()).await?.is_none(), "what was evicted is removed");
    let second = cluster.sandbox(second);
    assert_eq!(second.shell("test -e fill || echo gone").await?.text(), "gone\n");

    // That was the budget.
    cluster.pods.delete(&second.pod(), &DeleteParams::default().grace_period(0)).await?;
    let ended = cluster.wait("anew", "Finished", |s| is(s, condition::FINISHED)).await?;
    assert_eq!(reason(&ended, condition::READY), "Killed");
    let status = ended.status.clone().unwrap();
    let message = status.last_termination.unwrap().message;
    assert!(message.contains("spec.backoffLimit (1) is used up"), "{message}");
    assert_eq!(status.attempt, Some(2));
    cluster.delete("anew").await?;
    assert_eq!(cluster.left_of(&ended).await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_pod_of_somebody_else_is_never_touched() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    cluster.delete("taken").await?;
    let squatter: Pod = serde_json::from_value(json!({
        "metadata": {"name": "taken-1"},
        "spec": {
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "main", "image": "registry.invalid/nothing:1", "imagePullPolicy": "Never",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
        },
    }))?;
    let squatter = cluster.pods.create(&PostParams::default(), &squatter).await?;
    let sandbox = cluster.create("taken", spec()).await?;
    let refused = cluster
        .wait("taken", "NameTaken", |s| reason(s, condition::READY) == reason::NAME_TAKEN)
        .await?;
    let message = &refused.status.as_ref().unwrap().condition(condition::READY).unwrap().message;
    assert!(message.contains("taken-1"), "{message}");
    cluster.delete("taken").await?;
    assert_eq!(cluster.left_of(&sandbox).await?, Vec::<String>::new());
    assert_eq!(cluster.pods.get("taken-1").await?.uid(), squatter.uid());
    cluster.pods.delete("taken-1", &DeleteParams::default().grace_period(0)).await?;
    Ok(())
}

#[tokio::test]
async fn only_ttl_and_suspend_can_be_changed() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let before = cluster.ready("fixed", spec()).await?.object.status.unwrap().expires_at;
    let patch = |spec| {
        let sandboxes = cluster.sandboxes.clone();
        async move {
            let patch = json!({ "spec": spec });
            sandboxes.patch("fixed", &PatchParams::default(), &Patch::Merge(patch)).await
        }
    };
    for change in [
        json!({"image": "other:1"}),
        json!({"gpu": {"count": 1}}),
        json!({"resources": {"cpu": "2"}}),
        json!({"network": {"egress": "Internet"}}),
        json!({"env": [{"name": "A", "value": "b"}]}),
        json!({"ttlAfterFinished": "1s"}),
        json!({"idleTimeout": "1h"}),
        json!({"restartPolicy": "Never"}),
        json!({"backoffLimit": 1}),
        json!({"templateRef": {"name": "python"}}),
        json!({"workspace": {"size": "1Gi"}}),
        json!({"onIdle": "Pause"}),
        json!({"setup": {"commands": ["true"]}}),
    ] {
        let error = patch(change.clone()).await.unwrap_err().to_string();
        assert!(
            error.contains("only spec.ttl and spec.suspend can be changed"),
            "{change}: {error}"
        );
    }
    patch(json!({"ttl": "2h"})).await?;
    cluster
        .wait("fixed", "given more time", |s| s.status.as_ref().unwrap().expires_at > before)
        .await?;
    cluster.delete("fixed").await
}

#[tokio::test]
async fn a_bad_manifest_is_refused_with_what_to_do() -> anyhow::Result<()> {
    let long = "a".repeat(51);
    for (name, spec, message) in [
        (&*long, json!({}), "metadata.name must be a DNS label"),
        ("a.b", json!({}), "metadata.name must be a DNS label"),
        ("bad", json!({"ttl": "0s"}), "must be between 1s and 168h"),
        ("bad", json!({"ttl": "8 hours"}), "spec.ttl"),
        ("bad", json!({"ttl": "169h"}), "must be between 1s and 168h"),
        ("bad", json!({"idleTimeout": "500ms"}), "must be between 1s and 168h"),
        ("bad", json!({"restartPolicy": "Always"}), "Recreate"),
        ("bad", json!({"onIdle": "Sleep"}), "Pause"),
        ("bad", json!({"workspace": {}}), "spec.workspace.size"),
        ("bad", json!({"workspace": {"size": "0"}}), "must be more than 0"),
        ("bad", json!({"setup": {"commands": [""]}}), "spec.setup.commands"),
        ("bad", json!({"setup": {"timeout": "0s"}}), "must be between 1s and 24h"),
        ("bad", json!({"backoffLimit": -1}), "spec.backoffLimit"),
        ("bad", json!({"workingDir": "tmp"}), "must be an absolute path"),
        ("bad", json!({"env": [{"name": "CODESANDBOX_X", "value": "1"}]}), "reserved"),
        ("bad", json!({"env": [{"name": "KUBERNETES_SERVICE_HOST", "value": "1"}]}), "reserved"),
        ("bad", json!({"env": [{"name": "X"}]}), "needs either value or valueFrom"),
        (
            "bad",
            json!({"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "db", "key": "k"}}}]}),
            "only Secrets whose name begins with sandbox-",
        ),
        ("bad", json!({"resources": {"cpu": "0"}}), "must be more than 0"),
        ("bad", json!({"resources": {"memory": "much"}}), "spec.resources.memory"),
        ("bad", json!({"gpu": {"count": 0}}), "spec.gpu.count"),
        ("bad", json!({"gpu": {"count": 1, "resource": "gpu"}}), "extended resource"),
        ("bad", json!({"network": {"egress": "All"}}), "Deny"),
        (
            "bad",
            json!({"network": {"allow": [{"cidr": "example.com"}]}}),
            "spec.network.allow[0].cidr",
        ),
        (
            "bad",
            json!({"network": {"allow": [{"cidr": "0.0.0.0/0"}]}}),
            "for public ones use egress: Internet",
        ),
        ("bad", json!({"network": {"allow": [{"ports": [{"port": 1}]}]}}), "needs either cidr"),
        (
            "bad",
            json!({"network": {"allow": [{"cidr": "10.0.0.0/8", "podSelector": {"matchLabels": {"a": "b"}}}]}}),
            "needs either cidr",
        ),
        (
            "bad",
            json!({"network": {"allow": [{"podSelector": {"matchLabels": {}}}]}}),
            "spec.network.allow[0].podSelector.matchLabels",
        ),
        (
            "bad",
            json!({"network": {"allow": [{"cidr": "10.0.0.0/8", "ports": [{"port": 2, "endPort": 1}]}]}}),
            "endPort must not be less",
        ),
        ("bad", json!({"network": {"ports": [{"port": 80}]}}), "spec.network.ports[0].from"),
        (
            "bad",
            json!({"network": {"ports": [{"port": 80, "from": []}]}}),
            "spec.network.ports[0].from",
        ),
        (
            "bad",
            json!({"network": {"ports": [{"port": 80, "from": [{"cidr": "0.0.0.0/0"}]}]}}),
            "spec.network.ports[0].from[0].cidr",
        ),
        ("bad", json!({"imge": "x"}), "unknown field \"spec.imge\""),
    ] {
        let error = e2e::refused(name, &spec).await;
        assert!(error.contains(message), "{spec}: {error}");
    }
    Ok(())
}

#[tokio::test]
async fn explain_reads_well() -> anyhow::Result<()> {
    let text = kubectl(&["explain", "csb.spec"]).await?;
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in ["How long the sandbox lives from its creation", "What the sandbox may reach"] {
        assert!(text.contains(expected), "{text}");
    }
    Ok(())
}
