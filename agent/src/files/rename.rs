//! Giving what is at a path another name: at once, and on another file system by way of a copy.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use wire::v1::Entry;
use wire::{Code, Error};

use super::{blocking, copy, entry, failed, remove};

/// Renames; what has the new name is replaced only if that is asked for.
///
/// Where the kernel cannot, it is copied and then removed. That is no rare case: the lower layers of a
/// container's own file system count as another one for directories.
pub(crate) async fn rename(
    workspace: PathBuf,
    from: PathBuf,
    to: PathBuf,
    replace: bool,
) -> Result<Entry, Error> {
    let (old, new) = (from.clone(), to.clone());
    let renamed = blocking(move || {
        remove::refuse(&workspace, &old)?;
        remove::refuse(&workspace, &new)?;
        match place(&old, &new, replace) {
            Ok(()) => Ok(Some(present(&new)?)),
            Err(error) if error.kind() == ErrorKind::CrossesDevices => Ok(None),
            Err(error) => Err(refused(&old, &new, &error)),
        }
    })
    .await?;
    if let Some(entry) = renamed {
        return Ok(entry);
    }
    let copied = copy::copy(from.clone(), to.clone(), replace, true).await?;
    blocking(move || {
        remove::take(&from, true).map_err(|error| {
            let Error { code, message } = failed(&from, &error);
            let to = to.display();
            Error::new(code, format!("{message}; {to} is a whole copy of it all the same"))
        })
    })
    .await?;
    Ok(copied)
}

/// What is at a path now.
pub(super) fn present(path: &Path) -> Result<Entry, Error> {
    let found = fs::symlink_metadata(path).map_err(|error| failed(path, &error))?;
    Ok(entry(path, &found))
}

/// Gives a path another name. Without `replace` nothing that has it is lost.
pub(super) fn place(from: &Path, to: &Path, replace: bool) -> io::Result<()> {
    if replace {
        return fs::rename(from, to);
    }
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        // Some file systems do not know the flag (NFS). There a name can be taken between look and
        // rename.
        Err(Errno::EINVAL | Errno::ENOSYS) if fs::symlink_metadata(to).is_err() => {
            fs::rename(from, to)
        }
        Err(Errno::EINVAL | Errno::ENOSYS) => Err(ErrorKind::AlreadyExists.into()),
        renamed => renamed.map_err(io::Error::from),
    }
}

/// Why something could not be put at `to`: the system does not say which of the two paths is at fault.
pub(super) fn refused(from: &Path, to: &Path, error: &io::Error) -> Error {
    let message = |what| format!("{}: {what}", to.display());
    match error.kind() {
        ErrorKind::NotFound if fs::symlink_metadata(from).is_ok() => {
            let parent = to.parent().unwrap_or(to).display();
            let message = format!("{parent}: no such directory; make it first");
            Error::new(Code::FileNotFound, message)
        }
        ErrorKind::NotFound => failed(from, error),
        ErrorKind::InvalidInput => Error::new(
            Code::InvalidArgument,
            message("is within what is to be put there; choose a place outside of it"),
        ),
        ErrorKind::AlreadyExists => Error::new(
            Code::AlreadyExists,
            message("exists already; set replace, or choose another name"),
        ),
        ErrorKind::IsADirectory => Error::new(
            Code::FileKind,
            message("is a directory, which no file replaces; give the whole new path"),
        ),
        ErrorKind::NotADirectory if !to.is_dir() && from.is_dir() => Error::new(
            Code::FileKind,
            message("is no directory, and no directory replaces it; remove it first"),
        ),
        _ => failed(to, error),
    }
}
