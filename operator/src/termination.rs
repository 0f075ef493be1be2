//! What ended a sandbox's pod or container: judged here and nowhere else, from what the kubelet and the node controllers say.

use api::{Termination, TerminationReason as Reason, names};
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodCondition,
};

use serde::Deserialize;

use crate::{
    pod,
    status::{container, last_words, pod_condition, words},
};

/// What the agent leaves as its container's termination message when nobody has used the sandbox for its idle timeout.
const IDLE: &str = r#"{"reason":"IdleTimeout"}"#;
/// And when the network was open for longer than nodes take to close it.
const NOT_ISOLATED: &str = r#"{"reason":"NotIsolated"}"#;

/// What happened to who used more memory than there was.
const NO_MEMORY: &str = "more memory was used than spec.resources.memory";

/// What to do about an open network.
pub(crate) const NOT_ENFORCED: &str = "the agent reached what the sandbox's network policy denies, so nothing is run in it; it is tried again by itself, so have the administrator install a network plugin that enforces NetworkPolicy, or name another address for the proof (chart value network.canary)";

/// How a pod ended that will not run again; `None` while it may.
pub(crate) fn ended(pod: &Pod) -> Option<Termination> {
    let status = pod.status.as_ref()?;
    let phase = status.phase.as_deref()?;
    if !matches!(phase, "Succeeded" | "Failed") {
        return None;
    }
    let exit = container(pod).and_then(|container| container.state.as_ref()).and_then(terminated);
    let reason = match status.reason.as_deref() {
        Some("DeadlineExceeded") => Reason::DeadlineExceeded,
        _ => match taken_away(pod) {
            Some(reason) => reason,
            None if exit.is_some_and(|exit| exit.reason.as_deref() == Some("OOMKilled")) => {
                Reason::OOMKilled
            }
            None if phase == "Succeeded" && exit.is_some_and(|exit| says(exit, IDLE)) => {
                Reason::IdleTimeout
            }
            None if phase == "Succeeded" => Reason::Completed,
            None => Reason::Unknown,
        },
    };
    Some(Termination {
        reason,
        exit_code: exit.map(|exit| exit.exit_code),
        message: message(reason, status.message.as_deref(), Some(pod), exit),
    })
}

/// What the agent says of a setup that failed.
#[derive(Deserialize)]
struct Failed {
    command: String,
    how: String,
    tail: String,
}

/// How a pod's setup failed, if it did: its node would try it again, which does not make it another. One that was ended from
/// outside leaves no word, and is to be tried again.
pub(crate) fn setup_failed(pod: &Pod) -> Option<Termination> {
    let exit = last_end(pod::setup::status_of(pod)?)?;
    let how = if exit.reason.as_deref() == Some("OOMKilled") {
        out_of_memory(pod)
    } else {
        let Failed { command, how, tail } = serde_json::from_str(exit.message.as_deref()?).ok()?;
        format!("`{}` {}, and said at last: {}", words(&command), words(&how), last_words(&tail))
    };
    Some(Termination {
        reason: Reason::SetupFailed,
        exit_code: Some(exit.exit_code),
        message: format!("spec.setup failed: {how}; correct it and create the sandbox anew"),
    })
}

/// How a container ended that was started, be it that it is to be started again.
pub(crate) fn last_end(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    ends(container).next().filter(|exit| !never_ran(exit))
}

/// The ends of a container that its status tells of, the last one first.
pub(crate) fn ends(container: &ContainerStatus) -> impl Iterator<Item = &ContainerStateTerminated> {
    let states = [&container.state, &container.last_state];
    states.into_iter().flatten().filter_map(terminated)
}

/// How the container of a living pod ended last, to be started again in place.
pub(crate) fn restarted(pod: &Pod) -> Option<Termination> {
    let exit = last_end(container(pod)?)?;
    let reason = match exit.reason.as_deref() {
        Some("OOMKilled") => Reason::OOMKilled,
        _ if says_open(exit) => Reason::NotIsolated,
        _ if exit.exit_code == 0 => Reason::Completed,
        _ => Reason::Unknown,
    };
    let message = match reason {
        Reason::OOMKilled => format!(
            "{}; the sandbox was started again, its files are kept and what ran is gone",
            out_of_memory(pod)
        ),
        Reason::NotIsolated => NOT_ENFORCED.into(),
        _ => format!(
            "the sandbox's container ended with exit code {} and was started again; its files are kept and what ran is gone",
            exit.exit_code
        ),
    };
    Some(Termination { reason, exit_code: Some(exit.exit_code), message })
}

