//! The probe: a pod that runs the agent from an image volume, once, and what its end means.

use api::{CodeSandbox, names};
use k8s_openapi::{
    api::core::v1::{Container, ContainerState, Pod, PodSpec},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::ResourceExt;

use crate::{
    config::Config,
    injection::Way,
    pod,
    status::{pod_condition, words},
    template::patch,
    termination::{never_ran, terminated},
};

/// How long the probe may take on its node. Most take a second; a first pull of the agent's image takes longer.
const DEADLINE_SECONDS: i64 = 60;
/// What the probe may use. gVisor and Kata count some of their own to it.
const RESOURCES: [(&str, &str); 3] =
    [("cpu", "500m"), ("memory", "128Mi"), ("ephemeral-storage", "64Mi")];

/// What a probe shows about image volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The agent ran from one.
    Works,
    /// It could not, in the words of the node.
    Fails(String),
    /// Something else came in between, in these words.
    Unclear(String),
}

impl Verdict {
    /// The way into the pod of the sandbox that found out. The init container works wherever pods do.
    pub(crate) fn way(&self) -> Way {
        match self {
            Self::Works => Way::ImageVolume,
            Self::Fails(_) | Self::Unclear(_) => Way::InitContainer,
        }
    }
}

/// The probe for a sandbox: as much like its pod as can be, but with nothing in it but the agent. The deny policy selects
/// it, and it goes with the sandbox at the latest.
pub(crate) fn pod(sandbox: &CodeSandbox, config: &Config) -> Pod {
    let spec = PodSpec {
        active_deadline_seconds: Some(DEADLINE_SECONDS),
        containers: vec![container(config)],
        dns_config: Some(pod::no_dns()),
        dns_policy: Some("None".into()),
        restart_policy: Some("Never".into()),
        volumes: Some(vec![pod::agent::volume(Way::ImageVolume, config)]),
        ..pod::hardened(&sandbox.effective())
    };
    let metadata = pod::metadata(names::probe(&sandbox.name_any()), sandbox, config);
    patch::patched(Pod { metadata, spec: Some(spec), status: None }, sandbox)
}

fn container(config: &Config) -> Container {
    let resources = RESOURCES.map(|(name, amount)| (name.into(), Quantity(amount.into()))).into();
    Container {
        name: names::CONTAINER.into(),
        image: Some(config.agent_image.clone()),
        image_pull_policy: config.agent_image_pull_policy.map(|policy| policy.as_str().into()),
        command: Some(vec![names::AGENT.into(), "version".into()]),
        resources: Some(pod::requirements(resources, config)),
        security_context: Some(pod::restricted()),
        volume_mounts: Some(vec![pod::agent::mount()]),
        ..Container::default()
    }
}

/// Whether a pod of the probe's name is the sandbox's probe.
pub(crate) fn is_ours(pod: &Pod, sandbox: &CodeSandbox) -> bool {
    pod::is_owned(&pod.metadata, sandbox) && pod::is_marked(&pod.metadata, sandbox)
}

/// What a probe shows; nothing while it is under way.
pub(crate) fn judge(pod: &Pod) -> Option<Verdict> {
    if pod.metadata.deletion_timestamp.is_some() {
        return Some(Verdict::Unclear("it was deleted".into()));
    }
    let status = pod.status.as_ref()?;
    let state = status.container_statuses.iter().flatten().find_map(|one| one.state.as_ref());
    match status.phase.as_deref() {
        Some("Succeeded") => Some(Verdict::Works),
        Some("Failed") => Some(failed(status.reason.as_deref(), status.message.as_deref(), state)),
        _ => state.and_then(waits).or_else(|| unschedulable(pod)),
    }
}

/// A probe that ended otherwise than it should.
fn failed(reason: Option<&str>, message: Option<&str>, state: Option<&ContainerState>) -> Verdict {
    // The pod was stopped: DeadlineExceeded, Evicted, the node's shutdown.
    if let Some(reason) = reason {
        return Verdict::Unclear(said(reason, message));
    }
    let Some(exit) = state.and_then(terminated) else {
        return Verdict::Unclear(said("Failed", message));
    };
    let reason = exit.reason.as_deref().unwrap_or("Error");
    if never_ran(exit) {
        return Verdict::Fails(said(reason, exit.message.as_deref()));
    }
    let code = format!("exit code {}", exit.exit_code);
    if exit.signal.is_some() || exit.exit_code > 128 || reason == "OOMKilled" {
        return Verdict::Unclear(said(reason, Some(&code)));
    }
    Verdict::Fails(said(reason, Some(&code)))
}

/// A container the node cannot create or start, or whose image cannot be had.
fn waits(state: &ContainerState) -> Option<Verdict> {
    let waiting = state.waiting.as_ref()?;
    let why = waiting.reason.as_deref().unwrap_or_default();
    let said = said(why, waiting.message.as_deref());
    match why {
        "" | "ContainerCreating" | "PodInitializing" => None,
        // A node under load, which tries again.
        _ if BUSY.iter().any(|words| said.contains(words)) => None,
        "CreateContainerError" | "CreateContainerConfigError" | "RunContainerError" => {
            Some(Verdict::Fails(said))
        }
        // The image is the same for the init container, so this says nothing about volumes.
        _ => Some(Verdict::Unclear(said)),
    }
}

/// How a node says that it is too busy.
const BUSY: [&str; 3] = ["deadline exceeded", "is reserved for", "code = Unavailable"];

fn unschedulable(pod: &Pod) -> Option<Verdict> {
    let scheduled = pod_condition(pod, "PodScheduled")?;
    let reason = scheduled.reason.as_deref().filter(|reason| *reason == "Unschedulable")?;
    Some(Verdict::Unclear(said(reason, scheduled.message.as_deref())))
}

fn said(reason: &str, message: Option<&str>) -> String {
    message.map_or_else(|| reason.into(), |message| format!("{reason}: {}", words(message)))
}

#[cfg(test)]
mod tests;
