//! Makes pods of pools the sandboxes' own.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use api::names;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use tracing::warn;

use super::{Done, refused};
use crate::{
    call::{Caller, Error, Kind, Verb},
    observe::{self, Observed},
    pool::claim::Claim,
};

/// Claims the first pod that is still free. Where none is, the observation knows of none any more.
pub(crate) async fn claim(
    caller: &Caller,
    claims: &[Claim],
    claimed: &Claimed,
    observed: &mut Observed,
) -> Result<Done, Error> {
    observed.pooled.pods.clear();
    for claim in claims {
        let uid = claim.metadata.uid.as_deref().unwrap_or_default();
        if !claimed.begin(uid, Instant::now()) {
            continue;
        }
        let answer = patch(caller, claim).await;
        if !matches!(answer, Ok(Answer::Yes(_))) {
            claimed.release(uid);
        }
        match answer? {
            Answer::Yes(pod) => {
                observed.pod = Some(*pod);
                break;
            }
            Answer::Gone => {}
            // By another, or by us, in a request that was never answered.
            Answer::Changed => {
                observed.pod = ours(caller, claim).await?;
                if observed.pod.is_some() {
                    break;
                }
            }
            Answer::Refused(words) => {
                let (namespace, pod) = (&caller.namespace, &claim.metadata.name);
                warn!(%namespace, pod, words, "the API server does not let a sandbox have a pool's pod, so it gets one of its own; see the chart's Role and admission policies");
                observed.pooled.refused = true;
                break;
            }
        }
    }
    Ok(Done::Observed)
}

/// What came of one claim.
enum Answer {
    /// The pod is the sandbox's.
    Yes(Box<Pod>),
    /// It has changed since it was seen.
    Changed,
    /// It is gone.
    Gone,
    /// The API server will not have it, in its words.
    Refused(String),
}

async fn patch(caller: &Caller, claim: &Claim) -> Result<Answer, Error> {
    let pods: Api<Pod> = caller.api();
    let name = claim.metadata.name.clone().unwrap_or_default();
    // Not applied, which would leave the pool an owner beside the sandbox.
    let params =
        PatchParams { field_manager: Some(names::OPERATOR.into()), ..PatchParams::default() };
    let patch = Patch::Merge(claim);
    match caller.request(Verb::Patch, Kind::Pod, &name, pods.patch(&name, &params, &patch)).await {
        Ok(pod) => Ok(Answer::Yes(Box::new(pod))),
        Err(Error::Conflict { .. }) => Ok(Answer::Changed),
        Err(error) if error.has_code(404) => Ok(Answer::Gone),
        Err(error) => match refused(Kind::Pod, &name, error)? {
            Done::Refused { words, .. } => Ok(Answer::Refused(words)),
            Done::Observed | Done::Gone => Ok(Answer::Gone),
        },
    }
}

/// A pod that could not be claimed, where it is the sandbox's already.
async fn ours(caller: &Caller, claim: &Claim) -> Result<Option<Pod>, Error> {
    let name = claim.metadata.name.clone().unwrap_or_default();
    let pod = observe::pod(caller, &name).await?;
    let uid = |labels: Option<&BTreeMap<String, String>>| labels?.get(names::SANDBOX_UID).cloned();
    let wanted = uid(claim.metadata.labels.as_ref());
    Ok(pod.filter(|pod| uid(pod.metadata.labels.as_ref()) == wanted))
}

/// How long a pod counts as claimed, which the watch has shown by then.
const BEHIND: Duration = Duration::from_mins(1);

/// The pods that were claimed a moment ago, or are about to be: of several sandboxes at once each asks for another, and none
/// for one that only the watch shows as free. It may be forgotten at the price of a request that is refused.
#[derive(Debug, Default)]
pub(crate) struct Claimed(Mutex<HashMap<String, Instant>>);

impl Claimed {
    /// Whether a pod may be asked for. Nobody else does from then on.
    fn begin(&self, uid: &str, now: Instant) -> bool {
        let mut pods = self.lock();
        pods.retain(|_, since| now.saturating_duration_since(*since) < BEHIND);
        let free = !pods.contains_key(uid);
        if free {
            pods.insert(uid.into(), now);
        }
        free
    }

    /// Takes note that a pod has not become anybody's.
    fn release(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        // No change can be left half done, so what a panic left behind is as good as ever.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_asked_for_by_one_at_a_time_and_not_for_a_while_after() {
        let (claimed, now) = (Claimed::default(), Instant::now());
        assert!(claimed.begin("a", now) && claimed.begin("b", now));
        assert!(!claimed.begin("a", now + BEHIND / 2));
        claimed.release("a");
        assert!(claimed.begin("a", now + BEHIND / 2));
        assert!(claimed.begin("b", now + BEHIND), "nothing is kept for ever");
    }
}