/// What became of a pod that is gone or going, though its sandbox is not.
pub(crate) fn lost(pod: Option<&Pod>) -> Termination {
    let reason = pod.and_then(taken_away).unwrap_or(Reason::Killed);
    let kubelet = pod.and_then(|pod| pod.status.as_ref()?.message.as_deref());
    let message = message(reason, kubelet, pod, None);
    Termination { reason, exit_code: None, message }
}

/// Whether a sandbox that ends so has lost its pod, though nothing in it came to an end: another pod can go on for it.
pub(crate) fn is_loss(reason: Reason) -> bool {
    matches!(reason, Reason::Evicted | Reason::Rejected | Reason::NodeLost | Reason::Killed)
}

/// Why a pod was taken away, where the kubelet or a controller of the cluster says so.
fn taken_away(pod: &Pod) -> Option<Reason> {
    match pod.status.as_ref()?.reason.as_deref() {
        // Evicted: the kubelet ran out of something, or the sandbox's disk was full. Preempting: a critical pod came.
        Some("Evicted" | "Preempting") => Some(Reason::Evicted),
        // Terminated, NodeShutdown: the node was shut down in good order.
        Some("NodeLost" | "NodeShutdown" | "Shutdown" | "Terminated") => Some(Reason::NodeLost),
        Some(reason) if is_rejection(reason) => Some(Reason::Rejected),
        _ => disrupted(pod),
    }
}

/// Whether a kubelet gives this reason where it does not admit a pod that was scheduled to it, or not again after its own restart:
/// `OutOfcpu` or of any other resource, a device that its plugin does not have yet, a node that has been given other labels.
fn is_rejection(reason: &str) -> bool {
    matches!(reason, "UnexpectedAdmissionError" | "NodeAffinity" | "TopologyAffinityError")
        || reason.starts_with("OutOf")
}

/// Why a pod is being taken away, where its conditions say so.
fn disrupted(pod: &Pod) -> Option<Reason> {
    let target = pod_condition(pod, "DisruptionTarget").filter(|one| one.status == "True")?;
    match target {
        PodCondition { reason: Some(reason), .. } => match reason.as_str() {
            "DeletionByTaintManager" | "DeletionByPodGC" => Some(Reason::NodeLost),
            "PreemptionByScheduler" | "EvictionByEvictionAPI" | "TerminationByKubelet" => {
                Some(Reason::Evicted)
            }
            _ => None,
        },
        PodCondition { .. } => None,
    }
}

/// Whether the agent left this word. User code could as well, and then says it of its own sandbox alone.
fn says(exit: &ContainerStateTerminated, word: &str) -> bool {
    exit.message.as_deref() == Some(word)
}

/// Whether the agent left word of an open network, and ended as it then does.
pub(crate) fn says_open(exit: &ContainerStateTerminated) -> bool {
    exit.exit_code == 1 && says(exit, NOT_ISOLATED)
}

/// Whether the agent saw the network open when it ran last: then it looks again before it runs anything.
pub(crate) fn seen_open(container: &ContainerStatus) -> bool {
    ends(container).next().is_some_and(says_open)
}

/// Whether a container that "terminated" was in truth never started, which is another story than an end.
pub(crate) fn never_ran(exit: &ContainerStateTerminated) -> bool {
    matches!(exit.reason.as_deref(), Some("StartError" | "ContainerCannotRun"))
}

/// The end in a container's state.
pub(crate) fn terminated(state: &ContainerState) -> Option<&ContainerStateTerminated> {
    state.terminated.as_ref()
}

/// That a pod was out of memory, and how much it had. It has used all of that, or the kernel would not have ended it.
fn out_of_memory(pod: &Pod) -> String {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let limit = containers
        .filter(|one| one.name == names::CONTAINER)
        .find_map(|one| one.resources.as_ref()?.limits.as_ref()?.get("memory"));
    limit.map_or_else(|| NO_MEMORY.into(), |limit| format!("{NO_MEMORY} ({})", limit.0))
}

