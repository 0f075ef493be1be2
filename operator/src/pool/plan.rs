//! What is to be done about a pool. As of sandboxes, a plan holds at most one action, and there is another one with what
//! came of it.
//!
//! The watch may be behind what was done. So the name of the next pod is that of the lowest number that is free: who asks
//! for the same again is told that it is there. And a pod is deleted only as it was seen: a sandbox may have claimed it since.

use std::{collections::HashSet, sync::Arc, time::Duration};

use api::{CodeSandboxPool, CodeSandboxPoolStatus, CodeSandboxTemplate, names};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{core::v1::Pod, networking::v1::NetworkPolicy};
use kube::ResourceExt;

use super::{
    member::{self, State},
    source::{self, Source},
    status,
};
use crate::{
    call::Kind, config::Config, isolation, network, observe::Refusal, starting, template, time,
};

/// The least and the most that a pod which ended holds its place.
const SHORTEST: SignedDuration = SignedDuration::from_secs(10);
const LONGEST: SignedDuration = SignedDuration::from_mins(5);
/// How long to wait for templates to be known.
const UNKNOWN_RETRY: Duration = Duration::from_secs(5);

/// What was seen of what a pool depends on, and what the API server answered when something was written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// The pods that bear the pool's label, whosever they are by now.
    pub(crate) pods: Vec<Arc<Pod>>,
    /// The namespace's deny policy.
    pub(crate) deny: Option<Arc<NetworkPolicy>>,
    /// The namespace's templates, where they are known.
    pub(crate) templates: Option<Vec<Arc<CodeSandboxTemplate>>>,
    /// That the API server will not have something, and when to ask again.
    pub(crate) refusal: Option<Refusal>,
}

impl Observed {
    /// Takes note of a pod that the API server has answered with.
    pub(crate) fn see(&mut self, pod: Pod) {
        self.forget(&pod.name_any());
        self.pods.push(Arc::new(pod));
    }

    /// Takes note that there is no pod of this name, or one that is going.
    pub(crate) fn forget(&mut self, name: &str) {
        self.pods.retain(|known| known.metadata.name.as_deref() != Some(name));
    }
}

/// What is to be done about a pool now.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// What to do first.
    pub(crate) action: Option<Action>,
    /// The status to write when there is nothing more to do; none where it is the one that is there.
    pub(crate) status: Option<CodeSandboxPoolStatus>,
    /// Whether that may wait for a moment, since all may soon be as it was.
    pub(crate) passing: bool,
    /// When to look again without having been told to.
    pub(crate) requeue: Option<Duration>,
}

/// A write to the cluster.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Apply the deny policy.
    Apply(Box<NetworkPolicy>),
    /// Create a pod.
    Create(Box<Pod>),
    /// Delete a pod, if it is still as it was seen.
    Delete { name: String, uid: String, resource_version: String },
}

/// A pod that waits for a sandbox, or is to.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) state: State,
    /// Until when it keeps its place, where it has ended.
    pub(crate) until: Timestamp,
}

/// What is to be done about a pool that looks like this, now.
pub(crate) fn plan(
    pool: &CodeSandboxPool,
    observed: &Observed,
    config: &Config,
    now: Timestamp,
) -> Plan {
    if pool.metadata.deletion_timestamp.is_some() {
        // Its pods go with it by their owner reference, and those of sandboxes are not its own.
        return Plan::default();
    }
    let source = source::source(pool, observed.templates.as_deref(), config);
    let members = members(pool, observed, now);
    let status = status::status(pool, &source, &members, observed.refusal.as_ref(), now);
    let differs = pool.status.as_ref() != Some(&status);
    Plan {
        action: action(pool, observed, &source, &members, config, now),
        requeue: requeue(observed, &members, now),
        passing: differs && status::is_passing(pool.status.as_ref(), &status),
        status: differs.then_some(status),
    }
}

/// How many pods wait for a sandbox, or are to.
pub(crate) fn waiting(pool: &CodeSandboxPool, observed: &Observed) -> usize {
    observed.pods.iter().filter(|pod| member::is_unclaimed(pod, pool)).count()
}

/// The pods of a pool that no sandbox has claimed, by age.
fn members<'a>(pool: &CodeSandboxPool, observed: &'a Observed, now: Timestamp) -> Vec<Member<'a>> {
    let since = status::failing_since(pool).unwrap_or(now);
    let pods = observed.pods.iter().filter(|pod| member::is_unclaimed(pod, pool));
    let mut members: Vec<_> = pods
        .map(|pod| Member {
            pod,
            state: member::state(pod, now),
            until: replaced_at(member::made_at(pod), since),
        })
        .collect();
    members.sort_by_key(|one| (member::made_at(one.pod), one.pod.name_any()));
    members
}

