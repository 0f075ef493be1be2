//! Appending to a file: all or nothing, as far as the kernel can.
//!
//! All bytes are here and checked before the first is written. They go in one write that begins where the
//! file ends at that moment (O_APPEND), so that nothing of anybody else's is overwritten or comes between.
//! Where the disk is full in the middle of it, the file is cut back to where it was. A part of it is left
//! only if the agent dies in that moment, or if somebody else appends in it: nothing of theirs is cut off,
//! and the error says so.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use wire::{Code, Error};

use super::failed;

/// Appends to a file, which is made with this mode if there is none.
pub(super) fn append(path: &Path, data: &[u8], mode: u32) -> Result<File, Error> {
    let no = |error: io::Error| failed(path, &error);
    let mut options = OpenOptions::new();
    options.append(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let (mut file, new) = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let file = options.create_new(true).open(path).map_err(no)?;
            file.set_permissions(Permissions::from_mode(mode)).map_err(no)?;
            (file, true)
        }
        opened => (opened.map_err(no)?, false),
    };
    // Another may have taken its place meanwhile.
    if !file.metadata().map_err(no)?.is_file() {
        let message = format!("{}: is no regular file; name a file", path.display());
        return Err(Error::new(Code::FileKind, message));
    }
    let mut written = 0;
    while written < data.len() {
        match file.write(&data[written..]) {
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let Error { code, message } = failed(path, &error);
                let left = match undo(&mut file, written as u64) {
                    Ok(true) if new => fs::remove_file(path).is_err(),
                    undone => !undone.unwrap_or(false),
                };
                let left = if left { "a part of it was" } else { "nothing was" };
                return Err(Error::new(code, format!("{message}; {left} appended")));
            }
        }
    }
    Ok(file)
}

/// Cuts off what was written last, if it is still what the file ends with; says whether it was.
fn undo(file: &mut File, written: u64) -> io::Result<bool> {
    if written == 0 {
        return Ok(true);
    }
    let end = file.stream_position()?;
    let last = file.metadata()?.len() == end;
    if last {
        file.set_len(end - written)?;
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_else_appended_meanwhile_is_not_cut_off() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let mut ours = append(&path, b"old ours ", 0o600).unwrap();
        append(&path, b"theirs", 0o600).unwrap();
        assert!(!undo(&mut ours, 5).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"old ours theirs");
        let mut ours = append(&path, b" ours", 0o600).unwrap();
        assert!(undo(&mut ours, 5).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"old ours theirs");
    }
}
