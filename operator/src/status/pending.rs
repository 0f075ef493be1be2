//! Ready's verdict on a sandbox that has no pod.

use api::{CodeSandbox, Rest, condition, names, reason};
use kube::ResourceExt;

use super::{Verdict, words};
use crate::{
    injection::Injection,
    observe::Observed,
    plan::{self, Taken, Whose},
    probe, restart,
};

/// What the API server says of an object that a ResourceQuota has no room for. It has no reason of its own.
const EXCEEDED: &str = "exceeded quota: ";

/// Ready's verdict where somebody has deleted the disk on which the setup was done.
pub(super) fn emptied(sandbox: &CodeSandbox) -> Verdict {
    let claim = names::workspace(&sandbox.name_any());
    let said = format!(
        "PersistentVolumeClaim {claim} was deleted, and with it all that was on the disk; the sandbox gets another, on which spec.setup is done anew"
    );
    Verdict::no(reason::DISK_LOST, said)
}

/// Ready's verdict where no pod has been made yet.
pub(super) fn absent(sandbox: &CodeSandbox, observed: &Observed) -> Verdict {
    if let Some(refusal) = &observed.refusal {
        if let Some(class) = missing_runtime_class(sandbox, &refusal.words) {
            return Verdict::no(
                reason::RUNTIME_CLASS_NOT_FOUND,
                format!(
                    "there is no RuntimeClass {class}; it is tried again by itself, so have the administrator add it, or create the sandbox anew with a spec.runtimeClassName of `kubectl get runtimeclasses`"
                ),
            );
        }
        let (reason, next) = if is_quota(&refusal.words) {
            (
                reason::QUOTA_EXCEEDED,
                "it is made within a minute of enough of the quota being free, so delete sandboxes that are not needed, have the administrator raise it, or create the sandbox anew with less in spec.resources and spec.gpu",
            )
        } else {
            (
                reason::ADMISSION_REFUSED,
                "it is tried again by itself, so have the policy or the namespace's Pod Security level changed, or create the sandbox anew with what is allowed",
            )
        };
        let (object, words) = (&refusal.object, words(&refusal.words));
        return Verdict::no(reason, format!("the API server refused {object}: {words}; {next}"));
    }
    // Also until the probe is deleted: only a sandbox that says so is looked at for one.
    let probe = observed.probe.as_ref().is_some_and(|probe| probe::is_ours(probe, sandbox));
    if probe || matches!(observed.injection, Injection::Asking(_) | Injection::Waiting(_)) {
        return Verdict::no(
            reason::PROBING,
            "a first pod finds out how the agent gets into pods of this runtime, which takes some seconds; wait",
        );
    }
    // A pod that was lost stays the reason until there is another one.
    let ready = sandbox.status.as_ref().and_then(|status| status.condition(condition::READY));
    match ready.filter(|ready| restart::tells_loss(ready)) {
        Some(ready) => Verdict::no(ready.reason.clone(), ready.message.clone()),
        // Not Terminating: that one stands for a loss.
        None => Verdict::no(
            reason::CREATING,
            plan::awaited(sandbox, observed).map_or_else(
                || "the pod is being made".into(),
                |pod| format!("the pod is made once Pod {} is gone", pod.name_any()),
            ),
        ),
    }
}

/// Whether the API server's words are about a quota.
pub(crate) fn is_quota(words: &str) -> bool {
    words.contains(EXCEEDED)
}

/// The RuntimeClass that a sandbox names and the API server does not find.
pub(crate) fn missing_runtime_class(sandbox: &CodeSandbox, words: &str) -> Option<String> {
    let class = sandbox.effective().runtime_class_name?;
    words.contains(&format!("RuntimeClass \"{class}\" not found")).then_some(class)
}

pub(super) fn name_taken(taken: &Taken) -> Verdict {
    let Taken { kind, name, whose } = taken;
    let said = match whose {
        Whose::Predecessor => format!(
            "{kind} {name} belongs to an earlier CodeSandbox of this name and is being removed; wait"
        ),
        Whose::Leaving => {
            format!("{kind} {name} was deleted and is being removed; another one follows")
        }
        Whose::Unlike => format!(
            "{kind} {name} was kept for this sandbox, but is of another size or StorageClass than spec.workspace asks for; create the sandbox anew asking for what it has, or delete it"
        ),
        Whose::Other => format!(
            "{kind} {name} is not this sandbox's and is left alone; delete it, or create the sandbox under another name"
        ),
    };
    Verdict::no(reason::NAME_TAKEN, said)
}

/// Ready's verdict on a sandbox that is to have no pod.
pub(super) fn resting(sandbox: &CodeSandbox, rest: Rest, gone: bool) -> Verdict {
    let effective = sandbox.effective();
    let why = match rest {
        Rest::Suspended => "spec.suspend is true, so there is no pod until it is false".into(),
        Rest::Paused => format!(
            "nobody used the sandbox for its idleTimeout ({}), so there is no pod until somebody does, or gives it another annotation {}",
            effective.idle_timeout.map_or("none".into(), |timeout| timeout.to_string()),
            names::WAKE
        ),
    };
    let left = match effective.workspace {
        Some(_) => "what is on its disk is kept",
        None => "its files are gone, since it has no spec.workspace",
    };
    let still = if gone { "" } else { "; the pod is being ended" };
    Verdict::no(rest.reason(), format!("{why}; {left}{still}"))
}
