//! The templates that come with an installation (chart value `templates`). Helm cannot make objects of a kind that the same
//! release brings, so the operator does, whenever it begins to act.

use std::{collections::BTreeMap, str::FromStr};

use api::{CodeSandboxTemplate, CodeSandboxTemplateSpec, names};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions},
};
use tracing::{info, warn};

use crate::call::{Caller, Error, Kind, Verb};

/// Templates by their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Shipped(BTreeMap<String, CodeSandboxTemplateSpec>);

impl FromStr for Shipped {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map(Self).map_err(|error| {
            format!("not templates by their names, as in {{\"python\": {{}}}}: {error}")
        })
    }
}

/// Makes the namespace's templates what they are to be: ours are there and as they should, those that were ours once are
/// not, and others are left alone.
pub(crate) async fn apply(shipped: &Shipped, instance: &str, caller: &Caller) -> Result<(), Error> {
    let templates: Api<CodeSandboxTemplate> = caller.api();
    let all = ListParams::default();
    let kind = Kind::CodeSandboxTemplate;
    let there = caller.request(Verb::List, kind, "", templates.list(&all)).await?.items;
    for (name, spec) in &shipped.0 {
        let found = there.iter().find(|one| one.name_any() == *name);
        match found {
            Some(found) if !is_ours(found, instance) => {
                warn!(
                    namespace = caller.namespace,
                    name,
                    "this CodeSandboxTemplate is somebody else's and is left alone; the chart's value `templates` has one of its name"
                );
            }
            Some(found) if found.spec == *spec => {}
            _ => {
                let template = template(name, spec.clone(), instance);
                let (manager, patch) =
                    (PatchParams::apply(names::OPERATOR).force(), Patch::Apply(&template));
                let request = templates.patch(name, &manager, &patch);
                caller.request(Verb::Apply, kind, name, request).await?;
                info!(namespace = caller.namespace, name, "applied a template");
            }
        }
    }
    for gone in there.iter().filter(|one| is_ours(one, instance) && is_applied(one)) {
        let name = gone.name_any();
        if !shipped.0.contains_key(&name) {
            let preconditions = Preconditions { uid: gone.uid(), resource_version: None };
            let params = DeleteParams::default().preconditions(preconditions);
            match caller.request(Verb::Delete, kind, &name, templates.delete(&name, &params)).await
            {
                Err(error) if !error.has_code(404) => return Err(error),
                _ => info!(namespace = caller.namespace, name, "removed a template"),
            }
        }
    }
    Ok(())
}

fn template(name: &str, spec: CodeSandboxTemplateSpec, instance: &str) -> CodeSandboxTemplate {
    let mut template = CodeSandboxTemplate::new(name, spec);
    let labels = [(names::MANAGED_BY, names::MANAGER), (names::INSTANCE, instance)];
    template.labels_mut().extend(labels.map(|(key, value)| (key.into(), value.into())));
    template
}

fn is_ours(template: &CodeSandboxTemplate, instance: &str) -> bool {
    let labels = template.labels();
    labels.get(names::MANAGED_BY).is_some_and(|manager| manager == names::MANAGER)
        && labels.get(names::INSTANCE).is_some_and(|owner| owner == instance)
}

/// Whether we have made it. Somebody may have copied one of ours with its labels, and made another of it.
fn is_applied(template: &CodeSandboxTemplate) -> bool {
    template.managed_fields().iter().any(|entry| {
        entry.manager.as_deref() == Some(names::OPERATOR)
            && entry.operation.as_deref() == Some("Apply")
            // The verdict on it is ours as well.
            && entry.subresource.is_none()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        metrics::Metrics,
        testing::{Answer, Log, server},
    };

    fn there(name: &str, instance: &str, spec: &Value) -> Value {
        let applied = json!([{"manager": "codesandbox-operator", "operation": "Apply"}]);
        json!({"metadata": {"name": name, "uid": format!("{name}-uid"), "managedFields": applied,
            "labels": {"app.kubernetes.io/managed-by": "codesandbox", "app.kubernetes.io/instance": instance}}, "spec": spec})
    }

    async fn applied(shipped: &str, items: Vec<Value>) -> (Result<(), Error>, Log) {
        let list = json!({"metadata": {}, "items": items});
        let (client, log) = server(move |request| match request {
            "GET codesandboxtemplates" => Answer::Object(list.clone()),
            request if request.starts_with("DELETE") => {
                Answer::Object(json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
            }
            _ => Answer::Taken(json!({})),
        });
        let caller = Caller { client, namespace: "demo".into(), metrics: Metrics::new() };
        let done = apply(&shipped.parse().unwrap(), "release", &caller).await;
        (done, log)
    }

    #[tokio::test]
    async fn templates_become_what_the_installation_has() {
        let mut copied = there("copied", "release", &json!({}));
        copied["metadata"]["managedFields"] = json!([
            {"manager": "kubectl-client-side-apply", "operation": "Update"},
            {"manager": "codesandbox-operator", "operation": "Apply", "subresource": "status"},
        ]);
        let shipped = r#"{"new": {"description": "x"}, "same": {}, "other": {"trusted": true}, "theirs": {}}"#;
        let (done, log) = applied(
            shipped,
            vec![
                there("same", "release", &json!({})),
                there("other", "release", &json!({})),
                there("old", "release", &json!({})),
                copied,
                there("theirs", "another", &json!({"description": "y"})),
                json!({"metadata": {"name": "hand", "uid": "hand-uid"}, "spec": {}}),
            ],
        )
        .await;
        done.unwrap();
        assert_eq!(
            log.requests(),
            [
                "GET codesandboxtemplates",
                "PATCH codesandboxtemplates/new",
                "PATCH codesandboxtemplates/other",
                "DELETE codesandboxtemplates/old",
            ]
        );
        let made = &log.bodies("PATCH codesandboxtemplates/new")[0];
        assert_eq!(made["spec"]["description"], "x");
        assert_eq!(made["metadata"]["labels"]["app.kubernetes.io/instance"], "release");
    }

    #[test]
    fn what_is_no_template_is_refused_when_the_operator_starts() {
        assert!("{\"a\": 7}".parse::<Shipped>().unwrap_err().contains("not templates"));
        assert_eq!("{}".parse::<Shipped>(), Ok(Shipped::default()));
    }
}
