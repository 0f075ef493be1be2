//! Which of two views of an object is the older one.

use kube::{Resource, ResourceExt};

/// Whether one view of an object is older than another, by their resource versions.
///
/// These are decimal numbers that grow (KEP-5504, promised since Kubernetes 1.35 and so before, of CRDs too). Of others
/// none is the older.
pub fn is_older<K: Resource>(view: &K, than: &K) -> bool {
    let number = |object: &K| object.resource_version()?.parse::<u64>().ok();
    matches!((number(view), number(than)), (Some(view), Some(than)) if view < than)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn versions_are_numbers_and_what_is_none_is_never_older() {
        let pod = |version: &Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"resourceVersion": version}})).unwrap()
        };
        for (view, than, older) in [
            (json!("9"), json!("10"), true),
            (json!("10"), json!("9"), false),
            (json!("9"), json!("9"), false),
            (json!("a"), json!("10"), false),
            (json!(null), json!("10"), false),
            (json!("9"), json!(null), false),
        ] {
            assert_eq!(is_older(&pod(&view), &pod(&than)), older, "{view} {than}");
        }
    }
}
