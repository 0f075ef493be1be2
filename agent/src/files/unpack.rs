//! The entries of a tar stream, put where they belong.
//!
//! It is the tar crate that keeps what it unpacks within the directory: it resolves where an entry's parent really is
//! before it writes there, and follows no symlink in the entry's own place. Between the two another process may put a
//! symlink in its way; whoever runs in the sandbox can write there anyway.

use std::cell::Cell;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Buf, Bytes};
use nix::fcntl::OFlag;
use sha2::{Digest, Sha256};
use tar::{Archive, Entry, EntryType};
use tokio::sync::mpsc;
use wire::limits::EXTRACT_HEADER;
use wire::v1::ExtractReply;
use wire::{Code, Error};

use super::failed;

/// What an archive ends with, in zeros: two of these, of which the first is read.
const BLOCK: u64 = 512;

/// What comes of an archive; when nothing more comes and there was no end, the stream broke.
pub(super) enum Piece {
    Data(Bytes),
    /// With the digest that all data should have, if one is known.
    End(Bytes),
}

/// An archive that is being unpacked.
pub(super) struct Unpacking {
    /// Where it is.
    directory: PathBuf,
    /// What that is called.
    shown: PathBuf,
    /// How much may still be read before the next entry's bytes begin.
    header: Rc<Cell<u64>>,
    /// Whether the stream broke.
    broke: Rc<Cell<bool>>,
    reply: ExtractReply,
}

impl Unpacking {
    pub(super) fn new(directory: PathBuf, shown: PathBuf) -> Self {
        let (header, broke) = (Rc::default(), Rc::default());
        Self { directory, shown, header, broke, reply: ExtractReply::default() }
    }

    /// Whether anything has been unpacked.
    pub(super) fn begun(&self) -> bool {
        self.reply.entries > 0
    }

    /// Unpacks all that comes.
    pub(super) fn all(&mut self, pieces: mpsc::Receiver<Piece>) -> Result<ExtractReply, Error> {
        let (header, broke) = (self.header.clone(), self.broke.clone());
        let (data, hash) = (Bytes::new(), Sha256::new());
        let mut archive = Archive::new(Received { pieces, data, end: None, hash, header, broke });
        self.entries(&mut archive)?;
        // Behind the last entry there are zeros, or anything.
        self.header.set(u64::MAX);
        let mut received = archive.into_inner();
        io::copy(&mut received, &mut io::sink()).map_err(|error| self.no(Path::new(""), &error))?;
        let sha256 = Bytes::copy_from_slice(&received.hash.finalize());
        if received.end.is_some_and(|expected| !expected.is_empty() && expected != sha256) {
            let shown = self.shown.display();
            let message = format!("{shown}: what arrived has another sha256; send it again");
            return Err(Error::new(Code::Corrupted, message));
        }
        Ok(ExtractReply { sha256, ..self.reply.clone() })
    }

    fn entries(&mut self, archive: &mut Archive<Received>) -> Result<(), Error> {
        let no = |this: &Self, error: &io::Error| this.no(Path::new(""), error);
        let mut entries = archive.entries().map_err(|error| no(self, &error))?;
        // The directories whose entries come now, the deepest last. They get their modes when all in them is there:
        // those may forbid to write in them.
        let mut directories: Vec<(PathBuf, Entry<'_, Received>)> = Vec::new();
        loop {
            self.header.set(EXTRACT_HEADER);
            let Some(entry) = entries.next() else {
                // Who reads archives takes the end of the stream for theirs, and a copy that was cut between two entries for whole.
                let read = EXTRACT_HEADER - self.header.get();
                if read < BLOCK {
                    return Err(self.cut());
                }
                break;
            };
            let mut entry = entry.map_err(|error| no(self, &error))?;
            self.header.set(u64::MAX);
            let name = self.name(&entry)?;
            while let Some((directory, _)) = directories.last()
                && !name.starts_with(directory)
                && let Some((directory, mut entry)) = directories.pop()
            {
                self.directory(&directory, &mut entry)?;
            }
            let mut rest = io::sink();
            match entry.header().entry_type() {
                _ if name.as_os_str().is_empty() => {}
                EntryType::Directory => {
                    self.count(&entry);
                    directories.push((name, entry));
                    continue;
                }
                EntryType::Regular
                | EntryType::Continuous
                | EntryType::GNUSparse
                | EntryType::Link
                | EntryType::Symlink => {
                    self.put(&name, &mut entry)?;
                    self.count(&entry);
                }
                EntryType::XGlobalHeader => {}
                _ => self.reply.skipped += 1,
            }
            io::copy(&mut entry, &mut rest).map_err(|error| self.no(&name, &error))?;
        }
        while let Some((directory, mut entry)) = directories.pop() {
            self.directory(&directory, &mut entry)?;
        }
        Ok(())
    }

    /// That the archive has no end.
    fn cut(&self) -> Error {
        let shown = self.shown.display();
        let message = format!("{shown}: the archive has no end, so it was cut off; send all of it");
        Error::new(Code::InvalidArgument, message)
    }

    /// A directory whose contents are there.
    fn directory(&self, name: &Path, entry: &mut Entry<'_, Received>) -> Result<(), Error> {
        self.put(name, entry)?;
        let mtime = Duration::from_secs(entry.header().mtime().unwrap_or(0));
        // Of before 1970 it is out of range.
        let mtime = UNIX_EPOCH.checked_add(mtime).unwrap_or(UNIX_EPOCH);
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY).bits();
        // One that may not be read keeps the time it has.
        let opened =
            OpenOptions::new().read(true).custom_flags(flags).open(self.directory.join(name));
        if let Ok(directory) = opened {
            let _ = directory.set_modified(mtime);
        }
        Ok(())
    }

