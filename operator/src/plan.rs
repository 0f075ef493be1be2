//! What is to be done about a sandbox. Every decision is here or in what this calls, all of it pure.
//!
//! A plan holds at most one action. It is carried out, what the API server answered becomes part of the observation,
//! and there is another plan, until one needs no action; then the status is written. So a pod is never planned
//! before the deny policy has been *seen*, and stopping anywhere in between is safe.

use std::time::Duration;

use api::{CodeSandbox, CodeSandboxStatus, TerminationReason, names};
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{PersistentVolumeClaim, Pod},
    networking::v1::NetworkPolicy,
};
use kube::ResourceExt;

use self::situation::is_another;
use crate::{
    claim,
    config::Config,
    events::{self, Notice},
    expiry::{self, End},
    injection::Injection,
    observe::Observed,
    pod,
    pool::claim::Claim,
    probe::Verdict,
    starting::{self, hindrance},
    status, termination, time,
};

pub(crate) mod pods;
pub(crate) mod policies;
mod situation;
mod way_in;

pub(crate) use situation::{Situation, Taken, Whose};

/// How long to wait for a name that somebody else's object has. Nothing tells us when such an object goes.
const TAKEN_RETRY: Duration = Duration::from_secs(30);

/// The same where the object is on its way out.
const LEAVING_RETRY: Duration = Duration::from_secs(2);

/// How long to wait for templates to be known. Where there are none, nothing tells that this is known now.
const UNKNOWN_RETRY: Duration = Duration::from_secs(5);

/// What is to be done about a sandbox now.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// What to do first; with what comes of it, there is to be another plan.
    pub(crate) action: Option<Action>,
    /// The status to write when there is nothing (more) to do; none where it is the one that is there.
    pub(crate) status: Option<CodeSandboxStatus>,
    /// What to tell about, once that is done.
    pub(crate) events: Vec<Notice>,
    /// That the sandbox ends soon, and when: to be told once for each end, whatever becomes of the status.
    pub(crate) warning: Option<(Notice, Timestamp)>,
    /// When to look again without having been told to.
    pub(crate) requeue: Option<Duration>,
}

impl Plan {
    /// Whether the sandbox itself is to go.
    pub(crate) fn ends(&self) -> bool {
        matches!(self.action, Some(Action::DeleteSandbox { .. }))
    }

    /// Whether the status supposes that the action has been carried out: an attempt is not over while its name is in use.
    pub(crate) fn deletes(&self) -> bool {
        self.ends() || matches!(self.action, Some(Action::DeletePod { .. }))
    }
}

/// A write, to the cluster or to what is remembered of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Ask what time it is for the API server.
    AskTime,
    /// Apply a network policy.
    Apply(Box<NetworkPolicy>),
    /// Create the claim for the sandbox's disk.
    CreateClaim(Box<PersistentVolumeClaim>),
    /// Make the first of these pods of a pool that is still free the sandbox's own.
    Claim(Vec<Claim>),
    /// Create a pod.
    CreatePod(Box<Pod>),
    /// Create the pod that finds out how the agent gets into the sandbox's.
    CreateProbe(Box<Pod>),
    /// Remember what the probe showed.
    Conclude(Verdict),
    /// Delete the sandbox's own policy, of which there is no use any more.
    DeletePolicy { name: String, uid: String },
    /// Delete a pod that has our name and owner and is not, or no more, the one of this attempt.
    DeletePod { name: String, uid: String },
    /// Delete the probe. The status does not suppose it: where it fails, that is to say that there still is one.
    DeleteProbe { name: String, uid: String },
    /// Delete the CodeSandbox itself, if it is still the object that was judged.
    DeleteSandbox { name: String, uid: String, resource_version: String },
}

/// The attempt a sandbox is at.
pub(crate) fn attempt(sandbox: &CodeSandbox) -> u32 {
    sandbox.status.as_ref().and_then(|status| status.attempt).unwrap_or(1)
}

/// The name of the pod before, while this attempt's has not been made: there may be something left of it.
pub(crate) fn former(sandbox: &CodeSandbox) -> Option<String> {
    let status = sandbox.status.as_ref().filter(|status| status.pod_uid.is_none())?;
    let former = status.attempt?.checked_sub(1).filter(|former| *former > 0)?;
    Some(names::pod(&sandbox.name_any(), former))
}

