//! What can go wrong between a caller and a sandbox.

use std::time::Duration;

/// What can go wrong between a caller and a sandbox.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No usable configuration for the kube API.
    #[error("could not set up the kube client")]
    Config(#[source] Box<dyn std::error::Error + Send + Sync>),

    /// The kube API refused or failed.
    #[error("could not {doing} CodeSandbox {sandbox}")]
    Kube {
        /// The verb.
        doing: &'static str,
        /// The object.
        sandbox: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },

    /// The pod cannot be reached through `pods/exec`, or not now.
    #[error("could not open an exec stream to pod {pod}")]
    Exec {
        /// The pod.
        pod: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },

    /// The pod of this name is another one than the caller meant.
    #[error("pod {pod} was replaced: its files, processes and runs are gone")]
    Replaced {
        /// The pod.
        pod: String,
    },

    /// The agent speaks a protocol this client does not.
    #[error("the agent of pod {pod} speaks protocol {agent}, this client {client}")]
    Protocol {
        /// The pod.
        pod: String,
        /// The agent's version.
        agent: u32,
        /// Ours.
        client: u32,
    },

    /// The agent has no such call: it is older than this client.
    #[error("the agent of pod {pod} is older than what was asked of it")]
    TooOld {
        /// The pod.
        pod: String,
    },

    /// The stream to the agent broke, or never came about.
    #[error("lost the stream to pod {pod}: {reason}")]
    Lost {
        /// The pod.
        pod: String,
        /// The transport's words.
        reason: String,
    },

    /// A run's outcome cannot be told. It may be running, have ended or never have started.
    #[error("the outcome of run {run} is unknown: {reason}")]
    Unknown {
        /// The run.
        run: String,
        /// Why it cannot be told.
        reason: String,
    },

    /// A change whose answer was lost: it was made once or not at all, and is not tried again.
    #[error("whether {doing} has changed {path} is unknown: {reason}")]
    Uncertain {
        /// The call.
        doing: &'static str,
        /// The file, directory, context or run.
        path: String,
        /// Why it cannot be told.
        reason: String,
    },

    /// What arrived is not what was sent, or not what was asked for.
    #[error("{what} arrived corrupted: {why}")]
    Corrupted {
        /// The stream, file or directory.
        what: String,
        /// How that shows.
        why: &'static str,
    },

    /// The caller's own source could not be read, or what arrived could not be handed on to it.
    #[error("could not {doing} on this side of {path}")]
    Local {
        /// The verb.
        doing: &'static str,
        /// The path in the sandbox.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },

    /// The agent's answer was an error.
    #[error(transparent)]
    Agent(wire::Error),

    /// An answer took too long.
    #[error("no answer to {doing} from pod {pod} within {after:?}")]
    Deadline {
        /// The call.
        doing: &'static str,
        /// The pod.
        pod: String,
        /// The deadline.
        after: Duration,
    },
}

impl Error {
    /// Whether the stream is to blame and a new one may do.
    pub(crate) fn is_transport(&self) -> bool {
        match self {
            Self::Lost { .. } | Self::Deadline { .. } => true,
            // A pod that is gone and a missing right do not mend themselves. Everything else, a
            // container between two starts included, may.
            Self::Exec { .. } => !self.is_denied() && !self.is_gone(),
            _ => false,
        }
    }

    /// Whether the API server says that we may not exec into the pod.
    pub(crate) fn is_denied(&self) -> bool {
        let Self::Exec { source, .. } = self else { return false };
        matches!(&**source, kube::Error::Api(status) if status.code == 403)
    }

    /// Whether the pod does not exist any more, by the word of the API server. The kubelet's 404,
    /// which is no `Status`, only says that it has not heard of the pod: for its first second it has
    /// heard of none.
    pub fn is_gone(&self) -> bool {
        let Self::Exec { source, .. } = self else { return false };
        matches!(&**source, kube::Error::Api(status) if status.code == 404 && status.reason == "NotFound")
    }
}
