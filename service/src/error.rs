//! Errors as callers read them: a stable code, what happened to which sandbox, what to do next.

use std::fmt;

/// What went wrong, stable for programs. Those of the agent come as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A request that can never succeed as it is.
    InvalidArgument,
    /// No such sandbox, or not the caller's.
    SandboxNotFound,
    /// The name is taken by a sandbox that was asked for differently.
    SandboxExists,
    /// The caller has as many sandboxes as it may, or they use as much as they may; or the namespace has no room for another.
    QuotaExceeded,
    /// The sandbox does not run yet.
    SandboxNotReady,
    /// The sandbox has no pod, because its user wants none for now.
    SandboxSuspended,
    /// The sandbox has ended and will not start again.
    SandboxFinished,
    /// The pod of the sandbox was replaced: its state is gone.
    SandboxReplaced,
    /// The run has shown nothing in the event of this number.
    DisplayNotFound,
    /// The sandbox was made by a version that does not understand what was asked.
    SandboxTooOld,
    /// Nobody can tell how the run ended, or whether the change was made.
    OutcomeUnknown,
    /// What arrived is not what was sent.
    Corrupted,
    /// The kube API, or the way to the sandbox, does not answer.
    Unavailable,
    /// This installation may not do what was asked.
    Forbidden,
    /// The agent said so.
    Agent(wire::Code),
}

impl Code {
    /// The code as it stands in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::SandboxNotFound => "SANDBOX_NOT_FOUND",
            Self::SandboxExists => "SANDBOX_EXISTS",
            Self::QuotaExceeded => "QUOTA_EXCEEDED",
            Self::SandboxNotReady => "SANDBOX_NOT_READY",
            Self::SandboxSuspended => "SANDBOX_SUSPENDED",
            Self::SandboxFinished => "SANDBOX_FINISHED",
            Self::SandboxReplaced => "SANDBOX_REPLACED",
            Self::DisplayNotFound => "DISPLAY_NOT_FOUND",
            Self::SandboxTooOld => "SANDBOX_TOO_OLD",
            Self::OutcomeUnknown => "OUTCOME_UNKNOWN",
            Self::Corrupted => "CORRUPTED",
            Self::Unavailable => "UNAVAILABLE",
            Self::Forbidden => "FORBIDDEN",
            Self::Agent(code) => code.as_str(),
        }
    }
}

/// An error as a caller reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What a program matches on.
    pub code: Code,
    /// What happened, to what, why, and what to do next.
    pub message: String,
}

impl Error {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

impl std::error::Error for Error {}

impl From<client::Error> for Error {
    fn from(error: client::Error) -> Self {
        use client::Error as E;
        let (code, next) = match &error {
            E::Agent(error) => return Self::new(Code::Agent(error.code), error.message.clone()),
            E::Kube { source, .. } => return kube(&error, source),
            gone if gone.is_gone() => (
                Code::SandboxReplaced,
                "Its pod is gone. Look with sandbox_get, or create a new sandbox.",
            ),
            E::Exec { source, .. } => match &**source {
                kube::Error::Api(status) if status.code == 403 => (
                    Code::Forbidden,
                    "The front end lacks the right to exec; tell the administrator.",
                ),
                _ => (Code::Unavailable, "Try again."),
            },
            E::Replaced { .. } => {
                (Code::SandboxReplaced, "Files and variables have to be made anew; then try again.")
            }
            E::Unknown { .. } => (
                Code::OutcomeUnknown,
                "It may have had effects. Ask again with the same run_id, or look at what it did before running it anew.",
            ),
            E::Uncertain { .. } => (
                Code::OutcomeUnknown,
                "It was made once or not at all. Look at what is there before trying again.",
            ),
            E::Corrupted { .. } => (Code::Corrupted, "Try again."),
            E::Protocol { .. } => (
                Code::SandboxTooOld,
                "Create a new sandbox: this one is too old or too new for the front end.",
            ),
            E::TooOld { .. } => (
                Code::SandboxTooOld,
                "Create a new sandbox for that; what this one could do before it still can.",
            ),
            E::Lost { .. } | E::Deadline { .. } | E::Local { .. } => {
                (Code::Unavailable, "Try again.")
            }
            E::Config(_) => (Code::Unavailable, "Tell the administrator."),
        };
        Self::new(code, format!("{}. {next}", chain(&error)))
    }
}

/// The kube API's refusals, in its own words: they say what is wrong with the request.
fn kube(error: &client::Error, source: &kube::Error) -> Error {
    let kube::Error::Api(status) = source else {
        return Error::new(Code::Unavailable, format!("{}. Try again.", chain(error)));
    };
    // The chart's policy says what to do. Its own name, before that, is of no use to a caller.
    if let Some((_, words)) = status.message.split_once("denied request: TemplateForbids: ") {
        return Error::new(Code::Forbidden, format!("{error}: {words}."));
    }
    let (code, next) = match status.code {
        400 | 422 => (Code::InvalidArgument, "Correct the request."),
        // A ResourceQuota's refusal has no reason of its own.
        403 if status.message.contains("exceeded quota: ") => (
            Code::QuotaExceeded,
            "Delete sandboxes that are not needed, wait for the end of others' ttl, or tell the administrator.",
        ),
        403 => (Code::Forbidden, "Ask for less, or tell the administrator."),
        404 => (Code::SandboxNotFound, "Call sandbox_create for a new one."),
        409 => (Code::SandboxExists, "Choose another name."),
        _ => (Code::Unavailable, "Try again."),
    };
    Error::new(code, format!("{error}: {}. {next}", status.message.trim_end_matches('.')))
}

/// An error and its sources in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kube::core::Status;

