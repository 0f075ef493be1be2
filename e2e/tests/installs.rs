//! More than one installation in a cluster, and what `helm test` says of one. tests.md E8.

use std::{collections::BTreeSet, fs};

use anyhow::Context;
use api::{CodeSandboxSpec, condition, names};
use e2e::{Cluster, NAMESPACE, RELEASE_NAMESPACE, is, kubectl, kubectl_with, output};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};
use tokio::process::Command;

const SECOND: &str = "second";
/// The namespace that only the second installation serves.
const SANDBOXES: &str = "second-sandboxes";

/// Held by whoever counts the objects of the first installation or adds to them.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test]
async fn helm_test_passes() -> anyhow::Result<()> {
    let _alone = ALONE.lock().await;
    let test = ["test", "codesandbox", "--namespace", RELEASE_NAMESPACE, "--timeout", "60s"];
    let said = helm(&test, "").await?;
    assert!(said.contains("Phase:          Succeeded"), "{said}");
    Ok(())
}

async fn helm(args: &[&str], values: &str) -> anyhow::Result<String> {
    output(Command::new("helm").args(args), values).await
}

/// Installs the second release with the values of the first but for what two must not have in common.
async fn install_second() -> anyhow::Result<()> {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/codesandbox");
    let first = helm(&["get", "values", "codesandbox", "-n", RELEASE_NAMESPACE, "-o", "json"], "");
    let mut values: Value = serde_json::from_str(&first.await?)?;
    values["className"] = json!(SECOND);
    values["crds"] = json!({"install": false});
    values["sandbox"]["createNamespaces"] = json!(false);
    values["sandbox"]["namespaces"] = json!([SANDBOXES, NAMESPACE]);
    values["mcp"]["service"] = json!({});
    let install = ["install", SECOND, chart, "-n", SECOND, "--create-namespace", "-f", "-"];
    let wait = ["--wait", "--timeout", "60s"];
    helm(&[&install[..], &wait].concat(), &values.to_string()).await.map(drop)
}

async fn uninstall_second() -> anyhow::Result<()> {
    helm(&["uninstall", SECOND, "-n", SECOND, "--ignore-not-found", "--wait"], "").await.map(drop)
}

async fn make_namespace() -> anyhow::Result<()> {
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": SANDBOXES, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    });
    kubectl_with(&["apply", "-f", "-"], &namespace.to_string()).await.map(drop)
}

/// What the chart of the second release may leave behind or touch: kinds and names, cluster-wide and in the
/// namespaces of the first release, with their UIDs.
async fn objects() -> anyhow::Result<BTreeSet<String>> {
    let mut objects = BTreeSet::new();
    let clusterwide = "customresourcedefinitions,clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings";
    let namespaced =
        "deployments,services,secrets,serviceaccounts,roles,rolebindings,networkpolicies,pods";
    let shared = "secrets,serviceaccounts,roles,rolebindings";
    for args in [
        vec!["get", clusterwide, "-o", "json"],
        vec!["get", namespaced, "-n", RELEASE_NAMESPACE, "-o", "json"],
        vec!["get", shared, "-n", NAMESPACE, "-o", "json"],
    ] {
        let list: Value = serde_json::from_str(&kubectl(&args).await?)?;
        for item in list["items"].as_array().context("a list")? {
            let metadata = &item["metadata"];
            let (kind, namespace) = (&item["kind"], &metadata["namespace"]);
            objects.insert(format!("{kind} {namespace}/{} {}", metadata["name"], metadata["uid"]));
        }
    }
    Ok(objects)
}

