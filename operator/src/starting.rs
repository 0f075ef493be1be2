//! Whether a living pod takes calls, and if not, what keeps it: judged here and nowhere else.

use api::{names, reason};
use k8s_openapi::api::core::v1::{ContainerStateWaiting, ContainerStatus, Pod};

use crate::{
    pod,
    status::{Verdict, container, pod_condition, words},
    termination::{never_ran, restarted, terminated},
};

/// Ready's verdict on a pod that has neither ended nor is being deleted.
pub(crate) fn ready(pod: &Pod) -> Verdict {
    let Some(container) = container(pod) else { return unstarted(pod) };
    let state = container.state.as_ref();
    if let Some(waiting) = state.and_then(|state| state.waiting.as_ref()) {
        return stuck(pod, container, waiting);
    }
    let running = state.is_some_and(|state| state.running.is_some());
    if running && pod_condition(pod, "Ready").is_some_and(|ready| ready.status == "True") {
        return Verdict::yes(reason::POD_READY, "the sandbox takes calls");
    }
    underway(pod, container)
}

/// No container yet: it is the scheduler's turn, or the kubelet has not said anything.
fn unstarted(pod: &Pod) -> Verdict {
    match pod_condition(pod, "PodScheduled") {
        Some(scheduled) if scheduled.status == "True" => {
            Verdict::no(reason::STARTING, "the node is starting the sandbox")
        }
        Some(scheduled) if scheduled.reason.as_deref() == Some("Unschedulable") => {
            let said = words(scheduled.message.as_deref().unwrap_or("no node takes the pod"));
            let next = "it is tried again by itself; if it stays, ask for less in spec.resources and spec.gpu or have nodes added";
            Verdict::no(reason::UNSCHEDULABLE, format!("{said}; {next}"))
        }
        _ => Verdict::no(reason::CREATING, "the pod is waiting for a node"),
    }
}

/// The container waits for a reason the kubelet names.
fn stuck(pod: &Pod, container: &ContainerStatus, waiting: &ContainerStateWaiting) -> Verdict {
    let why = waiting.reason.as_deref().unwrap_or_default();
    let said = waiting.message.as_deref().unwrap_or(why);
    match why {
        "" | "ContainerCreating" | "PodInitializing" => underway(pod, container),
        "CrashLoopBackOff" => crashed(pod, container),
        _ if is_about_agent(pod, said) => agent_failed(said),
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable"
        | "SignatureValidationFailed" => Verdict::no(
            reason::IMAGE_PULL,
            format!(
                "{why}: {}; it is tried again by itself; check spec.image and spec.imagePullSecrets, and if they are wrong, create the sandbox anew",
                words(said)
            ),
        ),
        // CreateContainerConfigError, CreateContainerError, RunContainerError, and what later kubelets call it.
        _ => start_failed(&format!("{why}: {said}")),
    }
}

/// The kubelet waits before it starts the container again: either it never started, or it ended.
fn crashed(pod: &Pod, container: &ContainerStatus) -> Verdict {
    let Some(exit) = container.last_state.as_ref().and_then(terminated) else {
        return restarting(pod);
    };
    if !never_ran(exit) {
        return restarting(pod);
    }
    let said = exit.message.as_deref().or(exit.reason.as_deref()).unwrap_or_default();
    if is_about_agent(pod, said) { agent_failed(said) } else { start_failed(said) }
}

fn underway(pod: &Pod, container: &ContainerStatus) -> Verdict {
    let ended = container.state.as_ref().and_then(terminated).is_some();
    if ended || container.restart_count > 0 {
        return restarting(pod);
    }
    Verdict::no(reason::STARTING, "the node is starting the sandbox")
}

fn restarting(pod: &Pod) -> Verdict {
    let said = restarted(pod)
        .map_or_else(|| "the sandbox is being started again".into(), |end| end.message);
    Verdict::no(reason::RESTARTING, said)
}

fn start_failed(said: &str) -> Verdict {
    let next = "check spec.image, spec.env (do its Secrets exist?), spec.workingDir and spec.runtimeClassName; what cannot be mended outside is changed by creating the sandbox anew";
    Verdict::no(reason::START_FAILED, format!("{}; {next}", words(said)))
}

fn agent_failed(said: &str) -> Verdict {
    let next = "tell the administrator: the operator's --agent-image has to be one that the nodes can pull, and their container runtime has to mount and execute image volumes";
    Verdict::no(reason::AGENT_INJECTION_FAILED, format!("{}; {next}", words(said)))
}

