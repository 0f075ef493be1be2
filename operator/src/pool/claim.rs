//! Whether a sandbox starts with a pod of a pool, and with which: decided here and nowhere else.

use std::sync::Arc;

use api::{CodeSandbox, CodeSandboxPool, names, start};
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::ResourceExt;
use serde::Serialize;

use super::member::{self, State};
use crate::{config::Config, plan, pod, template};

/// What was seen of the pool that a sandbox names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pooled {
    /// Whether it is known which pools there are.
    pub(crate) known: bool,
    /// It, where there is one.
    pub(crate) pool: Option<Arc<CodeSandboxPool>>,
    /// The pods that bear its label.
    pub(crate) pods: Vec<Arc<Pod>>,
    /// Whether the API server refused to give one to the sandbox.
    pub(crate) refused: bool,
}

/// How a sandbox starts that names a pool.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Start {
    /// With the first of these that is still free.
    Warm(Vec<Claim>),
    /// With a pod of its own, for this reason.
    Cold(&'static str),
}

/// What makes a pod of a pool a sandbox's own, in one write: a merge patch, which the API server refuses where the pod is
/// another or has changed since.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Claim {
    pub(crate) metadata: ObjectMeta,
}

impl Claim {
    fn new(sandbox: &CodeSandbox, pod: &Pod) -> Self {
        let labels = [
            (names::SANDBOX, sandbox.name_any()),
            (names::SANDBOX_UID, sandbox.uid().unwrap_or_default()),
        ];
        Self {
            metadata: ObjectMeta {
                name: pod.metadata.name.clone(),
                uid: pod.uid(),
                resource_version: pod.resource_version(),
                labels: Some(labels.map(|(key, value)| (key.into(), value)).into()),
                // In the place of the pool, with which it is not to go.
                owner_references: pod::owner(sandbox),
                ..ObjectMeta::default()
            },
        }
    }
}

/// Whether a sandbox may start with a pod of a pool: with its first one, later ones are its own. What it had in the one
/// before is gone, and there is no hurry in which it would be missed.
pub(crate) fn may(sandbox: &CodeSandbox) -> bool {
    sandbox.spec.pool_ref.is_some() && plan::attempt(sandbox) == 1
}

/// How a sandbox starts now; none where it names no pool.
pub(crate) fn start(
    sandbox: &CodeSandbox,
    pooled: &Pooled,
    config: &Config,
    now: Timestamp,
) -> Option<Start> {
    sandbox.spec.pool_ref.as_ref()?;
    Some(match claims(sandbox, pooled, config, now) {
        Ok(claims) if claims.is_empty() => Start::Cold(start::NO_POD_READY),
        Ok(claims) => Start::Warm(claims),
        Err(why) => Start::Cold(why),
    })
}

/// The pods that the sandbox could have, the oldest first, or why there are none for it.
fn claims(
    sandbox: &CodeSandbox,
    pooled: &Pooled,
    config: &Config,
    now: Timestamp,
) -> Result<Vec<Claim>, &'static str> {
    if !may(sandbox) {
        return Err(start::LATER_ATTEMPT);
    }
    if pooled.refused {
        return Err(start::CLAIM_REFUSED);
    }
    if !pooled.known {
        return Err(start::POOL_UNKNOWN);
    }
    let lives = |pool: &&Arc<CodeSandboxPool>| {
        pool.metadata.deletion_timestamp.is_none() && pool.spec.class_name == config.class
    };
    let pool = pooled.pool.as_ref().filter(lives).ok_or(start::POOL_NOT_FOUND)?;
    let bound = sandbox.status.as_ref().and_then(|status| status.template.clone());
    let bound = bound.filter(|bound| bound.name == pool.spec.template_ref.name);
    let bound = bound.ok_or(start::TEMPLATE_DIFFERS)?;
    let hash = member::hash(sandbox, config);
    if member::hash(&template::undemanding(*bound), config) != hash {
        return Err(start::SETTINGS_DIFFER);
    }
    let fits = |pod: &&Arc<Pod>| {
        member::is_unclaimed(pod, pool)
            && member::hash_of(pod) == Some(&hash)
            && member::state(pod, now) == State::Ready
            // One that ends before its sandbox's ttl does is no use.
            && member::deadline(pod).is_none_or(|end| sandbox.expires_at() <= Some(end))
    };
    let mut pods: Vec<_> = pooled.pods.iter().filter(fits).collect();
    pods.sort_by_key(|pod| (member::made_at(pod), pod.name_any()));
    Ok(pods.into_iter().map(|pod| Claim::new(sandbox, pod)).collect())
}
