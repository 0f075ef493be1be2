//! The committed CRDs are the ones the code describes.

use api::{CodeSandboxPoolSpec, CodeSandboxSpec, CodeSandboxTemplateSpec};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResourceExt, ResourceExt};
use serde_json::{Map, Value, json};

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds");

/// Client-side `kubectl apply` keeps the whole object, as JSON, in an annotation of at most 256 KiB;
/// a CRD a person can read stays far below.
const MAX_BYTES: usize = 24 * 1024;

fn crds() -> [CustomResourceDefinition; 3] {
    [api::CodeSandbox::crd(), api::CodeSandboxTemplate::crd(), api::CodeSandboxPool::crd()]
}

fn generated(crd: &CustomResourceDefinition) -> String {
    format!(
        "# Generated from api/ by `make crds`.\n{}",
        serde_yaml::to_string(crd).expect("a CRD is YAML")
    )
}

#[test]
fn the_committed_crds_are_the_generated_ones() {
    for crd in crds() {
        let name = crd.name_any().replace(".codesandbox.dev", ".yaml");
        let (path, generated) = (format!("{DIRECTORY}/{name}"), generated(&crd));
        if std::env::var_os("UPDATE_CRDS").is_some() {
            std::fs::write(&path, &generated).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == generated, "crds/{name} is stale: run `make crds`");
    }
}

#[test]
fn the_crds_are_small() {
    for crd in crds() {
        let bytes = serde_json::to_vec(&crd).expect("a CRD is JSON").len();
        assert!(bytes <= MAX_BYTES, "{}: {bytes} bytes, at most {MAX_BYTES}", crd.name_any());
    }
}

