//! The container that does what a sandbox is to be set up with, and what is known of how far it is.

use api::{CodeSandbox, Effective, Setup, names};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use serde_json::json;

use super::{env, requirements, volumes};
use crate::{config::Config, network::internet, status, termination::ends};

/// How long a setup may take that says nothing of it.
const TIMEOUT: std::time::Duration = std::time::Duration::from_mins(5);
/// The sandbox's resolvers where its setup has others: none, so that names fail at once.
const NO_RESOLVERS: &str = "nameserver 127.0.0.1\n";

/// The container, before the sandbox's own and with all that it has but GPUs, which another pod's would wait for.
pub(super) fn container(effective: &Effective, setup: &Setup, config: &Config) -> Container {
    let mut container = super::container(effective, config);
    let kept = internet::kept_without(effective, config);
    let kept = (effective.setup_opens() && !kept.is_empty()).then(|| json!(kept).to_string());
    let kept = kept.map(|kept| env::value(names::SETUP_KEPT_ENV, &kept));
    let plan = env::value(names::SETUP_ENV, &plan(effective, setup));
    container.env.get_or_insert_default().extend([plan].into_iter().chain(kept));
    Container {
        name: names::SETUP_CONTAINER.into(),
        command: Some(vec![names::AGENT.into(), "setup".into()]),
        resources: Some(requirements(effective.resources(), config)),
        // The resolvers are the pod's.
        volume_mounts: Some(volumes::mounts(effective)),
        ..container
    }
}

/// What the agent is told.
fn plan(effective: &Effective, setup: &Setup) -> String {
    let timeout = setup.timeout.as_ref().map_or(TIMEOUT, api::Duration::as_std);
    let plan = json!({
        "commands": setup.commands,
        "auto": setup.auto == Some(true),
        "timeoutMs": timeout.as_millis(),
        "opens": effective.setup_opens(),
    });
    plan.to_string()
}

/// What the sandbox's container is to find in `/etc/resolv.conf`, where that is not the pod's, which is the setup's.
pub(super) fn resolv_conf(effective: &Effective) -> Option<&'static str> {
    effective.setup_opens().then_some(NO_RESOLVERS)
}

/// The status of a pod's setup, where it has one and that is known.
pub(crate) fn status_of(pod: &Pod) -> Option<&ContainerStatus> {
    status::init_container(pod, names::SETUP_CONTAINER)
}

/// Whether nothing of a pod's setup runs any more, and will not again. What a node says of it may be forgotten, that the
/// sandbox's own container has been started is not.
pub(crate) fn is_over(pod: &Pod) -> bool {
    let has_one = pod.spec.as_ref().is_some_and(|spec| {
        spec.init_containers.iter().flatten().any(|one| one.name == names::SETUP_CONTAINER)
    });
    let done = |status: &ContainerStatus| ends(status).any(|end| end.exit_code == 0);
    let started = |status: &ContainerStatus| {
        let running = status.state.as_ref().is_some_and(|state| state.running.is_some());
        running || ends(status).next().is_some()
    };
    !has_one || status_of(pod).is_some_and(done) || status::container(pod).is_some_and(started)
}

/// Whether a pod's setup has been done on the sandbox's own disk, where nothing of it has to be done again.
pub(crate) fn is_done_for_good(sandbox: &CodeSandbox, pod: &Pod) -> bool {
    let effective = sandbox.effective();
    effective.setup.is_some() && effective.workspace.is_some() && is_over(pod)
}
