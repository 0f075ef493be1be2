//! The status of a pool. As of sandboxes, nothing in it moves by itself.

use api::{CodeSandboxPool, CodeSandboxPoolStatus, condition, names, reason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::{member::State, plan::Member, source::Source};
use crate::{
    observe::Refusal,
    status::{self, Verdict, words},
};

/// The status that follows from what was observed.
pub(super) fn status(
    pool: &CodeSandboxPool,
    source: &Source<'_>,
    members: &[Member<'_>],
    refusal: Option<&Refusal>,
    now: Timestamp,
) -> CodeSandboxPoolStatus {
    let old = pool.status.as_ref().map(|status| &*status.conditions).unwrap_or_default();
    let generation = pool.metadata.generation;
    let verdict = ready(pool, source, members, refusal);
    let warm = members.iter().filter(|one| one.state == State::Ready).count();
    CodeSandboxPoolStatus {
        conditions: vec![status::set(old, condition::READY, verdict, generation, now)],
        replicas: count(members.len()),
        ready_replicas: count(warm),
        selector: Some(names::unclaimed(&pool.name_any())),
        observed_generation: generation,
    }
}

/// Whether a status says no more than that a pool has a few pods less, or more, than the one before it said: both are of a
/// pool that has some ready, and nothing else is wrong.
pub(super) fn is_passing(old: Option<&CodeSandboxPoolStatus>, new: &CodeSandboxPoolStatus) -> bool {
    let Some(old) = old.filter(|old| old.observed_generation == new.observed_generation) else {
        return false;
    };
    let reason = |status| said(status).map(|ready| ready.reason.as_str());
    let counts = match (reason(old), reason(new)) {
        // That it is full again is more.
        (Some(reason::FILLING), Some(reason::POOL_READY)) => false,
        (Some(was), Some(is)) => {
            [was, is].iter().all(|one| [reason::POOL_READY, reason::FILLING].contains(one))
        }
        _ => false,
    };
    counts && old.ready_replicas > 0 && new.ready_replicas > 0
}

/// What a status says of Ready.
fn said(status: &CodeSandboxPoolStatus) -> Option<&Condition> {
    status.conditions.iter().find(|one| one.type_ == condition::READY)
}

fn count(pods: usize) -> u32 {
    u32::try_from(pods).unwrap_or(u32::MAX)
}

/// Since when a pool has not been ready; none where it is, or nothing is said of it.
pub(super) fn failing_since(pool: &CodeSandboxPool) -> Option<Timestamp> {
    let ready = said(pool.status.as_ref()?)?;
    (ready.status == "False").then_some(ready.last_transition_time.0)
}

/// Ready's verdict on a pool.
fn ready(
    pool: &CodeSandboxPool,
    source: &Source<'_>,
    members: &[Member<'_>],
    refusal: Option<&Refusal>,
) -> Verdict {
    if let Source::Unknown(verdict) | Source::Unsuitable(verdict) = source {
        return verdict.clone();
    }
    let wanted = pool.spec.replicas as usize;
    let warm = members.iter().filter(|one| one.state == State::Ready).count();
    if warm >= wanted {
        let said = format!("{warm} pods wait for a sandbox");
        return Verdict::yes(reason::POOL_READY, said);
    }
    let so_far = format!("{warm} of {wanted} pods wait for a sandbox");
    if let Some(refusal) = refusal.filter(|_| members.len() < wanted) {
        return refused(refusal, &so_far);
    }
    for one in members {
        if let State::Ended(end) = &one.state {
            let (name, said) = (one.pod.name_any(), words(&end.message));
            let said = format!(
                "{so_far}; Pod {name} ended ({:?}): {said}; it is replaced at {}, so mend the template if others end like it",
                end.reason, one.until
            );
            return Verdict::no(reason::MEMBER_FAILED, said);
        }
    }
    let stuck = members.iter().find_map(|one| match &one.state {
        State::Starting(why) if !is_under_way(&why.reason) => Some((one.pod, why)),
        _ => None,
    });
    match stuck {
        Some((pod, why)) => {
            let said = format!("{so_far}; Pod {}: {}", pod.name_any(), why.message);
            Verdict::no(why.reason.clone(), said)
        }
        None => Verdict::no(reason::FILLING, so_far),
    }
}

/// Whether a reason of Ready is one that every sandbox passes.
fn is_under_way(why: &str) -> bool {
    matches!(why, reason::CREATING | reason::STARTING | reason::SETTING_UP)
}

fn refused(refusal: &Refusal, so_far: &str) -> Verdict {
    let Refusal { object, words: said, .. } = refusal;
    let (reason, next) = if status::is_quota(said) {
        (
            reason::QUOTA_EXCEEDED,
            "the rest is made within a minute of enough of the quota being free, so delete what is not needed, have the administrator raise it, or lower spec.replicas",
        )
    } else {
        (
            reason::ADMISSION_REFUSED,
            "it is tried again by itself, so have the policy or the namespace's Pod Security level changed, or correct the template",
        )
    };
    let said = format!("{so_far}; the API server refused {object}: {}; {next}", words(said));
    Verdict::no(reason, said)
}