/// When a pod that ended is replaced: after as long as the pool had not been ready when it was made. So each that ends at
/// once waits twice as long as the one before, whoever the operator is by then, and one that ends after hours not at all.
fn replaced_at(made: Timestamp, since: Timestamp) -> Timestamp {
    let wait = made.duration_since(since).clamp(SHORTEST, LONGEST);
    time::later(made, wait)
}

/// The first thing that is to be done. The order is the safety: the policy, then pods.
fn action(
    pool: &CodeSandboxPool,
    observed: &Observed,
    source: &Source<'_>,
    members: &[Member<'_>],
    config: &Config,
    now: Timestamp,
) -> Option<Action> {
    let (wanted, namespace) = (pool.spec.replicas as usize, pool.namespace()?);
    let denied = observed.deny.as_ref().is_some_and(|live| isolation::denies(live, &namespace));
    let lacking = match source {
        Source::Template(given) if members.len() < wanted => Some(given),
        _ => None,
    };
    let needs_policy = lacking.is_some() || !members.is_empty();
    let may_apply = observed.refusal.as_ref().is_none_or(|no| no.kind != Kind::NetworkPolicy);
    if needs_policy && !denied && may_apply {
        return Some(Action::Apply(Box::new(network::deny(&namespace))));
    }
    if let Some(superfluous) = superfluous(source, members, wanted, config, now) {
        return removal(superfluous.pod);
    }
    // Only where another can be made in its place.
    let full = members.len() == wanted && observed.refusal.is_none();
    if let Some(old) = old(source, members, now).filter(|_| full) {
        return removal(old.pod);
    }
    let given = lacking.filter(|_| denied && observed.refusal.is_none())?;
    Some(Action::Create(Box::new(member::pod(pool, given, free(pool, observed), config))))
}

/// The pod that is to go next, where one is.
fn superfluous<'a, 'b>(
    source: &Source<'_>,
    members: &'b [Member<'a>],
    wanted: usize,
    config: &Config,
    now: Timestamp,
) -> Option<&'b Member<'a>> {
    match source {
        Source::Unsuitable(_) => return members.first(),
        Source::Template(given) => {
            let hash = member::hash(&template::undemanding(template::bound(given)), config);
            let outdated = |one: &&Member<'_>| member::hash_of(one.pod) != Some(&hash);
            if let Some(outdated) = members.iter().find(outdated) {
                return Some(outdated);
            }
        }
        Source::Unknown(_) => {}
    }
    let over = |one: &&Member<'_>| matches!(one.state, State::Ended(_)) && one.until <= now;
    if let Some(over) = members.iter().find(over) {
        return Some(over);
    }
    if members.len() > wanted {
        // The last of those that are not ready, or else the last.
        let ready = |one: &&Member<'_>| one.state == State::Ready;
        return members.iter().rev().find(|one| !ready(one)).or(members.last());
    }
    None
}

/// The pod that has waited for so long that another is to take its place. One at a time, so that a sandbox finds the others: while one
/// that was made since is not ready, no other goes.
fn old<'a, 'b>(
    source: &Source<'_>,
    members: &'b [Member<'a>],
    now: Timestamp,
) -> Option<&'b Member<'a>> {
    let Source::Template(_) = source else { return None };
    let due = |one: &&Member<'_>| member::kept_until(one.pod).is_some_and(|until| until <= now);
    let old = members.iter().filter(|one| one.state == State::Ready).find(due)?;
    let since = member::kept_until(old.pod)?;
    let comes = |one: &Member<'_>| one.state != State::Ready && member::made_at(one.pod) >= since;
    (!members.iter().any(comes)).then_some(old)
}

fn removal(pod: &Pod) -> Option<Action> {
    Some(Action::Delete {
        name: pod.name_any(),
        uid: pod.uid()?,
        resource_version: pod.resource_version()?,
    })
}

/// The lowest number that no pod has, be it a sandbox's by now.
fn free(pool: &CodeSandboxPool, observed: &Observed) -> u32 {
    let taken: HashSet<_> = observed.pods.iter().map(|pod| pod.name_any()).collect();
    let name = pool.name_any();
    (1..u32::MAX)
        .find(|number| !taken.contains(&names::member(&name, *number)))
        .expect("there are more numbers than pods")
}

/// When to look again. All else is told to us by the watches.
fn requeue(observed: &Observed, members: &[Member<'_>], now: Timestamp) -> Option<Duration> {
    let unknown = observed.templates.is_none().then_some(UNKNOWN_RETRY);
    let refusal = observed.refusal.as_ref().map(|refusal| refusal.retry_at);
    let members = members.iter().filter_map(|one| match one.state {
        State::Ended(_) => Some(one.until),
        State::Starting(_) => starting::proven_at(one.pod),
        State::Ready => member::kept_until(one.pod),
    });
    // What has the end of time is told of by the watch.
    let times = refusal.into_iter().chain(members);
    let times = times.filter(|time| *time > now && *time < Timestamp::MAX);
    unknown.into_iter().chain(times.map(|time| time::until(time, now))).min()
}

#[cfg(test)]
mod tests;
