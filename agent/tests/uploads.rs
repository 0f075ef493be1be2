//! Uploads in several streams: each byte once, whole or not at all, and nothing twice.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::fs;

use bytes::Bytes;
use common::{Agent, Client, DEADLINE, at, names, ours};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::Sender;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use wire::limits::CHUNK;
use wire::v1::upload_event::Event;
use wire::v1::write_request::Part;
use wire::v1::{UploadEvent, WriteEnd, WriteReply, WriteRequest, WriteStart};
use wire::{Code, Error};

/// One stream of an upload.
struct Stream {
    parts: Sender<WriteRequest>,
    events: Streaming<UploadEvent>,
}

fn start(path: &str) -> WriteStart {
    WriteStart { upload_id: "an-id".to_owned(), ..at(path) }
}

impl Stream {
    async fn open(client: &Client, start: WriteStart) -> Result<Self, Error> {
        let (parts, stream) = tokio::sync::mpsc::channel(1);
        parts.send(WriteRequest { part: Some(Part::Start(start)) }).await.unwrap();
        let answer = client.clone().upload(ReceiverStream::new(stream)).await;
        let events = answer.map_err(|status| ours(&status))?.into_inner();
        Ok(Self { parts, events })
    }

    async fn next(&mut self) -> Result<Option<Event>, Error> {
        let event = timeout(DEADLINE, self.events.message()).await.expect("an event in time");
        let event = event.map_err(|status| ours(&status))?;
        Ok(event.and_then(|event| event.event))
    }

    /// How much of it the agent has; where it has any it knows that.
    async fn from(&mut self) -> usize {
        match self.next().await.unwrap() {
            Some(Event::From(from)) if from.known || from.bytes == 0 => {
                usize::try_from(from.bytes).unwrap()
            }
            other => panic!("{other:?} is no beginning"),
        }
    }

    async fn send(&self, data: &[u8]) {
        for chunk in data.chunks(CHUNK) {
            let part = Some(Part::Data(Bytes::copy_from_slice(chunk)));
            // What fails is told in the answer.
            let _ = self.parts.send(WriteRequest { part }).await;
        }
    }

    async fn end(&mut self, sha256: &[u8]) -> Result<WriteReply, Error> {
        let end = WriteEnd { sha256: Bytes::copy_from_slice(sha256) };
        let _ = self.parts.send(WriteRequest { part: Some(Part::End(end)) }).await;
        match self.next().await? {
            Some(Event::Reply(reply)) => Ok(reply),
            other => panic!("{other:?} is no answer"),
        }
    }
}