/// The names of what an installation's operator has written in a namespace, as the audit log has it.
fn written(operator: &str, namespace: &str) -> anyhow::Result<Vec<String>> {
    let log = std::env::var("CLUSTER_AUDIT_LOG").context("CLUSTER_AUDIT_LOG: see e2e/cluster")?;
    let user = format!("system:serviceaccount:{operator}:{operator}-operator");
    let log = fs::read_to_string(log)?;
    let events = log.lines().filter(|line| line.contains(&user));
    let mut names = vec![];
    for event in events {
        let event: Value = serde_json::from_str(event)?;
        let (verb, object) = (&event["verb"], &event["objectRef"]);
        let reads = ["get", "list", "watch"].map(Value::from).contains(verb);
        if event["user"]["username"] == *user && !reads && object["namespace"] == namespace {
            // An event has its object's name and a number.
            let name = object["name"].as_str().and_then(|name| name.split('.').next());
            names.push(name.unwrap_or_default().into());
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

#[tokio::test]
async fn two_installs_share_names_and_a_namespace_and_never_touch_what_is_the_others()
-> anyhow::Result<()> {
    let _alone = ALONE.lock().await;
    let first = Cluster::connect().await?;
    let second_cluster = Cluster {
        sandboxes: Api::namespaced(first.client.clone(), SANDBOXES),
        pods: Api::namespaced(first.client.clone(), SANDBOXES),
        client: first.client.clone(),
    };
    uninstall_second().await?; // what a run that was cut off left
    let spec_of = |class: &str| CodeSandboxSpec { class_name: class.into(), ..e2e::spec().into() };
    for name in ["twin", "lodger"] {
        first.delete(name).await?;
    }
    let twin = first.ready("twin", e2e::spec()).await?;
    let pod = first.pods.get(&twin.pod()).await?;
    let policies: Api<NetworkPolicy> = Api::namespaced(first.client.clone(), NAMESPACE);
    let deny = policies.get(names::DENY_POLICY).await?;
    let before = objects().await?;

    make_namespace().await?;
    install_second().await?;
    // The same name in a namespace of its own, and one in the namespace of the first.
    let other = second_cluster.ready("twin", spec_of(SECOND)).await?;
    let lodger = first.ready("lodger", spec_of(SECOND)).await?;
    for (cluster, sandbox, instance) in [
        (&first, &twin, "codesandbox"),
        (&second_cluster, &other, SECOND),
        (&first, &lodger, SECOND),
    ] {
        let labels = cluster.pods.get(&sandbox.pod()).await?.metadata.labels.unwrap_or_default();
        assert_eq!(labels.get(names::INSTANCE).map(String::as_str), Some(instance));
        assert_eq!(sandbox.shell("echo hello").await?.text(), "hello\n");
    }
    // One of a class that nobody there serves stays as it is, while its neighbour becomes ready.
    second_cluster.create("nobodys", spec_of("codesandbox")).await?;
    second_cluster.ready("somebodys", spec_of(SECOND)).await?.delete().await?;
    let nobodys = second_cluster.sandboxes.get("nobodys").await?;
    assert_eq!(nobodys.status, None);

    // Each takes care of its own alone.
    first.pods.delete(&lodger.pod(), &DeleteParams::default().grace_period(0)).await?;
    first
        .wait("lodger", "at its second attempt", |s| {
            is(s, condition::READY) && s.status.as_ref().is_some_and(|s| s.attempt == Some(2))
        })
        .await?;
    assert_eq!(written(SECOND, NAMESPACE)?, ["lodger", "lodger-1", "lodger-2"]);
    let ours = written("codesandbox", NAMESPACE)?;
    assert!(ours.iter().all(|name| !name.starts_with("lodger")), "{ours:?}");

    // Without its operator the lodger lives on; the deny policy, which both use, stays.
    uninstall_second().await?;
    let lodger_now = first.sandboxes.get("lodger").await?;
    assert!(is(&lodger_now, condition::READY));
    first.delete("lodger").await?;
    let twin_now = first.sandboxes.get("twin").await?;
    assert!(is(&twin_now, condition::NETWORK_ISOLATED));
    assert_eq!(twin_now.resource_version(), twin.object.resource_version());
    assert_eq!(first.pods.get(&twin.pod()).await?.uid(), pod.uid());
    assert_eq!(policies.get(names::DENY_POLICY).await?.resource_version(), deny.resource_version());
    let after = objects().await?;
    assert_eq!(after.symmetric_difference(&before).collect::<Vec<_>>(), Vec::<&String>::new());
    twin.delete().await?;
    let left = second_cluster.sandboxes.list(&ListParams::default()).await?;
    let left: Vec<_> = left.iter().map(ResourceExt::name_any).collect();
    assert_eq!(left, ["nobodys", "twin"], "an uninstall takes no sandbox along");
    kubectl(&["delete", "namespace", SANDBOXES, SECOND, "--timeout=60s"]).await.map(drop)
}
