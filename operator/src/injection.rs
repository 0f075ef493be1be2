//! How the agent gets into a pod: by an image volume where the nodes execute from one, or else by an init container.
//!
//! An image volume costs nothing, an init container about a second. But some runtimes mount image volumes empty or for
//! nobody to execute, and only trying shows it, with each runtime anew. So the first sandbox of a runtime makes a probe,
//! and what it shows is remembered here, for all namespaces, until the operator ends.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use api::CodeSandbox;
use clap::ValueEnum;
use futures::Stream;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::{
    news::News,
    pod,
    probe::Verdict,
    starting,
    time::{later, waits},
};

/// How long a sandbox has to find out: the probe's own deadline, and some time to be told of it.
const PATIENCE: Duration = Duration::from_secs(75);
/// How much longer the others wait for it, which has a probe to clear away.
const LATE: Duration = Duration::from_secs(15);
/// How long nobody asks again where a probe gave no answer.
const PAUSE: Duration = Duration::from_mins(1);
/// How long what a probe showed is not doubted: that the agent does not start in some pod may be that pod's own fault, and each
/// doubt costs all others of the runtime a wait.
const TRUST: Duration = Duration::from_mins(10);

/// What the administrator chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub(crate) enum AgentInjection {
    /// By an image volume where a probe shows that this works, else by an init container
    Auto,
    /// Always by an image volume
    ImageVolume,
    /// Always by an init container
    InitContainer,
}

/// A way into a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The kubelet mounts the agent's image.
    ImageVolume,
    /// An init container of the agent's image installs the agent into a volume.
    InitContainer,
}

/// What is known of the way into a sandbox's pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Injection {
    /// It is decided.
    By(Way),
    /// Nobody knows, and nobody has asked.
    #[default]
    Unknown,
    /// This sandbox is to find out, until then.
    Asking(Timestamp),
    /// Another sandbox is to find out, until then at the latest.
    Waiting(Timestamp),
}

/// What is known of the runtimes, by the names of their RuntimeClasses; none stands for the nodes' own. The lock is held
/// for a few instructions at a time.
#[derive(Debug)]
pub(crate) struct Runtimes {
    chosen: AgentInjection,
    known: Mutex<HashMap<Option<String>, Known>>,
    /// Tells those who wait that they need not any longer.
    news: News,
}

#[derive(Debug)]
enum Known {
    /// A sandbox, by namespace and name, has until then to find out.
    Asked { by: (String, String), until: Timestamp },
    /// It was found out: by a probe at that time, or from a pod that ran.
    Settled(Way, Option<Timestamp>),
    /// There was no answer, and until then nobody asks again.
    Unclear(Timestamp),
    /// What worked has failed since: only a probe can tell, not the pods that run already.
    Doubted,
}

/// The name of a sandbox's RuntimeClass.
fn class(sandbox: &CodeSandbox) -> Option<String> {
    sandbox.effective().runtime_class_name
}

impl Runtimes {
    pub(crate) fn new(chosen: AgentInjection) -> Self {
        Self { chosen, known: Mutex::default(), news: News::default() }
    }

    /// What is known for a sandbox.
    pub(crate) fn injection(&self, sandbox: &CodeSandbox, now: Timestamp) -> Injection {
        match self.chosen {
            AgentInjection::ImageVolume => Injection::By(Way::ImageVolume),
            AgentInjection::InitContainer => Injection::By(Way::InitContainer),
            AgentInjection::Auto => judge(self.lock().get(&class(sandbox)), sandbox, now),
        }
    }

    /// Has a sandbox find out, unless another one does or it is known by now.
    pub(crate) fn ask(&self, sandbox: &CodeSandbox, now: Timestamp) -> Injection {
        let mut known = self.lock();
        let injection = judge(known.get(&class(sandbox)), sandbox, now);
        if injection != Injection::Unknown {
            return injection;
        }
        let until = later(now, PATIENCE);
        let asked = Known::Asked { by: key(sandbox), until };
        known.insert(class(sandbox), asked);
        Injection::Asking(until)
    }

    /// Takes note of what a sandbox found out.
    pub(crate) fn settle(&self, sandbox: &CodeSandbox, verdict: &Verdict, now: Timestamp) {
        let known = match verdict {
            Verdict::Works => Known::Settled(Way::ImageVolume, Some(now)),
            Verdict::Fails(_) => Known::Settled(Way::InitContainer, Some(now)),
            Verdict::Unclear(_) => Known::Unclear(later(now, PAUSE)),
        };
        self.lock().insert(class(sandbox), known);
        self.news.tell();
    }

    /// Takes note of a sandbox's pod where it proves that image volumes work and nothing was known: an operator that
    /// starts over sandboxes that run needs no probe.
    pub(crate) fn saw(&self, sandbox: &CodeSandbox, pod: Option<&Pod>) {
        if pod.is_some_and(|pod| proves(pod, sandbox)) {
            self.lock().entry(class(sandbox)).or_insert(Known::Settled(Way::ImageVolume, None));
        }
    }

    /// Takes note that the agent did not get into a sandbox's pod.
    pub(crate) fn doubt(&self, sandbox: &CodeSandbox, now: Timestamp) {
        let mut runtimes = self.lock();
        let Some(known) = runtimes.get_mut(&class(sandbox)) else { return };
        if let Known::Settled(Way::ImageVolume, probed) = known
            && !probed.is_some_and(|at| waits(later(at, TRUST), TRUST, now))
        {
            *known = Known::Doubted;
        }
    }

    /// Lets another sandbox ask in the place of one that is gone or cannot.
    pub(crate) fn release(&self, namespace: &str, name: &str) {
        let mut known = self.lock();
        let before = known.len();
        known.retain(|_, known| {
            !matches!(known, Known::Asked { by, .. } if by.0 == namespace && by.1 == name)
        });
        if known.len() < before {
            self.news.tell();
        }
    }

    /// Says each time that those who wait for a finding are to look again.
    pub(crate) fn news(&self) -> impl Stream<Item = ()> + Send + use<> {
        self.news.news()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Option<String>, Known>> {
        // No change can be left half done, so what a panic left behind is as good as ever.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What something known means for a sandbox.
fn judge(known: Option<&Known>, sandbox: &CodeSandbox, now: Timestamp) -> Injection {
    match known {
        Some(Known::Settled(way, _)) => Injection::By(*way),
        Some(Known::Unclear(until)) if waits(*until, PAUSE, now) => {
            Injection::By(Way::InitContainer)
        }
        Some(Known::Asked { by, until })
            if *by == key(sandbox) && *until <= later(now, PATIENCE) =>
        {
            Injection::Asking(*until)
        }
        Some(Known::Asked { until, .. }) if waits(later(*until, LATE), PATIENCE + LATE, now) => {
            Injection::Waiting(later(*until, LATE))
        }
        Some(Known::Asked { .. } | Known::Unclear(_) | Known::Doubted) | None => Injection::Unknown,
    }
}

/// Whether a sandbox's pod runs our agent from an image volume.
fn proves(pod: &Pod, sandbox: &CodeSandbox) -> bool {
    pod::is_owned(&pod.metadata, sandbox)
        && pod::is_marked(&pod.metadata, sandbox)
        && pod::agent::has_image_volume(pod)
        // An agent that has seen the network open has run, too.
        && starting::ready(pod, Timestamp::MAX).status == "True"
}

fn key(sandbox: &CodeSandbox) -> (String, String) {
    (sandbox.namespace().unwrap_or_default(), sandbox.name_any())
}

#[cfg(test)]
mod tests;
