//! Stable error codes: what a program can match on, first in every message.

use std::fmt;

use tonic::Status;

use crate::limits::MAX_ERROR;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $grpc:ident;)*) => {
        /// What went wrong, stable for programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $variant,)* }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The code as it stands in messages.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            fn grpc(self) -> tonic::Code {
                match self { $(Self::$variant => tonic::Code::$grpc,)* }
            }
        }
    };
}

codes! {
    /// A request that can never succeed as it is.
    InvalidArgument = "INVALID_ARGUMENT", InvalidArgument;
    /// The run id is taken by a run with another spec.
    RunConflict = "RUN_CONFLICT", AlreadyExists;
    /// No run has this id, or its log is gone.
    RunNotFound = "RUN_NOT_FOUND", NotFound;
    /// The run takes no input: it is not interactive, has closed its stdin, or has ended.
    InputClosed = "INPUT_CLOSED", FailedPrecondition;
    /// Too many runs or contexts at once.
    TooMany = "TOO_MANY", ResourceExhausted;
    /// No context has this name.
    ContextNotFound = "CONTEXT_NOT_FOUND", NotFound;
    /// Another run holds the context.
    ContextBusy = "CONTEXT_BUSY", FailedPrecondition;
    /// The image has no interpreter for the language.
    LanguageUnavailable = "LANGUAGE_UNAVAILABLE", FailedPrecondition;
    /// The command cannot be started.
    CommandNotFound = "COMMAND_NOT_FOUND", FailedPrecondition;
    /// No such file or directory.
    FileNotFound = "FILE_NOT_FOUND", NotFound;
    /// The file is a directory, or the directory a file.
    FileKind = "FILE_KIND", FailedPrecondition;
    /// The name is taken, and replacing what has it was not asked for.
    AlreadyExists = "ALREADY_EXISTS", AlreadyExists;
    /// The file is not what the caller says it was, or changed while it was edited.
    Conflict = "CONFLICT", Aborted;
    /// A text that is to be replaced does not occur, or more than once.
    EditMismatch = "EDIT_MISMATCH", FailedPrecondition;
    /// The directory is not empty.
    NotEmpty = "NOT_EMPTY", FailedPrecondition;
    /// The user of the sandbox may not do this to the file.
    PermissionDenied = "PERMISSION_DENIED", PermissionDenied;
    /// The disk is full.
    NoSpace = "NO_SPACE", ResourceExhausted;
    /// The bytes that arrived are not the ones that were sent.
    Corrupted = "CORRUPTED", DataLoss;
    /// Agent and client do not understand each other.
    Protocol = "PROTOCOL", FailedPrecondition;
    /// The sandbox ends, because nobody has used it for its idle timeout.
    IdleEnding = "IDLE_ENDING", FailedPrecondition;
    /// The network is open, which the sandbox's policy denies.
    NotIsolated = "NOT_ISOLATED", FailedPrecondition;
    /// A fault of the agent.
    Internal = "INTERNAL", Internal;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error as it crosses the wire: a stable code, then what happened, to what, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Error {
    /// What a program matches on.
    pub code: Code,
    /// What a person reads.
    pub message: String,
}

impl Error {
    /// An error of this code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The error in a status that the other end sent; `None` where the transport made the status itself.
    pub fn of(status: &Status) -> Option<Self> {
        let (code, message) = status.message().split_once(": ")?;
        let code = *Code::ALL.iter().find(|known| known.as_str() == code)?;
        Some(Self::new(code, message))
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut text = error.to_string();
        // It may hold a caller's own words, such as a path, and travels in a header.
        if text.len() > MAX_ERROR {
            text.truncate(text.floor_char_boundary(MAX_ERROR - '…'.len_utf8()));
            text.push('…');
        }
        Self::new(error.code.grpc(), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_crosses_the_wire() {
        for &code in Code::ALL {
            let error = Error::new(code, "/x: no such file");
            assert_eq!(Error::of(&Status::from(error.clone())), Some(error));
        }
    }

    #[test]
    fn an_error_that_no_header_would_hold_is_cut() {
        let error = Error::new(Code::FileNotFound, "é".repeat(MAX_ERROR));
        let told = Error::of(&Status::from(error)).unwrap();
        assert_eq!(told.code, Code::FileNotFound);
        assert!(told.message.ends_with("é…") && told.message.len() < MAX_ERROR);
    }

    #[test]
    fn a_fault_of_the_transport_is_not_taken_for_an_answer() {
        assert_eq!(Error::of(&Status::unknown("error reading a body from connection")), None);
    }
}
