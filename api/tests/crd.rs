//! The committed CRD is the one the code describes.

use api::CodeSandboxSpec;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds/codesandboxes.yaml");

/// Client-side `kubectl apply` keeps the whole object in an annotation of at most 256 KiB;
/// a CRD a person can read stays far below.
const MAX_BYTES: usize = 20 * 1024;

fn generated() -> String {
    let crd = api::CodeSandbox::crd();
    format!(
        "# Generated from api/ by `make crds`.\n{}",
        serde_yaml::to_string(&crd).expect("a CRD is YAML")
    )
}

#[test]
fn the_committed_crd_is_the_generated_one() {
    let generated = generated();
    if std::env::var_os("UPDATE_CRDS").is_some() {
        std::fs::write(PATH, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(committed == generated, "crds/codesandboxes.yaml is stale: run `make crds`");
}

#[test]
fn the_crd_is_small() {
    let bytes = generated().len();
    assert!(bytes <= MAX_BYTES, "{bytes} bytes, at most {MAX_BYTES}");
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
    let optional = ["env", "env[].value", "env[].valueFrom", "gpu", "idleTimeout", "image"];
    let more = ["imagePullPolicy", "imagePullSecrets", "runtimeClassName"];
    assert_eq!(found, [&optional[..], &more[..]].concat());

    let nulls = json!({"env": null, "gpu": null, "idleTimeout": null, "image": null,
        "imagePullPolicy": null, "imagePullSecrets": null, "runtimeClassName": null});
    let read: CodeSandboxSpec = serde_json::from_value(nulls).unwrap();
    assert_eq!(read, CodeSandboxSpec::default());
    let value = json!({"env": [{"name": "A", "value": null, "valueFrom": null}]});
    assert!(serde_json::from_value::<CodeSandboxSpec>(value).is_ok());
}

#[test]
fn whole_numbers_are_quantities_too() {
    let read: CodeSandboxSpec = serde_json::from_value(json!({"resources": {"cpu": 2}})).unwrap();
    assert_eq!(read.resources.cpu.0, "2");
}

/// A field that is added is immutable, or else silently ignored when changed.
#[test]
fn every_field_but_the_ttl_is_in_the_rule_that_forbids_changes() {
    let spec = spec();
    let rule = spec["x-kubernetes-validations"][0]["rule"].as_str().unwrap();
    for (name, property) in spec["properties"].as_object().unwrap() {
        let same = format!("self.{name} == oldSelf.{name}");
        assert_eq!(rule.contains(&same), name != "ttl", "{name}");
        if property.get("default").is_none() {
            // Given or taken away is a change, too.
            let both = format!(
                "(has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || {same}))"
            );
            assert!(rule.contains(&both), "{name}");
        }
    }
}
