//! A file beside the one whose place it will take, without a name until it is whole where the file
//! system knows such files.
//!
//! An agent that is killed while it writes one leaves nothing behind. Killed in the moment between its
//! first name and its last, or where a file has to have a name (NFS, gVisor), it leaves a
//! `.codesandbox-*`, as it does of a directory that is being copied or unpacked: that is
//! nobody's, and nothing sweeps it up.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{self, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::unistd::linkat;
use tempfile::{Builder, NamedTempFile, TempDir, TempPath};

/// What begins the name of a temporary file while it has one.
pub(crate) const PREFIX: &str = ".codesandbox-";

/// Whether a name is that of something temporary.
pub(super) fn hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(PREFIX.as_bytes())
}

/// A file beside the one whose place it will take. Dropping it removes it.
#[derive(Debug)]
pub(super) enum Temporary {
    Unnamed(File),
    Named(NamedTempFile),
}

impl Temporary {
    pub(super) fn beside(parent: &Path) -> io::Result<Self> {
        let flags = OFlag::O_TMPFILE.bits();
        match OpenOptions::new().read(true).write(true).custom_flags(flags).mode(0o600).open(parent)
        {
            Ok(file) => Ok(Self::Unnamed(file)),
            // If that is not the reason, the same will come of this.
            Err(_) => named(parent).map(Self::Named),
        }
    }

    pub(super) fn file(&mut self) -> &mut File {
        match self {
            Self::Unnamed(file) => file,
            Self::Named(file) => file.as_file_mut(),
        }
    }

    /// Takes the place of whatever is at `path`.
    pub(super) fn persist(self, path: &Path) -> io::Result<File> {
        self.persist_by(link, path)
    }

    /// Takes the name `path`, unless something has it.
    pub(super) fn persist_new(self, path: &Path) -> io::Result<()> {
        let named = match self {
            Self::Unnamed(file) => give_name(file, link, path.parent().unwrap_or(path))?,
            Self::Named(file) => file,
        };
        named.persist_noclobber(path).map(drop).map_err(|error| error.error)
    }

    fn persist_by(
        self,
        link: impl Fn(&File, &Path) -> io::Result<()>,
        path: &Path,
    ) -> io::Result<File> {
        // Only a file with a name can take another's place: it has one for a moment.
        let named = match self {
            Self::Unnamed(file) => give_name(file, link, path.parent().unwrap_or(path))?,
            Self::Named(file) => file,
        };
        named.persist(path).map_err(|error| error.error)
    }
}

/// A directory beside the one whose place it will take. Dropping it removes it and what is in it.
pub(super) fn directory(parent: &Path) -> io::Result<TempDir> {
    Builder::new().prefix(PREFIX).tempdir_in(parent)
}

/// A symlink beside the one whose place it will take. Dropping it removes it.
pub(super) fn symlink(parent: &Path, target: &Path) -> io::Result<TempPath> {
    let link = Builder::new().prefix(PREFIX).make_in(parent, |name| fs::symlink(target, name))?;
    Ok(link.into_temp_path())
}

fn named(parent: &Path) -> io::Result<NamedTempFile> {
    Builder::new().prefix(PREFIX).tempfile_in(parent)
}

/// Gives a file its first name; where that cannot be done, it is copied into one that has a name.
fn give_name(
    mut file: File,
    link: impl Fn(&File, &Path) -> io::Result<()>,
    parent: &Path,
) -> io::Result<NamedTempFile> {
    if let Ok(linked) = Builder::new().prefix(PREFIX).make_in(parent, |name| link(&file, name)) {
        return Ok(NamedTempFile::from_parts(file, linked.into_temp_path()));
    }
    // Whether it can be done shows only here: it takes a /proc, and a file system that lets it.
    let mut copy = named(parent)?;
    file.rewind()?;
    io::copy(&mut file, copy.as_file_mut())?;
    copy.as_file().set_permissions(file.metadata()?.permissions())?;
    Ok(copy)
}

fn link(file: &File, name: &Path) -> io::Result<()> {
    let ours = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(AT_FDCWD, ours.as_str(), AT_FDCWD, name, AtFlags::AT_SYMLINK_FOLLOW)
        .map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn with_a_name_or_without_it_takes_the_others_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let named = Builder::new().tempfile_in(directory.path()).map(Temporary::Named);
        for (text, temporary) in
            [("named", named), ("unnamed", Temporary::beside(directory.path()))]
        {
            let mut temporary = temporary.unwrap();
            assert_eq!(matches!(temporary, Temporary::Unnamed(_)), text == "unnamed");
            temporary.file().write_all(text.as_bytes()).unwrap();
            temporary.persist(&path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn what_cannot_be_given_a_name_is_copied_into_a_file_that_has_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let mut temporary = Temporary::beside(directory.path()).unwrap();
        assert!(matches!(temporary, Temporary::Unnamed(_)));
        temporary.file().write_all(b"copied").unwrap();
        temporary.file().set_permissions(Permissions::from_mode(0o640)).unwrap();

        let without_proc = |_: &File, _: &Path| Err(io::ErrorKind::NotFound.into());
        let is = temporary.persist_by(without_proc, &path).unwrap().metadata().unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!((is.ino(), is.mode() & 0o7777), (found.ino(), 0o640));
        assert_eq!(fs::read_to_string(&path).unwrap(), "copied");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
