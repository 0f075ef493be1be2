//! Changes that are one system call: a new directory, another mode.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use wire::v1::Entry;
use wire::{Code, Error};

use super::{blocking, entry, failed};

/// Makes a directory, and those above it if that is asked for.
pub(crate) async fn make_directory(path: PathBuf, parents: bool) -> Result<Entry, Error> {
    blocking(move || {
        let made = if parents { fs::create_dir_all(&path) } else { fs::create_dir(&path) };
        match made {
            Ok(()) => {
                let found = fs::metadata(&path).map_err(|error| failed(&path, &error))?;
                Ok(entry(&path, &found))
            }
            Err(error) if error.kind() == ErrorKind::NotFound && !parents => {
                let parent = path.parent().unwrap_or(&path).display();
                let message = format!("{parent}: no such directory; make it first or set parents");
                Err(Error::new(Code::FileNotFound, message))
            }
            Err(error) => Err(failed(&path, &error)),
        }
    })
    .await
}

/// Sets the mode of what a path leads to.
pub(crate) async fn set_mode(path: PathBuf, mode: u32) -> Result<Entry, Error> {
    blocking(move || {
        if mode > 0o7777 {
            let message = format!("mode: {mode:o} is none; the highest is 7777, in octal");
            return Err(Error::new(Code::InvalidArgument, message));
        }
        let set = fs::set_permissions(&path, Permissions::from_mode(mode));
        let found =
            set.and_then(|()| fs::metadata(&path)).map_err(|error| failed(&path, &error))?;
        Ok(entry(&path, &found))
    })
    .await
}
