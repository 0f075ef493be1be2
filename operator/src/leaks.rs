//! What should not be there any more: objects of ours that have outlived their sandbox or their pool, and pods of earlier
//! attempts.
//!
//! Everything of a sandbox, and of a pool, goes with it by its owner reference, which Kubernetes' garbage collector sees to. What stays
//! has mostly lost that reference: by `kubectl delete --cascade=orphan`, which takes it off, or by somebody's edit. Nobody
//! would look at it again, and a pod would run on until its longest lifetime is over.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    time::Duration,
};

use api::names;
use k8s_openapi::{
    api::{core::v1::ObjectReference, networking::v1::NetworkPolicy},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use prometheus_client::encoding::EncodeLabelValue;
use tokio::time::Instant;

use crate::{call::Kind, network, plan::pods};

/// How long an object has to be left over to be removed.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// The same of one that has an owner, who is gone. The garbage collector is to be let do its work: it deletes some twenty objects a
/// second, of thousands perhaps. But it may not run at all, as where an aggregated API is down.
const COLLECTED: Duration = Duration::from_mins(10);

/// The labels that select what an installation has made for sandboxes, those to come among them. The deny policy is nobody's
/// and has not all of them.
pub(crate) fn selector(instance: &str) -> String {
    let (managed, sandbox) = (names::MANAGED_BY, names::SANDBOX);
    format!("{managed}={},{}={instance},{sandbox}", names::MANAGER, names::INSTANCE)
}

/// What an object was made for, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum For {
    /// A sandbox of this UID, and of its pods an attempt at it. What it claimed from a pool was the first.
    Sandbox { name: String, uid: String, attempt: Option<u32> },
    /// A pool. No sandbox has claimed it as it was seen.
    Pool { name: String },
}

impl For {
    fn kind(&self) -> &'static str {
        match self {
            Self::Sandbox { .. } => "CodeSandbox",
            Self::Pool { .. } => "CodeSandboxPool",
        }
    }
}

impl fmt::Display for For {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Sandbox { name, .. } | Self::Pool { name }) = self;
        write!(f, "{} {name}", self.kind())
    }
}

/// An object that bears the marks of an installation and of what it was made for, and is not going already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marked {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// What it was made for.
    pub(crate) made_for: For,
    /// The objects of that kind that it has for owners, by their UIDs.
    owners: BTreeSet<String>,
    /// The version that was seen, of a pod that would be another's once it is another one.
    pub(crate) resource_version: Option<String>,
}

/// A pod or policy as one of this installation's, if it is that.
pub(crate) fn marked(kind: Kind, object: &ObjectMeta, instance: &str) -> Option<Marked> {
    let label = |key: &str| object.labels.as_ref()?.get(key);
    let ours = label(names::MANAGED_BY)? == names::MANAGER && label(names::INSTANCE)? == instance;
    if !ours || object.deletion_timestamp.is_some() {
        return None;
    }
    let (name, pool) = (object.name.clone()?, label(names::POOL));
    let (made_for, resource_version) = match (label(names::SANDBOX_UID), pool) {
        (Some(uid), pool) => {
            let sandbox = label(names::SANDBOX)?.clone();
            let pod = kind == Kind::Pod;
            let attempt = pods::attempt_of(&name, &sandbox, pool.is_some()).filter(|_| pod);
            (For::Sandbox { name: sandbox, uid: uid.clone(), attempt }, None)
        }
        (None, Some(pool)) => {
            (For::Pool { name: pool.clone() }, Some(object.resource_version.clone()?))
        }
        (None, None) => return None,
    };
    let owners = object.owner_references.iter().flatten();
    let owners = owners.filter(|owner| owner.kind == made_for.kind());
    Some(Marked {
        kind,
        name,
        uid: object.uid.clone()?,
        owners: owners.map(|owner| owner.uid.clone()).collect(),
        made_for,
        resource_version,
    })
}

/// The same of a policy. Anybody who may write policies may label one as ours, so that one counts only if it selects
/// the pods of its sandbox and no others: without them it protects nobody, and can go.
pub(crate) fn marked_policy(policy: &NetworkPolicy, instance: &str) -> Option<Marked> {
    let marked = marked(Kind::NetworkPolicy, &policy.metadata, instance)?;
    let For::Sandbox { uid, .. } = &marked.made_for else { return None };
    network::selects_only(policy, uid).then_some(marked)
}

