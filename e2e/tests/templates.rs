//! Templates: what they give, what they forbid, and that a changed one changes no live sandbox.

use api::{
    CodeSandbox, CodeSandboxSpec, CodeSandboxTemplate, LocalObjectReference, condition, reason,
};
use e2e::{Cluster, NAMESPACE, PATIENCE, is, kubectl, reason as why};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
    runtime::wait::await_condition,
};
use serde_json::{Value, json};
use tokio::time::timeout;

struct Templates(Api<CodeSandboxTemplate>);

impl Templates {
    fn of(cluster: &Cluster) -> Self {
        Self(Api::namespaced(cluster.client.clone(), NAMESPACE))
    }

    /// Makes a template say this, and gives what the operator says to it.
    async fn set(&self, name: &str, spec: Value) -> anyhow::Result<(String, String, String)> {
        let patch = json!({"apiVersion": "codesandbox.dev/v1alpha1", "kind": "CodeSandboxTemplate",
            "metadata": {"name": name}, "spec": spec});
        let params = PatchParams::apply("e2e").force();
        self.0.patch(name, &params, &Patch::Apply(patch)).await?;
        self.accepted(name).await
    }

    /// Status, reason and message of Accepted, as the template is now.
    async fn accepted(&self, name: &str) -> anyhow::Result<(String, String, String)> {
        let judged = |template: Option<&CodeSandboxTemplate>| {
            template.is_some_and(|template| template.accepted().is_some())
        };
        let template = timeout(PATIENCE, await_condition(self.0.clone(), name, judged)).await??;
        let accepted = template.as_ref().and_then(|one| one.accepted()).expect("it was judged");
        Ok((accepted.status.clone(), accepted.reason.clone(), accepted.message.clone()))
    }

    async fn delete(&self, name: &str) -> anyhow::Result<()> {
        match self.0.delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            done => Ok(done.map(drop)?),
        }
    }
}

/// A sandbox of a template, that asks for this besides.
fn from(template: &str, settings: Value) -> CodeSandboxSpec {
    let mut spec: CodeSandboxSpec = serde_json::from_value(settings).expect("settings");
    spec.settings.ttl.get_or_insert("10m".into());
    spec.template_ref = Some(LocalObjectReference { name: template.into() });
    spec
}

fn ready(sandbox: &CodeSandbox) -> (String, String) {
    let status = sandbox.status.clone().unwrap_or_default();
    let ready = status.condition(condition::READY).cloned();
    ready.map(|ready| (ready.reason, ready.message)).unwrap_or_default()
}

/// What the pod's container says of its resources and its variable TEAM, and where the pod may run.
async fn pod(cluster: &Cluster, name: &str) -> anyhow::Result<Value> {
    let pod = serde_json::to_value(cluster.pods.get(name).await?)?;
    let container = &pod["spec"]["containers"][0];
    let team =
        container["env"].as_array().and_then(|env| env.iter().find(|one| one["name"] == "TEAM"));
    Ok(json!({
        "team": team.map(|team| &team["value"]),
        "limits": container["resources"]["limits"],
        "selector": pod["spec"]["nodeSelector"],
        "label": pod["metadata"]["labels"]["team"],
        "deadline": pod["spec"]["activeDeadlineSeconds"],
    }))
}

