//! Files of a sandbox, streamed, with a digest both ways.

mod archive;
mod download;
mod edit;
mod search;
mod sending;
mod tree;
mod upload;
mod watch;

pub use search::Found;

use std::{io::Cursor, time::Duration};

use bytes::Bytes;
use futures::stream;
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use wire::{
    limits::CHUNK,
    v1::{Entry, WriteEnd, WriteRequest, WriteStart, write_request::Part},
};

use crate::{
    Error, Lane, Session,
    session::{CALL_DEADLINE, Call, check_digest},
};

/// A part of a file.
#[derive(Clone, Debug)]
pub struct Contents {
    /// What the file was when it was opened.
    pub entry: Entry,
    /// The bytes that were asked for, as far as the file has them.
    pub data: Vec<u8>,
}

/// What a download hands on.
#[derive(Clone, Debug)]
pub enum Piece {
    /// What the file was when it was opened: first.
    Entry(Entry),
    /// Its bytes, in order.
    Data(Bytes),
}

/// Data above this size, in bytes, takes the bulk lane: below, opening it costs more than it saves.
const BULK: usize = 1 << 20;

/// The slowest transfer that is waited for, in bytes a second.
const SLOWEST: u64 = 1 << 20;

const TOO_LONG: &str = "it is longer than what was asked for";

/// How long this many bytes may take.
fn transfer(bytes: usize) -> Duration {
    Duration::from_secs(bytes as u64 / SLOWEST)
}

fn lane(bytes: usize) -> Lane {
    if bytes > BULK { Lane::Bulk } else { Lane::Control }
}

impl Session {
    /// Reads at most `length` bytes of a file from `offset` on into memory.
    pub async fn read(&self, path: &str, offset: u64, length: usize) -> Result<Contents, Error> {
        let mut contents = Contents { entry: Entry::default(), data: Vec::new() };
        let download =
            self.download(path, offset, length as u64, lane(length), |event| match event {
                Piece::Entry(entry) => contents.entry = entry,
                Piece::Data(data) => contents.data.extend_from_slice(&data),
            });
        self.all("Read", length, download).await?;
        Ok(contents)
    }

    /// Replaces a file, all of it or nothing. `mode` 0 keeps the file's own, or 0644. Data above a mebibyte are an
    /// [`Session::upload`], and go on where their stream breaks; less is sent anew.
    pub async fn write(
        &self,
        path: &str,
        data: Bytes,
        mode: u32,
        create_parents: bool,
    ) -> Result<Entry, Error> {
        let lane = lane(data.len());
        if lane == Lane::Bulk {
            let (id, bytes) = (format!("w-{:016x}", rand::random::<u64>()), data.len());
            let mut source = Cursor::new(data);
            let upload = self.upload(&id, path, &mut source, mode, create_parents, lane);
            return self.all("Write", bytes, upload).await;
        }
        let digest = Bytes::from(Sha256::digest(&data).to_vec());
        let start = WriteStart { path: path.into(), mode, create_parents, ..WriteStart::default() };
        let end = WriteEnd { sha256: digest.clone() };
        let call = Call { doing: "Write", lane, within: CALL_DEADLINE + transfer(data.len()) };
        let reply = self
            .call(call, |mut agent| {
                let parts = parts(start.clone(), data.clone(), end.clone());
                async move { agent.write(stream::iter(parts)).await }
            })
            .await?;
        check_digest(path, &digest, &reply.sha256)?;
        Ok(reply.entry.unwrap_or_default())
    }

    /// Appends to a file, all of it or nothing; one that is not there is made.
    pub async fn append(
        &self,
        path: &str,
        data: Bytes,
        create_parents: bool,
    ) -> Result<Entry, Error> {
        let digest = Bytes::from(Sha256::digest(&data).to_vec());
        let start = WriteStart { path: path.into(), create_parents, ..WriteStart::default() };
        let end = WriteEnd { sha256: digest.clone() };
        let call = Call {
            doing: "Append",
            lane: lane(data.len()),
            within: CALL_DEADLINE + transfer(data.len()),
        };
        let parts = parts(start, data, end);
        let reply =
            self.call_once(call, path, |mut agent| async move {
                agent.append(stream::iter(parts)).await
            })
            .await?;
        // Not corrupted: that may be tried again.
        check_digest(path, &digest, &reply.sha256).map_err(|error| Error::Uncertain {
            doing: "Append",
            path: path.into(),
            reason: error.to_string(),
        })?;
        Ok(reply.entry.unwrap_or_default())
    }

    /// All of an answer: an agent that says a little now and then is not waited for for ever. Its
    /// stream may be opened twice before it begins.
    async fn all<T>(
        &self,
        doing: &'static str,
        bytes: usize,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let after = CALL_DEADLINE * 3 + transfer(bytes);
        match timeout(after, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Deadline { doing, pod: self.pod().into(), after }),
        }
    }

    /// The next message of a stream. The agent may take its time for each, but not for ever.
    pub(crate) async fn message<T>(
        &self,
        doing: &'static str,
        stream: &mut tonic::Streaming<T>,
    ) -> Result<Option<T>, Error> {
        match timeout(CALL_DEADLINE, stream.message()).await {
            Ok(message) => message.map_err(|status| self.error(&status)),
            Err(_) => Err(Error::Deadline { doing, pod: self.pod().into(), after: CALL_DEADLINE }),
        }
    }
}

/// The messages of a write: its start, its data in chunks that share the one buffer, its end.
fn parts(start: WriteStart, mut data: Bytes, end: WriteEnd) -> Vec<WriteRequest> {
    let mut parts = vec![Part::Start(start)];
    while !data.is_empty() {
        parts.push(Part::Data(data.split_to(CHUNK.min(data.len()))));
    }
    parts.push(Part::End(end));
    parts.into_iter().map(|part| WriteRequest { part: Some(part) }).collect()
}
