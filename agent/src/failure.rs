//! What a caller can do about a process that would not start.

use std::io;

use nix::errno::Errno;
use wire::{Code, Error};

use crate::control::{Failure, Spec, Stage};

/// Of one whose supervisor could not be started.
pub(crate) fn fault(error: &io::Error) -> Error {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE) => Error::new(
            Code::TooMany,
            format!(
                "the sandbox can start no more processes ({error}); end some, or ask for a larger sandbox"
            ),
        ),
        _ => Error::new(Code::Internal, format!("could not start a supervisor: {error}")),
    }
}

/// Of one for which there is no terminal.
pub(crate) fn no_terminal(error: &io::Error) -> Error {
    let message = format!(
        "the sandbox has no terminal to give ({error}); end a run that has one, or start this without"
    );
    Error::new(Code::TooMany, message)
}

/// Of one that its supervisor could not start.
pub(crate) fn explain(spec: &Spec, failure: &Failure) -> Error {
    let errno = Errno::from_raw(failure.errno);
    let name = spec.argv.first().map_or("", String::as_str);
    let cwd = spec.cwd.display();
    let (code, message) = match (failure.stage, errno) {
        (Stage::Directory, Errno::ENOENT) => (
            Code::FileNotFound,
            format!("{cwd}: no such directory; make it first or set another cwd"),
        ),
        (Stage::Directory, Errno::ENOTDIR) => {
            (Code::FileKind, format!("{cwd}: not a directory; set cwd to one"))
        }
        (Stage::Directory, _) => (
            Code::PermissionDenied,
            format!("{cwd}: cannot be entered ({}); set another cwd", errno.desc()),
        ),
        (Stage::Lookup, Errno::EACCES) => (
            Code::CommandNotFound,
            format!("{name}: is no executable file; chmod +x it or name its interpreter"),
        ),
        (Stage::Lookup, _) if name == "/bin/sh" => (
            Code::CommandNotFound,
            "/bin/sh: the image has no shell; use argv instead of shell".to_owned(),
        ),
        (Stage::Lookup, _) if name.contains('/') => {
            (Code::CommandNotFound, format!("{name}: no such program in the image"))
        }
        (Stage::Lookup, _) => (
            Code::CommandNotFound,
            format!(
                "{name}: not found in PATH; use an image that has it, install it, or give its full path"
            ),
        ),
        (Stage::Execute, Errno::ENOENT) => (
            Code::CommandNotFound,
            format!("{name}: exists, but the interpreter or loader that it names does not"),
        ),
        (Stage::Execute, Errno::ENOEXEC) => (
            Code::CommandNotFound,
            format!(
                "{name}: is no program for this machine and has no #! line; name its interpreter"
            ),
        ),
        (Stage::Execute, Errno::E2BIG) => (
            Code::InvalidArgument,
            format!(
                "{name}: argv and env are longer than the kernel takes (128 KiB each, 2 MiB together); pass the data by stdin or a file"
            ),
        ),
        (Stage::Execute, Errno::EAGAIN | Errno::ENOMEM) => (
            Code::TooMany,
            format!(
                "{name}: the sandbox can start no more processes ({}); end some first",
                errno.desc()
            ),
        ),
        (Stage::Execute, _) => {
            (Code::CommandNotFound, format!("{name}: cannot be started ({})", errno.desc()))
        }
    };
    Error::new(code, message)
}
