//! Copying: under a name that nobody uses, or none, until all of it is there.

use std::fs::{self, File, Metadata, OpenOptions, Permissions, ReadDir};
use std::io::{self, ErrorKind, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use tempfile::{TempDir, TempPath};
use wire::limits::{FILE_STEP, MAX_DEPTH};
use wire::v1::Entry;
use wire::{Code, Error};

use super::rename::{place, present, refused};
use super::temporary::{self, Temporary};
use super::{blocking, failed, in_steps};

/// Copies a file, a symlink, or a directory with all that is in it.
pub(crate) async fn copy(
    from: PathBuf,
    to: PathBuf,
    replace: bool,
    recursive: bool,
) -> Result<Entry, Error> {
    let copying = blocking(move || Copying::begin(from, to, replace, recursive)).await?;
    in_steps(copying, Copying::step).await
}

/// A copy that is being made. Dropping it removes what there is of it.
struct Copying {
    from: PathBuf,
    to: PathBuf,
    replace: bool,
    whole: Whole,
    /// The file whose bytes are on their way.
    file: Option<Part>,
    /// The directories that are being gone through, the deepest last.
    directories: Vec<Directory>,
}

/// What becomes the copy, beside its place.
enum Whole {
    File(Temporary),
    Symlink(TempPath),
    Directory(TempDir),
}

struct Part {
    source: File,
    target: File,
    /// Not to its end: a file may grow for ever.
    left: u64,
    mode: Permissions,
}

struct Directory {
    from: PathBuf,
    to: PathBuf,
    mode: Permissions,
    left: ReadDir,
}

impl Copying {
    fn begin(from: PathBuf, to: PathBuf, replace: bool, recursive: bool) -> Result<Self, Error> {
        let found = fs::symlink_metadata(&from).map_err(|error| failed(&from, &error))?;
        if found.is_dir() && !recursive {
            let message = format!("{}: is a directory; set recursive to copy it", from.display());
            return Err(Error::new(Code::FileKind, message));
        }
        // Not after all the work.
        if !replace && fs::symlink_metadata(&to).is_ok() {
            return Err(refused(&from, &to, &ErrorKind::AlreadyExists.into()));
        }
        let parent = to.parent().unwrap_or(&to);
        // It would go on for ever, copying what it has copied.
        let within =
            |parent: PathBuf| from.canonicalize().is_ok_and(|from| parent.starts_with(from));
        if found.is_dir() && parent.canonicalize().is_ok_and(within) {
            return Err(refused(&from, &to, &ErrorKind::InvalidInput.into()));
        }
        let (mut file, mut directories) = (None, Vec::new());
        let whole = if found.is_symlink() {
            let target = fs::read_link(&from).map_err(|error| failed(&from, &error))?;
            temporary::symlink(parent, &target).map(Whole::Symlink)
        } else if found.is_dir() {
            temporary::directory(parent).and_then(|whole| {
                directories.push(Directory::open(from.clone(), whole.path().into(), &found)?);
                Ok(Whole::Directory(whole))
            })
        } else {
            let (source, found) = open(&from)?;
            Temporary::beside(parent).and_then(|mut whole| {
                file = Some(Part::new(source, whole.file().try_clone()?, &found)?);
                Ok(Whole::File(whole))
            })
        };
        let whole = whole.map_err(|error| refused(&from, &to, &error))?;
        Ok(Self { from, to, replace, whole, file, directories })
    }

    fn step(mut self) -> Result<ControlFlow<Entry, Self>, Error> {
        if let Some(part) = &mut self.file {
            if !part.step().map_err(|error| failed(&self.to, &error))? {
                self.file = None;
            }
            return Ok(ControlFlow::Continue(self));
        }
        let Some(directory) = self.directories.last_mut() else {
            return self.finish().map(ControlFlow::Break);
        };
        match directory.left.next() {
            Some(Ok(next)) => {
                let (from, to) = (next.path(), directory.to.join(next.file_name()));
                self.take(&from, &to)?;
            }
            Some(Err(error)) => return Err(failed(&directory.from, &error)),
            None => {
                // Last: it may forbid to write in it.
                fs::set_permissions(&directory.to, directory.mode.clone())
                    .map_err(|error| failed(&directory.to, &error))?;
                self.directories.pop();
            }
        }
        Ok(ControlFlow::Continue(self))
    }

    /// Takes up what is in a directory.
    fn take(&mut self, from: &Path, to: &Path) -> Result<(), Error> {
        let no = |error: io::Error| failed(from, &error);
        let found = fs::symlink_metadata(from).map_err(no)?;
        if found.is_symlink() {
            return fs::read_link(from).and_then(|target| symlink(target, to)).map_err(no);
        }
        if !found.is_dir() {
            let (source, found) = open(from)?;
            let target = File::create_new(to);
            let part = target.and_then(|target| Part::new(source, target, &found));
            self.file = Some(part.map_err(|error| failed(&self.to, &error))?);
            return Ok(());
        }
        if self.directories.len() == MAX_DEPTH as usize {
            let message = format!(
                "{}: lies more than {MAX_DEPTH} levels deep, nothing was copied; use a command",
                from.display()
            );
            return Err(Error::new(Code::InvalidArgument, message));
        }
        fs::create_dir(to).map_err(no)?;
        self.directories.push(Directory::open(from.into(), to.into(), &found).map_err(no)?);
        Ok(())
    }

    fn finish(self) -> Result<Entry, Error> {
        let Self { from, to, replace, whole, .. } = self;
        let placed = match whole {
            Whole::File(file) if replace => file.persist(&to).map(drop),
            Whole::File(file) => file.persist_new(&to),
            Whole::Symlink(link) if replace => link.persist(&to).map_err(|error| error.error),
            Whole::Symlink(link) => link.persist_noclobber(&to).map_err(|error| error.error),
            Whole::Directory(directory) => {
                place(directory.path(), &to, replace).map(|()| drop(directory.keep()))
            }
        };
        placed.map_err(|error| refused(&from, &to, &error))?;
        present(&to)
    }
}

impl Part {
    fn new(source: File, target: File, found: &Metadata) -> io::Result<Self> {
        let mode = found.permissions();
        // Nobody reads in the copy what they may not in the origin.
        target.set_permissions(mode.clone())?;
        Ok(Self { source, target, left: found.len(), mode })
    }

    /// Copies a step's worth of it, and says whether there is more.
    fn step(&mut self) -> io::Result<bool> {
        let most = self.left.min(FILE_STEP);
        let copied = io::copy(&mut (&self.source).take(most), &mut self.target)?;
        self.left -= copied;
        let more = copied == most && self.left > 0;
        if !more {
            // Whoever is not root loses the bits that lend rights when they write.
            self.target.set_permissions(self.mode.clone())?;
        }
        Ok(more)
    }
}

impl Directory {
    fn open(from: PathBuf, to: PathBuf, found: &Metadata) -> io::Result<Self> {
        let left = fs::read_dir(&from)?;
        Ok(Self { from, to, mode: found.permissions(), left })
    }
}

/// A regular file, and what it is.
fn open(path: &Path) -> Result<(File, Metadata), Error> {
    // Another may have taken its place meanwhile: no symlink is followed, and no pipe waited for.
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let (file, found) = opened
        .and_then(|file| file.metadata().map(|found| (file, found)))
        .map_err(|error| failed(path, &error))?;
    if found.is_file() {
        return Ok((file, found));
    }
    let path = path.display();
    let message = format!(
        "{path}: is no file, directory or symlink, nothing was copied; copy the others one by one"
    );
    Err(Error::new(Code::FileKind, message))
}
