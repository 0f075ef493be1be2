//! The committed reference of each kind is the one its CRD and types describe.

use api::{CodeSandbox, CodeSandboxPool, CodeSandboxTemplate, TerminationReason};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use schemars::{Schema, schema_for};
use serde_json::{Value, json};

#[path = "reference/page.rs"]
mod page;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference");

/// Each kind, and of which fields the types say what every value means: a CRD's schema has no place for that.
fn kinds() -> Vec<(CustomResourceDefinition, Vec<(&'static str, Schema)>)> {
    let ends = ("status.lastTermination.reason", schema_for!(TerminationReason));
    vec![
        (CodeSandbox::crd(), vec![ends]),
        (CodeSandboxTemplate::crd(), vec![]),
        (CodeSandboxPool::crd(), vec![]),
    ]
}

#[test]
fn the_committed_reference_is_the_generated_one() {
    for (crd, meanings) in kinds() {
        let name = format!("{}.md", crd.spec.names.kind.to_lowercase());
        let (path, generated) = (format!("{FOLDER}/{name}"), page::page(&crd, &meanings));
        if std::env::var_os("UPDATE_CRDS").is_some() {
            std::fs::write(&path, &generated).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == generated, "docs/reference/{name} is stale: run `make crds`");
    }
}

/// A CRD with this schema of its spec.
fn crd(spec: &Value) -> CustomResourceDefinition {
    let mut crd = serde_json::to_value(CodeSandbox::crd()).expect("it is plain data");
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
        json!({"type": "object", "description": "A thing.", "properties": {"spec": spec}});
    serde_json::from_value(crd).expect("it still is a CRD")
}

/// The rows of the table of `spec`, without its head.
fn rows(spec: &Value) -> Vec<String> {
    let page = page::page(&crd(spec), &[]);
    page.lines().filter(|line| line.starts_with("| `")).map(String::from).collect()
}

#[test]
fn every_field_has_a_row_with_all_that_the_schema_says_of_it() {
    let rule = |message: &str| json!([{"rule": "self.why()", "message": message}]);
    let spec = json!({"type": "object", "required": ["size"], "properties": {
        "size": {"type": "integer", "format": "int32", "minimum": 1.0, "maximum": 16.0, "description": "How\nlarge."},
        "colour": {"type": "string", "enum": ["Red", "Blue"], "default": "Red"},
        "word": {"type": "string", "minLength": 1, "maxLength": 9, "pattern": "a|b", "x-kubernetes-validations": rule("no nonsense")},
        "amount": {"x-kubernetes-int-or-string": true},
        "list": {"type": "array", "maxItems": 2, "x-kubernetes-list-map-keys": ["name"], "items": {
            "type": "object", "required": ["name"], "x-kubernetes-validations": rule("either or"),
            "properties": {"name": {"type": "string"}},
        }},
        "words": {"type": "array", "items": {"type": "string", "maxLength": 3}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "patch": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "within": {"type": "object", "default": {"deep": 1}, "properties": {"deep": {"type": "boolean"}}},
    }});
    let expected = [
        "| `amount` | integer or string |  |  |  |",
        "| `colour` | string | `Red` | `Red`, `Blue` |  |",
        "| `labels` | map of string |  |  |  |",
        "| `list` | list of object, one per `name` |  | at most 2 items; each: either or |  |",
        "| `list[].name` | string | required |  |  |",
        "| `patch` | object of any fields |  |  |  |",
        "| `size` | integer (int32) | required | 1 to 16 | How large. |",
        r#"| `within` | object | `{"deep":1}` |  |  |"#,
        "| `within.deep` | boolean |  |  |  |",
        r"| `word` | string |  | 1 to 9 characters; `a\|b`; no nonsense |  |",
        "| `words` | list of string |  | each: at most 3 characters |  |",
    ];
    assert_eq!(rows(&spec), expected);
}

#[test]
fn rules_of_the_whole_are_said_above_the_table() {
    let rule = json!([{"rule": "self == oldSelf", "message": "nothing can be changed"}]);
    let spec = json!({"type": "object", "x-kubernetes-validations": rule, "properties": {}});
    let page = page::page(&crd(&spec), &[]);
    let expected = "# CodeSandbox\n\n`codesandbox.dev/v1alpha1`, short name `csb`. A thing.\n\n## spec\n\n* nothing can be changed\n";
    assert!(page.ends_with(expected), "{page}");
}
