//! `agent install`: puts this very program where another container finds it. It is how the agent gets into a sandbox
//! on nodes that cannot execute it from an image volume: an init container installs it into a volume of the pod.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use wire::{Code, Error};

/// The program's name in the directory.
const NAME: &str = "agent";
/// For everybody to read and execute, and for nobody to change.
const MODE: u32 = 0o555;

/// Copies the running program into a directory, at once or not at all: the container may be killed and started again.
pub(crate) fn install(directory: &Path) -> Result<(), Error> {
    copy(directory).map_err(|error| {
        let (code, next) = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                (Code::FileNotFound, "mount a volume there")
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => (
                Code::PermissionDenied,
                "mount the volume writable, for a group or user this container runs as",
            ),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                (Code::NoSpace, "give the volume more room")
            }
            _ => (Code::Internal, "see what the node says about the volume"),
        };
        let directory = directory.display();
        Error::new(code, format!("could not install the agent into {directory}: {error}; {next}"))
    })
}

fn copy(directory: &Path) -> io::Result<()> {
    let mut program = File::open("/proc/self/exe")?;
    let mut copy = tempfile::NamedTempFile::new_in(directory)?;
    io::copy(&mut program, copy.as_file_mut())?;
    fs::set_permissions(copy.path(), Permissions::from_mode(MODE))?;
    copy.persist(directory.join(NAME)).map_err(|error| error.error)?;
    Ok(())
}
