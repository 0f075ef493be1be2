//! Which nodes have the GPUs that a sandbox asks for, by the labels that their vendors' programs give them.

use api::{Gpu, names, quantity};
use k8s_openapi::{
    api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod},
    apimachinery::pkg::api::resource::Quantity,
};

/// A MiB, in the thousandths that amounts are read in.
const MIB: f64 = 1_048_576e3;
/// More MiB than any GPU has, and a whole number for the scheduler.
const TOO_MANY: f64 = 1e12;

/// A pod that runs on nodes with such GPUs alone. That is asked for beside what its template asks for, whatever that is: where
/// both cannot be had the scheduler says so, and neither is dropped in silence.
pub(super) fn only_with(gpu: &Gpu, mut pod: Pod) -> Pod {
    let needed = needed(gpu);
    let Some(spec) = pod.spec.as_mut().filter(|_| !needed.is_empty()) else { return pod };
    let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    let required = &mut affinity.required_during_scheduling_ignored_during_execution;
    let terms = &mut required.get_or_insert_default().node_selector_terms;
    if terms.is_empty() {
        terms.push(NodeSelectorTerm { match_expressions: Some(needed), match_fields: None });
        return pod;
    }
    // A node has to fit one of them, so that each has to ask for it. One that is empty fits no node, and is to stay so.
    for term in terms.iter_mut().filter(|term| !is_empty(term)) {
        term.match_expressions.get_or_insert_default().extend(needed.iter().cloned());
    }
    pod
}

fn is_empty(term: &NodeSelectorTerm) -> bool {
    [&term.match_expressions, &term.match_fields]
        .into_iter()
        .all(|part| part.as_ref().is_none_or(Vec::is_empty))
}

/// What the labels of a node with such GPUs say.
fn needed(gpu: &Gpu) -> Vec<NodeSelectorRequirement> {
    let requirement = |key, operator: &str, value| NodeSelectorRequirement {
        key,
        operator: operator.into(),
        values: Some(vec![value]),
    };
    let product = gpu.product.clone();
    let product = product.map(|it| requirement(names::gpu_product(&gpu.resource), "In", it));
    let memory = gpu.memory.as_ref().zip(names::gpu_memory(&gpu.resource));
    let memory = memory.map(|(least, label)| requirement(label, "Gt", below(least)));
    product.into_iter().chain(memory).collect()
}

/// The most whole MiB that are not enough. An amount that cannot be read, which the schema refuses, no node has.
fn below(least: &Quantity) -> String {
    let mib = quantity::of(least).map_or(TOO_MANY, |least| (least / MIB).ceil().min(TOO_MANY));
    (mib - 1.0).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{
        injection::Way,
        pod::pod,
        testing::{bound, config, sandbox},
    };

    use super::*;

    fn gpu(value: Value) -> Gpu {
        serde_json::from_value(value).unwrap()
    }

    /// The affinity of the pod of a sandbox that asks for such GPUs, made from a template that patches its pods so.
    fn affinity(asked: Value, patch: &Value) -> Value {
        let mut sandbox = sandbox();
        sandbox.spec.settings.gpu = Some(gpu(asked));
        sandbox.status = Some(bound(&json!({"podPatch": {"spec": patch}})));
        let spec = pod(&sandbox, &config(), Way::ImageVolume, 1).spec.unwrap();
        serde_json::to_value(spec.affinity).unwrap()
    }

    fn required(terms: &Value) -> Value {
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}})
    }

    #[test]
    fn memory_is_asked_for_in_whole_mebibytes_and_never_for_less() {
        for (least, below) in [
            ("1Mi", "0"),
            ("40Gi", "40959"),
            ("80G", "76293"),
            ("80Gi", "81919"),
            ("1025Ki", "1"),
            ("1024Ki", "0"),
            ("1", "0"),
            ("1.5Gi", "1535"),
            ("9999999999Ti", "999999999999"),
            ("much", "999999999999"),
        ] {
            assert_eq!(super::below(&Quantity(least.into())), below, "{least}");
        }
    }

    #[test]
    fn a_gpu_of_a_kind_is_asked_for_by_the_labels_of_its_vendor() {
        let product = json!({"key": "nvidia.com/gpu.product", "operator": "In", "values": ["NVIDIA-H100-80GB-HBM3"]});
        let memory = json!({"key": "nvidia.com/gpu.memory", "operator": "Gt", "values": ["40959"]});
        let h100 = json!({"count": 1, "product": "NVIDIA-H100-80GB-HBM3", "memory": "40Gi"});
        for (asked, needed) in [
            (json!({"count": 1}), json!([])),
            (h100, json!([product, memory])),
            (json!({"count": 1, "memory": "40Gi"}), json!([memory])),
            (
                json!({"count": 1, "resource": "amd.com/gpu", "product": "AMD_Instinct_MI300X_OAM"}),
                json!([{"key": "amd.com/gpu.product-name", "operator": "In", "values": ["AMD_Instinct_MI300X_OAM"]}]),
            ),
        ] {
            assert_eq!(serde_json::to_value(super::needed(&gpu(asked))).unwrap(), needed);
        }
    }

    #[test]
    fn what_a_template_says_of_nodes_is_asked_for_besides() {
        let asked = || json!({"count": 1, "product": "A100"});
        let ours = json!({"key": "nvidia.com/gpu.product", "operator": "In", "values": ["A100"]});
        let zone = |zone: &str| json!({"key": "zone", "operator": "In", "values": [zone]});
        let none = json!({});
        let alone = required(&json!([{"matchExpressions": [ours]}]));
        assert_eq!(affinity(asked(), &none), alone);
        let another = json!({"nodeSelector": {"nvidia.com/gpu.product": "H100"}});
        assert_eq!(affinity(asked(), &another), alone, "the scheduler sees both");

        // Either zone will do, but not without the GPU; and where no node will do, none does.
        let either =
            json!([{"matchExpressions": [zone("a")]}, {"matchExpressions": [zone("b")]}, {}]);
        let patch = json!({"affinity": required(&either)});
        let both = json!([{"matchExpressions": [zone("a"), ours]}, {"matchExpressions": [zone("b"), ours]}, {}]);
        assert_eq!(affinity(asked(), &patch), required(&both));
        assert_eq!(affinity(json!({"count": 1}), &patch), required(&either));

        let by_name = |and: &Value| {
            required(
                &json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}], "matchExpressions": and}]),
            )
        };
        let patch = json!({"affinity": by_name(&json!([zone("a")]))});
        assert_eq!(affinity(asked(), &patch), by_name(&json!([zone("a"), ours])));
    }
}