#[tokio::test]
async fn a_sandbox_is_made_from_its_template_and_stays_as_it_was_made() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let templates = Templates::of(&cluster);
    let spec = |team: &str| {
        json!({
            "defaults": {"env": [{"name": "TEAM", "value": team}], "resources": {"cpu": "250m", "memory": "96Mi"}},
            "allow": {"max": {"memory": "256Mi", "lifetime": "20m"}},
            "podPatch": {"metadata": {"labels": {"team": team}}, "spec": {"nodeSelector": {"kubernetes.io/os": "linux"}}},
        })
    };
    assert_eq!(templates.set("e2e-team", spec("blue")).await?.0, "True");

    let asked = from("e2e-team", json!({"resources": {"memory": "128Mi"}}));
    let sandbox = cluster.ready("template-a", asked).await?;
    let expected = json!({
        "team": "blue", "label": "blue", "selector": {"kubernetes.io/os": "linux"}, "deadline": 1200,
        "limits": {"cpu": "250m", "memory": "128Mi", "ephemeral-storage": "2Gi"},
    });
    assert_eq!(pod(&cluster, &sandbox.pod()).await?, expected);
    let bound = sandbox.object.status.clone().unwrap().template.unwrap();
    assert_eq!((bound.name.as_str(), bound.outdated), ("e2e-team", false));

    templates.set("e2e-team", spec("red")).await?;
    let outdated = |one: &CodeSandbox| {
        one.status
            .as_ref()
            .and_then(|status| status.template.as_ref())
            .is_some_and(|one| one.outdated)
    };
    let now = cluster.wait("template-a", "outdated", outdated).await?;
    let status = |one: &CodeSandbox| one.status.clone().unwrap();
    assert_eq!(status(&now).pod_uid, status(&sandbox.object).pod_uid);

    // Nor does its next pod.
    cluster.pods.delete(&sandbox.pod(), &DeleteParams::default().grace_period(0)).await?;
    cluster
        .wait("template-a", "ready again", |one| {
            is(one, condition::READY) && status(one).attempt == Some(2)
        })
        .await?;
    assert_eq!(pod(&cluster, "template-a-2").await?, expected);

    let next = cluster.ready("template-b", from("e2e-team", json!({}))).await?;
    assert_eq!(pod(&cluster, &next.pod()).await?["team"], "red");
    next.delete().await?;
    cluster.delete("template-a").await?;
    templates.delete("e2e-team").await
}

/// What the API server says to a sandbox of a template that asks for this; nothing where it takes it.
async fn refusal(template: &str, settings: &Value) -> Option<String> {
    let mut spec = settings.clone();
    spec["templateRef"] = json!({"name": template});
    e2e::refusal("template-asks", &spec).await
}

