//! A pod: one that waited in a pool, or one that is made, and what comes before that: to know how the agent gets into it.

use api::{CodeSandbox, names};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{Action, attempt};
use crate::{
    config::Config,
    injection::Injection,
    observe::Observed,
    pod,
    pool::claim::{self, Start},
    probe::{self, Verdict},
};

/// The pod that waited, or the one that is made, where it is known how the agent gets into it, or else the next step to
/// know it.
pub(super) fn step(
    sandbox: &CodeSandbox,
    observed: &Observed,
    config: &Config,
    now: Timestamp,
) -> Option<Action> {
    let probe = observed.probe.as_ref();
    let start = claim::start(sandbox, &observed.pooled, config, now);
    let why = match start {
        Some(Start::Warm(claims)) => {
            return leave(sandbox, observed).or(Some(Action::Claim(claims)));
        }
        Some(Start::Cold(why)) => Some(why),
        None => None,
    };
    let create_probe = || Action::CreateProbe(Box::new(probe::pod(sandbox, config)));
    match observed.injection {
        Injection::By(way) => {
            let pod = || {
                let mut pod = pod::pod(sandbox, config, way, attempt(sandbox));
                let said = why.map(|why| (names::START.into(), why.into()));
                pod.metadata.annotations.get_or_insert_default().extend(said);
                pod
            };
            leave(sandbox, observed).or_else(|| Some(Action::CreatePod(Box::new(pod()))))
        }
        // Also where a probe is there, of an operator before us: nobody else is to make another meanwhile.
        Injection::Unknown => Some(create_probe()),
        Injection::Asking(until) => finding(sandbox, probe, until <= now)
            .map(Action::Conclude)
            .or_else(|| probe.is_none().then(create_probe)),
        Injection::Waiting(_) => None,
    }
}

/// The removal of a probe that is of no use any more.
pub(super) fn leave(sandbox: &CodeSandbox, observed: &Observed) -> Option<Action> {
    observed.probe.as_ref().filter(|probe| probe::is_ours(probe, sandbox)).and_then(removal)
}

/// The removal of a probe that is not going by itself already.
fn removal(probe: &Pod) -> Option<Action> {
    if probe.metadata.deletion_timestamp.is_some() {
        return None;
    }
    Some(Action::DeleteProbe { name: probe.name_any(), uid: probe.uid()? })
}

/// What the probe shows, if it does by now.
fn finding(sandbox: &CodeSandbox, probe: Option<&Pod>, late: bool) -> Option<Verdict> {
    let verdict = match probe {
        Some(probe) if !probe::is_ours(probe, sandbox) => {
            let name = probe.name_any();
            Some(Verdict::Unclear(format!("Pod {name} is not this sandbox's and is left alone")))
        }
        probe => probe.and_then(probe::judge),
    };
    verdict.or_else(|| late.then(|| Verdict::Unclear("the probe did not end in time".into())))
}
