//! A file, or what is below a directory, as a tar stream: in order, made as it is asked for.

use std::collections::BinaryHeap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::vec;

use bytes::Bytes;
use futures::stream::{self, Stream};
use nix::fcntl::OFlag;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};
use wire::limits::{ARCHIVE_NAMES, CHUNK, MAX_DEPTH};
use wire::v1::archive_event::Event;
use wire::v1::{ArchiveEnd, ArchiveEvent};
use wire::{Code, Error};

use super::{blocking, failed};

/// What a file's bytes are filled up to a multiple of.
const BLOCK: u64 = 512;

/// An archive on its way.
struct Archiving {
    /// What is made and not yet sent, and how entries are spelled.
    made: Builder<Vec<u8>>,
    /// The directories that are being gone through, the deepest last.
    levels: Vec<Level>,
    /// The file whose bytes are being taken.
    file: Option<Part>,
    finished: bool,
    hash: Sha256,
    end: ArchiveEnd,
}

struct Level {
    directory: PathBuf,
    /// Its name in the archive.
    name: PathBuf,
    names: vec::IntoIter<OsString>,
    /// The last of the names, if the directory has more.
    more: Option<OsString>,
}

struct Part {
    path: PathBuf,
    file: File,
    left: u64,
    /// How many zeros follow.
    padding: usize,
}

/// Sends a file, or what is below a directory.
pub(crate) async fn archive(
    path: PathBuf,
) -> Result<impl Stream<Item = Result<ArchiveEvent, Error>>, Error> {
    let archiving = blocking(move || Archiving::begin(&path)).await?;
    Ok(stream::unfold(Some(archiving), |archiving| async {
        let archiving = archiving?;
        let (event, archiving) = match blocking(move || archiving.next()).await {
            Ok((event, archiving)) => (Ok(ArchiveEvent { event: Some(event) }), archiving),
            Err(error) => (Err(error), None),
        };
        Some((event, archiving))
    }))
}

impl Archiving {
    fn begin(path: &Path) -> Result<Self, Error> {
        let no = |error: io::Error| failed(path, &error);
        let real = fs::canonicalize(path).map_err(no)?;
        let found = fs::metadata(&real).map_err(no)?;
        let mut archiving = Self {
            made: Builder::new(Vec::new()),
            levels: Vec::new(),
            file: None,
            finished: false,
            hash: Sha256::new(),
            end: ArchiveEnd::default(),
        };
        if found.is_dir() {
            archiving.enter(real, PathBuf::new()).map_err(no)?;
        } else if found.is_file() {
            archiving.take(real, Path::new(path.file_name().unwrap_or(path.as_os_str())))?;
        } else {
            let message = format!("{}: is no file or directory; use a command", path.display());
            return Err(Error::new(Code::FileKind, message));
        }
        Ok(archiving)
    }

    /// The next part, or the end.
    fn next(mut self) -> Result<(Event, Option<Self>), Error> {
        while self.made.get_ref().len() < CHUNK && !self.finished {
            self.step()?;
        }
        let mut data = mem::take(self.made.get_mut());
        if data.is_empty() {
            let sha256 = Bytes::copy_from_slice(&self.hash.finalize());
            return Ok((Event::End(ArchiveEnd { sha256, ..self.end }), None));
        }
        if data.len() > CHUNK {
            *self.made.get_mut() = data.split_off(CHUNK);
        }
        self.hash.update(&data);
        self.end.bytes += data.len() as u64;
        Ok((Event::Data(data.into()), Some(self)))
    }

    fn step(&mut self) -> Result<(), Error> {
        if let Some(part) = &mut self.file {
            if !part.take(self.made.get_mut())? {
                self.file = None;
            }
            return Ok(());
        }
        let Some(level) = self.levels.last_mut() else {
            self.finished = true;
            return self.made.finish().map_err(|error| failed(Path::new("the archive"), &error));
        };
        if let Some(name) = level.names.next() {
            let (path, name) = (level.directory.join(&name), level.name.join(&name));
            return self.take(path, &name);
        }
        match level.more.take() {
            Some(last) => {
                let directory = level.directory.clone();
                let read = read(&directory, Some(&last));
                (level.names, level.more) = read.map_err(|error| failed(&directory, &error))?;
            }
            None => drop(self.levels.pop()),
        }
        Ok(())
    }