#[tokio::test]
async fn what_a_template_forbids_is_refused_as_it_is_asked_for() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let templates = Templates::of(&cluster);
    let max = json!({"cpu": "2", "memory": "64Mi", "ephemeralStorage": "1Gi", "workspace": "1Gi", "gpus": 1});
    let template = json!({
        "multiTenant": true,
        "defaults": {"image": "a.b:1", "resources": {"memory": "32Mi"}, "runtimeClassName": "own",
            "workspace": {"size": "1Gi", "storageClassName": "own"}},
        "allow": {"images": ["reg.x/*"], "runtimeClassNames": ["other"], "storageClassNames": ["other"], "secrets": ["shop"], "max": max},
    });
    templates.set("e2e-refuses", template).await?;
    // The API server may know it a moment later.
    let forbidden = json!({"image": "evil:1"});
    e2e::until("the template is known", async || {
        Ok(refusal("e2e-refuses", &forbidden).await.is_some())
    })
    .await?;

    let secret = |name: &str| json!({"env": [{"name": "A", "value": "a"}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}}]});
    let git = |name: &str| json!({"url": "https://a.b/c", "secretRef": {"name": name}});
    for (asked, words) in [
        (json!({"image": "reg-x/a:1"}), "spec.image reg-x/a:1 (allowed: reg.x/*)"),
        (json!({"runtimeClassName": "weak"}), "spec.runtimeClassName weak (allowed: other)"),
        (
            json!({"workspace": {"size": "1Gi", "storageClassName": "fast"}}),
            "spec.workspace.storageClassName fast (allowed: other)",
        ),
        (json!({"network": {"egress": "Internet"}}), "spec.network.egress Internet"),
        (
            json!({"setup": {"commands": ["false"], "egress": "Internet"}}),
            "spec.setup.egress Internet",
        ),
        (secret("db"), "spec.env of Secret db (allowed: sandbox-*)"),
        (
            json!({"setup": {"git": git("db")}}),
            "spec.setup.git with Secret db (allowed: sandbox-*)",
        ),
        (
            json!({"gpu": {"count": 1, "resource": "nvidia.com/gpu.shared"}}),
            "spec.gpu.resource nvidia.com/gpu.shared (it is shared, and the template is multiTenant)",
        ),
        (json!({"resources": {"cpu": "2100m"}}), "spec.resources.cpu 2100m (at most 2)"),
        (json!({"resources": {"memory": "65Mi"}}), "spec.resources.memory 65Mi (at most 64Mi)"),
        (
            json!({"resources": {"ephemeralStorage": "1.1Gi"}}),
            "spec.resources.ephemeralStorage 1.1Gi (at most 1Gi)",
        ),
        (json!({"workspace": {"size": "2Gi"}}), "spec.workspace.size 2Gi (at most 1Gi)"),
        (json!({"gpu": {"count": 2}}), "spec.gpu.count 2 (at most 1)"),
        (
            json!({"image": "evil:1", "gpu": {"count": 2}}),
            "spec.image evil:1 (allowed: reg.x/*), nor spec.gpu.count 2 (at most 1)",
        ),
    ] {
        let said = refusal("e2e-refuses", &asked).await.unwrap_or_default();
        let words = format!(
            "denied request: TemplateForbids: CodeSandboxTemplate e2e-refuses does not allow {words}; ask for what it allows"
        );
        assert!(said.contains(&words), "{asked}: {said}");
    }

    // Of what is too long the beginning is told, and nothing else is lost.
    let many: Vec<_> = (0..60).map(|number| json!({"name": format!("A{number}"), "valueFrom": {"secretKeyRef": {"name": "b".repeat(100), "key": "k"}}})).collect();
    let said = refusal("e2e-refuses", &json!({"env": many})).await.unwrap_or_default();
    assert!(
        said.contains(
            "TemplateForbids: CodeSandboxTemplate e2e-refuses does not allow spec.env of Secret bbb"
        ),
        "{said}"
    );
    assert!(said.contains(" [cut]; ask for what it allows") && said.len() < 2000, "{said}");
    // What is null is not asked for, and hides nothing else.
    let nulls = json!({"image": null, "resources": {"cpu": null, "memory": "65Mi"}, "workspace": null, "env": null, "setup": null, "gpu": null});
    let said = refusal("e2e-refuses", &nulls).await.unwrap_or_default();
    assert!(
        said.contains("does not allow spec.resources.memory 65Mi (at most 64Mi); ask"),
        "{said}"
    );

    for asked in [
        json!({}),
        json!({"image": "reg.x/team/a:1", "runtimeClassName": "other", "network": {"egress": "Deny"}}),
        json!({"image": "a.b:1", "runtimeClassName": "own", "setup": {"commands": ["true"]}}),
        json!({"image": "reg.x/a:1", "resources": null, "workspace": null, "env": null, "setup": {"commands": ["true"], "git": null}, "gpu": null}),
        json!({"workspace": {"size": "1024Mi", "storageClassName": "other"}}),
        json!({"resources": {"cpu": "2", "memory": "65536Ki"}, "gpu": {"count": 1}}),
        secret("shop"),
        secret("sandbox-db"),
    ] {
        let said = refusal("e2e-refuses", &asked).await;
        assert_eq!(said, None, "{asked}");
    }
    // Other templates' bounds are theirs; what a pattern like this one stands for is the operator's to say; and a setup goes as
    // far as the template's own does.
    let own = json!({"commands": ["true"], "egress": "Internet", "git": git("own")});
    let free = json!({"defaults": {"setup": own}, "allow": {"images": ["deep/**/a:1"]}});
    templates.set("e2e-free", free).await?;
    let again = json!({"commands": ["true"], "files": [], "egress": "Internet", "git": git("own")});
    for asked in [forbidden, json!({"image": "deep/a:1"}), json!({"setup": again})] {
        assert_eq!(refusal("e2e-free", &asked).await, None);
    }
    templates.delete("e2e-free").await?;
    templates.delete("e2e-refuses").await
}

/// Who comes before its template comes before its bounds, too; the operator knows them all the same.
#[tokio::test]
async fn what_a_template_forbids_is_said_and_nothing_is_made_of_it() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let templates = Templates::of(&cluster);
    templates.delete("e2e-bounds").await?;
    let asked = json!({"resources": {"memory": "128Mi"}, "network": {"egress": "Internet"}, "image": "evil:1",
        "runtimeClassName": "gvisor"});
    let large = json!({"resources": {"memory": "128Mi"}});
    for (name, asked) in [("template-evil", asked), ("template-large", large)] {
        e2e::until("the API server knows no such template", async || {
            Ok(refusal("e2e-bounds", &asked).await.is_none())
        })
        .await?;
        cluster.create(name, from("e2e-bounds", asked)).await?;
    }

    templates.set("e2e-bounds", json!({"allow": {"max": {"memory": "64Mi"}}, "defaults": {"resources": {"memory": "64Mi"}}})).await?;
    let barred = |one: &CodeSandbox| why(one, condition::READY) == reason::TEMPLATE_FORBIDS;
    let evil = cluster.wait("template-evil", "barred", barred).await?;
    assert_eq!(
        ready(&evil).1,
        "CodeSandboxTemplate e2e-bounds does not allow spec.image evil:1 (allowed: the template's own), nor \
         spec.runtimeClassName gvisor (allowed: the template's own), nor spec.network.egress Internet, nor \
         spec.resources.memory 128Mi (at most 64Mi); create the sandbox anew with what it allows, or from another template"
    );
    assert!(cluster.pods.get_opt("template-evil-1").await?.is_none());

    // Who is allowed later is made then.
    cluster.wait("template-large", "barred", barred).await?;
    templates.set("e2e-bounds", json!({"allow": {"max": {"memory": "128Mi"}}})).await?;
    cluster.wait("template-large", "ready", |one| is(one, condition::READY)).await?;
    for name in ["template-evil", "template-large"] {
        cluster.delete(name).await?;
    }
    templates.delete("e2e-bounds").await
}

