//! The policies that a sandbox needs, and the one it needs no more.

use api::{CodeSandbox, names};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{Action, situation::taken_policy};
use crate::{config::Config, isolation, network, observe::Observed, pod};

/// The first policy that is missing or was changed.
pub(super) fn missing(
    sandbox: &CodeSandbox,
    observed: &Observed,
    config: &Config,
) -> Option<Action> {
    let namespace = sandbox.namespace()?;
    if isolation::deny(observed, &namespace).is_none() {
        return Some(Action::Apply(Box::new(network::deny(&namespace))));
    }
    let pod = observed.pod.as_ref();
    let missing = isolation::is_opened(sandbox, pod)
        && isolation::internet(sandbox, pod, observed, config).is_none()
        && taken_policy(sandbox, observed).is_none();
    missing.then(|| Action::Apply(Box::new(network::internet(sandbox, config))))
}

/// The removal of the sandbox's own policy once only its setup needed it, and that has ended or there is to be no pod.
pub(super) fn needless(
    sandbox: &CodeSandbox,
    observed: &Observed,
    pod: Option<&Pod>,
) -> Option<Action> {
    let effective = sandbox.effective();
    if !effective.setup_opens() || pod.is_some() && isolation::is_opened(sandbox, pod) {
        return None;
    }
    let policy = observed.policy(&names::internet_policy(&sandbox.name_any()));
    let policy = policy.filter(|policy| {
        pod::is_owned(&policy.metadata, sandbox) && policy.metadata.deletion_timestamp.is_none()
    })?;
    Some(Action::DeletePolicy { name: policy.name_any(), uid: policy.uid()? })
}
