//! Searches: what ripgrep would find, in bounds.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::{Agent, Client, answer};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::Mode;
use wire::limits::{SEARCH_FILE, SEARCH_LINE_MEMORY, SEARCH_MOST_BYTES};
use wire::v1::search_end::Bound;
use wire::v1::search_event::Event;
use wire::v1::{SearchEnd, SearchLine, SearchRequest, StatRequest};
use wire::{Code, Error};

fn of(pattern: &str) -> SearchRequest {
    SearchRequest { pattern: pattern.to_owned(), ..SearchRequest::default() }
}

async fn search(
    client: &mut Client,
    request: SearchRequest,
) -> Result<(Vec<SearchLine>, SearchEnd), Error> {
    let mut events = answer(client.search(request)).await?;
    let mut lines = Vec::new();
    loop {
        match events.message().await.unwrap().unwrap().event.unwrap() {
            Event::Line(line) => lines.push(line),
            Event::End(end) => {
                assert_eq!(events.message().await.unwrap(), None);
                return Ok((lines, end));
            }
        }
    }
}

/// The lines of a search as ripgrep prints them, from the workspace on.
async fn found(agent: &Agent, client: &mut Client, request: SearchRequest) -> Vec<String> {
    let (lines, _) = search(client, request).await.unwrap();
    let root = agent.workspace();
    let told = lines.iter().map(|line| {
        let path = Path::new(OsStr::from_bytes(&line.path)).strip_prefix(&root).unwrap();
        let mark = if line.context { '-' } else { ':' };
        let text = String::from_utf8_lossy(&line.text);
        format!("{}{mark}{}{mark}{text}", path.display(), line.number)
    });
    told.collect()
}

fn write(agent: &Agent, path: &str, text: impl AsRef<[u8]>) {
    let path = agent.workspace().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// tests.md D3.
#[tokio::test]
async fn lines_that_match_come_in_order_with_their_numbers_and_context() {
    let agent = Agent::start_with(&[("PATH", "")]);
    let mut client = agent.client().await;
    write(&agent, "b/x.py", "one\r\nTwo\nthree\ntwo\nfive\nsix\nseven two\n");
    write(&agent, "a.py", "two");
    write(&agent, "c.rs", "t.o\n");
    let plain = found(&agent, &mut client, of("two")).await;
    assert_eq!(plain, ["a.py:1:two", "b/x.py:4:two", "b/x.py:7:seven two"]);
    let request = SearchRequest { ignore_case: true, context: 1, path: "b".into(), ..of("^t.o") };
    let around = found(&agent, &mut client, request).await;
    assert_eq!(
        around,
        ["b/x.py-1-one", "b/x.py:2:Two", "b/x.py-3-three", "b/x.py:4:two", "b/x.py-5-five"]
    );
    let literal = SearchRequest { literal: true, ..of("t.o") };
    assert_eq!(found(&agent, &mut client, literal).await, ["c.rs:1:t.o"]);
    let one = SearchRequest { path: "b/x.py".into(), glob: "*.rs".into(), ..of("one") };
    assert_eq!(found(&agent, &mut client, one).await, ["b/x.py:1:one"]);
    let (_, end) = search(&mut client, of("two")).await.unwrap();
    assert_eq!(end, SearchEnd { files: 3, matches: 3, ..SearchEnd::default() });
}

/// tests.md D4, D7: a symlink is not followed, and a pipe not waited for.
#[tokio::test]
async fn what_ripgrep_passes_over_is_passed_over() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    for path in
        ["src/a.py", "src/deep/b.py", "src/log.txt", "target/c.py", ".hidden/d.py", "-e '\"\n é"]
    {
        write(&agent, path, "x\n");
    }
    write(&agent, ".gitignore", "target/\n");
    write(&agent, "src/.gitignore", "*.txt\n");
    write(&agent, "binary", b"x\n\0");
    // The NUL is found long after the first match.
    write(&agent, "late", [&b"x\n"[..], &b"y\n".repeat(1 << 20), b"\0"].concat());
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("x"), "x\n").unwrap();
    symlink(outside.path(), agent.workspace().join("link")).unwrap();
    symlink(outside.path().join("x"), agent.workspace().join("link.py")).unwrap();
    nix::unistd::mkfifo(&agent.workspace().join("pipe"), Mode::S_IRWXU).unwrap();

    let plain = found(&agent, &mut client, of("x")).await;
    assert_eq!(plain, ["-e '\"\n é:1:x", "src/a.py:1:x", "src/deep/b.py:1:x"]);
    let all = found(&agent, &mut client, SearchRequest { ignored: true, ..of("^x") }).await;
    assert_eq!(
        all,
        [
            "-e '\"\n é:1:x",
            ".hidden/d.py:1:x",
            "src/a.py:1:x",
            "src/deep/b.py:1:x",
            "src/log.txt:1:x",
            "target/c.py:1:x"
        ]
    );
    for (glob, expected) in [
        ("*.py", &["src/a.py:1:x", "src/deep/b.py:1:x"][..]),
        ("src/*.py", &["src/a.py:1:x"]),
        ("*.txt", &[]),
    ] {
        let request = SearchRequest { glob: glob.to_owned(), ..of("x") };
        assert_eq!(found(&agent, &mut client, request).await, expected, "{glob}");
    }
    // What is named is meant.
    let named = SearchRequest { path: "link".into(), ..of("x") };
    assert_eq!(search(&mut client, named).await.unwrap().1.matches, 1);
    let pipe = SearchRequest { path: "pipe".into(), ..of("x") };
    assert_eq!(search(&mut client, pipe).await.unwrap().1, SearchEnd::default());
}