#[tokio::test]
async fn a_template_that_comes_later_is_waited_for() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let templates = Templates::of(&cluster);
    templates.delete("e2e-late").await?;
    cluster.create("template-early", from("e2e-late", json!({}))).await?;
    let missing = |one: &CodeSandbox| why(one, condition::READY) == reason::TEMPLATE_NOT_FOUND;
    let early = cluster.wait("template-early", "waiting", missing).await?;
    assert!(
        ready(&early)
            .1
            .starts_with("there is no CodeSandboxTemplate e2e-late in this namespace (there is: ")
    );
    templates.set("e2e-late", json!({})).await?;
    cluster.wait("template-early", "ready", |one| is(one, condition::READY)).await?;
    cluster.delete("template-early").await?;
    templates.delete("e2e-late").await
}

#[tokio::test]
async fn a_template_cannot_lower_the_hardening_of_pods() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let templates = Templates::of(&cluster);
    let host = json!({"spec": {"hostNetwork": true}});
    let (status, reason, message) = templates.set("e2e-host", json!({"podPatch": host})).await?;
    assert_eq!((&*status, &*reason), ("False", reason::PATCH_INVALID), "{message}");
    // One that is trusted gets as far as the namespace's Pod Security does.
    let (status, reason, message) =
        templates.set("e2e-host", json!({"podPatch": host, "trusted": true})).await?;
    assert_eq!((&*status, &*reason), ("False", reason::POD_REFUSED), "{message}");
    assert!(message.contains("violates PodSecurity"), "{message}");

    cluster.create("template-host", from("e2e-host", json!({}))).await?;
    let barred = |one: &CodeSandbox| why(one, condition::READY) == reason::TEMPLATE_NOT_ACCEPTED;
    cluster.wait("template-host", "barred", barred).await?;
    cluster.delete("template-host").await?;
    templates.delete("e2e-host").await
}

#[tokio::test]
async fn the_templates_of_the_chart_are_there_and_accepted() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let templates = Templates::of(&cluster);
    let shipped = ["any-image", "data-science", "gpu", "node", "python"];
    for name in shipped {
        let (status, _, message) = templates.accepted(name).await?;
        assert_eq!(status, "True", "{name}: {message}");
    }
    let ours = kubectl(&[
        "get",
        "csbt",
        "-n",
        NAMESPACE,
        "-l",
        "app.kubernetes.io/managed-by=codesandbox",
        "-o",
        "name",
    ])
    .await?;
    let ours: Vec<_> =
        ours.lines().map(|name| name.rsplit('/').next().unwrap_or_default()).collect();
    assert_eq!(ours, shipped);

    let sandbox =
        cluster.ready("template-science", from("data-science", json!({"ttl": "10m"}))).await?;
    assert_eq!(sandbox.object.effective().memory.0, "4Gi");
    assert_eq!(sandbox.object.name_any(), "template-science");
    sandbox.delete().await
}

#[tokio::test]
async fn the_example_of_a_template_makes_a_sandbox() -> anyhow::Result<()> {
    let cluster = Cluster::connect().await?;
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/template.yaml");
    kubectl(&["apply", "-n", NAMESPACE, "-f", example]).await?;
    let sandbox = cluster.wait("from-template", "ready", |one| is(one, condition::READY)).await?;
    let effective = sandbox.effective();
    assert_eq!((&*effective.cpu.0, &*effective.memory.0), ("500m", "128Mi"));
    assert_eq!(pod(&cluster, "from-template-1").await?["team"], "blue");
    kubectl(&["delete", "-n", NAMESPACE, "-f", example]).await.map(drop)
}
