//! What RBAC cannot say: labels cannot be forged, and exec is the agent's bridge and nothing else.

use api::{CodeSandbox, CodeSandboxSpec, names};
use e2e::{Cluster, NAMESPACE, RELEASE_NAMESPACE, kubectl, kubectl_with};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{AttachParams, PostParams},
};
use serde_json::{Value, json};

const EDITOR: &str = "--as=e2e-editor";
const RESERVED: &str = "only the operator of the installation may set";

/// A user with the `edit` role of the sandboxes' namespace, as a tenant's developer may have.
async fn editor() -> anyhow::Result<()> {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "e2e-editor", "namespace": NAMESPACE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "e2e-editor"}],
    });
    kubectl_with(&["apply", "--server-side", "-f", "-"], &binding.to_string()).await.map(drop)
}

fn pod(labels: &Value) -> String {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "e2e-forged", "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "sandbox", "image": "registry.invalid/nothing:1", "imagePullPolicy": "Never",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
        },
    })
    .to_string()
}

#[tokio::test]
async fn labels_cannot_be_forged() -> anyhow::Result<()> {
    editor().await?;
    let create = ["create", EDITOR, "--dry-run=server", "-f", "-"];
    kubectl_with(&create, &pod(&json!({"app": "mine"}))).await?;
    for labels in [
        json!({names::SANDBOX: "x"}),
        json!({names::SANDBOX_UID: "x"}),
        json!({names::POOL: "x", names::INSTANCE: "codesandbox"}),
        json!({names::MANAGED_BY: names::MANAGER, names::INSTANCE: "codesandbox"}),
    ] {
        let error = kubectl_with(&create, &pod(&labels)).await.expect_err(&labels.to_string());
        assert!(error.to_string().contains(RESERVED), "{labels}: {error}");
    }
    Ok(())
}

/// The labels of a Binding are copied to its pod.
#[tokio::test]
async fn labels_cannot_be_smuggled_in_by_a_binding() -> anyhow::Result<()> {
    let name = "e2e-bound";
    let unscheduled = pod(&json!({"app": "mine"})).replace("e2e-forged", name);
    let mut unscheduled: Value = serde_json::from_str(&unscheduled)?;
    unscheduled["spec"]["schedulerName"] = json!("none");
    kubectl(&[
        "delete",
        "pod",
        name,
        "-n",
        NAMESPACE,
        "--ignore-not-found",
        "--grace-period=0",
        "--force",
    ])
    .await?;
    kubectl_with(&["create", "-f", "-"], &unscheduled.to_string()).await?;
    let bind = async |labels: Value| {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "labels": labels},
            "target": {"kind": "Node", "name": "nowhere"},
        });
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}/binding");
        kubectl_with(&["create", "--raw", &path, "-f", "-"], &binding.to_string()).await
    };
    let error = bind(json!({names::SANDBOX: "x"})).await.unwrap_err().to_string();
    assert!(error.contains(RESERVED), "{error}");
    bind(json!({"app": "mine"})).await?;
    kubectl(&["delete", "pod", name, "-n", NAMESPACE, "--grace-period=0", "--force"]).await?;
    Ok(())
}

#[tokio::test]
async fn labels_of_a_sandbox_cannot_be_changed_or_taken_off() -> anyhow::Result<()> {
    editor().await?;
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("labelled", e2e::spec()).await?;
    let pod = sandbox.pod();
    let label = async |label: &str| {
        kubectl(&["label", EDITOR, "--overwrite", "-n", NAMESPACE, "pod", &pod, label]).await
    };
    label("colour=green").await?;
    for change in [
        format!("{}-", names::SANDBOX),
        format!("{}=other", names::SANDBOX_UID),
        format!("{}-", names::MANAGED_BY),
    ] {
        let error = label(&change).await.expect_err(&change);
        assert!(error.to_string().contains(RESERVED), "{change}: {error}");
    }
    sandbox.delete().await
}