    fn count(&mut self, entry: &Entry<'_, Received>) {
        self.reply.entries += 1;
        let link = entry.header().entry_type().is_symlink();
        if !link && entry.header().mode().is_ok_and(|mode| mode & 0o7000 != 0) {
            self.reply.stripped += 1;
        }
    }

    fn put(&self, name: &Path, entry: &mut Entry<'_, Received>) -> Result<(), Error> {
        match entry.unpack_in(&self.directory) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.leads_out(name)),
            Err(error) => Err(self.no(name, &error)),
        }
    }

    /// An entry's name, which has to be below the directory.
    fn name(&self, entry: &Entry<'_, Received>) -> Result<PathBuf, Error> {
        let given = entry.path().map_err(|error| self.no(Path::new(""), &error))?;
        let mut name = PathBuf::new();
        for component in given.components() {
            match component {
                Component::Normal(part) => name.push(part),
                Component::CurDir => {}
                _ => return Err(self.leads_out(&given)),
            }
        }
        Ok(name)
    }

    fn leads_out(&self, name: &Path) -> Error {
        let (name, shown) = (name.display(), self.shown.display());
        let message = format!(
            "{name}: is absolute or holds `..`, and so may lead out of {shown}; archive relative names"
        );
        Error::new(Code::InvalidArgument, message)
    }

    /// Why an entry could not be unpacked: because of the system, or of the archive.
    fn no(&self, name: &Path, error: &io::Error) -> Error {
        let path = self.shown.join(name).components().collect::<PathBuf>();
        if self.broke.get() {
            let path = self.shown.display();
            let message = format!("{path}: the stream broke off before its end; send it again");
            return Error::new(Code::InvalidArgument, message);
        }
        match error.kind() {
            ErrorKind::Other
            | ErrorKind::InvalidData
            | ErrorKind::InvalidInput
            | ErrorKind::UnexpectedEof => {
                let mut why = error.to_string();
                let mut source = error.get_ref().and_then(|error| error.source());
                while let Some(error) = source {
                    why = format!("{why}: {error}");
                    source = error.source();
                }
                let hidden = self.directory.display().to_string();
                let why = why.replace(&hidden, &self.shown.display().to_string());
                let message = format!("{}: no tar that can be unpacked: {why}", path.display());
                Error::new(Code::InvalidArgument, message)
            }
            _ => failed(&path, error),
        }
    }
}

/// The bytes of an archive as they are received.
struct Received {
    pieces: mpsc::Receiver<Piece>,
    data: Bytes,
    /// The digest that came with the end.
    end: Option<Bytes>,
    hash: Sha256,
    header: Rc<Cell<u64>>,
    broke: Rc<Cell<bool>>,
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.data.is_empty() && self.end.is_none() {
            match self.pieces.blocking_recv() {
                Some(Piece::Data(data)) => {
                    self.hash.update(&data);
                    self.data = data;
                }
                Some(Piece::End(sha256)) => self.end = Some(sha256),
                None => {
                    self.broke.set(true);
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            }
        }
        let header = self.header.get();
        if header == 0 && !self.data.is_empty() {
            let message = format!("names and attributes of an entry exceed {EXTRACT_HEADER} bytes");
            return Err(io::Error::new(ErrorKind::InvalidData, message));
        }
        let most = usize::try_from(header).unwrap_or(usize::MAX);
        let read = buffer.len().min(self.data.len()).min(most);
        self.data.copy_to_slice(&mut buffer[..read]);
        if header != u64::MAX {
            self.header.set(header - read as u64);
        }
        Ok(read)
    }
}
