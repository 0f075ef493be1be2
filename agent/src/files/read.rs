//! Reading a part of a file: its entry, its bytes as they are asked for, its end. Of a part whose beginning was read
//! before, the rest, and a digest of all.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use bytes::Bytes;
use futures::stream::{self, Stream};
use nix::fcntl::OFlag;
use sha2::{Digest, Sha256};
use wire::limits::{CHUNK, FILE_STEP};
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
    /// How many bytes are hashed and not sent: whoever asks has them.
    known: u64,
    left: u64,
    sent: u64,
    hash: Sha256,
}

/// Opens a file to send it from an offset on; a length of 0 means to its end. The digest begins at `from`.
pub(crate) async fn read(
    path: PathBuf,
    from: u64,
    offset: u64,
    length: u64,
) -> Result<impl Stream<Item = Result<ReadEvent, Error>>, Error> {
    let Some(known) = offset.checked_sub(from) else {
        let path = path.display();
        let message =
            format!("{path}: its digest cannot begin at {from}, behind the offset {offset}");
        return Err(Error::new(Code::InvalidArgument, message));
    };
    let stage = blocking(move || open(path, from, known, length)).await?;
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

fn open(path: PathBuf, from: u64, known: u64, length: u64) -> Result<Stage, Error> {
    let open = || {
        // Without it, opening a pipe would wait for a writer.
        let mut file =
            OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path)?;
        let found = file.metadata()?;
        if found.is_file() {
            file.seek(SeekFrom::Start(from))?;
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
    Ok(Stage::Entry(entry, Part { path, file, known, left, sent: 0, hash: Sha256::new() }))
}

impl Part {
    /// Hashes what is known already, a step's worth of it.
    fn catch_up(&mut self) -> Result<(), Error> {
        let behind = self.known.saturating_sub(FILE_STEP);
        while self.known > behind {
            let chunk = self.chunk(self.known - behind)?;
            self.known -= chunk.len() as u64;
            if chunk.is_empty() {
                // It is shorter than it was, and so its digest will differ.
                self.known = 0;
            }
        }
        Ok(())
    }

    /// The next bytes, hashed.
    fn chunk(&mut self, most: u64) -> Result<Vec<u8>, Error> {
        let mut chunk = Vec::new();
        (&self.file)
            .take(most.min(CHUNK as u64))
            .read_to_end(&mut chunk)
            .map_err(|error| failed(&self.path, &error))?;
        self.hash.update(&chunk);
        Ok(chunk)
    }

    fn next(mut self) -> Result<(Event, Stage), Error> {
        if self.known > 0 {
            self.catch_up()?;
            // A sign of life: whoever asks waits for each message, and not for a hundred gibibytes.
            return Ok((Event::Data(Bytes::new()), Stage::Data(self)));
        }
        let chunk = self.chunk(self.left)?;
        if chunk.is_empty() {
            let sha256 = Bytes::copy_from_slice(&self.hash.finalize());
            return Ok((Event::End(ReadEnd { bytes: self.sent, sha256 }), Stage::Over));
        }
        self.sent += chunk.len() as u64;
        self.left -= chunk.len() as u64;
        Ok((Event::Data(chunk.into()), Stage::Data(self)))
    }
}
