//! What a sandbox's limits do to runs, and what they leave alone.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::time::Duration;

use common::{
    Agent, answer, at, limited, python, python_in, refused, run, shell, start, until, write,
};
use wire::v1::outcome::How;
use wire::v1::{Empty, RemoveRequest, StatRequest};
use wire::{Code, Error};

/// F1: who starts processes without end meets the limit; others are answered, and of it nothing is left.
#[tokio::test]
async fn a_fork_bomb_meets_the_limit_while_the_agent_answers() {
    let agent = Agent::start_with_pids(60);
    let mut client = agent.client().await;
    run(&mut client, "before", python_in("other", "x = 6")).await;
    let bomb = "import os, time\nprint('lit')\nwhile True:\n    try:\n        if os.fork() == 0:\n            time.sleep(0.05)\n    except OSError:\n        print('full', flush=True)\n        time.sleep(0.05)";
    let command = format!("exec python3 -c \"{bomb}\"");
    let limit = Duration::from_secs(4);
    let mut bombed = start(&mut client, "bomb", limited(shell(&command), limit), 0).await.unwrap();
    until(&mut bombed, "full").await;
    let hello = client.stat(StatRequest { path: ".".to_owned(), sha256: false }).await;
    assert!(hello.is_ok(), "{hello:?}");
    let answered = run(&mut client, "during", python_in("other", "x * 7")).await;
    assert_eq!((answered.how(), answered.result()), (How::Exited(0), Some("42")));
    let more = refused(&mut client, "more", shell("true")).await;
    assert_eq!(more.code, Code::TooMany, "{more}");
    let bombed = common::see(bombed).await;
    assert_eq!(bombed.how(), How::TimedOut(Empty {}));
    let after = run(&mut client, "after", python("'again'")).await;
    assert_eq!(after.result(), Some("'again'"));
}

/// F3: no file can be added, though there is room for bytes. It is said as a full disk is, and removing one helps.
#[tokio::test]
async fn a_disk_without_inodes_is_full_and_its_files_stay_as_they_are() {
    let agent = Agent::start_on_disk("1m,nr_inodes=8");
    let mut client = agent.client().await;
    let mut there = Vec::new();
    let error = loop {
        let name = format!("f{}", there.len());
        match write(&mut client, at(&name), b"x", b"").await {
            Ok(_) => there.push(name),
            Err(error) => break error,
        }
    };
    let full = |name: &str| {
        let path = agent.workspace().join(name);
        let message = format!("{}: the disk is full; remove files first", path.display());
        Error::new(Code::NoSpace, message)
    };
    assert_eq!(error, full(&format!("f{}", there.len())));
    assert!((1..8).contains(&there.len()), "{there:?}");
    // The new file that would take this one's place has no inode either.
    assert_eq!(write(&mut client, at("f0"), b"new", b"").await.unwrap_err(), full("f0"));
    let ran = run(&mut client, "ran", shell("cat f0; touch more")).await;
    assert_eq!((ran.how(), ran.out()), (How::Exited(1), "x"));
    assert!(ran.err().contains("No space left on device"), "{}", ran.err());

    let first = RemoveRequest { path: "f0".to_owned(), recursive: false };
    assert!(answer(client.remove(first)).await.unwrap().existed);
    write(&mut client, at("f0"), b"new", b"").await.unwrap();
}