/// Whether what is to be done depends on the sandbox's pod, which then has to be looked for. The pod of a sandbox that
/// has no status at all is not looked for but made: should it be there, of an operator that died before it could say so,
/// creating it says so. Not where a probe would come first: a sandbox that has a pod needs none. Nor is the pod looked for
/// of one that said that it waits for another's probe: none is made before the wait is over. Of one that may have claimed
/// a pod it always is: creating another would say nothing of that.
pub(crate) fn depends_on_pod(sandbox: &CodeSandbox, injection: Injection, now: Timestamp) -> bool {
    let depends = |status: &CodeSandboxStatus| {
        let waits = matches!(injection, Injection::Waiting(_))
            && status.pod_uid.is_none()
            && sandbox.rest().is_none()
            && !pods::may_be_claimed(sandbox);
        !waits && (!status.is_true(api::condition::FINISHED) || may_have_failed(status))
    };
    sandbox.metadata.deletion_timestamp.is_none()
        && expiry::ends_at(sandbox).is_none_or(|end| end > now)
        && sandbox.status.as_ref().map_or_else(
            || pods::may_be_claimed(sandbox) || !matches!(injection, Injection::By(_)),
            depends,
        )
}

/// What is to be done about a sandbox that looks like this, now.
pub(crate) fn plan(
    sandbox: &CodeSandbox,
    observed: &Observed,
    config: &Config,
    now: Timestamp,
) -> Plan {
    if sandbox.metadata.deletion_timestamp.is_some() {
        // Everything of it has an owner reference and goes with it.
        return Plan::default();
    }
    if let Some(plan) = expired(sandbox, observed, now) {
        return plan;
    }
    let situation = situation::situation(sandbox, observed, config, now);
    let status = status::status(sandbox, observed, &situation, config, now);
    Plan {
        action: action(sandbox, observed, &situation, config, now),
        events: events::between(sandbox.status.as_ref(), &status),
        warning: warning(sandbox, &situation, now),
        requeue: requeue(sandbox, observed, &situation, &status, now),
        status: (!status::same(sandbox.status.as_ref(), &status)).then_some(status),
    }
}

/// The warning that a sandbox ends soon, from when that is. One that has finished has nothing to lose by it.
fn warning(
    sandbox: &CodeSandbox,
    situation: &Situation<'_>,
    now: Timestamp,
) -> Option<(Notice, Timestamp)> {
    if matches!(situation, Situation::Over | Situation::Ended(..)) {
        return None;
    }
    let end = End::next(sandbox, situation.alive()).filter(|end| end.warns_at <= now)?;
    Some((events::ending(&end), end.at))
}

/// The end of a sandbox whose time is over. That is not believed of our own clock alone, which may have jumped, and a sandbox that is
/// deleted too soon is lost: the time of its creation is of the API server's clock, and so is its end.
fn expired(sandbox: &CodeSandbox, observed: &Observed, now: Timestamp) -> Option<Plan> {
    let end = expiry::ends_at(sandbox).filter(|end| *end <= now)?;
    let Some(theirs) = observed.server_time else {
        return Some(Plan { action: Some(Action::AskTime), ..Plan::default() });
    };
    if end > theirs {
        return Some(Plan { requeue: Some(time::until(end, theirs)), ..Plan::default() });
    }
    let ttl_over = sandbox.expires_at().is_some_and(|time| time <= now);
    let delete = Action::DeleteSandbox {
        name: sandbox.name_any(),
        uid: sandbox.uid()?,
        // The ttl may have been prolonged a moment ago.
        resource_version: sandbox.resource_version()?,
    };
    Some(Plan {
        action: Some(delete),
        events: vec![events::ended(sandbox, ttl_over, now)],
        ..Plan::default()
    })
}

/// The first thing that is missing. The order is the safety: policies, then the pod.
fn action(
    sandbox: &CodeSandbox,
    observed: &Observed,
    situation: &Situation<'_>,
    config: &Config,
    now: Timestamp,
) -> Option<Action> {
    if observed.refusal.is_some() {
        return None;
    }
    match situation {
        Situation::Over => failed_removal(sandbox, observed)
            .or_else(|| policies::closing(sandbox, observed, config, None)),
        Situation::Unbound(_)
        | Situation::Barred(_)
        | Situation::Taken(_)
        // The status says first that it is to go, so that nobody takes it for lost.
        | Situation::Retiring(..)
        | Situation::Forgoing(_)
        | Situation::Emptied => None,
        // Of ours the status says first that it is over and why, which nobody could tell once it is gone.
        Situation::Lost(pod, _) | Situation::Ended(pod, _) => {
            pod.filter(|pod| is_another(sandbox, pod)).and_then(removal)
        }
        Situation::BackingOff(_) => former_removal(sandbox, observed),
        Situation::Forbidden(_) => former_removal(sandbox, observed)
            .or_else(|| policies::closing(sandbox, observed, config, None)),
        Situation::Resting(_) => {
            former_removal(sandbox, observed)
                .or_else(|| way_in::leave(sandbox, observed))
                .or_else(|| policies::closing(sandbox, observed, config, None))
        }
        Situation::Absent => {
            let first =
                former_removal(sandbox, observed).or_else(|| policies::deny(sandbox, observed));
            // While another's probe is waited for, the pod before is not even looked for, and the network that a setup may
            // reach would be open to what runs in it.
            let waits = matches!(observed.injection, Injection::Waiting(_));
            let looked = !waits || pods::may_be_claimed(sandbox);
            if first.is_some() || !looked || awaited(sandbox, observed).is_some() {
                return first;
            }
            policies::missing(sandbox, observed, config)
                .or_else(|| claim(sandbox, observed, config))
                .or_else(|| way_in::step(sandbox, observed, config, now))
        }
        Situation::Alive(pod) => policies::missing(sandbox, observed, config)
            .or_else(|| policies::closing(sandbox, observed, config, Some(pod))),
    }
}

