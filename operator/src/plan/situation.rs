//! How things stand with a sandbox: what its pod is to it, or why it has none.

use api::{
    BoundTemplate, CodeSandbox, OnIdle, Rest, Termination, TerminationReason, condition, names,
};
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::ResourceExt;

use crate::{
    claim,
    config::Config,
    gpu, isolation, network,
    observe::Observed,
    pod, restart,
    template::{self, Binding},
    termination,
};

/// What a sandbox's pod is to it.
#[derive(Debug)]
pub(crate) enum Situation<'a> {
    /// The sandbox has finished, whatever became of its pod.
    Over,
    /// No pod has been made, and what it is made from is to be taken down first.
    Unbound(Box<BoundTemplate>),
    /// No pod has been made, and the template does not let it be.
    Barred(crate::status::Verdict),
    /// No pod has been made, and none will be: its network would have to reach what no sandbox may.
    Forbidden(crate::status::Verdict),
    /// The disk on which the setup was done is gone: it is to be done anew on the next.
    Emptied,
    /// No pod of this attempt has been made.
    Absent,
    /// The pod of this attempt was lost, of which there may be something left, and another follows.
    Lost(Option<&'a Pod>, Termination),
    /// No pod of this attempt is to be made before a time.
    BackingOff(Timestamp),
    /// The sandbox is to have no pod from now on. It has one, or the one it had ended so.
    Retiring(Rest, Option<Termination>),
    /// The pod waits for GPUs that the sandbox can do without, in these words, and one that asks for none follows.
    Forgoing(String),
    /// The sandbox is to have no pod, and this attempt has none.
    Resting(Rest),
    /// Somebody else's object has a name we need.
    Taken(Taken),
    /// The pod will not run again, or is gone, and no other follows.
    Ended(Option<&'a Pod>, Termination),
    /// The pod runs or is on its way to.
    Alive(&'a Pod),
}

impl<'a> Situation<'a> {
    /// The pod that runs or is on its way to.
    pub(crate) fn alive(&self) -> Option<&'a Pod> {
        match self {
            Self::Alive(pod) => Some(pod),
            _ => None,
        }
    }
}

/// An object that has a name we need and is not to be used.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) whose: Whose,
}

/// Whose an object is that is not to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// An earlier sandbox's of the same name, and so goes by itself.
    Predecessor,
    /// The sandbox's own, and somebody has deleted it.
    Leaving,
    /// One that was kept for the sandbox, and is not what it asks for.
    Unlike,
    /// Somebody else's.
    Other,
}

impl Taken {
    pub(crate) fn new(kind: &'static str, object: &ObjectMeta, sandbox: &CodeSandbox) -> Self {
        let mut owners = object.owner_references.iter().flatten();
        let predecessor = owners.any(|owner| {
            owner.kind == "CodeSandbox"
                && Some(&owner.name) == sandbox.metadata.name.as_ref()
                && Some(&owner.uid) != sandbox.metadata.uid.as_ref()
        });
        let whose = if predecessor {
            Whose::Predecessor
        } else if pod::is_owned(object, sandbox) && object.deletion_timestamp.is_some() {
            Whose::Leaving
        } else {
            Whose::Other
        };
        Self { kind, name: object.name.clone().unwrap_or_default(), whose }
    }
}

/// How things stand with a sandbox now.
pub(super) fn situation<'a>(
    sandbox: &CodeSandbox,
    observed: &'a Observed,
    config: &Config,
    now: Timestamp,
) -> Situation<'a> {
    let status = sandbox.status.as_ref();
    if status.is_some_and(|status| status.is_true(condition::FINISHED)) {
        return Situation::Over;
    }
    let seen = status.is_some_and(|status| status.pod_uid.is_some());
    let Some(pod) = &observed.pod else {
        return if seen {
            over(sandbox, None, termination::lost(None))
        } else {
            unmade(sandbox, observed, config, now)
        };
    };
    if !pod::is_owned(&pod.metadata, sandbox) {
        return match (seen, sandbox.rest()) {
            // Ours is gone, and its name with it.
            (true, _) => over(sandbox, None, termination::lost(None)),
            (false, Some(rest)) => Situation::Resting(rest),
            (false, None) => Situation::Taken(Taken::new("Pod", &pod.metadata, sandbox)),
        };
    }
    if !seen && !pod::is_marked(&pod.metadata, sandbox) {
        return Situation::Taken(Taken::new("Pod", &pod.metadata, sandbox));
    }
    if is_another(sandbox, pod) {
        return over(sandbox, Some(pod), termination::lost(None));
    }
    // A pod being deleted may end in any phase: its end is the deletion, not that phase.
    if pod.metadata.deletion_timestamp.is_some() {
        return over(sandbox, Some(pod), termination::lost(Some(pod)));
    }
    let ended = termination::ended(pod).or_else(|| termination::setup_failed(pod));
    match (ended, sandbox.rest()) {
        (Some(end), _) => over(sandbox, Some(pod), end),
        (None, Some(rest)) => Situation::Retiring(rest, None),
        (None, None) => {
            gpu::forgone(sandbox, pod).map_or(Situation::Alive(pod), Situation::Forgoing)
        }
    }
}

