//! Edits: all of them or none, and none in a file that is another one by then.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use bytes::Bytes;
use common::{Agent, Client, answer, names};
use futures::future::join_all;
use nix::sys::stat::Mode;
use sha2::{Digest, Sha256};
use wire::limits::{MAX_EDIT_FILE, MAX_EDITS};
use wire::v1::edit_request::Replacement;
use wire::v1::{EditReply, EditRequest};
use wire::{Code, Error};

fn once(old: &str, new: &str) -> Replacement {
    Replacement { old: old.to_owned().into(), new: new.to_owned().into(), all: false }
}

async fn edit(
    client: &mut Client,
    path: &str,
    edits: &[Replacement],
    if_sha256: &[u8],
) -> Result<EditReply, Error> {
    let if_sha256 = Bytes::copy_from_slice(if_sha256);
    let request = EditRequest { path: path.to_owned(), edits: edits.to_vec(), if_sha256 };
    answer(client.edit(request)).await
}

/// tests.md D3, D7.
#[tokio::test]
async fn edits_are_made_one_after_the_other_and_the_file_stays_what_it_is_else() {
    let agent = Agent::start_with(&[("PATH", "")]);
    let mut client = agent.client().await;
    let path = agent.workspace().join("-a '\n é");
    fs::write(&path, b"one\r\ntwo \xff\r\ntwo\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o751)).unwrap();
    symlink("-a '\n é", agent.workspace().join("link")).unwrap();
    let edits = [
        once("one", "three"),
        once("three\r\n", "3\n"),
        Replacement { all: true, ..once("two", "2") },
        Replacement { old: b"\xff\r"[..].into(), new: Bytes::new(), all: false },
    ];
    let reply = edit(&mut client, "link", &edits, b"").await.unwrap();
    let expected = b"3\n2 \n2\n";
    assert_eq!(fs::read(&path).unwrap(), expected);
    assert_eq!((reply.replacements, &reply.sha256[..]), (5, &Sha256::digest(expected)[..]));
    let entry = reply.entry.unwrap();
    assert_eq!((entry.size, entry.mode), (7, 0o751));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o751);
    assert_eq!(names(&agent.workspace()), ["-a '\n é", "link"]);
}

/// tests.md D5.
#[tokio::test]
async fn where_one_edit_cannot_be_made_none_is() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let path = agent.workspace().join("a");
    fs::write(&path, "x\nb\nb\n").unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    let at = path.display();
    let many = vec![once("x", "y"); MAX_EDITS + 1];
    for (edits, expected) in [
        (
            &[once("x", "y"), once("b", "c")][..],
            format!(
                "EDIT_MISMATCH: {at}: edit 2 of 2: its old text occurs 2 times, at lines 2, 3; nothing was changed. Give more of the text around it, or set all"
            ),
        ),
        (
            &[once("x", "y"), once("x", "z")],
            format!(
                "EDIT_MISMATCH: {at}: edit 2 of 2: its old text does not occur; nothing was changed. Read the file and give the text as it stands there, white space and line ends included"
            ),
        ),
        (&[], "INVALID_ARGUMENT: edits: 0 are given; give 1 to 100 in a call".to_owned()),
        (&many, "INVALID_ARGUMENT: edits: 101 are given; give 1 to 100 in a call".to_owned()),
        (
            &[once("x", "y"), once("", "y")],
            "INVALID_ARGUMENT: edit 2 of 2: its old text is empty; give what is to be replaced"
                .to_owned(),
        ),
        (
            &[once("x", "x")],
            "INVALID_ARGUMENT: edit 1 of 1: its old and new text are the same; leave it out"
                .to_owned(),
        ),
    ] {
        assert_eq!(edit(&mut client, "a", edits, b"").await.unwrap_err().to_string(), expected);
    }
    assert_eq!(fs::read(&path).unwrap(), b"x\nb\nb\n");
    assert_eq!(
        (names(&agent.workspace()), fs::metadata(&path).unwrap().ino()),
        (vec!["a".into()], inode)
    );
}

/// tests.md D5.
#[tokio::test]
async fn what_is_no_file_of_a_size_to_edit_is_refused() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let workspace = agent.workspace();
    nix::unistd::mkfifo(&workspace.join("pipe"), Mode::S_IRWXU).unwrap();
    fs::write(workspace.join("fits"), "a".repeat(MAX_EDIT_FILE - 1) + "b").unwrap();
    fs::write(workspace.join("large"), "a".repeat(MAX_EDIT_FILE) + "b").unwrap();
    let edits = [once("b", "c")];
    let mut codes = Vec::new();
    for path in ["no", ".", "pipe", "large"] {
        codes.push(edit(&mut client, path, &edits, b"").await.unwrap_err().code);
    }
    assert_eq!(codes, [Code::FileNotFound, Code::FileKind, Code::FileKind, Code::InvalidArgument]);
    assert_eq!(edit(&mut client, "fits", &edits, b"").await.unwrap().replacements, 1);
}

#[tokio::test]
async fn a_file_that_is_not_the_one_the_caller_knows_is_not_edited() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let path = agent.workspace().join("a");
    fs::write(&path, "one").unwrap();
    let known = Sha256::digest("one");
    let reply = edit(&mut client, "a", &[once("one", "one one")], &known).await.unwrap();
    // The same once more, as after a lost answer.
    let error = edit(&mut client, "a", &[once("one", "one one")], &known).await.unwrap_err();
    let message = format!(
        "{}: is not what it was when it was read, and was not changed; read it again and make the edit anew",
        path.display()
    );
    assert_eq!(error, Error::new(Code::Conflict, message));
    edit(&mut client, "a", &[once("one one", "two")], &reply.sha256).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"two");
}

/// Agents call their tools in parallel.
#[tokio::test]
async fn of_edits_at_the_same_time_none_undoes_another() {
    let agent = Agent::start();
    let client = agent.client().await;
    let path = agent.workspace().join("a");
    let text = |word: &str| {
        (0..20).map(|n| format!("<{word}{n}>\n{}", "x".repeat(20_000))).collect::<Vec<_>>().concat()
    };
    fs::write(&path, text("old")).unwrap();
    let edits = (0..20).map(|n| {
        let mut client = client.clone();
        async move {
            let edit_it = [once(&format!("<old{n}>"), &format!("<new{n}>"))];
            edit(&mut client, "a", &edit_it, b"").await.map(|reply| reply.replacements)
        }
    });
    assert_eq!(join_all(edits).await, vec![Ok(1); 20]);
    assert!(fs::read_to_string(&path).unwrap() == text("new"));
}
