//! Archives both ways: trees come back as they went, and nothing gets out of its directory. No agent here finds a shell.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use common::{Agent, Client, answer, at, names, ours, parts};
use nix::sys::stat::Mode;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};
use tokio::sync::mpsc::Sender;
use tokio_stream::wrappers::ReceiverStream;
use wire::limits::{ARCHIVE_NAMES, CHUNK, EXTRACTS};
use wire::v1::archive_event::Event;
use wire::v1::write_request::Part;
use wire::v1::{ArchiveEnd, ArchiveRequest, ExtractReply, WriteRequest, WriteStart};
use wire::{Code, Error};

fn agent() -> Agent {
    Agent::start_with(&[("PATH", "")])
}

async fn archive(client: &mut Client, path: &str) -> Result<(Vec<u8>, ArchiveEnd), Error> {
    let request = ArchiveRequest { path: path.to_owned() };
    let mut events = answer(client.archive(request)).await?;
    let mut data = Vec::new();
    loop {
        let event = events.message().await.map_err(|status| ours(&status))?.unwrap();
        match event.event.unwrap() {
            Event::Data(part) => {
                assert!(part.len() <= CHUNK);
                data.extend(part);
            }
            Event::End(end) => {
                let sha256 = Sha256::digest(&data).to_vec();
                assert_eq!((end.bytes, &end.sha256[..]), (data.len() as u64, &sha256[..]));
                assert!(events.message().await.unwrap().is_none());
                return Ok((data, end));
            }
        }
    }
}

async fn extract(
    client: &mut Client,
    start: WriteStart,
    data: &[u8],
) -> Result<ExtractReply, Error> {
    answer(client.extract(parts(start, data, &Sha256::digest(data)))).await
}

/// What is in an archive, each entry in one line.
fn told(data: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(data);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path_bytes().escape_ascii().to_string();
        let link = entry.link_name_bytes().map(|link| format!(" -> {}", link.escape_ascii()));
        let mut data = Vec::new();
        entry.read_to_end(&mut data).unwrap();
        let (kind, header) = (entry.header().entry_type().as_byte() as char, entry.header());
        let (mode, mtime) = (header.mode().unwrap(), header.mtime().unwrap());
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        format!("{kind} {name}{} {mode:o} {mtime} {}", link.unwrap_or_default(), data.len())
    });
    entries.collect()
}

fn set(path: &Path, mode: u32, mtime: u64) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    File::open(path).unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(mtime)).unwrap();
}

/// An archive of entries of these names, kinds, links and modes, as others make them.
fn tar(entries: &[(&str, EntryType, &str, u32)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for &(name, kind, link, mode) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1);
        header.set_link_name_literal(link).unwrap();
        let data = if kind == EntryType::Regular { name } else { "" };
        header.set_size(data.len() as u64);
        // As it is, which `set_path` refuses.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, data.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn file(name: &str) -> (&str, EntryType, &str, u32) {
    (name, EntryType::Regular, "", 0o644)
}

fn link<'a>(name: &'a str, target: &'a str) -> (&'a str, EntryType, &'a str, u32) {
    (name, EntryType::Symlink, target, 0o777)
}

