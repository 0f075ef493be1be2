use serde_json::{Value, json};

use super::*;
use crate::testing::{bound, config, observed, sandbox, template};

/// A sandbox made from template `a`, asking for this besides.
fn asking(settings: &Value) -> CodeSandbox {
    let mut sandbox = sandbox();
    sandbox.spec = serde_json::from_value(settings.clone()).unwrap();
    sandbox.spec.template_ref = Some(api::LocalObjectReference { name: "a".into() });
    sandbox
}

fn with(templates: Vec<CodeSandboxTemplate>) -> Observed {
    let templates = templates.into_iter().map(std::sync::Arc::new).collect();
    Observed { templates: Some(templates), ..observed(None, Vec::new()) }
}

fn barred(binding: Binding) -> (String, String) {
    match binding {
        Binding::Barred(verdict) => (verdict.reason, verdict.message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sandbox_is_bound_to_what_its_template_says_before_anything_is_made() {
    let spec = json!({"defaults": {"image": "a:1"}, "allow": {"images": ["b:*"]}});
    let observed = with(vec![template("b", &json!({})), template("a", &spec)]);
    let Binding::Bind(bound) = binding(&asking(&json!({"image": "b:2"})), &observed, &config())
    else {
        panic!("not bound");
    };
    let expected = BoundTemplate {
        name: "a".into(),
        generation: 1,
        outdated: false,
        spec: serde_json::from_value(spec).unwrap(),
    };
    assert_eq!(*bound, expected);
}

#[test]
fn a_template_that_is_not_there_is_named_beside_those_that_are() {
    let observed = with(vec![template("c", &json!({})), template("b", &json!({}))]);
    let (reason, message) = barred(binding(&asking(&json!({})), &observed, &config()));
    assert_eq!(reason, reason::TEMPLATE_NOT_FOUND);
    assert!(
        message.contains("no CodeSandboxTemplate a in this namespace (there is: b, c)"),
        "{message}"
    );
}

#[test]
fn templates_that_are_not_known_yet_bind_nothing_and_change_nothing() {
    let unknown = observed(None, Vec::new());
    let (reason, message) = barred(binding(&asking(&json!({})), &unknown, &config()));
    assert_eq!(reason, reason::TEMPLATE_NOT_FOUND);
    assert!(message.contains("not known yet"), "{message}");
    let bound = *bound(&json!({})).template.unwrap();
    assert_eq!(renewed(bound.clone(), &unknown), bound);
}

#[test]
fn only_a_template_that_is_accepted_as_it_is_now_is_used() {
    let mut changed = template("a", &json!({}));
    changed.metadata.generation = Some(2);
    let (reason, message) = barred(binding(&asking(&json!({})), &with(vec![changed]), &config()));
    assert_eq!(reason, reason::TEMPLATE_NOT_ACCEPTED);
    assert!(message.contains("has not looked at it yet"), "{message}");

    let mut refused = template("a", &json!({}));
    let condition = &mut refused.status.as_mut().unwrap().conditions[0];
    (condition.status, condition.message) = ("False".into(), "because".into());
    let (_, message) = barred(binding(&asking(&json!({})), &with(vec![refused]), &config()));
    assert!(message.contains("is not accepted: because"), "{message}");
}

#[test]
fn what_the_template_forbids_is_said_in_full() {
    let observed = with(vec![template("a", &json!({"allow": {"max": {"cpu": "1"}}}))]);
    let asked = json!({"image": "evil:1", "resources": {"cpu": "4"}});
    let (reason, message) = barred(binding(&asking(&asked), &observed, &config()));
    assert_eq!(reason, reason::TEMPLATE_FORBIDS);
    let words = "does not allow spec.image evil:1 (allowed: the template's own), nor spec.resources.cpu 4 (at most 1)";
    assert!(message.contains(words), "{message}");
}

#[test]
fn the_default_template_is_for_new_sandboxes_that_name_none() {
    let mut config = config();
    assert!(matches!(binding(&sandbox(), &with(Vec::new()), &config), Binding::Settled));
    config.default_template = Some("a".into());
    let observed = with(vec![template("a", &json!({}))]);
    assert!(matches!(binding(&sandbox(), &observed, &config), Binding::Bind(_)));

    // One that was made without stays without, and one that is bound stays bound.
    let mut older = sandbox();
    older.status = Some(api::CodeSandboxStatus { attempt: Some(2), ..Default::default() });
    assert!(matches!(binding(&older, &observed, &config), Binding::Settled));
    let mut newer = sandbox();
    newer.status = Some(bound(&json!({})));
    assert!(matches!(binding(&newer, &observed, &config), Binding::Settled));
}

#[test]
fn a_changed_template_is_told_of_and_changes_no_sandbox() {
    let old = json!({"defaults": {"image": "a:1", "ttl": "2h"}, "description": "old"});
    let mut sandbox = asking(&json!({}));
    sandbox.status = Some(bound(&old));
    let bound = *sandbox.status.clone().unwrap().template.unwrap();
    let words = json!({"defaults": {"image": "a:1", "ttl": "2h"}, "description": "new"});
    assert_eq!(renewed(bound.clone(), &with(vec![template("a", &words)])), bound);

    let mut several = old.clone();
    several["multiTenant"] = true.into();
    let changed = [json!({"defaults": {"image": "a:2"}}), several];
    let changed = changed.map(|spec| with(vec![template("a", &spec)]));
    for now in changed.into_iter().chain([with(Vec::new())]) {
        let renewed = renewed(bound.clone(), &now);
        assert_eq!(renewed, BoundTemplate { outdated: true, ..bound.clone() });
        sandbox.status.as_mut().unwrap().template = Some(Box::new(renewed));
        let effective = sandbox.effective();
        assert_eq!((effective.image.as_deref(), effective.ttl), (Some("a:1"), "2h".into()));
    }
}
