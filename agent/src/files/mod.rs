//! The sandbox's files, as its user may see and change them.
//!
//! File systems may be slow or far away, so everything that touches one runs on a blocking thread, a
//! step at a time: no thread waits for a caller. There are few such threads, so what takes long lets
//! others go before its next step, and ends with the call of whoever asked for it. Unpacking an archive
//! is the exception, since what reads one cannot stop in the middle: few do that at once.

mod append;
mod archive;
mod change;
mod changes;
mod copy;
mod edit;
mod extract;
mod glob;
mod list;
mod read;
mod remove;
mod rename;
mod search;
mod stat;
mod temporary;
mod unpack;
mod upload;
mod watch;
mod watched;
mod write;

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use nix::errno::Errno;
use tokio::sync::Mutex;
use wire::v1::Entry;
use wire::v1::entry::Kind;
use wire::{Code, Error};

use crate::clock;

pub(crate) use archive::archive;
pub(crate) use change::{make_directory, set_mode};
pub(crate) use copy::copy;
pub(crate) use edit::edit;
pub(crate) use extract::{Extracts, extract};
pub(crate) use list::{Request as List, list};
pub(crate) use read::read;
pub(crate) use remove::remove;
pub(crate) use rename::rename;
pub(crate) use search::search;
pub(crate) use stat::stat;
pub(crate) use temporary::PREFIX as HIDDEN;
pub(crate) use upload::{Uploads, upload};
pub(crate) use watch::{Watches, watch};
pub(crate) use write::{How, write};

/// Held while a file's contents change. An edit that has read a file before another change of it and
/// writes it afterwards would undo that.
pub(crate) type Turn = Arc<Mutex<()>>;

/// A path as a caller gives it: absolute, or below the workspace.
pub(crate) fn resolve(workspace: &Path, path: &str) -> Result<PathBuf, Error> {
    resolve_bytes(workspace, path.as_bytes())
}

/// The same of a path that need not be UTF-8.
pub(crate) fn resolve_bytes(workspace: &Path, path: &[u8]) -> Result<PathBuf, Error> {
    if path.contains(&0) {
        return Err(Error::new(Code::InvalidArgument, "path: cannot hold NUL bytes"));
    }
    // By components, so that neither `.` nor a trailing slash is left.
    Ok(workspace.join(OsStr::from_bytes(path)).components().collect())
}

/// Runs a step on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    step: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(step).await.unwrap_or_else(|error| {
        Err(Error::new(Code::Internal, format!("a file operation broke off: {error}")))
    })
}

/// Runs an operation a step at a time, until one breaks off with its result.
async fn in_steps<S: Send + 'static, T: Send + 'static>(
    mut state: S,
    step: impl Fn(S) -> Result<ControlFlow<T, S>, Error> + Copy + Send + 'static,
) -> Result<T, Error> {
    loop {
        match blocking(move || step(state)).await? {
            ControlFlow::Continue(next) => state = next,
            ControlFlow::Break(result) => return Ok(result),
        }
    }
}

fn entry(path: &Path, found: &Metadata) -> Entry {
    let kind = match found.file_type() {
        kind if kind.is_file() => Kind::File,
        kind if kind.is_dir() => Kind::Directory,
        kind if kind.is_symlink() => Kind::Symlink,
        _ => Kind::Other,
    };
    let target = if kind == Kind::Symlink {
        fs::read_link(path).unwrap_or_default()
    } else {
        PathBuf::new()
    };
    Entry {
        path: bytes(path),
        kind: kind.into(),
        size: found.len(),
        mode: found.mode() & 0o7777,
        modified_unix_ms: found.modified().map_or(0, clock::unix_millis),
        target: bytes(&target),
        truncated: false,
        sha256: Bytes::new(),
    }
}

fn bytes(path: &Path) -> Bytes {
    Bytes::copy_from_slice(path.as_os_str().as_bytes())
}

/// What a caller can do about a path on which the system has refused something.
fn failed(path: &Path, error: &io::Error) -> Error {
    let path = path.display();
    let (code, message) = match error.kind() {
        ErrorKind::NotFound => (Code::FileNotFound, format!("{path}: no such file or directory")),
        ErrorKind::IsADirectory => (Code::FileKind, format!("{path}: is a directory; name a file")),
        ErrorKind::NotADirectory => {
            (Code::FileKind, format!("{path}: is not a directory, or a part of its path is none"))
        }
        ErrorKind::AlreadyExists => (
            Code::AlreadyExists,
            format!("{path}: exists already; choose another name, or remove it first"),
        ),
        ErrorKind::DirectoryNotEmpty => {
            (Code::NotEmpty, format!("{path}: is not empty; remove all of it with recursive first"))
        }
        ErrorKind::PermissionDenied => (
            Code::PermissionDenied,
            format!("{path}: the sandbox's user may not do this; use a path of its own"),
        ),
        ErrorKind::ReadOnlyFilesystem => (
            Code::PermissionDenied,
            format!("{path}: is on a read-only file system; use the workspace or /tmp"),
        ),
        ErrorKind::ResourceBusy => {
            (Code::PermissionDenied, format!("{path}: is in use, as a mount point for example"))
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            (Code::NoSpace, format!("{path}: the disk is full; remove files first"))
        }
        ErrorKind::InvalidFilename => {
            (Code::InvalidArgument, format!("{path}: a name is too long; choose a shorter one"))
        }
        // Their kind has no stable name yet.
        _ if error.raw_os_error() == Some(Errno::ELOOP as i32) => {
            (Code::InvalidArgument, format!("{path}: its symlinks go round in a circle"))
        }
        _ => (Code::Internal, format!("{path}: {error}")),
    };
    Error::new(code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_begin_at_the_workspace() {
        let resolved = |path| resolve(Path::new("/workspace"), path).unwrap();
        assert_eq!(resolved("a/./b/"), Path::new("/workspace/a/b"));
        assert_eq!(resolved("/etc/hosts"), Path::new("/etc/hosts"));
        assert_eq!(resolved(""), Path::new("/workspace"));
        assert_eq!(resolved("../x"), Path::new("/workspace/../x"));
        assert_eq!(resolve(Path::new("/"), "a\0b").unwrap_err().code, Code::InvalidArgument);
    }

    #[test]
    fn what_the_system_refuses_has_a_code_and_a_path() {
        for (errno, code) in [
            (Errno::ENOENT, Code::FileNotFound),
            (Errno::EISDIR, Code::FileKind),
            (Errno::ENOTDIR, Code::FileKind),
            (Errno::EEXIST, Code::AlreadyExists),
            (Errno::ENOTEMPTY, Code::NotEmpty),
            (Errno::EACCES, Code::PermissionDenied),
            (Errno::EROFS, Code::PermissionDenied),
            (Errno::ENOSPC, Code::NoSpace),
            (Errno::EDQUOT, Code::NoSpace),
            (Errno::ENAMETOOLONG, Code::InvalidArgument),
            (Errno::ELOOP, Code::InvalidArgument),
            (Errno::EIO, Code::Internal),
        ] {
            let error = failed(Path::new("/a/b"), &io::Error::from_raw_os_error(errno as i32));
            assert_eq!(error.code, code);
            assert!(error.message.starts_with("/a/b: "), "{error}");
        }
    }
}