fn data(length: u32) -> Vec<u8> {
    (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

#[tokio::test]
async fn an_upload_goes_on_where_its_stream_broke_with_one_digest_of_all() {
    let agent = Agent::start_with(&[("PATH", "")]);
    let path = agent.workspace().join("a");
    fs::write(&path, "old").unwrap();
    let data = data(5 << 20);
    let mut from = 0;
    // Each on a connection of its own, as with exec streams.
    for sent in [1, CHUNK - 1, 1 << 20, 4 << 20, 5 << 20] {
        let mut stream = Stream::open(&agent.client().await, start("a")).await.unwrap();
        let before = stream.from().await;
        assert!(before >= from, "{before} after {from}");
        // What was on its way when the stream before this one broke may be lost, and no more than that.
        from = before;
        stream.send(&data[from..sent]).await;
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }
    let mut stream = Stream::open(&agent.client().await, start("a")).await.unwrap();
    from = stream.from().await;
    assert!(from > 0, "all was lost");
    stream.send(&data[from..]).await;
    let reply = stream.end(&Sha256::digest(&data)).await.unwrap();
    assert_eq!(reply.sha256, Sha256::digest(&data).to_vec());
    assert_eq!(reply.entry.unwrap().size, data.len() as u64);
    assert!(fs::read(&path).unwrap() == data);
    assert_eq!(names(&agent.workspace()), ["a"]);
}

/// Another may have written the file since.
#[tokio::test]
async fn an_upload_whose_answer_was_lost_replaces_nothing_again() {
    let agent = Agent::start();
    let client = agent.client().await;
    let mut stream = Stream::open(&client, start("a")).await.unwrap();
    assert_eq!(stream.from().await, 0);
    stream.send(b"new").await;
    let reply = stream.end(b"").await.unwrap();
    fs::write(agent.workspace().join("a"), "newer").unwrap();
    let mut again = Stream::open(&client, start("a")).await.unwrap();
    assert_eq!(again.next().await.unwrap(), Some(Event::Reply(reply)));
    assert_eq!(again.next().await.unwrap(), None);
    assert_eq!(fs::read(agent.workspace().join("a")).unwrap(), b"newer");
}

#[tokio::test]
async fn of_two_streams_of_one_upload_the_later_goes_on() {
    let agent = Agent::start();
    let mut one = Stream::open(&agent.client().await, start("a")).await.unwrap();
    assert_eq!(one.from().await, 0);
    let mut other = Stream::open(&agent.client().await, start("a")).await.unwrap();
    assert_eq!(other.from().await, 0);
    one.send(b"one").await;
    assert_eq!(one.next().await.unwrap_err().code, Code::Conflict);
    other.send(b"other").await;
    other.end(&Sha256::digest("other")).await.unwrap();
    assert_eq!(fs::read(agent.workspace().join("a")).unwrap(), b"other");
}

#[tokio::test]
async fn an_upload_id_is_of_one_file_and_of_characters_that_a_runs_has() {
    let agent = Agent::start();
    let client = agent.client().await;
    let refused = async |start| Stream::open(&client, start).await.map(drop).unwrap_err().code;
    assert_eq!(refused(at("a")).await, Code::InvalidArgument);
    assert_eq!(
        refused(WriteStart { upload_id: "a/b".into(), ..at("a") }).await,
        Code::InvalidArgument
    );
    assert_eq!(refused(start("no/a")).await, Code::FileNotFound);
    // That was the end of it.
    let mut stream = Stream::open(&client, start("a")).await.unwrap();
    assert_eq!(refused(start("b")).await, Code::InvalidArgument);
    assert_eq!(stream.from().await, 0);
    stream.send(b"x").await;
    assert_eq!(stream.end(&Sha256::digest("y")).await.unwrap_err().code, Code::Corrupted);
    assert_eq!(names(&agent.workspace()), Vec::<String>::new());
    let mut stream = Stream::open(&client, start("b")).await.unwrap();
    assert_eq!(stream.from().await, 0);
}

/// tests.md D5.
#[tokio::test]
async fn an_upload_that_the_disk_has_no_room_for_leaves_nothing_of_it() {
    let agent = Agent::start_on_disk("1m");
    let client = agent.client().await;
    for _ in 0..2 {
        let mut stream = Stream::open(&client, start("a")).await.unwrap();
        assert_eq!(stream.from().await, 0);
        stream.send(&data(2 << 20)).await;
        let error = stream.next().await.unwrap_err();
        let path = agent.workspace().join("a");
        let message = format!("{}: the disk is full; remove files first", path.display());
        assert_eq!(error, Error::new(Code::NoSpace, message));
    }
    // As much as there is room for, now as before.
    let data = data(900 << 10);
    common::write(&mut client.clone(), at("b"), &data, b"").await.unwrap();
}

/// What is unnamed goes with its process.
#[tokio::test]
async fn an_agent_killed_with_a_broken_upload_leaves_the_old_file_and_nothing_else() {
    let mut agent = Agent::start();
    fs::write(agent.workspace().join("a"), "old").unwrap();
    let mut stream = Stream::open(&agent.client().await, start("a")).await.unwrap();
    assert_eq!(stream.from().await, 0);
    stream.send(&data(1 << 20)).await;
    drop(stream);
    agent.kill();
    assert_eq!(names(&agent.workspace()), ["a"]);
    assert_eq!(fs::read(agent.workspace().join("a")).unwrap(), b"old");
}
