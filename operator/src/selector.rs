//! Whether a label selector selects labels, as the API server and every network plugin judge it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// An empty selector, and one that is absent, selects everything.
pub(crate) fn matches(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    let Some(selector) = selector else { return true };
    let mut exact = selector.match_labels.iter().flatten();
    let mut expressions = selector.match_expressions.iter().flatten();
    exact.all(|(key, value)| labels.get(key) == Some(value))
        && expressions.all(|expression| meets(expression, labels))
}

fn meets(expression: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&expression.key);
    let listed = |value: &String| expression.values.iter().flatten().any(|one| one == value);
    match expression.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        // The API server refuses others. Should there be one some day, it may select the sandbox.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> BTreeMap<String, String> {
        [("app", "web"), ("tier", "front")].map(|(k, v)| (k.into(), v.into())).into()
    }

    fn exact(key: &str, value: &str) -> LabelSelector {
        LabelSelector {
            match_labels: Some([(key.into(), value.into())].into()),
            ..LabelSelector::default()
        }
    }

    fn expression(key: &str, operator: &str, values: &[&str]) -> LabelSelector {
        LabelSelector {
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: key.into(),
                operator: operator.into(),
                values: (!values.is_empty()).then(|| values.iter().map(|&v| v.into()).collect()),
            }]),
            ..LabelSelector::default()
        }
    }

    #[test]
    fn selects_as_kubernetes_does() {
        for (selector, expected) in [
            (LabelSelector::default(), true),
            (exact("app", "web"), true),
            (exact("app", "db"), false),
            (exact("none", "web"), false),
            (expression("app", "In", &["db", "web"]), true),
            (expression("app", "In", &["db"]), false),
            (expression("none", "In", &["db"]), false),
            (expression("app", "NotIn", &["db"]), true),
            (expression("app", "NotIn", &["web"]), false),
            (expression("none", "NotIn", &["web"]), true),
            (expression("app", "Exists", &[]), true),
            (expression("none", "Exists", &[]), false),
            (expression("app", "DoesNotExist", &[]), false),
            (expression("none", "DoesNotExist", &[]), true),
        ] {
            assert_eq!(matches(Some(&selector), &labels()), expected, "{selector:?}");
        }
        assert!(matches(None, &labels()), "absent");
    }

    #[test]
    fn every_requirement_has_to_hold() {
        let both = LabelSelector {
            match_labels: exact("app", "web").match_labels,
            match_expressions: expression("tier", "In", &["back"]).match_expressions,
        };
        assert!(!matches(Some(&both), &labels()));
    }
}
