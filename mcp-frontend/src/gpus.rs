//! What is told of a sandbox's GPUs. That some were asked for and are not there is never passed over in silence.

use api::{CodeSandbox, reason};
use serde::Serialize;
use service::Error;
use wire::v1::GpusReply;

/// The resources whose devices the agent knows.
const NVIDIA: &str = "nvidia.com/";
/// Kubernetes has given the sandbox GPUs, and there are none in it.
const NONE: &str = "AgentReportsNoGPU";
/// There are fewer than were asked for.
const FEWER: &str = "AgentReportsFewerGPUs";
/// Nobody can tell.
const UNKNOWN: &str = "GPUsUnknown";

#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Gpus {
    asked_for: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<String>,
    devices: Vec<Device>,
    /// What is wrong, if something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// The same in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Device {
    name: String,
    uuid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_mib: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used_mib: Option<u64>,
}

/// The place of a sandbox among all that wait for such a GPU.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Queue {
    place: usize,
    waiting: usize,
}

impl From<service::Queue> for Queue {
    fn from(service::Queue { place, waiting }: service::Queue) -> Self {
        Self { place, waiting }
    }
}

impl Gpus {
    /// Of a sandbox that does without those it asked for; `None` where it does not.
    pub(crate) fn forgone(sandbox: &CodeSandbox) -> Option<Self> {
        let api::Gpu { count, resource, .. } =
            sandbox.asked().gpu.filter(|_| sandbox.is_without_gpu())?;
        let message = format!(
            "{count} of {resource} were asked for, which no node had free when the sandbox was made, and it can do without (spec.gpu.optional). It asks again when it is resumed, woken or made anew."
        );
        Some(Self {
            asked_for: count,
            driver: None,
            devices: Vec::new(),
            reason: Some(reason::RUNS_WITHOUT_GPU),
            message: Some(message),
        })
    }

