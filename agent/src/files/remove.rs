//! Removing a file or a directory, but never the ground the sandbox stands on.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use wire::{Code, Error};

use super::{blocking, failed};

/// Removes what is at a path, and says whether anything was.
pub(crate) async fn remove(
    workspace: PathBuf,
    path: PathBuf,
    recursive: bool,
) -> Result<bool, Error> {
    blocking(move || {
        refuse(&workspace, &path)?;
        match take(&path, recursive) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed(&path, &error)),
        }
    })
    .await
}

pub(super) fn take(path: &Path, recursive: bool) -> io::Result<()> {
    match fs::symlink_metadata(path)?.is_dir() {
        true if recursive => fs::remove_dir_all(path),
        true => fs::remove_dir(path),
        false => fs::remove_file(path),
    }
}

/// Refuses the workspace itself and whatever it lies in, by any of their names.
pub(super) fn refuse(workspace: &Path, path: &Path) -> Result<(), Error> {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    // A symlink is only itself, even one that points there.
    let link = fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    if workspace.starts_with(path) || (!link && real(workspace).starts_with(real(path))) {
        let message = format!(
            "{}: is the workspace or holds it, and stays as it is; name what is in it, or delete the sandbox",
            path.display()
        );
        return Err(Error::new(Code::InvalidArgument, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_refused_by_every_name() {
        let root = tempfile::tempdir().unwrap();
        let workspace = root.path().join("workspace");
        fs::create_dir_all(workspace.join("sub")).unwrap();
        let refused = |path: &Path| refuse(&workspace, path).is_err();
        assert!(refused(Path::new("/")));
        assert!(refused(&workspace));
        assert!(refused(root.path()));
        assert!(refused(&workspace.join("sub/..")));
        assert!(!refused(&workspace.join("sub")));
        std::os::unix::fs::symlink(&workspace, workspace.join("link")).unwrap();
        assert!(!refused(&workspace.join("link")));
    }
}
