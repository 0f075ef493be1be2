//! Why the agent ends, in its exit code, and where the kubelet would not know, in its pod's last words.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

/// What brings the agent to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// A signal: of the kubelet, which knows why, or of the user.
    Signal(u8),
    /// Nobody has used the sandbox for its idle timeout.
    IdleTimeout,
    /// The setup has failed, of which it leaves word itself.
    SetupFailed,
    /// The network was open for longer than any node takes to close it.
    NotIsolated,
}

impl Ending {
    /// Leaves word where the pod's status takes it from, in place of what user code may have left there. The operator
    /// knows these words, too.
    pub(crate) fn leave_word(self, at: &Path) {
        let word = match self {
            Self::Signal(_) => String::new(),
            Self::IdleTimeout | Self::NotIsolated | Self::SetupFailed => {
                format!(r#"{{"reason":"{self:?}"}}"#)
            }
        };
        // Where that is not possible the status says less.
        if let Err(error) = fs::write(at, word) {
            crate::log(&format!("could not write {}: {error}", at.display()));
        }
    }

    /// What makes Kubernetes do the right thing: only what has ended well is not started again, and an evicted pod
    /// whose containers have would be called Succeeded.
    pub(crate) fn code(self) -> ExitCode {
        match self {
            Self::Signal(number) => ExitCode::from(128 + number),
            Self::IdleTimeout => ExitCode::SUCCESS,
            Self::NotIsolated | Self::SetupFailed => ExitCode::FAILURE,
        }
    }
}