/// tests.md C7, D3, D7.
#[tokio::test]
async fn a_tree_goes_both_ways_and_is_the_same() {
    let agent = agent();
    let mut client = agent.client().await;
    let tree = agent.workspace().join("tree");
    let (long, target) = ("l".repeat(200), "t".repeat(300));
    let deep = tree.join(&long).join(&long);
    fs::create_dir_all(&deep).unwrap();
    fs::create_dir(tree.join("b")).unwrap();
    fs::write(deep.join("file"), "deep").unwrap();
    fs::write(tree.join("b/large"), vec![b'x'; 200_000]).unwrap();
    fs::write(tree.join("b/even"), vec![b'x'; 512]).unwrap();
    fs::write(tree.join(OsStr::from_bytes(b"a \n\xff")), "").unwrap();
    symlink("./b//../b", tree.join("c")).unwrap();
    symlink(&target, tree.join("d")).unwrap();
    nix::unistd::mkfifo(&tree.join("pipe"), Mode::S_IRWXU).unwrap();
    let odd = tree.join(OsStr::from_bytes(b"a \n\xff"));
    set(&odd, 0o640, 1_000_000_000);
    set(&tree.join("b/large"), 0o755, 1_700_000_000);
    set(&tree.join("b/even"), 0o400, 4_000_000_000);
    set(&tree.join("b"), 0o555, 7);
    for path in [&deep.join("file"), &deep, &tree.join(&long)] {
        set(path, if path.is_dir() { 0o700 } else { 0o600 }, 8);
    }
    let (data, end) = archive(&mut client, "tree").await.unwrap();
    let seconds = |name: &str| fs::symlink_metadata(tree.join(name)).unwrap().mtime();
    assert_eq!(
        told(&data),
        [
            "0 a \\n\\xff 640 1000000000 0".to_owned(),
            "5 b 555 7 0".to_owned(),
            "0 b/even 400 4000000000 512".to_owned(),
            "0 b/large 755 1700000000 200000".to_owned(),
            format!("2 c -> ./b//../b 777 {} 0", seconds("c")),
            format!("2 d -> {target} 777 {} 0", seconds("d")),
            format!("5 {long} 700 8 0"),
            format!("5 {long}/{long} 700 8 0"),
            format!("0 {long}/{long}/file 600 8 4"),
        ]
    );
    assert_eq!((end.entries, end.skipped), (9, 1));

    let start = WriteStart { create_parents: true, mode: 0o750, ..at("new/copy") };
    let reply = extract(&mut client, start, &data).await.unwrap();
    assert_eq!((reply.entries, reply.skipped, reply.stripped), (9, 0, 0));
    assert_eq!(reply.sha256, Sha256::digest(&data).to_vec());
    assert_eq!(reply.entry.unwrap().mode, 0o750);
    assert_eq!(names(&agent.workspace().join("new")), ["copy"]);
    assert!(archive(&mut client, "new/copy").await.unwrap().0 == data);
    // Into what is there: all of it once more.
    extract(&mut client, at("new/copy"), &data).await.unwrap();
    assert!(archive(&mut client, "new/copy").await.unwrap().0 == data);
}

#[tokio::test]
async fn an_empty_directory_and_a_single_file_are_archives_too() {
    let agent = agent();
    let mut client = agent.client().await;
    fs::create_dir(agent.workspace().join("empty")).unwrap();
    let path = agent.workspace().join("file");
    fs::write(&path, "text").unwrap();
    set(&path, 0o600, 9);
    symlink("file", agent.workspace().join("link")).unwrap();
    assert_eq!(archive(&mut client, "empty").await.unwrap().0, vec![0; 1024]);
    assert_eq!(told(&archive(&mut client, "file").await.unwrap().0), ["0 file 600 9 4"]);
    assert_eq!(told(&archive(&mut client, "link").await.unwrap().0), ["0 link 600 9 4"]);
    extract(&mut client, at("copy"), &[0; 1024]).await.unwrap();
    assert_eq!(names(&agent.workspace()), ["copy", "empty", "file", "link"]);
}

#[tokio::test]
async fn a_directory_of_more_names_than_are_held_is_archived_in_order() {
    let agent = agent();
    let mut client = agent.client().await;
    let many = agent.workspace().join("many");
    fs::create_dir(&many).unwrap();
    let all: Vec<String> = (0..=2 * ARCHIVE_NAMES).map(|n| format!("{n:05}")).collect();
    for name in all.iter().rev() {
        File::create(many.join(name)).unwrap();
    }
    let (data, end) = archive(&mut client, "many").await.unwrap();
    assert_eq!(end.entries, all.len() as u64);
    let mut found = tar::Archive::new(&data[..]);
    let found = found.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string());
    assert!(found.eq(all));
}

/// tests.md D5. An archive without it would look whole.
#[tokio::test]
async fn what_cannot_be_archived_is_an_error_and_no_shorter_archive() {
    let agent = agent();
    let mut client = agent.client().await;
    let code = |answer: Result<(Vec<u8>, ArchiveEnd), Error>| answer.unwrap_err().code;
    assert_eq!(code(archive(&mut client, "no").await), Code::FileNotFound);
    assert_eq!(code(archive(&mut client, "/dev/null").await), Code::FileKind);
    fs::create_dir_all(agent.workspace().join("d/".repeat(66))).unwrap();
    assert_eq!(code(archive(&mut client, "d").await), Code::InvalidArgument);
    archive(&mut client, "d/d/d").await.unwrap();
}

