//! The policies that a sandbox needs, and the one it needs no more.

use api::{CodeSandbox, Egress, names};
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
        let missing = isolation::is_opened(sandbox, pod)
            && isolation::internet(sandbox, pod, observed, config).is_none()
            && taken_policy(sandbox, observed).is_none();
        missing.then(|| Action::Apply(Box::new(network::internet(sandbox, config))))
    };
    deny(sandbox, observed).or_else(own)
}

/// The sandbox's own policy, where it is there and only a setup needed it that has ended, or there is to be no pod.
pub(crate) fn needless<'a>(
    sandbox: &CodeSandbox,
    observed: &'a Observed,
    pod: Option<&Pod>,
) -> Option<&'a NetworkPolicy> {
    let wanted = match pod {
        Some(_) => isolation::is_opened(sandbox, pod),
        None => sandbox.effective().egress == Egress::Internet,
    };
    let policy = observed.policy(&names::internet_policy(&sandbox.name_any()))?;
    let ours =
        pod::is_owned(&policy.metadata, sandbox) && policy.metadata.deletion_timestamp.is_none();
    (!wanted && ours).then_some(policy)
}

/// Its removal.
pub(super) fn removal(
    sandbox: &CodeSandbox,
    observed: &Observed,
    pod: Option<&Pod>,
) -> Option<Action> {
    let policy = needless(sandbox, observed, pod)?;
    Some(Action::DeletePolicy { name: policy.name_any(), uid: policy.uid()? })
}
