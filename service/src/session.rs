//! How a call comes to the agent of its sandbox: waited for, woken, and looked at anew where the watch lags.

use std::{sync::Arc, time::Duration};

use api::{CodeSandbox, CodeSandboxStatus, Rest, condition, reason};
use client::{Session, is_older};
use kube::ResourceExt;
use tokio::time::Instant;

use crate::{Code, Error, Principal, Service, limits::Wish};

/// How long a call waits for a sandbox that is being made.
const READY_DEADLINE: Duration = Duration::from_secs(30);

impl Service {
    /// Waits until a sandbox takes calls, cannot without somebody's help, or `deadline`; the sandbox as it then is.
    pub async fn settled(&self, sandbox: &Arc<CodeSandbox>, deadline: Instant) -> Arc<CodeSandbox> {
        let settled = |current: Option<&CodeSandbox>| {
            let Some(current) = current else { return Some(sandbox.clone()) };
            let status = current.status.as_ref()?;
            let settled = status.is_true(condition::READY)
                || status.is_true(condition::FINISHED)
                || current.rest() == Some(Rest::Suspended)
                || is_barred(status);
            settled.then(|| Arc::new(current.clone()))
        };
        if let Some(settled) = settled(Some(sandbox)) {
            return settled;
        }
        if let Some(settled) = self.sandboxes.wait(sandbox, deadline, settled).await {
            return settled;
        }
        match self.sandboxes.get(&sandbox.name_any()).await {
            Ok(Some(current))
                if current.uid() == sandbox.uid() && !is_older(&*current, sandbox) =>
            {
                current
            }
            _ => sandbox.clone(),
        }
    }

    /// Whether a sandbox of the caller's is paused, as far as the watch shows; none of one that it does not show.
    pub fn is_paused(&self, principal: &Principal, name: &str) -> Option<bool> {
        let shown = self.sandboxes.cached(name).filter(|shown| self.visible(principal, shown))?;
        match shown.rest() {
            None => Some(false),
            Some(Rest::Paused) => Some(true),
            Some(Rest::Suspended) => None,
        }
    }

    /// Wakes a sandbox if it is paused and its owner may have it awake. That it is to be suspended is the user's word, and
    /// stays.
    pub(crate) async fn wake(
        &self,
        principal: &Principal,
        sandbox: &CodeSandbox,
    ) -> Result<(), Error> {
        if sandbox.rest() != Some(Rest::Paused) {
            return Ok(());
        }
        let place = self.place(principal, sandbox, Wish::Wake(&sandbox.name_any())).await?;
        self.sandboxes.wake(sandbox).await?;
        place.keep(Instant::now().into_std());
        Ok(())
    }