/// Whether the kubelet speaks of the agent's volume, its image or its program, and not of the user's image.
fn is_about_agent(pod: &Pod, said: &str) -> bool {
    let mut volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let image = volumes
        .find(|volume| volume.name == pod::AGENT_VOLUME)
        .and_then(|volume| volume.image.as_ref()?.reference.as_deref())
        .unwrap_or(names::AGENT);
    let quoted = format!("\"{}\"", pod::AGENT_VOLUME);
    [names::AGENT_DIR, image, &quoted].iter().any(|mark| said.contains(mark))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{config, pod_with, sandbox};

    /// What Ready says of a status, on a pod that has our volumes.
    fn judge(status: &Value) -> Verdict {
        let mut pod = pod::pod(&sandbox(), &config(), 1);
        pod.status = pod_with(status).status;
        ready(&pod)
    }

    fn waiting(why: &str, message: &str) -> Value {
        json!({"phase": "Pending", "containerStatuses": [{"name": "sandbox", "image": "", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"waiting": {"reason": why, "message": message}}}]})
    }

    fn scheduled(status: &str, why: &str) -> Value {
        json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": status, "reason": why,
            "message": "0/3 nodes are available"}]})
    }

    fn container(state: &Value, last: &Value, restarts: i32) -> Value {
        json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [{
            "name": "sandbox", "image": "", "imageID": "", "ready": true, "restartCount": restarts,
            "state": state, "lastState": last}]})
    }

    #[test]
    fn what_keeps_a_pod_from_starting_has_its_reason_and_its_words() {
        for (status, expected, said) in [
            (json!({}), reason::CREATING, "waiting"),
            (scheduled("False", "SchedulingGated"), reason::CREATING, "waiting"),
            (scheduled("False", "Unschedulable"), reason::UNSCHEDULABLE, "0/3 nodes are available"),
            (scheduled("True", ""), reason::STARTING, "starting"),
            (waiting("ContainerCreating", ""), reason::STARTING, "starting"),
            (waiting("ErrImagePull", "not found"), reason::IMAGE_PULL, "ErrImagePull: not found"),
            (waiting("ImagePullBackOff", "Back-off"), reason::IMAGE_PULL, "Back-off"),
            (waiting("InvalidImageName", "couldn't parse"), reason::IMAGE_PULL, "parse"),
            (waiting("ErrImageNeverPull", "not present"), reason::IMAGE_PULL, "present"),
            (
                waiting("CreateContainerConfigError", "secret \"sandbox-x\" not found"),
                reason::START_FAILED,
                "sandbox-x",
            ),
            (
                waiting("RunContainerError", "no such runtime"),
                reason::START_FAILED,
                "no such runtime",
            ),
            (waiting("SomethingNew", "odd"), reason::START_FAILED, "SomethingNew: odd"),
        ] {
            let verdict = judge(&status);
            assert_eq!((verdict.status, verdict.reason.as_str()), ("False", expected), "{status}");
            assert!(verdict.message.contains(said), "{}", verdict.message);
        }
    }

    #[test]
    fn what_is_about_the_agent_is_not_blamed_on_the_users_image() {
        let image = config().agent_image;
        for status in [
            waiting("ErrImagePull", &format!("failed to pull {image}")),
            waiting("ImagePullBackOff", &format!("Back-off pulling image \"{image}\"")),
            waiting("CreateContainerError", "failed to mount volume \"agent\""),
            waiting("RunContainerError", "exec: \"/.codesandbox/bin/agent\": permission denied"),
            container(
                &json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}),
                &json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": "exec /.codesandbox/bin/agent: no such file"}}),
                1,
            ),
        ] {
            let verdict = judge(&status);
            assert_eq!(verdict.reason, reason::AGENT_INJECTION_FAILED, "{status}");
            assert!(verdict.message.contains("administrator"), "{}", verdict.message);
        }
    }

    #[test]
    fn a_container_that_never_started_did_not_restart() {
        let status = container(
            &json!({"waiting": {"reason": "CrashLoopBackOff"}}),
            &json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": "no such directory"}}),
            2,
        );
        assert_eq!(judge(&status).reason, reason::START_FAILED);
    }

    #[test]
    fn a_restart_in_place_is_not_ready_until_the_pod_is() {
        let oom = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        let backoff = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        for state in [&oom, &backoff, &json!({"waiting": {"reason": "ContainerCreating"}})] {
            let verdict = judge(&container(state, &oom, 1));
            assert_eq!(verdict.reason, reason::RESTARTING, "{state}");
            assert!(verdict.message.contains("memory"), "{}", verdict.message);
        }
        let mut back = container(&json!({"running": {}}), &oom, 1);
        assert_eq!(judge(&back).status, "True");
        back["conditions"][0]["status"] = "False".into();
        assert_eq!(judge(&back).reason, reason::RESTARTING);
    }
}