#[tokio::test]
async fn a_search_says_by_which_bound_it_was_stopped() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    for file in ["a", "b"] {
        write(&agent, file, "x\nx\n");
    }
    let line = agent.workspace().join("a").as_os_str().len() + 1 + 64;
    for (max_matches, max_bytes, matches, stopped_by) in [
        (0, 0, 4, Bound::Unspecified),
        (4, 0, 4, Bound::Unspecified),
        (3, 0, 3, Bound::Matches),
        (2, 0, 2, Bound::Matches),
        (0, 4 * line, 4, Bound::Unspecified),
        (0, 4 * line - 1, 3, Bound::Bytes),
        (0, 1, 0, Bound::Bytes),
    ] {
        let max_bytes = max_bytes.try_into().unwrap();
        let request = SearchRequest { max_matches, max_bytes, ..of("x") };
        let (lines, end) = search(&mut client, request).await.unwrap();
        assert_eq!(
            (lines.len() as u64, end.matches, end.stopped_by()),
            (matches, matches, stopped_by),
            "{max_matches} {max_bytes}"
        );
    }
}

/// tests.md D5.
#[tokio::test]
async fn what_cannot_be_searched_is_refused_or_counted() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let nested = format!("{}a{}", "(".repeat(51), ")".repeat(51));
    let mut said = Vec::new();
    for request in [
        of(""),
        of("("),
        of("a\n"),
        of(&nested),
        of("(a{1000}){1000}"),
        SearchRequest { glob: "{a".into(), ..of("x") },
        SearchRequest { context: 21, ..of("x") },
        SearchRequest { path: "no".into(), ..of("x") },
    ] {
        said.push(search(&mut client, request).await.unwrap_err().code);
    }
    let mut expected = [Code::InvalidArgument; 8];
    expected[7] = Code::FileNotFound;
    assert_eq!(said, expected);
    let deep = format!("{}a{}", "(".repeat(49), ")".repeat(49));
    search(&mut client, of(&deep)).await.unwrap();

    write(&agent, "a", "x\n");
    write(&agent, "long", ["x\n".as_bytes(), &vec![b'y'; SEARCH_LINE_MEMORY + 1]].concat());
    fs::File::create(agent.workspace().join("large")).unwrap().set_len(SEARCH_FILE + 1).unwrap();
    let (lines, end) = search(&mut client, of("x")).await.unwrap();
    assert_eq!(lines.len(), 2);
    assert_eq!(end, SearchEnd { files: 1, matches: 2, unread: 2, ..SearchEnd::default() });
}

#[tokio::test]
async fn a_search_goes_no_further_than_its_caller_reads() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    // Far more than a stream's window, and less than any bound of the search.
    let line = format!("{}\n", "x".repeat(500));
    for number in 0..30 {
        write(&agent, &format!("{number}"), line.repeat(200));
    }
    let seen = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).unwrap();
    seen.add_watch(&agent.workspace(), AddWatchFlags::IN_OPEN).unwrap();
    let request = SearchRequest { max_matches: 10_000, max_bytes: SEARCH_MOST_BYTES, ..of("x") };
    let mut events = answer(client.search(request)).await.unwrap();
    assert!(events.message().await.unwrap().is_some());
    drop(events);
    // The agent has heard of the one before it takes the next.
    answer(client.stat(StatRequest::default())).await.unwrap();
    let opened = seen.read_events().unwrap();
    let files = opened.iter().filter(|event| event.name.is_some()).count();
    assert!((1..30).contains(&files), "{files}");
}
