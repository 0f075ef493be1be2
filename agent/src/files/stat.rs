//! What is at a path, with the digest of its contents if that is asked for.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use nix::fcntl::OFlag;
use sha2::{Digest, Sha256};
use wire::Error;
use wire::limits::{CHUNK, FILE_STEP};
use wire::v1::Entry;
use wire::v1::entry::Kind;

use super::{blocking, entry, failed, in_steps};

/// What is at a path, a symlink itself and not what it points to.
pub(crate) async fn stat(path: PathBuf, sha256: bool) -> Result<Entry, Error> {
    let (entry, hashing) = blocking(move || {
        begin(&path, sha256).map_err(|error| failed(&path, &error)).map(|(entry, file)| {
            (entry, file.map(|file| Hashing { path, file, left: 0, hash: Sha256::new() }))
        })
    })
    .await?;
    let Some(hashing) = hashing else { return Ok(entry) };
    let sha256 = in_steps(Hashing { left: entry.size, ..hashing }, Hashing::step).await?;
    Ok(Entry { sha256, ..entry })
}

/// What is at a path, and the open file if it is to be hashed and is one.
fn begin(path: &Path, sha256: bool) -> io::Result<(Entry, Option<File>)> {
    let found = entry(path, &fs::symlink_metadata(path)?);
    if !sha256 || found.kind() != Kind::File {
        return Ok((found, None));
    }
    // Another may have taken its place meanwhile: no symlink is followed, and no pipe waited for.
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let found = entry(path, &file.metadata()?);
    Ok((found.clone(), (found.kind() == Kind::File).then_some(file)))
}

/// A file that is being hashed.
struct Hashing {
    path: PathBuf,
    file: File,
    /// Not to its end: a file may grow for ever.
    left: u64,
    hash: Sha256,
}

impl Hashing {
    fn step(mut self) -> Result<ControlFlow<Bytes, Self>, Error> {
        let mut buffer = vec![0; CHUNK];
        let mut part = (&self.file).take(self.left.min(FILE_STEP));
        loop {
            match part.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => {
                    self.hash.update(&buffer[..read]);
                    self.left -= read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(&self.path, &error)),
            }
        }
        let more = self.left > 0 && part.limit() == 0;
        Ok(if more {
            ControlFlow::Continue(self)
        } else {
            ControlFlow::Break(Bytes::copy_from_slice(&self.hash.finalize()))
        })
    }
}
