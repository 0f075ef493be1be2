//! The policies that a sandbox needs, and what it needs no more of its own.

use api::{CodeSandbox, names};
use k8s_openapi::api::{core::v1::Pod, networking::v1::NetworkPolicy};
use kube::ResourceExt;

use super::{Action, situation::taken_policy};
use crate::{config::Config, isolation, network, observe::Observed, pod};

/// The deny policy, where it is missing or was changed.
pub(super) fn deny(sandbox: &CodeSandbox, observed: &Observed) -> Option<Action> {
    let namespace = sandbox.namespace()?;
    let missing = isolation::deny(observed, &namespace).is_none();
    missing.then(|| Action::Apply(Box::new(network::deny(&namespace))))
}

/// The first policy that is missing or was changed.
pub(super) fn missing(
    sandbox: &CodeSandbox,
    observed: &Observed,
    config: &Config,
) -> Option<Action> {
    let pod = observed.pod.as_ref();
    let own = || {
        let wanted = isolation::wanted(sandbox, pod, config)?;
        let missing = isolation::own(sandbox, pod, observed, config).is_none()
            && taken_policy(sandbox, observed, config).is_none();
        missing.then(|| Action::Apply(Box::new(wanted)))
    };
    deny(sandbox, observed).or_else(own)
}

/// The sandbox's own policy, where it opens what only a setup needed that has ended, or there is to be no pod.
pub(crate) fn needless<'a>(
    sandbox: &CodeSandbox,
    observed: &'a Observed,
    config: &Config,
    pod: Option<&Pod>,
) -> Option<&'a NetworkPolicy> {
    let wanted = match pod {
        Some(_) => isolation::wanted(sandbox, pod, config),
        None => network::own(sandbox, config),
    };
    let policy = observed.policy(&names::internet_policy(&sandbox.name_any()))?;
    let ours =
        pod::is_owned(&policy.metadata, sandbox) && policy.metadata.deletion_timestamp.is_none();
    let is_wider = wanted.is_none_or(|wanted| {
        network::internet::is_opened_by(policy) && !network::internet::is_opened_by(&wanted)
    });
    (ours && is_wider).then_some(policy)
}

/// What closes it: the policy of the sandbox itself in its place, or its removal where that is none.
pub(super) fn closing(
    sandbox: &CodeSandbox,
    observed: &Observed,
    config: &Config,
    pod: Option<&Pod>,
) -> Option<Action> {
    let policy = needless(sandbox, observed, config, pod)?;
    match network::own(sandbox, config) {
        Some(own) => Some(Action::Apply(Box::new(own))),
        None => Some(Action::DeletePolicy { name: policy.name_any(), uid: policy.uid()? }),
    }
}
