//! Reading a part of a file: its entry, its bytes as they are asked for, its end.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use bytes::Bytes;
use futures::stream::{self, Stream};
use nix::fcntl::OFlag;
use sha2::{Digest, Sha256};
use wire::limits::CHUNK;
use wire::v1::read_event::Event;
use wire::v1::{Entry, ReadEnd, ReadEvent};
use wire::{Code, Error};

use super::{blocking, entry, failed};

/// Where a read is.
enum Stage {
    Entry(Box<Entry>, Part),
    Data(Part),
    Over,
}

/// What is still to be sent.
struct Part {
    path: PathBuf,
    file: File,
    left: u64,
    sent: u64,
    hash: Sha256,
}

/// Opens a file; a length of 0 means to its end.
pub(crate) async fn read(
    path: PathBuf,
    offset: u64,
    length: u64,
) -> Result<impl Stream<Item = Result<ReadEvent, Error>>, Error> {
    let stage = blocking(move || open(path, offset, length)).await?;
    Ok(stream::unfold(stage, |stage| async {
        let (event, stage) = match stage {
            Stage::Entry(entry, part) => (Ok(Event::Entry(*entry)), Stage::Data(part)),
            Stage::Data(part) => match blocking(move || part.next()).await {
                Ok((event, stage)) => (Ok(event), stage),
                Err(error) => (Err(error), Stage::Over),
            },
            Stage::Over => return None,
        };
        Some((event.map(|event| ReadEvent { event: Some(event) }), stage))
    }))
}

fn open(path: PathBuf, offset: u64, length: u64) -> Result<Stage, Error> {
    let open = || {
        // Without it, opening a pipe would wait for a writer.
        let mut file =
            OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path)?;
        let found = file.metadata()?;
        if found.is_file() {
            file.seek(SeekFrom::Start(offset))?;
        }
        Ok((file, found))
    };
    let (file, found) = open().map_err(|error| failed(&path, &error))?;
    if !found.is_file() {
        let what =
            if found.is_dir() { "a directory; list it" } else { "no regular file; use a command" };
        return Err(Error::new(Code::FileKind, format!("{}: is {what} instead", path.display())));
    }
    let left = if length == 0 { u64::MAX } else { length };
    let entry = Box::new(entry(&path, &found));
    Ok(Stage::Entry(entry, Part { path, file, left, sent: 0, hash: Sha256::new() }))
}

impl Part {
    fn next(mut self) -> Result<(Event, Stage), Error> {
        let mut chunk = Vec::new();
        let most = self.left.min(CHUNK as u64);
        let read = (&self.file)
            .take(most)
            .read_to_end(&mut chunk)
            .map_err(|error| failed(&self.path, &error))?;
        if read == 0 {
            let sha256 = Bytes::copy_from_slice(&self.hash.finalize());
            return Ok((Event::End(ReadEnd { bytes: self.sent, sha256 }), Stage::Over));
        }
        self.hash.update(&chunk);
        self.sent += read as u64;
        self.left -= read as u64;
        Ok((Event::Data(chunk.into()), Stage::Data(self)))
    }
}
