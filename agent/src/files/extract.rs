//! Unpacking an archive into a directory: a new one whole or not at all, and what is there entry by entry.
//!
//! Who reads an archive cannot stop in the middle. So each has a thread, which waits for its caller, and few are
//! unpacked at once.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{Stream, StreamExt};
use tempfile::TempDir;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use wire::limits::{EXTRACT_PATIENCE, EXTRACT_TURN, EXTRACTS};
use wire::v1::write_request::Part;
use wire::v1::{ExtractReply, WriteRequest, WriteStart};
use wire::{Code, Error};

use super::rename::{place, present, refused};
use super::unpack::{Piece, Unpacking};
use super::{blocking, failed, resolve, temporary};

/// The mode of a new directory for which none is asked.
const DEFAULT_MODE: u32 = 0o755;
/// How many parts wait for the thread.
const WAITING: usize = 2;

/// Who may unpack.
#[derive(Clone, Debug)]
pub(crate) struct Extracts(Arc<Semaphore>);

impl Default for Extracts {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(EXTRACTS)))
    }
}

/// Unpacks the archive that a stream brings.
pub(crate) async fn extract<E>(
    workspace: &Path,
    extracts: &Extracts,
    parts: impl Stream<Item = Result<WriteRequest, E>>,
) -> Result<ExtractReply, Error> {
    tokio::pin!(parts);
    let mut next = async || {
        let next = timeout(EXTRACT_PATIENCE, parts.next()).await.ok().flatten();
        next.and_then(Result::ok).and_then(|request| request.part)
    };
    let Some(Part::Start(start)) = next().await else {
        let message = "an archive begins with its start: send that first";
        return Err(Error::new(Code::InvalidArgument, message));
    };
    let path = resolve(workspace, &start.path)?;
    let Ok(Ok(turn)) = timeout(EXTRACT_TURN, extracts.0.clone().acquire_owned()).await else {
        let message = format!("{EXTRACTS} archives are being unpacked; wait for one of them");
        return Err(Error::new(Code::TooMany, message));
    };
    let (pieces, received) = mpsc::channel(WAITING);
    let unpacked = blocking(move || {
        let _turn = turn;
        unpack(path, &start, received)
    });
    let feed = async move {
        loop {
            let (piece, end) = match next().await {
                Some(Part::Data(data)) => (Piece::Data(data), false),
                Some(Part::End(end)) => (Piece::End(end.sha256), true),
                // Without an end: the thread sees that nothing more comes.
                Some(Part::Start(_)) | None => return,
            };
            // Nobody takes it when the thread has ended, and says why.
            if pieces.send(piece).await.is_err() || end {
                return;
            }
        }
    };
    tokio::pin!(unpacked, feed);
    tokio::select! {
        reply = &mut unpacked => reply,
        () = feed => unpacked.await,
    }
}

/// Where it is unpacked.
enum Place {
    There(PathBuf),
    /// Beside its place, until it is whole.
    New(PathBuf, TempDir),
}

fn unpack(
    path: PathBuf,
    start: &WriteStart,
    pieces: mpsc::Receiver<Piece>,
) -> Result<ExtractReply, Error> {
    let place = Place::begin(path, start)?;
    let mut unpacking = Unpacking::new(place.directory().to_owned(), place.shown().to_owned());
    match unpacking.all(pieces) {
        Ok(reply) => place.finish(start.mode, reply),
        Err(error) => Err(place.abandon(&error, unpacking.begun())),
    }
}

impl Place {
    fn begin(path: PathBuf, start: &WriteStart) -> Result<Self, Error> {
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() => {
                let real = fs::canonicalize(&path).map_err(|error| failed(&path, &error))?;
                return Ok(Self::There(real));
            }
            Ok(_) => return Err(failed(&path, &ErrorKind::NotADirectory.into())),
            // A symlink that leads nowhere.
            Err(_) if fs::symlink_metadata(&path).is_ok() => {
                return Err(failed(&path, &ErrorKind::AlreadyExists.into()));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&path, &error)),
        }
        let parent = path.parent().unwrap_or(Path::new("/")).to_owned();
        if start.create_parents {
            fs::create_dir_all(&parent).map_err(|error| failed(&parent, &error))?;
        }
        match temporary::directory(&parent) {
            Ok(hidden) => Ok(Self::New(path, hidden)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let parent = parent.display();
                let message =
                    format!("{parent}: no such directory; make it first or set create_parents");
                Err(Error::new(Code::FileNotFound, message))
            }
            Err(error) => Err(failed(&path, &error)),
        }
    }

    fn directory(&self) -> &Path {
        match self {
            Self::There(path) => path,
            Self::New(_, hidden) => hidden.path(),
        }
    }

    /// What it is called.
    fn shown(&self) -> &Path {
        match self {
            Self::There(path) | Self::New(path, _) => path,
        }
    }

    fn finish(self, mode: u32, reply: ExtractReply) -> Result<ExtractReply, Error> {
        let path = match self {
            Self::There(path) => path,
            Self::New(path, hidden) => {
                let mode = if mode == 0 { DEFAULT_MODE } else { mode & 0o7777 };
                let placed = fs::set_permissions(hidden.path(), Permissions::from_mode(mode))
                    .and_then(|()| place(hidden.path(), &path, false));
                if let Err(error) = placed {
                    let error = refused(hidden.path(), &path, &error);
                    return Err(Self::New(path, hidden).abandon(&error, true));
                }
                drop(hidden.keep());
                path
            }
        };
        Ok(ExtractReply { entry: Some(present(&path)?), ..reply })
    }

    /// Leaves what cannot be taken back, and nothing else.
    fn abandon(self, error: &Error, begun: bool) -> Error {
        let what = match self {
            Self::There(_) if begun => "what had been unpacked before stays",
            Self::There(_) => "nothing was unpacked",
            Self::New(_, hidden) => {
                make_removable(hidden.path());
                "nothing was unpacked"
            }
        };
        Error::new(error.code, format!("{}; {what}", error.message))
    }
}

/// Directories that may not be written in cannot be emptied by who is not root.
fn make_removable(directory: &Path) {
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        let _ = fs::set_permissions(&directory, Permissions::from_mode(0o700));
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        left.extend(below.map(|entry| entry.path()));
    }
}
