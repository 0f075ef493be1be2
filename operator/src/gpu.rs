//! Whether a sandbox goes on without the GPUs that it can do without: decided here and nowhere else.
//!
//! The operator sees no nodes. Whether one has such GPUs free the scheduler knows, and says of a pod that asks for them.

use api::{CodeSandbox, Gpu, condition, reason};
use k8s_openapi::api::core::v1::Pod;

use crate::status::{Verdict, pod_condition, words};

/// How the scheduler says that a node is not one of those that a pod asks for, and how it begins what one has too few of.
const OTHER_NODE: &str = "didn't match Pod's node affinity";
const TOO_FEW: &str = "Insufficient ";
/// How it says that a node has too few of a resource that is allocated dynamically, without its name. But for what a
/// trusted template adds, only `spec.gpu` asks for such.
const NO_CLAIM: &str = "cannot allocate all claims";

/// Why a sandbox's pod waits for GPUs that the sandbox can do without, in the scheduler's words, where that is what it waits for.
pub(crate) fn forgone(sandbox: &CodeSandbox, pod: &Pod) -> Option<String> {
    let gpu = sandbox.effective().gpu.filter(|gpu| gpu.optional == Some(true))?;
    // For this one others are being ended, and then it has a node.
    if pod.status.as_ref()?.nominated_node_name.is_some() {
        return None;
    }
    let scheduled = pod_condition(pod, condition::POD_SCHEDULED)?;
    let unschedulable =
        scheduled.status == "False" && scheduled.reason.as_deref() == Some(reason::UNSCHEDULABLE);
    let said = scheduled.message.as_deref().filter(|_| unschedulable)?;
    is_meant(&gpu, said).then(|| words(said))
}

/// Whether the scheduler speaks of these GPUs. Where something else is missing besides, there still is no GPU to be had.
fn is_meant(gpu: &Gpu, said: &str) -> bool {
    let missing = said.split(TOO_FEW).skip(1).filter_map(|rest| rest.split([',', ' ']).next());
    let mut missing = missing.map(|name| name.trim_end_matches('.'));
    let of_a_kind = gpu.product.is_some() || gpu.memory.is_some();
    missing.any(|name| name == gpu.resource)
        || said.contains(NO_CLAIM)
        || of_a_kind && said.contains(OTHER_NODE)
}

/// Ready's verdict on a sandbox that goes on without.
pub(crate) fn goes_on(said: &str) -> Verdict {
    let said = format!(
        "no node has the GPU of spec.gpu free, which is optional, so the sandbox is made without: {said}"
    );
    Verdict::no(reason::RUNS_WITHOUT_GPU, said)
}

/// Ready's verdict on a pod, and that it has no GPU where its sandbox does without.
pub(crate) fn told(sandbox: &CodeSandbox, ready: Verdict) -> Verdict {
    if ready.status != "True" || !sandbox.is_without_gpu() {
        return ready;
    }
    let message = format!(
        "{}, without a GPU: no node had the one of spec.gpu free when it was made; it asks again when it is suspended and resumed, or made anew",
        ready.message
    );
    Verdict { message, ..ready }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{pod_with, sandbox};

    const PREEMPTION: &str =
        "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.";

    fn asking(gpu: Value) -> CodeSandbox {
        let mut sandbox = sandbox();
        sandbox.spec.settings.gpu = serde_json::from_value(gpu).unwrap();
        sandbox
    }

    fn waiting(said: &str) -> Value {
        json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": said}]})
    }

    #[test]
    fn a_gpu_is_forgone_where_it_is_what_the_scheduler_misses() {
        let any = json!({"count": 1, "optional": true});
        let product = json!({"count": 1, "optional": true, "product": "H100"});
        let memory = json!({"count": 1, "optional": true, "memory": "40Gi"});
        let elsewhere =
            "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector";
        for (gpu, said, forgone) in [
            (&any, "0/3 nodes are available: 3 Insufficient nvidia.com/gpu", true),
            (
                &any,
                "0/3 nodes are available: 1 Insufficient cpu, 2 Insufficient nvidia.com/gpu",
                true,
            ),
            (
                &any,
                "0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 2 Insufficient cpu",
                true,
            ),
            (&any, "0/3 nodes are available: 3 cannot allocate all claims", true),
            (&any, "0/3 nodes are available: 3 Insufficient cpu", false),
            (&any, "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.shared", false),
            (&any, "0/3 nodes are available: 3 Insufficient amd.com/gpu", false),
            (&any, "no nodes available to schedule pods", false),
            (&any, elsewhere, false),
            (&product, elsewhere, true),
            (&memory, elsewhere, true),
            (
                &product,
                "0/3 nodes are available: 3 node(s) had volume node affinity conflict",
                false,
            ),
        ] {
            for said in [said.to_owned(), format!("{said}."), format!("{said}. {PREEMPTION}")] {
                let told = super::forgone(&asking(gpu.clone()), &pod_with(&waiting(&said)));
                assert_eq!(told.is_some(), forgone, "{gpu}: {said}");
                assert!(told.is_none_or(|told| said.starts_with(&told)), "{said}");
            }
        }
    }

    #[test]
    fn what_is_not_optional_or_may_yet_be_had_is_waited_for() {
        let said = waiting("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.");
        let optional = asking(json!({"count": 1, "optional": true}));
        assert!(forgone(&optional, &pod_with(&said)).is_some());
        for gpu in [json!({"count": 1}), json!({"count": 1, "optional": false}), Value::Null] {
            assert_eq!(forgone(&asking(gpu), &pod_with(&said)), None);
        }
        let mut preempting = said.clone();
        preempting["nominatedNodeName"] = "node".into();
        let mut scheduled = said.clone();
        scheduled["conditions"][0]["status"] = "True".into();
        let mut gated = said;
        gated["conditions"][0]["reason"] = "SchedulingGated".into();
        for status in [preempting, scheduled, gated, json!({"phase": "Pending"})] {
            assert_eq!(forgone(&optional, &pod_with(&status)), None, "{status}");
        }
    }
}
