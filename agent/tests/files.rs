//! Files: whole or not at all, and every refusal with its code.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::os::unix::fs::{PermissionsExt, symlink};

use bytes::Bytes;
use common::{Agent, Client, at, below, entries, names, ours, write};
use sha2::{Digest, Sha256};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use wire::v1::entry::Kind;
use wire::v1::read_event::Event;
use wire::v1::write_request::Part;
use wire::v1::{
    Entry, ListRequest, ReadRequest, RemoveRequest, ResumeRequest, StatRequest, WriteReply,
    WriteRequest, WriteStart,
};
use wire::{Code, Error};

async fn read(
    client: &mut Client,
    path: &str,
    offset: u64,
    length: u64,
) -> Result<(Entry, Vec<u8>), Error> {
    let request = ReadRequest { path: path.to_owned(), offset, length };
    let mut events = client.read(request).await.map_err(|status| ours(&status))?.into_inner();
    let Some(Event::Entry(entry)) = events.message().await.unwrap().unwrap().event else {
        panic!("no entry")
    };
    let mut data = Vec::new();
    loop {
        match events.message().await.unwrap().unwrap().event.unwrap() {
            Event::Entry(_) => panic!("a second entry"),
            Event::Data(part) => {
                assert!(part.len() <= wire::limits::CHUNK);
                data.extend(part);
            }
            Event::End(end) => {
                assert_eq!(
                    (end.bytes, &end.sha256[..]),
                    (data.len() as u64, &Sha256::digest(&data)[..])
                );
                assert!(events.message().await.unwrap().is_none());
                return Ok((entry, data));
            }
        }
    }
}

async fn list(
    client: &mut Client,
    path: &str,
    depth: u32,
    limit: u32,
) -> Result<Vec<Entry>, Error> {
    let request = ListRequest { path: path.to_owned(), depth, limit, ..ListRequest::default() };
    entries(client.list(request).await).await
}

async fn stat(client: &mut Client, path: &str) -> Result<Entry, Error> {
    let answer = client.stat(StatRequest { path: path.to_owned(), sha256: false }).await;
    answer.map(tonic::Response::into_inner).map_err(|status| ours(&status))
}

async fn remove(client: &mut Client, path: &str, recursive: bool) -> Result<bool, Error> {
    let answer = client.remove(RemoveRequest { path: path.to_owned(), recursive }).await;
    answer.map(|reply| reply.into_inner().existed).map_err(|status| ours(&status))
}

/// D1, C7, D7
#[tokio::test]
async fn files_of_every_size_come_back_as_they_went() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    for size in [0, 1, 17 << 10, (64 << 10) - 1, 64 << 10, 1 << 20, 28 << 20] {
        let data: Vec<u8> = (0..size).map(|i: u32| u8::try_from(i % 251).unwrap()).collect();
        let name = format!("-a '\"\n é {size}");
        let reply = write(&mut client, at(&name), &data, &Sha256::digest(&data)).await.unwrap();
        assert_eq!(reply.sha256, Sha256::digest(&data).to_vec());
        let (entry, back) = read(&mut client, &name, 0, 0).await.unwrap();
        assert_eq!((entry.kind(), entry.size, entry.mode), (Kind::File, u64::from(size), 0o644));
        assert!(back == data, "{size}");
    }
    let (_, part) = read(&mut client, "-a '\"\n é 1048576", 252, 100_000).await.unwrap();
    assert_eq!((part.len(), part[0]), (100_000, 1));
    assert_eq!(read(&mut client, "-a '\"\n é 1", 5, 0).await.unwrap().1, b"");
}