/// tests.md D5. Root may not read it either.
#[tokio::test]
async fn what_may_not_be_read_is_an_error_and_no_shorter_archive() {
    let agent = agent();
    let error = archive(&mut agent.client().await, "/sys/bus/cpu").await.unwrap_err();
    assert_eq!(error.code, Code::PermissionDenied, "{error}");
    assert!(error.message.contains("/sys/bus/cpu/"), "{error}");
}

#[tokio::test]
async fn a_file_that_becomes_shorter_while_it_is_archived_is_an_error() {
    let agent = agent();
    let mut client = agent.client().await;
    let path = agent.workspace().join("large");
    // Far more than windows hold, so that the agent has not read all of it.
    fs::write(&path, vec![b'x'; 16 << 20]).unwrap();
    let request = ArchiveRequest { path: "large".to_owned() };
    let mut events = answer(client.archive(request)).await.unwrap();
    events.message().await.unwrap().unwrap();
    File::options().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
    let error = loop {
        match events.message().await {
            Ok(event) => assert!(matches!(event.unwrap().event, Some(Event::Data(_)))),
            Err(status) => break ours(&status),
        }
    };
    assert_eq!(error.code, Code::Conflict, "{error}");
}

/// All that is in the workspace, and of the refusal its code and whether it says what stays.
async fn refused(data: &[u8]) -> Vec<(Code, Vec<String>)> {
    let mut seen = Vec::new();
    for there in [false, true] {
        let agent = agent();
        let mut client = agent.client().await;
        fs::create_dir(agent.workspace().join("outside")).unwrap();
        let within = agent.workspace().join("in");
        if there {
            fs::create_dir(&within).unwrap();
            symlink("../outside", within.join("old")).unwrap();
        }
        let error = extract(&mut client, at("in"), data).await.unwrap_err();
        assert_eq!(fs::metadata(agent.workspace().join("outside")).unwrap().mode() & 0o777, 0o755);
        assert_eq!(names(&agent.workspace().join("outside")), Vec::<String>::new());
        assert_eq!(names(&agent.workspace()).contains(&"in".to_owned()), there);
        assert!(!error.message.contains(".codesandbox"), "{error}");
        let left = if there { names(&within) } else { names(&agent.workspace()) };
        let stays = error.message.ends_with("; what had been unpacked before stays");
        assert_eq!(stays, there && left.len() > 1, "{error}");
        seen.push((error.code, left));
    }
    seen
}

#[tokio::test]
async fn no_name_leads_out_of_the_directory() {
    let outside = std::env::temp_dir().join("codesandbox-extracted");
    let outside = outside.to_str().unwrap();
    for name in ["../outside/x", "a/../../outside/x", "..", outside] {
        for kind in [EntryType::Regular, EntryType::Directory, EntryType::Symlink] {
            let data = tar(&[file("first"), (name, kind, "target", 0o644)]);
            let left = vec!["first".to_owned(), "old".to_owned()];
            assert_eq!(
                refused(&data).await,
                [
                    (Code::InvalidArgument, vec!["outside".to_owned()]),
                    (Code::InvalidArgument, left)
                ]
            );
            assert!(!Path::new(outside).exists());
        }
    }
}