    use super::*;

    fn refused(code: u16) -> client::Error {
        refused_with(code, "no such luck")
    }

    fn refused_with(code: u16, message: &str) -> client::Error {
        let status = Status { code, message: message.into(), ..Status::default() };
        let source = Box::new(kube::Error::Api(Box::new(status)));
        client::Error::Kube { doing: "create", sandbox: "a".into(), source }
    }

    fn refused_exec(code: u16, reason: &str) -> client::Error {
        let message = "no such luck".into();
        let status = Status { code, message, reason: reason.into(), ..Status::default() };
        client::Error::Exec {
            pod: "a-1".into(),
            source: Box::new(kube::Error::Api(Box::new(status))),
        }
    }

    #[test]
    fn every_fault_has_its_code_and_its_words() {
        let pod = || "a-1".to_owned();
        for (error, code, words) in [
            (refused(422), Code::InvalidArgument, "could not create CodeSandbox a: no such luck"),
            (refused(403), Code::Forbidden, "no such luck"),
            (
                refused_with(
                    403,
                    "forbidden: exceeded quota: a, requested: 1, used: 1, limited: 1",
                ),
                Code::QuotaExceeded,
                "limited: 1. Delete sandboxes that are not needed",
            ),
            (
                refused_with(
                    403,
                    "forbidden: ValidatingAdmissionPolicy 'a' with binding 'a' denied request: TemplateForbids: CodeSandboxTemplate a does not allow b; ask for less",
                ),
                Code::Forbidden,
                "could not create CodeSandbox a: CodeSandboxTemplate a does not allow b; ask for less.",
            ),
            (refused(409), Code::SandboxExists, "no such luck"),
            (refused(500), Code::Unavailable, "no such luck"),
            (refused_exec(404, "NotFound"), Code::SandboxReplaced, "create a new sandbox"),
            // A kubelet's, which has just started.
            (refused_exec(404, ""), Code::Unavailable, "Try again"),
            (refused_exec(403, "Forbidden"), Code::Forbidden, "tell the administrator"),
            (refused_exec(500, "InternalError"), Code::Unavailable, "Try again"),
            (client::Error::Replaced { pod: pod() }, Code::SandboxReplaced, "made anew"),
            (
                client::Error::TooOld { pod: pod() },
                Code::SandboxTooOld,
                "the agent of pod a-1 is older than what was asked of it. Create a new sandbox",
            ),
            (
                client::Error::Protocol { pod: pod(), agent: 9, client: 1 },
                Code::SandboxTooOld,
                "speaks protocol 9, this client 1",
            ),
            (
                client::Error::Unknown { run: "r".into(), reason: "gone".into() },
                Code::OutcomeUnknown,
                "the outcome of run r is unknown: gone. It may have had effects",
            ),
            (
                client::Error::Uncertain { doing: "Move", path: "/x".into(), reason: "cut".into() },
                Code::OutcomeUnknown,
                "whether Move has changed /x is unknown: cut. It was made once or not at all. Look",
            ),
            (
                client::Error::Lost { pod: pod(), reason: "cut".into() },
                Code::Unavailable,
                "lost the stream to pod a-1: cut",
            ),
            (
                client::Error::Deadline {
                    doing: "Stat",
                    pod: pod(),
                    after: Duration::from_secs(1),
                },
                Code::Unavailable,
                "no answer to Stat",
            ),
            (
                client::Error::Agent(wire::Error::new(wire::Code::FileNotFound, "/x: none")),
                Code::Agent(wire::Code::FileNotFound),
                "/x: none",
            ),
        ] {
            let error = Error::from(error);
            assert_eq!(error.code, code, "{error}");
            assert!(error.message.contains(words), "{error}");
        }
    }
}