/// The front end's own account, as if somebody had taken it over.
#[tokio::test]
async fn the_front_end_may_start_nothing_but_the_bridge() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("bridged", e2e::spec()).await?;
    let account = format!("system:serviceaccount:{RELEASE_NAMESPACE}:codesandbox-mcp-frontend");
    let mut config = kube::Config::infer().await?;
    config.auth_info.impersonate = Some(account.clone());
    let pods: Api<Pod> = Api::namespaced(client::client(&config)?, NAMESPACE);
    let exec = async |container: &str, command: &[&str]| {
        let params = AttachParams::default().container(container).stdin(true);
        pods.exec(&sandbox.pod(), command.iter().copied(), &params).await
    };
    drop(exec(names::CONTAINER, &[names::AGENT, "connect"]).await?);
    for (container, command) in [
        (names::CONTAINER, &["sh", "-c", "id"][..]),
        (names::CONTAINER, &[names::AGENT, "serve"]),
        (names::CONTAINER, &[names::AGENT, "connect", "more"]),
        (names::CONTAINER, &[names::AGENT]),
        ("other", &[names::AGENT, "connect"]),
    ] {
        let Err(error) = exec(container, command).await else { panic!("{container}: {command:?}") };
        let error = error.to_string();
        assert!(error.contains("nothing in a sandbox but the agent's connect"), "{error}");
    }
    let account = format!("--as={account}");
    for (verb, resource) in [
        ("create", "pods/attach"),
        ("create", "pods/portforward"),
        ("get", "secrets"),
        ("create", "pods"),
        ("get", "pods"),
    ] {
        let answer = kubectl(&["auth", "can-i", verb, resource, &account, "-n", NAMESPACE]).await;
        assert!(answer.is_err(), "{verb} {resource}: {answer:?}");
    }
    sandbox.delete().await
}

