//! Writing a file: all of it at once, or nothing.
//!
//! To replace one, the bytes go into a temporary file beside the target, which takes its place when the last has
//! arrived. Whatever breaks before leaves the target as it was.

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use wire::limits::MAX_APPEND;
use wire::v1::write_request::Part;
use wire::v1::{WriteReply, WriteRequest, WriteStart};
use wire::{Code, Error};

use super::append::append;
use super::temporary::Temporary;
use super::{Turn, blocking, entry, failed, resolve};

/// The mode of a file that had none and for which none is asked.
const DEFAULT_MODE: u32 = 0o644;

/// What becomes of what a file has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    Replace,
    Append,
}

/// A file that is being written. Dropping it leaves nothing of it.
pub(super) struct Writing {
    path: PathBuf,
    arrived: Arrived,
    mode: u32,
    hash: Sha256,
    bytes: u64,
}

/// Where the bytes are until all have arrived.
enum Arrived {
    Beside(Temporary),
    InMemory(Vec<u8>),
}

/// Writes the file that a stream describes.
pub(crate) async fn write<E>(
    workspace: &Path,
    how: How,
    turn: &Turn,
    parts: impl Stream<Item = Result<WriteRequest, E>>,
) -> Result<WriteReply, Error> {
    tokio::pin!(parts);
    let mut next =
        async || parts.next().await.and_then(Result::ok).and_then(|request| request.part);
    let Some(Part::Start(start)) = next().await else {
        return Err(Error::new(
            Code::InvalidArgument,
            "a write begins with its start: send that first",
        ));
    };
    let path = resolve(workspace, &start.path)?;
    let mut writing = blocking(move || Writing::begin(path, &start, how)).await?;
    loop {
        match next().await {
            Some(Part::Data(data)) => writing = blocking(move || writing.take(&data)).await?,
            Some(Part::End(end)) => {
                let turn = turn.clone().lock_owned().await;
                return blocking(move || {
                    let _turn = turn;
                    writing.finish(&end.sha256)
                })
                .await;
            }
            Some(Part::Start(_)) | None => {
                let path = writing.path.display();
                let message = format!(
                    "{path}: the stream broke off before its end, nothing was written; send it again"
                );
                return Err(Error::new(Code::InvalidArgument, message));
            }
        }
    }
}

impl Writing {
    pub(super) fn begin(path: PathBuf, start: &WriteStart, how: How) -> Result<Self, Error> {
        // A symlink stays one: what it points to is replaced.
        let path = fs::canonicalize(&path).unwrap_or(path);
        let had = match fs::metadata(&path) {
            Ok(found) if found.is_file() => Some(found.permissions().mode() & 0o7777),
            Ok(found) => {
                let what = if found.is_dir() { "a directory" } else { "no regular file" };
                return Err(Error::new(
                    Code::FileKind,
                    format!("{}: is {what}; name a file", path.display()),
                ));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(failed(&path, &error)),
        };
        let parent = path.parent().unwrap_or(Path::new("/")).to_owned();
        if start.create_parents {
            fs::create_dir_all(&parent).map_err(|error| failed(&parent, &error))?;
        }
        if fs::metadata(&parent).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            let parent = parent.display();
            let message =
                format!("{parent}: no such directory; make it first or set create_parents");
            return Err(Error::new(Code::FileNotFound, message));
        }
        let arrived = match how {
            How::Replace => {
                Arrived::Beside(Temporary::beside(&parent).map_err(|error| failed(&path, &error))?)
            }
            How::Append => Arrived::InMemory(Vec::new()),
        };
        let mode = if start.mode == 0 { had.unwrap_or(DEFAULT_MODE) } else { start.mode & 0o7777 };
        Ok(Self { path, arrived, mode, hash: Sha256::new(), bytes: 0 })
    }

    /// How many bytes have arrived.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn take(mut self, data: &Bytes) -> Result<Self, Error> {
        match &mut self.arrived {
            Arrived::Beside(temporary) => {
                temporary.file().write_all(data).map_err(|error| failed(&self.path, &error))?;
            }
            Arrived::InMemory(all) if all.len() + data.len() > MAX_APPEND => {
                let path = self.path.display();
                let message = format!(
                    "{path}: more than {MAX_APPEND} bytes are not appended at once, nothing was; append them in several calls"
                );
                return Err(Error::new(Code::InvalidArgument, message));
            }
            Arrived::InMemory(all) => all.extend_from_slice(data),
        }
        self.hash.update(data);
        self.bytes += data.len() as u64;
        Ok(self)
    }

    pub(super) fn finish(self, expected: &Bytes) -> Result<WriteReply, Error> {
        let sha256 = Bytes::copy_from_slice(&self.hash.finalize());
        let path = self.path;
        if !expected.is_empty() && *expected != sha256 {
            let message = format!(
                "{}: what arrived has another sha256, nothing was written; send it again",
                path.display()
            );
            return Err(Error::new(Code::Corrupted, message));
        }
        let file = match self.arrived {
            Arrived::Beside(mut temporary) => temporary
                .file()
                .set_permissions(Permissions::from_mode(self.mode))
                .and_then(|()| temporary.persist(&path))
                .map_err(|error| failed(&path, &error))?,
            Arrived::InMemory(all) => append(&path, &all, self.mode)?,
        };
        let found = file.metadata().map_err(|error| failed(&path, &error))?;
        Ok(WriteReply { entry: Some(entry(&path, &found)), sha256 })
    }
}