/// Larger than what is hashed in one step.
#[tokio::test]
async fn a_read_is_resumed_with_a_digest_of_all() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let data: Vec<u8> = (0..10 << 20).map(|i: u32| u8::try_from(i % 251).unwrap()).collect();
    std::fs::write(agent.workspace().join("a"), &data).unwrap();
    let mut resumed = async |digest_from, offset, length| {
        let rest = Some(ReadRequest { path: "a".to_owned(), offset, length });
        let events = client.resume(ResumeRequest { rest, digest_from }).await;
        let mut events = events.map_err(|status| ours(&status).code)?.into_inner();
        let mut arrived = Vec::new();
        loop {
            match events.message().await.unwrap().unwrap().event.unwrap() {
                Event::Entry(_) => {}
                Event::Data(part) => arrived.extend(part),
                Event::End(end) => break Ok::<_, Code>((arrived, end.bytes, end.sha256)),
            }
        }
    };
    for (from, offset, length) in [(0, 9 << 20, 0), (7, 7, 5), (3, 8 << 20, 100), (0, 10 << 20, 0)]
    {
        let (arrived, bytes, sha256) = resumed(from, offset, length).await.unwrap();
        let (from, offset) = (usize::try_from(from).unwrap(), usize::try_from(offset).unwrap());
        let end = if length == 0 { data.len() } else { offset + usize::try_from(length).unwrap() };
        assert!(arrived == data[offset..end] && bytes == arrived.len() as u64);
        assert_eq!(sha256, Sha256::digest(&data[from..end]).to_vec());
    }
    // It has become shorter: the digest is of less than whoever asks has.
    let (arrived, bytes, sha256) = resumed(0, 11 << 20, 0).await.unwrap();
    assert_eq!((arrived, bytes, sha256), (vec![], 0, Sha256::digest(&data).to_vec().into()));
    assert_eq!(resumed(1, 0, 0).await.unwrap_err(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_write_that_breaks_off_leaves_nothing_and_the_old_file_whole() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    std::fs::write(agent.workspace().join("a"), "old").unwrap();
    half_written(&client, "a").await.abort();
    assert_eq!(names(&agent.workspace()), ["a"]);

    let parts = [Part::Start(at("a")), Part::Data(Bytes::from_static(b"new"))];
    let parts = tokio_stream::iter(parts.map(|part| WriteRequest { part: Some(part) }));
    assert_eq!(ours(&client.write(parts).await.unwrap_err()).code, Code::InvalidArgument);
    let error = write(&mut client, at("a"), b"new", &Sha256::digest("other")).await.unwrap_err();
    assert_eq!(error.code, Code::Corrupted);
    assert_eq!(names(&agent.workspace()), ["a"]);
    assert_eq!(std::fs::read(agent.workspace().join("a")).unwrap(), b"old");
}

/// The node's OOM killer asks nobody, and what it leaves would take up the sandbox's disk for good.
#[tokio::test]
async fn an_agent_killed_in_the_middle_of_a_write_leaves_the_old_file_and_nothing_else() {
    let mut agent = Agent::start();
    let client = agent.client().await;
    std::fs::write(agent.workspace().join("a"), "old").unwrap();
    let call = half_written(&client, "a").await;
    agent.kill();
    assert!(call.await.unwrap().is_err());
    assert_eq!(names(&agent.workspace()), ["a"]);
    assert_eq!(std::fs::read(agent.workspace().join("a")).unwrap(), b"old");
}

/// A write of which the agent has taken most, but not the end.
async fn half_written(
    client: &Client,
    path: &str,
) -> tokio::task::JoinHandle<Result<tonic::Response<WriteReply>, tonic::Status>> {
    let (parts, stream) = tokio::sync::mpsc::channel(1);
    let mut writer = client.clone();
    let call = tokio::spawn(async move {
        let stream = ReceiverStream::new(stream);
        writer.write(stream.chain(tokio_stream::pending())).await
    });
    // Far more than a stream's window holds, so that the agent has written some of it.
    let data = vec![Part::Data(vec![b'n'; wire::limits::CHUNK].into()); 64];
    for part in [Part::Start(at(path))].into_iter().chain(data) {
        parts.send(WriteRequest { part: Some(part) }).await.unwrap();
    }
    call
}

#[tokio::test]
async fn a_file_keeps_its_mode_and_a_symlink_stays_one() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let file = agent.workspace().join("run.sh");
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o750)).unwrap();
    symlink("run.sh", agent.workspace().join("link")).unwrap();
    assert_eq!(write(&mut client, at("link"), b"x", b"").await.unwrap().entry.unwrap().mode, 0o750);
    assert_eq!(std::fs::read(&file).unwrap(), b"x");
    let link = stat(&mut client, "link").await.unwrap();
    assert_eq!((link.kind(), &link.target[..]), (Kind::Symlink, &b"run.sh"[..]));
    let start = WriteStart { mode: 0o600, ..at("run.sh") };
    assert_eq!(write(&mut client, start, b"x", b"").await.unwrap().entry.unwrap().mode, 0o600);
    let start = WriteStart { create_parents: true, ..at("new/deep/file") };
    write(&mut client, start, b"x", b"").await.unwrap();
    assert_eq!(stat(&mut client, "new/deep").await.unwrap().kind(), Kind::Directory);
}