/// The schema of `spec`.
fn spec() -> Value {
    let crd = serde_json::to_value(api::CodeSandbox::crd()).expect("it is plain data");
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// The properties in a schema that may be null, by their paths.
fn nullable(schema: &Value, path: &str, found: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().unwrap_or(&Map::new()) {
        let path = format!("{path}{name}");
        nullable(property, &format!("{path}."), found);
        nullable(&property["items"], &format!("{path}[]."), found);
        if property["nullable"] == true {
            found.push(path);
        }
    }
}

/// The server keeps a null where the schema allows it, and gives no default. Where the code does not take one, a single
/// such object fails every list of its namespace, for operator and front end.
#[test]
fn only_what_the_code_takes_as_absent_may_be_null() {
    let mut found = Vec::new();
    nullable(&spec(), "", &mut found);
    found.sort();
    let nested = [
        "env[].value",
        "env[].valueFrom",
        "gpu.memory",
        "gpu.optional",
        "gpu.product",
        "network.allow",
        "network.allow[].cidr",
        "network.allow[].ports[].endPort",
        "network.allow[].ports[].protocol",
        "network.egress",
        "network.ports",
        "network.ports[].from[].cidr",
        "network.ports[].protocol",
        "resources.cpu",
        "resources.ephemeralStorage",
        "resources.memory",
        "setup.auto",
        "setup.egress",
        "setup.files[].configMapKeyRef",
        "setup.files[].content",
        "setup.git",
        "setup.git.depth",
        "setup.git.directory",
        "setup.git.revision",
        "setup.git.secretRef",
        "setup.timeout",
        "workspace.retain",
        "workspace.storageClassName",
    ];
    let (nested_found, own): (Vec<_>, Vec<_>) =
        found.iter().map(String::as_str).partition(|path| path.contains('.'));
    assert_eq!(nested_found, nested);
    let fields = spec()["properties"].as_object().unwrap().clone();
    let all: Vec<_> = fields.keys().filter(|name| *name != "className").collect();
    assert_eq!(own, all);

    let nulls: Map<_, _> = own.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
    let read: CodeSandboxSpec = serde_json::from_value(nulls.into()).unwrap();
    assert_eq!(read, CodeSandboxSpec::default());
    let value = json!({"resources": {"cpu": null, "memory": null, "ephemeralStorage": null}, "network": {"egress": null}});
    assert!(serde_json::from_value::<CodeSandboxSpec>(value).is_ok());
    let git =
        json!({"url": "a", "depth": null, "directory": null, "revision": null, "secretRef": null});
    let files = json!([{"path": "a", "content": null, "configMapKeyRef": null}]);
    for git in [git, Value::Null] {
        let value = json!({"setup": {"auto": null, "egress": null, "timeout": null, "git": git, "files": files}});
        let read = serde_json::from_value::<CodeSandboxSpec>(value);
        assert!(read.is_ok(), "{read:?}");
    }
    let peer = json!({"cidr": null});
    let mut allow = peer.clone();
    allow["ports"] = json!([{"port": 1, "endPort": null, "protocol": null}]);
    let ports = json!([{"port": 1, "protocol": null, "from": [peer]}]);
    for network in
        [json!({"allow": null, "ports": null}), json!({"allow": [allow], "ports": ports})]
    {
        let read = serde_json::from_value::<CodeSandboxSpec>(json!({"network": network}));
        assert!(read.is_ok(), "{read:?}");
    }
    let value = json!({"workspace": {"size": "1Gi", "storageClassName": null, "retain": null}});
    assert!(serde_json::from_value::<CodeSandboxSpec>(value).is_ok());
    let value = json!({"gpu": {"count": 1, "product": null, "memory": null, "optional": null}});
    assert!(serde_json::from_value::<CodeSandboxSpec>(value).is_ok());
    let value = json!({"env": [{"name": "A", "value": null, "valueFrom": null}]});
    assert!(serde_json::from_value::<CodeSandboxSpec>(value).is_ok());
}

#[test]
fn whole_numbers_are_quantities_too() {
    let read: CodeSandboxSpec = serde_json::from_value(json!({"resources": {"cpu": 2}})).unwrap();
    assert_eq!(read.settings.resources.unwrap().cpu.unwrap().0, "2");
}

/// A field that is added is immutable, or else silently ignored when changed.
#[test]
fn every_field_but_ttl_and_suspend_is_in_the_rule_that_forbids_changes() {
    let (spec, free) = (spec(), ["ttl", "suspend"]);
    let rule = spec["x-kubernetes-validations"][0]["rule"].as_str().unwrap();
    for (name, property) in spec["properties"].as_object().unwrap() {
        let same = format!("self.{name} == oldSelf.{name}");
        assert_eq!(rule.contains(&same), !free.contains(&name.as_str()), "{name}");
        if !free.contains(&name.as_str()) && property.get("default").is_none() {
            // Given or taken away is a change, too.
            let both = format!(
                "(has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || {same}))"
            );
            assert!(rule.contains(&both), "{name}");
        }
    }
}

/// The schema of the conditions in a status.
fn conditions(crd: &CustomResourceDefinition) -> Value {
    let crd = serde_json::to_value(crd).expect("it is plain data");
    let status = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
    status["properties"]["conditions"].clone()
}

#[test]
fn conditions_are_kubernetes_own_in_one_sentence_each() {
    for crd in crds() {
        let list = conditions(&crd);
        assert_eq!(list["x-kubernetes-list-type"], "map");
        assert_eq!(list["x-kubernetes-list-map-keys"], json!(["type"]));
        let mut one = list["items"].clone();
        assert_eq!(
            one["required"],
            json!(["lastTransitionTime", "message", "reason", "status", "type"])
        );
        for (name, property) in one["properties"].as_object_mut().unwrap() {
            let said = property.as_object_mut().unwrap().remove("description").unwrap();
            let said = said.as_str().unwrap();
            assert!(said.ends_with('.') && !said.contains(". "), "{name}: {said}");
        }
        let expected = json!({"lastTransitionTime": {"type": "string", "format": "date-time"}, "message": {"type": "string"},
            "observedGeneration": {"type": "integer", "format": "int64"}, "reason": {"type": "string"},
            "status": {"type": "string"}, "type": {"type": "string"}});
        assert_eq!(one["properties"], expected);
    }
}

/// A null in a template would hide all of them.
#[test]
fn a_template_takes_nulls_as_absent() {
    let crd = serde_json::to_value(api::CodeSandboxTemplate::crd()).expect("it is plain data");
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut found = Vec::new();
    nullable(schema, "", &mut found);
    for path in &found {
        let value =
            path.split('.').rev().fold(Value::Null, |value, name| match name.strip_suffix("[]") {
                Some(name) => json!({name: [value]}),
                None => json!({name: value}),
            });
        // What an item of a list, a workspace, a GPU or a repository needs besides is not said here.
        let needs_more = ["defaults.workspace.", "defaults.gpu.", "defaults.setup.git."];
        if !path.contains("[]") && !needs_more.iter().any(|part| path.starts_with(part)) {
            let read = serde_json::from_value::<CodeSandboxTemplateSpec>(value);
            assert!(read.is_ok(), "{path}: {read:?}");
        }
    }
    assert!(found.contains(&"podPatch".to_owned()) && found.contains(&"allow.max.cpu".to_owned()));
}

/// A pool is scaled, and nothing else of it changes under the pods that are there.
#[test]
fn of_a_pool_only_the_replicas_change_and_none_of_it_may_be_null() {
    let crd = serde_json::to_value(api::CodeSandboxPool::crd()).expect("it is plain data");
    let version = &crd["spec"]["versions"][0];
    let schema = &version["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let rule = schema["x-kubernetes-validations"][0]["rule"].as_str().unwrap();
    for name in schema["properties"].as_object().unwrap().keys() {
        assert_eq!(rule.contains(&format!("self.{name} == oldSelf.{name}")), name != "replicas");
    }
    let mut found = Vec::new();
    nullable(schema, "", &mut found);
    assert_eq!(found, Vec::<String>::new());
    let scale = json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector"});
    assert_eq!(version["subresources"]["scale"], scale);
    let value = json!({"templateRef": {"name": "python"}});
    let read: CodeSandboxPoolSpec = serde_json::from_value(value).unwrap();
    assert_eq!((&*read.class_name, read.replicas), ("codesandbox", 1));
}

/// In a NetworkPolicy, no peers are all peers, and no labels are all pods.
#[test]
fn nothing_of_the_network_is_opened_by_what_is_left_out() {
    let network = spec()["properties"]["network"]["properties"].clone();
    let port = &network["ports"]["items"];
    assert_eq!(port["required"], json!(["from", "port"]));
    assert_eq!(port["properties"]["from"]["minItems"], 1);
    for peer in [&network["allow"]["items"], &port["properties"]["from"]["items"]] {
        assert!(peer["x-kubernetes-validations"].to_string().contains("has(self.cidr) != "));
        for selector in ["podSelector", "namespaceSelector"] {
            let selector = &peer["properties"][selector];
            assert_eq!(selector["required"], json!(["matchLabels"]));
            assert_eq!(selector["properties"]["matchLabels"]["minProperties"], 1);
        }
    }
}

/// The API server refuses a CRD whose rules might look at too much: each counts for as often as the lists about it are long.
#[test]
fn every_list_of_a_spec_has_a_bound() {
    fn unbounded(schema: &Value, path: &str, found: &mut Vec<String>) {
        if schema["type"] == "array" && schema["maxItems"].is_null() {
            found.push(path.into());
        }
        for (name, property) in schema["properties"].as_object().unwrap_or(&Map::new()) {
            unbounded(property, &format!("{path}.{name}"), found);
        }
        if schema["items"].is_object() {
            unbounded(&schema["items"], &format!("{path}[]"), found);
        }
    }
    for crd in crds() {
        let crd = serde_json::to_value(crd).expect("it is plain data");
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let mut found = Vec::new();
        unbounded(schema, "spec", &mut found);
        assert_eq!(found, Vec::<String>::new());
    }
}