    /// The session with a sandbox's agent, once the sandbox is ready. One that is paused is woken.
    pub(crate) async fn session(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<Arc<Session>, Error> {
        let deadline = Instant::now() + READY_DEADLINE;
        let sandbox = self.find(principal, name).await?;
        let (shown, refusal) = match self.reached(principal, sandbox, deadline).await? {
            Ok(session) => return Ok(session),
            Err(refused) => refused,
        };
        // That one ends for good.
        if is(&shown, condition::FINISHED) {
            return Err(refusal);
        }
        // The watch may lag behind a rest that is over, and that is no reason to refuse.
        match self.look(principal, name).await {
            Ok(now) if has_moved_on(&shown, &now) => {
                self.reached(principal, now, deadline).await?.map_err(|(_, refusal)| refusal)
            }
            Err(gone) if gone.code == Code::SandboxNotFound => Err(gone),
            Ok(_) | Err(_) => Err(refusal),
        }
    }

    /// The session with the agent of a sandbox that takes calls by the deadline; or the sandbox that does not, and why.
    async fn reached(
        &self,
        principal: &Principal,
        mut sandbox: Arc<CodeSandbox>,
        deadline: Instant,
    ) -> Result<Result<Arc<Session>, (Arc<CodeSandbox>, Error)>, Error> {
        // Nobody is woken for a call that is over.
        if !is(&sandbox, condition::READY) && Instant::now() < deadline {
            match self.wake(principal, &sandbox).await {
                // It may have been woken by another, which the watch does not show yet.
                Err(refusal) if refusal.code == Code::QuotaExceeded => {
                    return Ok(Err((sandbox, refusal)));
                }
                woken => woken?,
            }
            sandbox = self.settled(&sandbox, deadline).await;
        }
        let ready = is(&sandbox, condition::READY);
        let Some(session) = self.sandboxes.session(&sandbox).filter(|_| ready) else {
            let refusal = not_ready(&sandbox);
            return Ok(Err((sandbox, refusal)));
        };
        match session.warm().await {
            Err(error) if error.is_gone() => Ok(Err((sandbox, error.into()))),
            // What else keeps the stream from being opened, the call itself meets, and knows how long to try.
            Ok(()) | Err(_) => Ok(Ok(session)),
        }
    }
}

pub(crate) fn is(sandbox: &CodeSandbox, condition: &str) -> bool {
    sandbox.status.as_ref().is_some_and(|status| status.is_true(condition))
}

/// Whether a sandbox that took no calls as it was shown may take them now. A pod that was lost, or went with a namesake, is
/// to be told of, and not to be passed over.
fn has_moved_on(shown: &CodeSandbox, now: &CodeSandbox) -> bool {
    let pod = |sandbox: &CodeSandbox| sandbox.status.as_ref()?.pod_uid.clone();
    let losses = |sandbox: &CodeSandbox| sandbox.status.as_ref().map(CodeSandboxStatus::lost_pods);
    if !is(shown, condition::READY) {
        return true;
    }
    let gone_still = is(now, condition::READY) && pod(shown) == pod(now);
    (shown.uid(), losses(shown)) == (now.uid(), losses(now)) && !gone_still
}

/// Why a sandbox takes no calls, in the words of its conditions.
pub(crate) fn not_ready(sandbox: &CodeSandbox) -> Error {
    let name = sandbox.name_any();
    let status = sandbox.status.clone().unwrap_or_default();
    let words = |type_| {
        let condition = status.condition(type_);
        condition.map_or_else(String::new, |condition| {
            format!(" ({}: {})", condition.reason, condition.message)
        })
    };
    if status.is_true(condition::FINISHED) {
        return Error::new(
            Code::SandboxFinished,
            format!(
                "sandbox {name} has ended{}. Call sandbox_create for a new one.",
                words(condition::FINISHED)
            ),
        );
    }
    if sandbox.rest() == Some(Rest::Suspended) {
        return Error::new(
            Code::SandboxSuspended,
            format!(
                "sandbox {name} has no pod because its spec.suspend is true. Whoever suspended it has to set that to false, as with `kubectl patch csb {name} --type=merge -p '{{\"spec\":{{\"suspend\":false}}}}'`."
            ),
        );
    }
    Error::new(
        Code::SandboxNotReady,
        format!(
            "sandbox {name} is not ready yet{}. Try again, or look with sandbox_get.",
            words(condition::READY)
        ),
    )
}

/// Whether a sandbox waits for its caller or an administrator to do something: for that nobody waits.
fn is_barred(status: &CodeSandboxStatus) -> bool {
    let barred = [reason::TEMPLATE_FORBIDS, reason::TEMPLATE_NOT_FOUND, reason::NETWORK_FORBIDDEN];
    status.condition(condition::READY).is_some_and(|ready| barred.contains(&&*ready.reason))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nobody_waits_for_what_is_forbidden() {
        for (reason, barred) in [
            (reason::TEMPLATE_FORBIDS, true),
            (reason::TEMPLATE_NOT_FOUND, true),
            (reason::NETWORK_FORBIDDEN, true),
            (reason::TEMPLATE_NOT_ACCEPTED, false),
            (reason::CREATING, false),
        ] {
            let ready = json!({"type": "Ready", "status": "False", "reason": reason, "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"});
            let status = serde_json::from_value(json!({"conditions": [ready]})).unwrap();
            assert_eq!(is_barred(&status), barred, "{reason}");
        }
    }
}