/// The situation of a sandbox of which no pod of this attempt is known.
fn unmade<'a>(
    sandbox: &CodeSandbox,
    observed: &'a Observed,
    config: &Config,
    now: Timestamp,
) -> Situation<'a> {
    let binding = template::binding(sandbox, observed, config);
    if let Some(rest) = sandbox.rest() {
        // How long it lives may be its template's to say, and it does so while it rests.
        return match binding {
            Binding::Bind(template) => Situation::Unbound(template),
            _ => Situation::Resting(rest),
        };
    }
    if let Some(next) = sandbox.status.as_ref().and_then(|status| restart::next(status, now)) {
        return Situation::BackingOff(next);
    }
    if let Some(taken) =
        taken_policy(sandbox, observed, config).or_else(|| claim::taken(sandbox, observed, config))
    {
        return Situation::Taken(taken);
    }
    if is_emptied(sandbox, observed) {
        return Situation::Emptied;
    }
    match binding {
        Binding::Settled => network::forbidden::verdict(sandbox, config)
            .map_or(Situation::Absent, Situation::Forbidden),
        Binding::Bind(template) => Situation::Unbound(template),
        Binding::Barred(verdict) => Situation::Barred(verdict),
    }
}

/// Whether the disk is gone on which a sandbox's setup was done.
fn is_emptied(sandbox: &CodeSandbox, observed: &Observed) -> bool {
    let set_up = sandbox.status.as_ref().is_some_and(|status| status.set_up);
    set_up && sandbox.effective().workspace.is_some() && observed.claim.is_none()
}

/// The situation of a sandbox whose pod is over: another one follows, or none, or none for now.
fn over<'a>(sandbox: &CodeSandbox, pod: Option<&'a Pod>, end: Termination) -> Situation<'a> {
    match sandbox.rest() {
        // It was to go anyway.
        Some(rest) if termination::is_loss(end.reason) => return Situation::Retiring(rest, None),
        _ => {}
    }
    let pauses = sandbox.effective().on_idle == OnIdle::Pause;
    if end.reason == TerminationReason::IdleTimeout && pauses {
        return Situation::Retiring(Rest::Paused, Some(end));
    }
    let end = restart::told(sandbox, end);
    match restart::finish(sandbox, &end) {
        Some(end) => Situation::Ended(pod, end),
        None => Situation::Lost(pod, end),
    }
}

/// Whether a pod has the name of the sandbox's and is not the one that was seen under it.
pub(super) fn is_another(sandbox: &CodeSandbox, pod: &Pod) -> bool {
    let seen = sandbox.status.as_ref().and_then(|status| status.pod_uid.as_deref());
    seen.is_some_and(|seen| pod.metadata.uid.as_deref() != Some(seen))
}

/// Somebody else's policy that has the name of the sandbox's own, where it needs one.
pub(super) fn taken_policy(
    sandbox: &CodeSandbox,
    observed: &Observed,
    config: &Config,
) -> Option<Taken> {
    isolation::wanted(sandbox, observed.pod.as_ref(), config)?;
    let policy = observed.policy(&names::internet_policy(&sandbox.name_any()))?;
    let foreign = !pod::is_owned(&policy.metadata, sandbox);
    foreign.then(|| Taken::new("NetworkPolicy", &policy.metadata, sandbox))
}