#[tokio::test]
async fn no_symlink_is_written_through_to_the_outside() {
    let directory = ("new", EntryType::Directory, "", 0o700);
    for (entries, code) in [
        (vec![link("new", "../outside"), file("new/x")], Code::InvalidArgument),
        (vec![link("new", "../outside"), file("new/deep/x")], Code::InvalidArgument),
        (vec![link("new", "../outside"), directory], Code::AlreadyExists),
        (vec![link("a", "new"), link("new", "../outside"), file("a/x")], Code::InvalidArgument),
    ] {
        for (code_of, left) in refused(&tar(&entries)).await {
            assert_eq!(code_of, code, "{entries:?}");
            assert!(left == ["outside"] || left.contains(&"new".to_owned()), "{left:?}");
        }
    }
    // One that was there before.
    let agent = agent();
    let mut client = agent.client().await;
    let within = agent.workspace().join("in");
    fs::create_dir_all(agent.workspace().join("outside")).unwrap();
    fs::create_dir(&within).unwrap();
    symlink("../outside", within.join("old")).unwrap();
    let error = extract(&mut client, at("in"), &tar(&[file("old/x")])).await.unwrap_err();
    assert!(error.message.ends_with("; nothing was unpacked"), "{error}");
    let hard = ("hard", EntryType::Link, "old/secret", 0o644);
    fs::write(agent.workspace().join("outside/secret"), "s").unwrap();
    let error = extract(&mut client, at("in"), &tar(&[hard])).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument, "{error}");
    assert_eq!(names(&agent.workspace().join("outside")), ["secret"]);
    // A file takes the place of the link itself.
    extract(&mut client, at("in"), &tar(&[file("old")])).await.unwrap();
    assert_eq!(fs::read(within.join("old")).unwrap(), b"old");
}

#[tokio::test]
async fn symlinks_and_hard_links_within_the_directory_are_kept_and_followed() {
    let agent = agent();
    let mut client = agent.client().await;
    let data = tar(&[
        ("sub", EntryType::Directory, "", 0o755),
        link("in", "sub"),
        file("in/x"),
        ("hard", EntryType::Link, "in/x", 0o644),
        link("away", "/etc/hostname"),
    ]);
    assert_eq!(extract(&mut client, at("new"), &data).await.unwrap().entries, 5);
    let new = agent.workspace().join("new");
    assert_eq!(names(&new), ["away", "hard", "in", "sub"]);
    assert_eq!(fs::read(new.join("sub/x")).unwrap(), b"in/x");
    assert_eq!(fs::metadata(new.join("hard")).unwrap().nlink(), 2);
    assert_eq!(fs::read_link(new.join("away")).unwrap(), Path::new("/etc/hostname"));
}

#[tokio::test]
async fn devices_and_pipes_and_the_bits_that_lend_rights_are_left_out_and_counted() {
    let agent = agent();
    let mut client = agent.client().await;
    let data = tar(&[
        ("char", EntryType::Char, "", 0o666),
        ("block", EntryType::Block, "", 0o666),
        ("pipe", EntryType::Fifo, "", 0o666),
        ("set", EntryType::Regular, "", 0o6755),
        ("sticky", EntryType::Directory, "", 0o1777),
        file("plain"),
    ]);
    let reply = extract(&mut client, at("new"), &data).await.unwrap();
    assert_eq!((reply.entries, reply.skipped, reply.stripped), (3, 3, 2));
    let new = agent.workspace().join("new");
    assert_eq!(names(&new), ["plain", "set", "sticky"]);
    let mode = |name| fs::metadata(new.join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("set"), mode("sticky"), mode("plain")), (0o755, 0o777, 0o644));
}

/// A tar stream of which the agent has unpacked the first entry, and where the rest would go.
async fn half(client: &Client, path: &str, agent: &Agent) -> Sender<WriteRequest> {
    let (parts, stream) = tokio::sync::mpsc::channel(1);
    let mut client = client.clone();
    tokio::spawn(async move { client.extract(ReceiverStream::new(stream)).await });
    let mut data = tar(&[("closed", EntryType::Directory, "", 0o555), file("closed/x"), file("y")]);
    data.truncate(4 * 512);
    for part in [Part::Start(at(path)), Part::Data(data.into())] {
        parts.send(WriteRequest { part: Some(part) }).await.unwrap();
    }
    let workspace = agent.workspace();
    common::eventually(async || {
        let mut all = fs::read_dir(&workspace).unwrap().flatten();
        all.any(|entry| entry.path().join("closed/x").exists())
    })
    .await;
    parts
}