/// D5
#[tokio::test]
async fn what_cannot_be_done_has_its_code_and_says_what_to_do() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    std::fs::create_dir_all(agent.workspace().join("dir/sub")).unwrap();
    std::fs::write(agent.workspace().join("file"), "x").unwrap();
    let code = |error: Error| error.code;
    assert_eq!(read(&mut client, "no", 0, 0).await.map_err(code), Err(Code::FileNotFound));
    assert_eq!(read(&mut client, "dir", 0, 0).await.map_err(code), Err(Code::FileKind));
    assert_eq!(read(&mut client, "/dev/zero", 0, 0).await.map_err(code), Err(Code::FileKind));
    assert_eq!(read(&mut client, "file/x", 0, 0).await.map_err(code), Err(Code::FileKind));
    assert_eq!(write(&mut client, at("dir"), b"", b"").await.map_err(code), Err(Code::FileKind));
    assert_eq!(write(&mut client, at("file/x"), b"", b"").await.map_err(code), Err(Code::FileKind));
    let error = write(&mut client, at("no/file"), b"", b"").await.unwrap_err();
    assert!(
        error.code == Code::FileNotFound && error.message.contains("create_parents"),
        "{error}"
    );
    assert_eq!(list(&mut client, "file", 1, 0).await.map_err(code), Err(Code::FileKind));
    assert_eq!(stat(&mut client, "no").await.map_err(code), Err(Code::FileNotFound));
    assert_eq!(remove(&mut client, "dir", false).await.map_err(code), Err(Code::NotEmpty));
    assert_eq!(remove(&mut client, "/", true).await.map_err(code), Err(Code::InvalidArgument));
    assert_eq!(remove(&mut client, ".", true).await.map_err(code), Err(Code::InvalidArgument));
    let proc = write(&mut client, at("/proc/x"), b"", b"").await.unwrap_err();
    assert!(matches!(proc.code, Code::PermissionDenied | Code::FileNotFound), "{proc}");
    assert_eq!(remove(&mut client, "no", false).await, Ok(false));
    assert_eq!(remove(&mut client, "dir", true).await, Ok(true));
    assert_eq!(remove(&mut client, "file", false).await, Ok(true));
    assert_eq!(names(&agent.workspace()), Vec::<String>::new());
}

#[tokio::test]
async fn a_listing_is_sorted_bounded_and_does_not_follow_symlinks() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    for path in ["b/x/deep", "a"] {
        std::fs::create_dir_all(agent.workspace().join(path)).unwrap();
    }
    std::fs::write(agent.workspace().join("c"), "123").unwrap();
    symlink("b", agent.workspace().join("link")).unwrap();
    let short = |entries: &[Entry]| below(&agent, entries);
    let all = list(&mut client, "", 0, 0).await.unwrap();
    assert_eq!(short(&all), ["a", "b", "c", "link"]);
    assert!(all.iter().all(|entry| !entry.truncated));
    let deep = list(&mut client, "", 9, 0).await.unwrap();
    assert_eq!(short(&deep), ["a", "b", "b/x", "b/x/deep", "c", "link"]);
    let two = list(&mut client, "", 2, 3).await.unwrap();
    assert_eq!(short(&two), ["a", "b", "b/x"]);
    assert_eq!(two.iter().map(|entry| entry.truncated).collect::<Vec<_>>(), [false, false, true]);
    assert!(list(&mut client, "a", 1, 0).await.unwrap().is_empty());
    // As deep as paths can be: the agent lives on.
    std::fs::create_dir_all(agent.workspace().join("d/".repeat(1900))).unwrap();
    assert_eq!(list(&mut client, "d", 64, 0).await.unwrap().len(), 64);
    let error = list(&mut client, "d", u32::MAX, 0).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument, "{error}");
}