    /// Of what was asked for and what the agent has seen; `None` where it has not answered in time.
    pub(crate) fn new(asked: &api::Gpu, seen: Option<Result<GpusReply, Error>>) -> Self {
        let api::Gpu { count, resource, .. } = asked;
        let (seen, unknown) = match seen {
            _ if !resource.starts_with(NVIDIA) => {
                (None, Some(format!("{resource}: of other GPUs than NVIDIA's nothing can be told")))
            }
            Some(Ok(seen)) => (Some(seen), None),
            Some(Err(error)) => (None, Some(error.to_string())),
            None => (None, Some("the sandbox did not answer in time. Try again.".into())),
        };
        let known = unknown.is_none();
        let GpusReply { driver, gpus } = seen.unwrap_or_default();
        let (reason, message) = match gpus.len() {
            _ if !known => (Some(UNKNOWN), unknown),
            0 => (
                Some(NONE),
                Some(format!(
                    "{count} of {resource} were asked for and accounted to this sandbox, and it has no GPU: neither device nodes nor an nvidia-smi that finds one. The node's device plugin or container runtime has handed nothing on; tell who runs the cluster."
                )),
            ),
            there if there < usize::from(*count) => (
                Some(FEWER),
                Some(format!(
                    "{count} of {resource} were asked for, and the sandbox has {there}; tell who runs the cluster."
                )),
            ),
            _ => (None, None),
        };
        let devices = gpus.into_iter().map(|gpu| {
            let mib = |bytes: u64| (gpu.memory_bytes > 0).then_some(bytes >> 20);
            Device {
                memory_mib: mib(gpu.memory_bytes),
                used_mib: mib(gpu.used_bytes),
                name: gpu.name,
                uuid: gpu.uuid,
            }
        });
        Self {
            asked_for: *count,
            driver: Some(driver).filter(|driver| !driver.is_empty()),
            devices: devices.collect(),
            reason,
            message,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use service::Code;
    use wire::v1::Gpu;

    use super::*;

    fn told(count: u8, seen: Option<Result<GpusReply, Error>>) -> Value {
        told_of("nvidia.com/gpu", count, seen)
    }

    fn told_of(resource: &str, count: u8, seen: Option<Result<GpusReply, Error>>) -> Value {
        let asked = api::Gpu::new(count, resource);
        serde_json::to_value(Gpus::new(&asked, seen)).unwrap()
    }

    fn seen(gpus: usize) -> GpusReply {
        let gpu = Gpu {
            uuid: "GPU-1".into(),
            name: "NVIDIA H200".into(),
            memory_bytes: 143_771 << 20,
            used_bytes: 0,
        };
        GpusReply { driver: "580.159.04".into(), gpus: vec![gpu; gpus] }
    }

    #[test]
    fn gpus_that_are_there_are_told_with_their_driver() {
        let device = json!({
            "name": "NVIDIA H200", "uuid": "GPU-1", "memory_mib": 143_771, "used_mib": 0
        });
        let all = json!({"asked_for": 1, "driver": "580.159.04", "devices": [device]});
        assert_eq!(told(1, Some(Ok(seen(1)))), all);
    }

    #[test]
    fn memory_that_is_not_known_is_not_told_as_none() {
        let reply = GpusReply { driver: String::new(), gpus: vec![Gpu::default()] };
        let device = json!({"name": "", "uuid": ""});
        assert_eq!(told(1, Some(Ok(reply))), json!({"asked_for": 1, "devices": [device]}));
    }

    #[test]
    fn a_gpu_that_was_asked_for_and_is_not_there_is_told() {
        let none = told(1, Some(Ok(GpusReply::default())));
        assert_eq!(none["reason"], "AgentReportsNoGPU");
        assert!(
            none["message"].as_str().unwrap().starts_with("1 of nvidia.com/gpu were asked for")
        );
        // The driver alone makes no GPU.
        assert_eq!(told(1, Some(Ok(seen(0))))["reason"], "AgentReportsNoGPU");
        assert_eq!(told(2, Some(Ok(seen(1))))["reason"], "AgentReportsFewerGPUs");
    }

    #[test]
    fn a_gpu_that_is_done_without_is_told_of_and_nobody_is_to_blame() {
        let mut sandbox = CodeSandbox::new("a", api::CodeSandboxSpec::default());
        let without = |without_gpu| {
            Some(api::CodeSandboxStatus { without_gpu, ..api::CodeSandboxStatus::default() })
        };
        sandbox.status = without(true);
        assert_eq!(Gpus::forgone(&sandbox), None, "none was asked for");
        sandbox.spec.settings.gpu = Some(api::Gpu::new(2, "amd.com/gpu"));
        let told = serde_json::to_value(Gpus::forgone(&sandbox)).unwrap();
        let message = "2 of amd.com/gpu were asked for, which no node had free when the sandbox was made, and it can do without (spec.gpu.optional). It asks again when it is resumed, woken or made anew.";
        let all =
            json!({"asked_for": 2, "devices": [], "reason": "RunsWithoutGPU", "message": message});
        assert_eq!(told, all);
        sandbox.status = without(false);
        assert_eq!(Gpus::forgone(&sandbox), None);
    }

    #[test]
    fn what_nobody_can_tell_is_not_told_as_no_gpu() {
        let old = Error { code: Code::SandboxTooOld, message: "it is old".into() };
        for (told, message) in [
            (told(1, Some(Err(old))), "SANDBOX_TOO_OLD: it is old"),
            (told(1, None), "the sandbox did not answer in time. Try again."),
            (
                told_of("amd.com/gpu", 1, Some(Ok(seen(0)))),
                "amd.com/gpu: of other GPUs than NVIDIA's nothing can be told",
            ),
        ] {
            let all =
                json!({"asked_for": 1, "devices": [], "reason": "GPUsUnknown", "message": message});
            assert_eq!(told, all);
        }
    }
}