/// tests.md D5. A directory that may not be written in is in the way of nothing.
#[tokio::test]
async fn a_stream_that_breaks_leaves_nothing_of_a_new_directory_and_all_of_an_old_one() {
    let agent = agent();
    let client = agent.client().await;
    fs::create_dir(agent.workspace().join("old")).unwrap();
    drop(half(&client, "old", &agent).await);
    drop(half(&client, "new", &agent).await);
    // It ends as soon as the agent has seen that.
    common::eventually(async || names(&agent.workspace()) == ["old"]).await;
    assert_eq!(names(&agent.workspace().join("old/closed")), ["x"]);
    let data = tar(&[file("x")]);
    let broken = [Part::Start(at("new")), Part::Data(data.into())];
    let broken = tokio_stream::iter(broken.map(|part| WriteRequest { part: Some(part) }));
    let error = answer(client.clone().extract(broken)).await.unwrap_err();
    let new = agent.workspace().join("new");
    let message = format!(
        "{}: the stream broke off before its end; send it again; nothing was unpacked",
        new.display()
    );
    assert_eq!(error, Error::new(Code::InvalidArgument, message));
}

/// tests.md D5.
#[tokio::test]
async fn what_the_disk_has_no_room_for_or_may_not_be_written_is_said_so() {
    let agent = Agent::start_on_disk("1m");
    let mut client = agent.client().await;
    let mut builder = Builder::new(Vec::new());
    for name in ["a", "b"] {
        let mut header = Header::new_gnu();
        header.set_size(700 << 10);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, io::repeat(b'x').take(700 << 10)).unwrap();
    }
    let data = builder.into_inner().unwrap();
    let error = extract(&mut client, at("new"), &data).await.unwrap_err();
    let path = agent.workspace().join("new/b");
    let message =
        format!("{}: the disk is full; remove files first; nothing was unpacked", path.display());
    assert_eq!(error, Error::new(Code::NoSpace, message));
    // The room is there again.
    common::write(&mut client, at("c"), &vec![b'x'; 900 << 10], b"").await.unwrap();

    let error = extract(&mut client, at("/sys/kernel"), &tar(&[file("x")])).await.unwrap_err();
    assert_eq!(error.code, Code::PermissionDenied, "{error}");
    assert!(error.message.starts_with("/sys/kernel/x: "), "{error}");
    let code = |answer: Result<ExtractReply, Error>| answer.unwrap_err().code;
    assert_eq!(code(extract(&mut client, at("/sys/new"), &data).await), Code::PermissionDenied);
    assert_eq!(code(extract(&mut client, at("no/new"), &data).await), Code::FileNotFound);
    assert_eq!(code(extract(&mut client, at("c"), &data).await), Code::FileKind);
}

#[tokio::test]
async fn what_is_no_archive_or_another_than_was_sent_is_refused() {
    let agent = agent();
    let mut client = agent.client().await;
    let whole = tar(&[file("x"), file("y")]);
    let mut long = Header::new_gnu();
    long.set_entry_type(EntryType::GNULongName);
    long.set_size(2 << 20);
    long.set_cksum();
    let mut endless = Builder::new(Vec::new());
    endless.append(&long, io::repeat(b'n').take(2 << 20)).unwrap();
    let endless = endless.into_inner().unwrap();
    for (data, words) in [
        (&vec![b'x'; 5000][..], "no tar that can be unpacked: "),
        (&whole[..600], "no tar that can be unpacked: "),
        (&whole[..1100], "no tar that can be unpacked: "),
        (&endless[..], "exceed 1048576 bytes"),
    ] {
        let error = extract(&mut client, at("new"), data).await.unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument, "{error}");
        assert!(error.message.contains(words), "{error}");
    }
    let lie = parts(at("new"), &whole, &Sha256::digest("other"));
    assert_eq!(answer(client.extract(lie)).await.unwrap_err().code, Code::Corrupted);
    assert_eq!(names(&agent.workspace()), Vec::<String>::new());
}

/// Each has one of the agent's few file threads.
#[tokio::test]
async fn more_archives_than_may_be_unpacked_at_once_wait_and_hold_up_nothing_else() {
    let agent = agent();
    let mut client = agent.client().await;
    let mut open = Vec::new();
    for n in 0..EXTRACTS {
        fs::create_dir(agent.workspace().join(n.to_string())).unwrap();
        open.push(half(&client, &n.to_string(), &agent).await);
    }
    let error = extract(&mut client, at("new"), &tar(&[file("x")])).await.unwrap_err();
    assert_eq!(error.code, Code::TooMany, "{error}");
    let start = at("file");
    common::write(&mut client, start, b"x", b"").await.unwrap();
    open.pop();
    extract(&mut client, at("new"), &tar(&[file("x")])).await.unwrap();
}