    /// Takes up what is at a path, under this name.
    fn take(&mut self, path: PathBuf, name: &Path) -> Result<(), Error> {
        let no = |error: io::Error| failed(&path, &error);
        let found = match fs::symlink_metadata(&path) {
            // What is gone since its name was read is not there.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            found => found.map_err(no)?,
        };
        let mut header = Header::new_gnu();
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header.set_mode(found.mode() & 0o7777);
        header.set_mtime(found.mtime().try_into().unwrap_or(0));
        if found.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            let target = fs::read_link(&path).map_err(no)?;
            // As it is, where it fits: the other way leaves out what changes nothing, `//` for example.
            match header.set_link_name_literal(target.as_os_str().as_bytes()) {
                Ok(()) => self.made.append_data(&mut header, name, io::empty()),
                Err(_) => self.made.append_link(&mut header, name, &target),
            }
            .map_err(no)?;
        } else if found.is_dir() {
            if self.levels.len() == MAX_DEPTH as usize {
                let path = path.display();
                let message = format!(
                    "{path}: lies more than {MAX_DEPTH} levels deep; archive a directory further down, or use a command"
                );
                return Err(Error::new(Code::InvalidArgument, message));
            }
            header.set_entry_type(EntryType::Directory);
            self.made.append_data(&mut header, name, io::empty()).map_err(no)?;
            self.enter(path.clone(), name.into()).map_err(no)?;
        } else if found.is_file() {
            // Another may have taken its place meanwhile: no symlink is followed, and no pipe waited for.
            let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
            let opened = OpenOptions::new().read(true).custom_flags(flags).open(&path);
            let file = opened.map_err(no)?;
            let left = file.metadata().map_err(no)?.len();
            header.set_entry_type(EntryType::Regular);
            header.set_size(left);
            // Its bytes follow, as many as have been said.
            self.made.append_data(&mut header, name, io::empty()).map_err(no)?;
            let padding = usize::try_from(left.next_multiple_of(BLOCK) - left).unwrap_or(0);
            self.file = Some(Part { path, file, left, padding });
        } else {
            self.end.skipped += 1;
            return Ok(());
        }
        self.end.entries += 1;
        Ok(())
    }

    fn enter(&mut self, directory: PathBuf, name: PathBuf) -> io::Result<()> {
        let (names, more) = read(&directory, None)?;
        self.levels.push(Level { directory, name, names, more });
        Ok(())
    }
}

impl Part {
    /// Adds the next bytes, and says whether there may be more.
    fn take(&mut self, made: &mut Vec<u8>) -> Result<bool, Error> {
        let most = self.left.min((CHUNK - made.len().min(CHUNK)) as u64);
        let read = (&self.file).take(most).read_to_end(made);
        let read = read.map_err(|error| failed(&self.path, &error))? as u64;
        if read < most {
            let path = self.path.display();
            let message =
                format!("{path}: became shorter while it was archived; archive it once more");
            return Err(Error::new(Code::Conflict, message));
        }
        self.left -= read;
        if self.left == 0 {
            made.resize(made.len() + self.padding, 0);
        }
        Ok(self.left > 0)
    }
}

/// The first names of a directory behind one, in order, and the last if it has more.
fn read(
    directory: &Path,
    behind: Option<&OsString>,
) -> io::Result<(vec::IntoIter<OsString>, Option<OsString>)> {
    let (mut names, mut more) = (BinaryHeap::new(), false);
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        if behind.is_some_and(|behind| name <= *behind) {
            continue;
        }
        names.push(name);
        if names.len() > ARCHIVE_NAMES {
            names.pop();
            more = true;
        }
    }
    let names = names.into_sorted_vec();
    let more = names.last().filter(|_| more).cloned();
    Ok((names.into_iter(), more))
}
