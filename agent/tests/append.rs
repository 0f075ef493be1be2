//! Appending: all or nothing, and never in the middle of somebody else's.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use common::{Agent, Client, answer, at, names, parts, write};
use sha2::{Digest, Sha256};
use wire::limits::MAX_APPEND;
use wire::v1::{StatRequest, WriteReply, WriteStart};
use wire::{Code, Error};

async fn append(client: &mut Client, start: WriteStart, data: &[u8]) -> Result<WriteReply, Error> {
    answer(client.append(parts(start, data, &Sha256::digest(data)))).await
}

/// tests.md D3, D7.
#[tokio::test]
async fn what_is_appended_comes_after_what_there_was() {
    let agent = Agent::start_with(&[("PATH", "")]);
    let mut client = agent.client().await;
    let path = agent.workspace().join("-a \n é");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    symlink("-a \n é", agent.workspace().join("link")).unwrap();
    let start = WriteStart { mode: 0o644, ..at("link") };
    let reply = append(&mut client, start, b" new").await.unwrap();
    let entry = reply.entry.unwrap();
    assert_eq!((entry.size, entry.mode), (7, 0o600));
    assert_eq!(reply.sha256, Sha256::digest(b" new").to_vec());
    append(&mut client, at("-a \n é"), b"").await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"old new");
    assert!(fs::symlink_metadata(agent.workspace().join("link")).unwrap().is_symlink());

    let data: Vec<u8> = (0..MAX_APPEND).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let start = WriteStart { mode: 0o640, create_parents: true, ..at("new/deep/file") };
    assert_eq!(append(&mut client, start, &data).await.unwrap().entry.unwrap().mode, 0o640);
    append(&mut client, at("new/deep/file"), &data).await.unwrap();
    let path = agent.workspace().join("new/deep/file");
    assert!(fs::read(path).unwrap() == [&data[..], &data].concat());
}

/// tests.md D5.
#[tokio::test]
async fn what_cannot_be_appended_leaves_the_file_as_it_was() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    fs::create_dir(agent.workspace().join("dir")).unwrap();
    fs::write(agent.workspace().join("a"), "old").unwrap();
    let code = |answer: Result<WriteReply, Error>| answer.unwrap_err().code;
    assert_eq!(code(append(&mut client, at("dir"), b"x").await), Code::FileKind);
    assert_eq!(code(append(&mut client, at("a/b"), b"x").await), Code::FileKind);
    assert_eq!(code(append(&mut client, at("no/b"), b"x").await), Code::FileNotFound);
    let error = append(&mut client, at("a"), &vec![b'x'; MAX_APPEND + 1]).await.unwrap_err();
    let message = format!(
        "{}: more than {MAX_APPEND} bytes are not appended at once, nothing was; append them in several calls",
        agent.workspace().join("a").display()
    );
    assert_eq!(error, Error::new(Code::InvalidArgument, message));
    let lie = answer(client.append(parts(at("a"), b"new", &Sha256::digest("other")))).await;
    assert_eq!(lie.unwrap_err().code, Code::Corrupted);
    assert_eq!(names(&agent.workspace()), ["a", "dir"]);
    assert_eq!(fs::read(agent.workspace().join("a")).unwrap(), b"old");
}

/// tests.md D5.
#[tokio::test]
async fn what_the_disk_has_no_room_for_is_not_appended_in_part() {
    let agent = Agent::start_on_disk("1m");
    let mut client = agent.client().await;
    let old = vec![b'o'; 900 << 10];
    write(&mut client, at("a"), &old, b"").await.unwrap();
    let more = vec![b'n'; 300 << 10];
    for name in ["a", "new"] {
        let error = append(&mut client, at(name), &more).await.unwrap_err();
        let path = agent.workspace().join(name);
        let message = format!(
            "{}: the disk is full; remove files first; nothing was appended",
            path.display()
        );
        assert_eq!(error, Error::new(Code::NoSpace, message));
    }
    let stat = |name: &str| StatRequest { path: name.to_owned(), sha256: true };
    let entry = answer(client.stat(stat("a"))).await.unwrap();
    assert_eq!((entry.size, &entry.sha256[..]), (900 << 10, &Sha256::digest(&old)[..]));
    assert_eq!(answer(client.stat(stat("new"))).await.unwrap_err().code, Code::FileNotFound);
}
