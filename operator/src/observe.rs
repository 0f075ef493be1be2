//! Reads the few objects a sandbox depends on: its pod and the network policies that concern it.

use std::sync::Arc;

use api::{CodeSandbox, names};
use jiff::Timestamp;
use k8s_openapi::api::{core::v1::Pod, networking::v1::NetworkPolicy};
use kube::{Api, ResourceExt, runtime::reflector::Store};

use crate::{
    call::{Caller, DEADLINE, Error, Kind, Verb},
    config::Config,
    network, plan, pod,
};

/// What was seen of the objects a sandbox depends on, and what the API server answered when one was written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// The object that has the name of this attempt's pod, whosever it is.
    pub(crate) pod: Option<Pod>,
    /// The namespace's policies that concern the sandbox.
    pub(crate) policies: Vec<Arc<NetworkPolicy>>,
    /// That the API server will not have something, and when to ask again.
    pub(crate) refusal: Option<Refusal>,
}

/// The API server's refusal of an object that a sandbox needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What was refused, as in `Pod box-1`.
    pub(crate) object: String,
    /// The server's words.
    pub(crate) words: String,
    /// Until when it is not asked again.
    pub(crate) retry_at: Timestamp,
}

impl Observed {
    /// The policy of a name.
    pub(crate) fn policy(&self, name: &str) -> Option<&NetworkPolicy> {
        self.policies
            .iter()
            .map(AsRef::as_ref)
            .find(|policy| policy.metadata.name.as_deref() == Some(name))
    }

    /// Takes note of a policy that the API server has just answered with.
    pub(crate) fn see(&mut self, policy: NetworkPolicy) {
        self.policies.retain(|known| known.metadata.name != policy.metadata.name);
        self.policies.push(Arc::new(policy));
    }
}

/// Reads what a sandbox depends on. The policies come from a watch, so that a reconcile costs one request at most.
pub(crate) async fn observe(
    caller: &Caller,
    policies: &Store<NetworkPolicy>,
    sandbox: &CodeSandbox,
    config: &Config,
    now: Timestamp,
) -> Result<Observed, Error> {
    let pod = if plan::depends_on_pod(sandbox, now) {
        pod(caller, &names::pod(&sandbox.name_any(), plan::attempt(sandbox))).await?
    } else {
        None
    };
    let unknown = || Error::PoliciesUnknown { namespace: caller.namespace.clone() };
    match tokio::time::timeout(DEADLINE, policies.wait_until_ready()).await {
        Ok(Ok(())) => {}
        _ => return Err(unknown()),
    }
    let sandbox_name = sandbox.name_any();
    // The pod's own labels where there is one: somebody may have added some, and a policy may select by those.
    let labels = pod.as_ref().and_then(|pod| pod.metadata.labels.clone());
    let labels = labels.unwrap_or_else(|| pod::labels(sandbox, config));
    let policies =
        policies.state_filter(|policy| network::concerns(policy, &sandbox_name, &labels));
    Ok(Observed { pod, policies, refusal: None })
}

/// The pod of a name.
pub(crate) async fn pod(caller: &Caller, name: &str) -> Result<Option<Pod>, Error> {
    let pods: Api<Pod> = caller.api();
    caller.request(Verb::Get, Kind::Pod, name, pods.get_opt(name)).await
}
