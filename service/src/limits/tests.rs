use serde_json::{Value, json};

use super::*;

const GI: f64 = 1_073_741_824e3;

fn sandbox(spec: &Value, status: &Value) -> CodeSandbox {
    serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec, "status": status}))
        .unwrap()
}

fn condition(type_: &str, reason: &str) -> Value {
    json!({"type": type_, "status": "True", "reason": reason, "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

/// The templates of the namespace: one with amounts, one without.
fn templates() -> Vec<CodeSandboxTemplate> {
    let large =
        json!({"defaults": {"resources": {"cpu": "4", "memory": "16Gi"}, "gpu": {"count": 1}}});
    [("large", large), ("plain", json!({}))]
        .map(|(name, spec)| CodeSandboxTemplate::new(name, serde_json::from_value(spec).unwrap()))
        .into()
}

/// CPUs, GiB of memory and GPUs of a sandbox that has its place.
fn one(cpu: f64, memory: f64, gpus: u32) -> Taken {
    Taken { sandboxes: 1, cpu: cpu * 1e3, memory: memory * GI, gpus }
}

#[test]
fn a_sandbox_takes_what_it_says_or_its_template_or_the_defaults() {
    let bound = json!({"template": {"name": "large", "generation": 1,
        "spec": {"defaults": {"resources": {"cpu": "2"}, "gpu": {"count": 3}}}}});
    for (spec, status, default, expected) in [
        (json!({}), json!({}), None, one(1.0, 1.0, 0)),
        (
            json!({"resources": {"cpu": "500m", "memory": "2Gi"}, "gpu": {"count": 2}}),
            json!({}),
            None,
            one(0.5, 2.0, 2),
        ),
        (json!({"templateRef": {"name": "large"}}), json!({}), None, one(4.0, 16.0, 1)),
        (
            json!({"templateRef": {"name": "large"}, "resources": {"cpu": "1"}}),
            json!({}),
            None,
            one(1.0, 16.0, 1),
        ),
        (json!({"templateRef": {"name": "plain"}}), json!({}), Some("large"), one(1.0, 1.0, 0)),
        (json!({"templateRef": {"name": "missing"}}), json!({}), None, one(1.0, 1.0, 0)),
        (json!({}), json!({}), Some("large"), one(4.0, 16.0, 1)),
        // What it has taken down holds, whatever became of the template.
        (json!({"templateRef": {"name": "large"}}), bound, Some("plain"), one(2.0, 1.0, 3)),
        (json!({}), json!({"podUID": "p"}), Some("large"), one(1.0, 1.0, 0)),
        // It may have it with its next pod.
        (
            json!({"gpu": {"count": 1, "optional": true}}),
            json!({"withoutGPU": true}),
            None,
            one(1.0, 1.0, 1),
        ),
        // The API server refuses it.
        (json!({"resources": {"cpu": "-4", "memory": "nan"}}), json!({}), None, one(0.0, 0.0, 0)),
    ] {
        let sandbox = sandbox(&spec, &status);
        assert_eq!(taken(&sandbox, default, &templates()), expected, "{spec} {status}");
    }
}

#[test]
fn one_that_rests_takes_its_place_and_one_that_has_finished_not_even_that() {
    let place = Taken { sandboxes: 1, ..Taken::default() };
    let paused = json!({"conditions": [condition("Suspended", "Paused")]});
    for (spec, status, expected) in [
        (json!({"suspend": true}), json!({}), place),
        (json!({}), paused, place),
        (json!({}), json!({"conditions": [condition("Finished", "Completed")]}), Taken::default()),
        (json!({"suspend": false}), json!({}), one(1.0, 1.0, 0)),
    ] {
        let sandbox = sandbox(&spec, &status);
        assert_eq!(taken(&sandbox, None, &[]), expected, "{spec} {status}");
        assert_eq!(wanted(&sandbox, None, &[]), one(1.0, 1.0, 0), "{spec} {status}");
    }
}

#[test]
fn templates_are_to_be_known_where_more_than_the_number_is_bounded() {
    for (limits, bound) in [
        (Limits { sandboxes: Some(1), ..Limits::default() }, false),
        (Limits { cpu: Some(1.0), ..Limits::default() }, true),
        (Limits { memory: Some(1.0), ..Limits::default() }, true),
        (Limits { gpus: Some(0), ..Limits::default() }, true),
    ] {
        assert_eq!(limits.bound_amounts(), bound, "{limits:?}");
    }
}