/// The removal of a pod that is not going by itself already.
fn removal(pod: &Pod) -> Option<Action> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    Some(Action::DeletePod { name: pod.name_any(), uid: pod.uid()? })
}

/// The removal of what is left of the pod before: one that was evicted stays as it ended.
fn former_removal(sandbox: &CodeSandbox, observed: &Observed) -> Option<Action> {
    leaving(sandbox, observed).and_then(removal)
}

/// What is left of the pod before.
pub(crate) fn leaving<'a>(sandbox: &CodeSandbox, observed: &'a Observed) -> Option<&'a Pod> {
    observed.former.as_ref().filter(|pod| pod::is_owned(&pod.metadata, sandbox))
}

/// What is left of the pod before, where the next one has to wait for its end: both would have the sandbox's disk, or what
/// the setup of the next may reach.
pub(crate) fn awaited<'a>(sandbox: &CodeSandbox, observed: &'a Observed) -> Option<&'a Pod> {
    let effective = sandbox.effective();
    let alone = effective.workspace.is_some() || effective.setup_opens();
    leaving(sandbox, observed).filter(|_| alone)
}

/// The claim for the sandbox's disk, where it needs one and has none.
fn claim(sandbox: &CodeSandbox, observed: &Observed, config: &Config) -> Option<Action> {
    let workspace = sandbox.effective().workspace.filter(|_| observed.claim.is_none())?;
    Some(Action::CreateClaim(Box::new(claim::claim(sandbox, config, &workspace))))
}

/// The removal of a pod whose setup has failed, which its node would try again and again.
fn failed_removal(sandbox: &CodeSandbox, observed: &Observed) -> Option<Action> {
    let pod = observed.pod.as_ref().filter(|pod| pod::is_owned(&pod.metadata, sandbox))?;
    termination::setup_failed(pod).and_then(|_| removal(pod))
}

/// Whether a finished sandbox may have a pod that is to be removed.
fn may_have_failed(status: &CodeSandboxStatus) -> bool {
    let last = status.last_termination.as_ref().map(|end| end.reason);
    last == Some(TerminationReason::SetupFailed) && status.pod_uid.is_some()
}

/// When to look again: at the end of the sandbox at the latest. All else is told to us by the watches.
fn requeue(
    sandbox: &CodeSandbox,
    observed: &Observed,
    situation: &Situation<'_>,
    status: &CodeSandboxStatus,
    now: Timestamp,
) -> Option<Duration> {
    let soon = match situation {
        Situation::Lost(..)
        | Situation::Unbound(_)
        | Situation::Retiring(..)
        | Situation::Forgoing(_)
        | Situation::Emptied => Some(Duration::ZERO),
        Situation::BackingOff(next) => Some(time::until(*next, now)),
        Situation::Taken(taken) if matches!(taken.whose, Whose::Other | Whose::Unlike) => {
            Some(TAKEN_RETRY)
        }
        Situation::Taken(_) => Some(LEAVING_RETRY),
        // Of templates that come, the watch tells.
        Situation::Barred(_) if observed.templates.is_none() => Some(UNKNOWN_RETRY),
        _ => match (&observed.refusal, observed.injection) {
            (Some(refusal), _) => Some(time::until(refusal.retry_at, now)),
            (None, Injection::Asking(until) | Injection::Waiting(until))
                if matches!(situation, Situation::Absent) =>
            {
                Some(time::until(until, now))
            }
            _ => None,
        },
    };
    let proof = situation.alive().and_then(starting::proven_at).filter(|proven| *proven > now);
    let judged = CodeSandbox { status: Some(status.clone()), ..sandbox.clone() };
    let warns =
        End::next(sandbox, situation.alive()).map(|end| end.warns_at).filter(|warns| *warns > now);
    let look = situation.alive().and_then(|pod| hindrance::look_at(pod, now));
    let times = proof.into_iter().chain(look).chain(warns).chain(expiry::ends_at(&judged));
    soon.into_iter().chain(times.map(|time| time::until(time, now))).min()
}

#[cfg(test)]
mod tests;