/// It may wake a sandbox and put off its end, for which it has the right to patch all of it.
#[tokio::test]
async fn the_front_end_may_change_nothing_of_a_sandbox_but_its_ttl_and_the_wish_to_wake_it()
-> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let suspended = CodeSandboxSpec { suspend: Some(true), ..e2e::spec().into() };
    let mut object = CodeSandbox::new("awake", suspended);
    object.annotations_mut().insert(names::OWNER.into(), "somebody".into());
    cluster.delete("awake").await?;
    cluster.sandboxes.create(&PostParams::default(), &object).await?;
    let account =
        format!("--as=system:serviceaccount:{RELEASE_NAMESPACE}:codesandbox-mcp-frontend");
    let patch = async |patch: &str| {
        let patch = ["patch", "csb", "awake", "-n", NAMESPACE, "--type=merge", "-p", patch];
        kubectl(&[&patch[..], &[&account]].concat()).await
    };
    patch(r#"{"metadata":{"annotations":{"codesandbox.dev/wake":"now"}}}"#).await?;
    patch(r#"{"metadata":{"annotations":{"codesandbox.dev/wake":"again"}}}"#).await?;
    patch(r#"{"spec":{"ttl":"168h"}}"#).await?;
    for forbidden in [
        r#"{"spec":{"suspend":false}}"#,
        r#"{"spec":{"ttl":"1h","suspend":null}}"#,
        r#"{"metadata":{"annotations":{"codesandbox.dev/owner":"me"}}}"#,
        r#"{"metadata":{"annotations":{"codesandbox.dev/owner":null}}}"#,
        r#"{"metadata":{"annotations":{"codesandbox.dev/wake":"then","other":"x"}}}"#,
        r#"{"metadata":{"labels":{"a":"b"}}}"#,
        r#"{"metadata":{"finalizers":["a.b/c"]}}"#,
        r#"{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"a","uid":"b"}]}}"#,
    ] {
        let error = patch(forbidden).await.expect_err(forbidden).to_string();
        let expected = "the front end may change nothing of a sandbox but its spec.ttl and the annotation codesandbox.dev/wake";
        assert!(error.contains(expected), "{forbidden}: {error}");
    }
    cluster.delete("awake").await
}

/// Whose it is decides who runs code in it, and whose disk it may take up again.
#[tokio::test]
async fn nobody_who_may_write_sandboxes_says_whose_one_is_but_the_front_end() -> anyhow::Result<()>
{
    let cluster = Cluster::connect().await?;
    let writer = "--as=e2e-writer";
    let verbs = ["create", "get", "patch", "update", "delete"];
    let rule =
        json!({"apiGroups": ["codesandbox.dev"], "resources": ["codesandboxes"], "verbs": verbs});
    let meta = json!({"name": "e2e-writer", "namespace": NAMESPACE});
    let api = "rbac.authorization.k8s.io";
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": format!("{api}/v1"), "kind": "Role", "metadata": meta, "rules": [rule]},
        {"apiVersion": format!("{api}/v1"), "kind": "RoleBinding", "metadata": meta,
            "roleRef": {"apiGroup": api, "kind": "Role", "name": "e2e-writer"},
            "subjects": [{"apiGroup": api, "kind": "User", "name": "e2e-writer"}]},
    ]});
    kubectl_with(&["apply", "-f", "-"], &objects.to_string()).await?;
    cluster.delete("owned").await?;
    let create = async |annotations: Value, who: &[&str]| {
        let object = json!({"apiVersion": "codesandbox.dev/v1alpha1", "kind": "CodeSandbox",
            "metadata": {"name": "owned", "namespace": NAMESPACE, "annotations": annotations}, "spec": {"ttl": "5m", "suspend": true}});
        kubectl_with(&[&["create", "-f", "-"], who].concat(), &object.to_string()).await
    };
    let expected = "only the front end says whose a CodeSandbox is";
    let error =
        create(json!({"codesandbox.dev/owner": "bob"}), &[writer]).await.expect_err("forged");
    assert!(error.to_string().contains(expected), "{error}");
    create(json!({"mine": "yes"}), &[writer]).await?;
    let patch = async |annotations: Value| {
        let patch = json!({"metadata": {"annotations": annotations}}).to_string();
        let patch =
            ["patch", "csb", "owned", "-n", NAMESPACE, "--type=merge", "-p", &patch, writer];
        kubectl(&patch).await
    };
    let error = patch(json!({"codesandbox.dev/owner": "bob"})).await.expect_err("forged");
    assert!(error.to_string().contains(expected), "{error}");
    patch(json!({"mine": "no"})).await?;
    cluster.delete("owned").await?;

    // One that has an owner keeps it, and can be changed otherwise.
    let front_end =
        format!("--as=system:serviceaccount:{RELEASE_NAMESPACE}:codesandbox-mcp-frontend");
    create(json!({"codesandbox.dev/owner": "alice"}), &[&front_end]).await?;
    for annotations in
        [json!({"codesandbox.dev/owner": null}), json!({"codesandbox.dev/owner": "bob"})]
    {
        let error = patch(annotations).await.expect_err("forged");
        assert!(error.to_string().contains(expected), "{error}");
    }
    patch(json!({"mine": "yes"})).await?;
    cluster.delete("owned").await?;
    let both = ["delete", "role,rolebinding", "e2e-writer", "-n", NAMESPACE];
    kubectl(&both).await.map(drop)
}

/// An ephemeral container would run inside the sandbox's isolation.
#[tokio::test]
async fn a_sandbox_takes_no_ephemeral_containers() -> anyhow::Result<()> {
    editor().await?;
    let cluster = Cluster::connect().await?;
    let sandbox = cluster.ready("sealed", e2e::spec()).await?;
    let pod = sandbox.pod();
    let debug = [
        "debug",
        "-n",
        NAMESPACE,
        &pod,
        "--image=registry.invalid/nothing:1",
        "--profile=restricted",
    ];
    let error = kubectl(&debug).await.unwrap_err().to_string();
    assert!(error.contains("no ephemeral containers"), "{error}");
    sandbox.delete().await
}