/// Why an object should not be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Why {
    /// Its sandbox or its pool is gone.
    Orphaned,
    /// Its sandbox has come to a later attempt, or has another pod.
    Superseded,
}

/// An object that should not be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leak {
    pub(crate) object: Marked,
    pub(crate) why: Why,
}

impl Leak {
    fn patience(&self) -> Duration {
        let collected = self.why == Why::Orphaned && !self.object.owners.is_empty();
        if collected { COLLECTED } else { PATIENCE }
    }

    /// The object, as events name it.
    pub(crate) fn reference(&self, namespace: &str) -> ObjectReference {
        let policy = self.object.kind == Kind::NetworkPolicy;
        ObjectReference {
            api_version: Some(if policy { "networking.k8s.io/v1" } else { "v1" }.into()),
            kind: Some(format!("{:?}", self.object.kind)),
            name: Some(self.object.name.clone()),
            namespace: Some(namespace.into()),
            uid: Some(self.object.uid.clone()),
            ..ObjectReference::default()
        }
    }
}

/// What is known of a sandbox: the attempt it has come to, or an earlier one, and the UID of that one's pod, if it is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) attempt: u32,
    pub(crate) pod: Option<String>,
}

/// The sandboxes that there are, by UID, and the UIDs of the pools.
#[derive(Debug, Default)]
pub(crate) struct There {
    pub(crate) sandboxes: HashMap<String, Known>,
    pub(crate) pools: HashSet<String>,
}

/// Those that should not be there, of objects seen before these sandboxes and pools were.
pub(crate) fn leaks(objects: impl IntoIterator<Item = Marked>, there: &There) -> Vec<Leak> {
    let leak = |object: Marked| why(&object, there).map(|why| Leak { object, why });
    objects.into_iter().filter_map(leak).collect()
}

fn why(object: &Marked, there: &There) -> Option<Why> {
    match &object.made_for {
        For::Pool { .. } => {
            // Without an owner it is no pool's, whatever its label says: none would count it.
            let lives = object.owners.iter().any(|uid| there.pools.contains(uid));
            (!lives).then_some(Why::Orphaned)
        }
        For::Sandbox { uid, attempt, .. } => {
            let mut uids = object.owners.iter().chain([uid]);
            if !uids.any(|uid| there.sandboxes.contains_key(uid)) {
                return Some(Why::Orphaned);
            }
            let (known, of) = (there.sandboxes.get(uid)?, *attempt.as_ref()?);
            // A second one of an attempt was claimed beside it, by a request of which nobody learnt that it was carried out.
            let second = known.pod.as_ref().is_some_and(|pod| *pod != object.uid);
            (of < known.attempt || of == known.attempt && second).then_some(Why::Superseded)
        }
    }
}

/// What was found before: who is found once may be on its way out.
#[derive(Debug, Default)]
pub(crate) struct Suspects(HashMap<String, Suspect>);

#[derive(Debug)]
struct Suspect {
    since: Instant,
    told: bool,
}

/// A leak that has been there for long enough.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Confirmed {
    pub(crate) leak: Leak,
    /// Whether it is for the first time: one that cannot be removed comes again.
    pub(crate) new: bool,
}

impl Suspects {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes in what a sweep has found, forgets what it has not, and gives what has been there for long enough.
    pub(crate) fn confirm(&mut self, found: Vec<Leak>, now: Instant) -> Vec<Confirmed> {
        let mut before = std::mem::take(&mut self.0);
        let mut confirmed = vec![];
        for leak in found {
            let uid = leak.object.uid.clone();
            let mut suspect = before.remove(&uid).unwrap_or(Suspect { since: now, told: false });
            if now.duration_since(suspect.since) >= leak.patience() {
                let told = std::mem::replace(&mut suspect.told, true);
                confirmed.push(Confirmed { leak, new: !told });
            }
            self.0.insert(uid, suspect);
        }
        confirmed
    }
}

#[cfg(test)]
mod tests;