/// What happened and what to do next, which after a loss depends on what is left and whether another pod follows (`restart`). What the container
/// itself wrote is not repeated: it may be the user's data.
fn message(
    reason: Reason,
    kubelet: Option<&str>,
    pod: Option<&Pod>,
    exit: Option<&ContainerStateTerminated>,
) -> String {
    let said = kubelet.map(|text| format!(" ({})", words(text))).unwrap_or_default();
    match reason {
        Reason::Completed => "the sandbox ended by itself; create another one".into(),
        Reason::IdleTimeout => {
            "nobody used the sandbox for its spec.idleTimeout; create another one to go on, with a longer one where pauses are longer".into()
        }
        Reason::DeadlineExceeded => {
            "the administrator's maximum lifetime is over; create another sandbox to go on".into()
        }
        Reason::OOMKilled => {
            let said = pod.map_or_else(|| NO_MEMORY.into(), out_of_memory);
            format!("{said}; create a sandbox with more")
        }
        // Said where it is found out.
        Reason::SetupFailed => "spec.setup failed".into(),
        Reason::Evicted => format!("the pod was evicted{said}"),
        Reason::Rejected => format!("the node refused the pod{said}"),
        Reason::NodeLost => format!("the node went away{said}"),
        Reason::Killed => "the pod was deleted".into(),
        Reason::NotIsolated => format!("{NOT_ENFORCED}; create another sandbox then"),
        Reason::Unknown => match exit {
            Some(exit) => format!(
                "the sandbox ended with exit code {}{said}; create another one",
                exit.exit_code
            ),
            None => format!("the pod failed{said}; create another sandbox"),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::pod_with;

    fn exited(code: i32, reason: &str) -> Value {
        json!([{"name": "sandbox", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code, "reason": reason}}}])
    }

    fn said(message: &str) -> Value {
        let mut containers = exited(0, "Completed");
        containers[0]["state"]["terminated"]["message"] = message.into();
        containers
    }

    fn disruption(reason: &str) -> Value {
        json!([{"type": "DisruptionTarget", "status": "True", "reason": reason}])
    }

    #[test]
    fn every_end_has_its_reason() {
        for (status, reason, exit_code) in [
            (
                json!({"phase": "Succeeded", "containerStatuses": exited(0, "Completed")}),
                Reason::Completed,
                Some(0),
            ),
            (
                json!({"phase": "Succeeded", "containerStatuses": said("{\"reason\":\"IdleTimeout\"}")}),
                Reason::IdleTimeout,
                Some(0),
            ),
            (
                json!({"phase": "Succeeded", "containerStatuses": said("{\"reason\":\"Expired\"}")}),
                Reason::Completed,
                Some(0),
            ),
            (
                json!({"phase": "Failed", "containerStatuses": exited(3, "Error")}),
                Reason::Unknown,
                Some(3),
            ),
            (
                json!({"phase": "Failed", "containerStatuses": exited(137, "OOMKilled")}),
                Reason::OOMKilled,
                Some(137),
            ),
            (
                json!({"phase": "Failed", "reason": "DeadlineExceeded"}),
                Reason::DeadlineExceeded,
                None,
            ),
            (
                json!({"phase": "Failed", "reason": "Evicted", "message": "disk"}),
                Reason::Evicted,
                None,
            ),
            (json!({"phase": "Failed", "reason": "Terminated"}), Reason::NodeLost, None),
            (json!({"phase": "Failed", "reason": "NodeLost"}), Reason::NodeLost, None),
            (
                json!({"phase": "Failed", "conditions": disruption("DeletionByPodGC")}),
                Reason::NodeLost,
                None,
            ),
            (
                json!({"phase": "Failed", "conditions": disruption("TerminationByKubelet")}),
                Reason::Evicted,
                None,
            ),
            (
                json!({"phase": "Failed", "reason": "OutOfcpu", "message": "no cpu"}),
                Reason::Rejected,
                None,
            ),
            (json!({"phase": "Failed", "reason": "OutOfnvidia.com/gpu"}), Reason::Rejected, None),
            (
                json!({"phase": "Failed", "reason": "UnexpectedAdmissionError"}),
                Reason::Rejected,
                None,
            ),
            (json!({"phase": "Failed", "reason": "NodeAffinity"}), Reason::Rejected, None),
            (json!({"phase": "Failed", "reason": "TopologyAffinityError"}), Reason::Rejected, None),
            (json!({"phase": "Failed", "reason": "SysctlForbidden"}), Reason::Unknown, None),
        ] {
            let end = ended(&pod_with(&status)).unwrap();
            assert_eq!((end.reason, end.exit_code), (reason, exit_code), "{status}");
            // Of a loss it is for `restart` to say.
            let next = if is_loss(reason) { "" } else { "create" };
            assert!(end.message.contains(next), "{}", end.message);
        }
    }

    #[test]
    fn of_a_setup_that_failed_the_end_of_what_it_said_is_told() {
        let tail = format!("{}no such package", "Collecting x. ".repeat(100));
        let left = json!({"reason": "SetupFailed", "command": "pip install x", "how": "ended with exit code 1", "tail": tail});
        let pod = pod_with(
            &json!({"phase": "Pending", "initContainerStatuses": [{"name": "setup", "image": "", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 1, "message": left.to_string()}}}]}),
        );
        let said = setup_failed(&pod).unwrap().message;
        assert!(
            said.contains("and said at last: [cut] ")
                && said.contains("no such package; correct it"),
            "{said}"
        );
    }

    #[test]
    fn who_was_out_of_memory_is_told_how_much_there_was() {
        let limits = json!([{"name": "other", "resources": {"limits": {"memory": "9Gi"}}},
            {"name": "sandbox", "resources": {"limits": {"memory": "64Mi"}}}]);
        let failed = json!({"phase": "Failed", "containerStatuses": exited(137, "OOMKilled")});
        let mut pod = pod_with(&failed);
        let said = |pod: &Pod| ended(pod).unwrap().message;
        let bare = "more memory was used than spec.resources.memory; create a sandbox with more";
        assert_eq!(said(&pod), bare);
        pod.spec = serde_json::from_value(json!({"containers": limits})).unwrap();
        let full =
            "more memory was used than spec.resources.memory (64Mi); create a sandbox with more";
        assert_eq!(said(&pod), full);
        pod.status =
            pod_with(&json!({"phase": "Running", "containerStatuses": exited(137, "OOMKilled")}))
                .status;
        let again = restarted(&pod).unwrap().message;
        assert!(again.starts_with("more memory was used than spec.resources.memory (64Mi); the sandbox was started again"), "{again}");
    }

    #[test]
    fn a_pod_that_may_run_again_has_not_ended() {
        for phase in ["Pending", "Running", "Unknown"] {
            assert_eq!(ended(&pod_with(&json!({"phase": phase}))), None, "{phase}");
        }
        assert_eq!(ended(&Pod::default()), None);
    }

    #[test]
    fn the_kubelets_words_are_kept_and_the_containers_are_not() {
        let mut containers = exited(1, "Error");
        containers[0]["state"]["terminated"]["message"] = "secret".into();
        let status =
            json!({"phase": "Failed", "message": "node was low", "containerStatuses": containers});
        let message = ended(&pod_with(&status)).unwrap().message;
        assert!(message.contains("node was low") && !message.contains("secret"), "{message}");
    }

    #[test]
    fn a_restart_in_place_is_remembered_by_its_cause() {
        for (state, last, expected) in [
            (
                json!({"running": {}}),
                json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
                Some(Reason::OOMKilled),
            ),
            (
                json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
                json!({}),
                Some(Reason::OOMKilled),
            ),
            (
                json!({"waiting": {"reason": "CrashLoopBackOff"}}),
                json!({"terminated": {"exitCode": 2, "reason": "Error"}}),
                Some(Reason::Unknown),
            ),
            (
                json!({"waiting": {"reason": "CrashLoopBackOff"}}),
                json!({"terminated": {"exitCode": 128, "reason": "StartError"}}),
                None,
            ),
            (json!({"running": {}}), json!({}), None),
        ] {
            let status = json!({"phase": "Running", "containerStatuses": [{"name": "sandbox", "image": "", "imageID": "",
                "ready": false, "restartCount": 1, "state": state, "lastState": last}]});
            assert_eq!(restarted(&pod_with(&status)).map(|end| end.reason), expected, "{status}");
        }
    }

    #[test]
    fn a_lost_pod_was_killed_unless_the_cluster_says_otherwise() {
        assert_eq!(lost(None).reason, Reason::Killed);
        assert_eq!(lost(Some(&pod_with(&json!({"phase": "Running"})))).reason, Reason::Killed);
        for (cause, reason) in [
            ("DeletionByTaintManager", Reason::NodeLost),
            ("EvictionByEvictionAPI", Reason::Evicted),
            ("PreemptionByScheduler", Reason::Evicted),
            ("SomethingNew", Reason::Killed),
        ] {
            let pod = pod_with(&json!({"phase": "Running", "conditions": disruption(cause)}));
            assert_eq!(lost(Some(&pod)).reason, reason, "{cause}");
        }
        // One that was evicted and is then deleted was evicted all the same.
        let pod = pod_with(&json!({"phase": "Failed", "reason": "Evicted", "message": "disk"}));
        assert_eq!(lost(Some(&pod)), ended(&pod).unwrap());
    }
}
