//! Whether a living pod takes calls, and if not, what keeps it: judged here and nowhere else.

use api::{names, reason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, Pod,
};

use crate::{
    pod::{agent, setup},
    status::{Verdict, container, init_container, pod_condition, words},
    termination::{
        NOT_ENFORCED, ends, last_end, never_ran, restarted, says_open, seen_open, terminated,
    },
    time,
};

pub(crate) mod hindrance;

/// What is left of gVisor's answer when its kernel ends while it starts a container. The command it was to start is named
/// beside it, and has no part in that.
const KERNEL_ENDED: &str = "StartSubcontainer\" failed: EOF";
/// How long an agent runs at most that does not see its network closed, with something to spare: ten seconds, and its end.
const PROOF: SignedDuration = SignedDuration::from_secs(15);

/// Ready's verdict on a pod that has neither ended nor is being deleted.
pub(crate) fn ready(pod: &Pod, now: Timestamp) -> Verdict {
    if proven_at(pod).is_some_and(|proven| now < proven) {
        return Verdict::no(reason::NOT_ISOLATED, NOT_ENFORCED);
    }
    if let Some(verdict) = uninstalled(pod) {
        return verdict;
    }
    if let Some(verdict) = setting_up(pod) {
        return verdict;
    }
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

/// When a pod whose agent saw the network open when it ran last has proved the contrary, by running on: until then nothing
/// runs in it. None of other pods; the end of time where its container is not running at all.
pub(crate) fn proven_at(pod: &Pod) -> Option<Timestamp> {
    let state = container(pod).filter(|container| seen_open(container))?.state.as_ref();
    let waiting = state.and_then(|state| state.waiting.as_ref()?.reason.as_deref());
    if !matches!(waiting, None | Some("" | "ContainerCreating" | "CrashLoopBackOff")) {
        // By now something else keeps it.
        return None;
    }
    let started = state.and_then(|state| state.running.as_ref()?.started_at.as_ref());
    Some(started.map_or(Timestamp::MAX, |started| time::later(started.0, PROOF)))
}

/// What keeps the init container from having installed the agent, where a pod has one that has not. Nothing of the
/// user's is in it, so whatever is wrong with it is wrong with the agent's image or the node.
fn uninstalled(pod: &Pod) -> Option<Verdict> {
    let installer = init_container(pod, names::INSTALL_CONTAINER)?;
    if ends(installer).any(|end| end.exit_code == 0) {
        return None;
    }
    let waiting = installer.state.as_ref().and_then(|state| state.waiting.as_ref());
    let why = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default();
    if matches!(why, "" | "ContainerCreating" | "PodInitializing" | "CrashLoopBackOff") {
        return Some(
            ends(installer)
                .next()
                .map_or_else(being_started, |end| agent_failed(pod, &words_of(end))),
        );
    }
    let message = waiting.and_then(|waiting| waiting.message.as_deref()).unwrap_or_default();
    Some(agent_failed(pod, &format!("{why}: {message}")))
}

/// How far the setup is, where a pod has one that has not ended.
fn setting_up(pod: &Pod) -> Option<Verdict> {
    let setup = setup::status_of(pod).filter(|_| !setup::is_over(pod))?;
    let state = setup.state.as_ref();
    if state.is_some_and(|state| state.running.is_some()) {
        return Some(Verdict::no(
            reason::SETTING_UP,
            "spec.setup goes on; the sandbox takes calls when it has ended",
        ));
    }
    match last_end(setup) {
        Some(exit) if says_open(exit) => {
            return Some(Verdict::no(reason::NOT_ISOLATED, NOT_ENFORCED));
        }
        Some(exit) => {
            let said = format!(
                "spec.setup was ended with exit code {} and is started again",
                exit.exit_code
            );
            return Some(Verdict::no(reason::RESTARTING, said));
        }
        None => {}
    }
    let waiting = state.and_then(|state| state.waiting.as_ref());
    Some(waiting.map_or_else(being_started, |waiting| stuck(pod, setup, waiting)))
}

/// How the init container ended: in its own words or the kubelet's, which it leaves in the message.
fn words_of(end: &ContainerStateTerminated) -> String {
    let why = end.reason.as_deref().unwrap_or("Error");
    let said = end.message.as_deref().unwrap_or_default();
    format!("{why}, exit code {}: {said}", end.exit_code)
}

/// The node is at it. What keeps it from making the pod's sandbox at all it says in events alone ([`hindrance`]).
fn being_started() -> Verdict {
    Verdict::no(reason::STARTING, "the node is starting the sandbox")
}

/// No container yet: it is the scheduler's turn, or the kubelet has not said anything.
fn unstarted(pod: &Pod) -> Verdict {
    match pod_condition(pod, "PodScheduled") {
        Some(scheduled) if scheduled.status == "True" => being_started(),
        Some(scheduled) if scheduled.reason.as_deref() == Some("Unschedulable") => {
            let said = words(scheduled.message.as_deref().unwrap_or("no node takes the pod"));
            let next = "it is tried again by itself; if it stays, ask for less in spec.resources and spec.gpu or have nodes added";
            Verdict::no(reason::UNSCHEDULABLE, format!("{said}; {next}"))
        }
        Some(scheduled) if scheduled.reason.as_deref() == Some(reason::SCHEDULING_GATED) => {
            let gates = pod.spec.iter().flat_map(|spec| spec.scheduling_gates.iter().flatten());
            let gates: Vec<_> = gates.map(|gate| gate.name.as_str()).collect();
            let said = format!(
                "the pod is not to be scheduled before somebody has taken off its gates ({}); wait for whoever admits pods, such as Kueue",
                gates.join(", ")
            );
            Verdict::no(reason::SCHEDULING_GATED, said)
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
        _ if said.contains(KERNEL_ENDED) => kernel_ended(said),
        _ if agent::is_meant(pod, said) => agent_failed(pod, said),
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
    match container.last_state.as_ref().and_then(terminated) {
        Some(exit) if never_ran(exit) => unstartable(pod, exit),
        _ => restarting(pod),
    }
}

/// The container never started, in the words of the node.
fn unstartable(pod: &Pod, exit: &ContainerStateTerminated) -> Verdict {
    let said = exit.message.as_deref().or(exit.reason.as_deref()).unwrap_or_default();
    if said.contains(KERNEL_ENDED) {
        return kernel_ended(said);
    }
    if agent::is_meant(pod, said) { agent_failed(pod, said) } else { start_failed(said) }
}

fn underway(pod: &Pod, container: &ContainerStatus) -> Verdict {
    match container.state.as_ref().and_then(terminated) {
        // In between two attempts, of which the next is told of as crashed.
        Some(exit) if never_ran(exit) => unstartable(pod, exit),
        None if container.restart_count == 0 => being_started(),
        _ => restarting(pod),
    }
}

fn restarting(pod: &Pod) -> Verdict {
    let said = restarted(pod)
        .map_or_else(|| "the sandbox is being started again".into(), |end| end.message);
    Verdict::no(reason::RESTARTING, said)
}

fn start_failed(said: &str) -> Verdict {
    let next = "check spec.image, spec.env and spec.setup (do their Secrets exist?), spec.workingDir and spec.runtimeClassName; what cannot be mended outside is changed by creating the sandbox anew";
    Verdict::no(reason::START_FAILED, format!("{}; {next}", words(said)))
}

fn kernel_ended(said: &str) -> Verdict {
    let next = "gVisor itself has ended, as it does where a GPU is handed to a RuntimeClass whose configuration has no nvproxy: use one that has, or tell the administrator; it is tried again by itself";
    Verdict::no(reason::START_FAILED, format!("{}; {next}", words(said)))
}

/// A pod keeps the way in that it was made with, so that what is found out or mended since helps the next one only.
fn agent_failed(pod: &Pod, said: &str) -> Verdict {
    let next = if agent::has_image_volume(pod) {
        "create the sandbox anew: with --agent-injection=Auto, the default, the next one of this runtime finds out first whether image volumes work; if it fails again, tell the administrator: the nodes have to be able to pull the operator's --agent-image, for their processors, and with --agent-injection=ImageVolume to mount and execute image volumes"
    } else {
        "tell the administrator: the nodes have to be able to pull and run the operator's --agent-image, for their processors; where that is changed, create the sandbox anew"
    };
    Verdict::no(reason::AGENT_INJECTION_FAILED, format!("{}; {next}", words(said)))
}

#[cfg(test)]
mod tests;
