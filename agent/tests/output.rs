//! What is known of runs, and their output by parts: from any place, from the end, by lines.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::time::{Duration, Instant};

use common::{Agent, Client, DEADLINE, cancel, python, run, see, shell, start, until};
use wire::v1::outcome::How;
use wire::v1::{Empty, OutputReply, OutputRequest, RunInfo, RunsRequest, Stream};
use wire::{Code, Error};

fn of(run: &str, stream: Stream) -> OutputRequest {
    OutputRequest { run_id: run.to_owned(), stream: stream.into(), ..OutputRequest::default() }
}

async fn output(client: &mut Client, request: OutputRequest) -> Result<OutputReply, Error> {
    let answer = tokio::time::timeout(DEADLINE, client.output(request)).await.expect("in time");
    answer.map(tonic::Response::into_inner).map_err(|status| Error::of(&status).unwrap())
}

async fn text(client: &mut Client, request: OutputRequest) -> String {
    String::from_utf8(output(client, request).await.unwrap().data.into()).unwrap()
}

async fn runs(client: &mut Client, limit: u32) -> (Vec<RunInfo>, bool) {
    let reply = client.runs(RunsRequest { limit }).await.unwrap().into_inner();
    (reply.runs, reply.truncated)
}

#[tokio::test]
async fn output_is_read_in_parts_from_any_place() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let line = "seq 1 100000; seq 1 1000 >&2";
    let seen = run(&mut client, "a", shell(line)).await;
    let mut data = Vec::new();
    loop {
        let next = data.len() as u64;
        let part = OutputRequest { offset: next, length: 70_001, ..of("a", Stream::Stdout) };
        let part = output(&mut client, part).await.unwrap();
        assert_eq!((part.offset, part.kept), (next, seen.stdout.len() as u64));
        assert_eq!(part.outcome.unwrap(), *seen.outcome());
        data.extend_from_slice(&part.data);
        assert_eq!(part.next, data.len() as u64);
        if part.data.is_empty() {
            break;
        }
    }
    assert_eq!(data, seen.stdout);

    let end = OutputRequest { from_end: true, length: 9, ..of("a", Stream::Stderr) };
    let end = output(&mut client, end).await.unwrap();
    assert_eq!((&end.data[..], end.offset, end.next), (&b"999\n1000\n"[..], 3884, 3893));
    let behind = OutputRequest { offset: u64::MAX, ..of("a", Stream::Stderr) };
    let behind = output(&mut client, behind).await.unwrap();
    assert_eq!((behind.data.len(), behind.offset, behind.next), (0, 3893, 3893));
}

/// tests.md C8.
#[tokio::test]
async fn both_streams_come_in_the_order_in_which_they_were_written() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    // Read by the agent before the next is written.
    let line = "for i in 1 2 3; do echo out $i; sleep 0.2; echo err $i >&2; sleep 0.2; done";
    run(&mut client, "a", shell(line)).await;
    let both = "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n";
    assert_eq!(text(&mut client, of("a", Stream::Unspecified)).await, both);
    let part = OutputRequest { offset: 9, length: 6, ..of("a", Stream::Unspecified) };
    assert_eq!(text(&mut client, part).await, &both[9..15]);
}

#[tokio::test]
async fn a_pattern_finds_lines_wherever_they_were_cut() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    // A line in two events, one with no end, and one that is longer than a line may be.
    let line = "printf 'one er'; sleep 0.2; echo ror; echo fine; head -c 70000 /dev/zero | tr '\\0' x; echo error; printf 'last error'";
    run(&mut client, "a", shell(line)).await;
    let errors = OutputRequest { pattern: "err.r".to_owned(), ..of("a", Stream::Stdout) };
    let found = output(&mut client, errors.clone()).await.unwrap();
    let long = "x".repeat(70_000 % wire::limits::MAX_LINE);
    let expected = format!("one error\n{long}error\nlast error\n");
    assert_eq!((str::from_utf8(&found.data).unwrap(), found.next), (&*expected, found.kept));

    // What does not fit into an answer is found from where that one ended.
    let first = OutputRequest { length: 12, ..errors };
    let first_found = output(&mut client, first.clone()).await.unwrap();
    assert_eq!(&first_found.data[..], b"one error\n");
    let next = OutputRequest { offset: first_found.next, ..first };
    assert_eq!(text(&mut client, next).await, format!("{long}error\n"));

    let bad = OutputRequest { pattern: "(".to_owned(), ..of("a", Stream::Stdout) };
    let refused = output(&mut client, bad).await.unwrap_err();
    assert_eq!(refused.code, Code::InvalidArgument);
    assert!(refused.message.starts_with("pattern: "), "{refused}");
}

#[tokio::test]
async fn a_line_that_may_still_grow_is_not_judged_yet() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let line = "printf 'no er'; read x < go; echo ror";
    let fifo = agent.workspace().join("go");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut events = start(&mut client, "a", shell(line), 0).await.unwrap();
    until(&mut events, "no er").await;
    let negative = OutputRequest { pattern: "er$".to_owned(), ..of("a", Stream::Stdout) };
    let found = output(&mut client, negative.clone()).await.unwrap();
    assert_eq!((found.data.len(), found.next, found.outcome), (0, 0, None));
    std::fs::write(&fifo, "\n").unwrap();
    see(events).await;
    let found = output(&mut client, negative).await.unwrap();
    assert_eq!((found.data.len(), found.next), (0, 9));
}

#[tokio::test]
async fn who_waits_is_answered_by_more_output_or_by_the_end() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let line = "echo first; sleep 0.5; echo second; sleep 0.5";
    drop(start(&mut client, "a", shell(line), 0).await.unwrap());
    let behind = |offset| OutputRequest { offset, wait_ms: 20_000, ..of("a", Stream::Stdout) };
    assert_eq!(text(&mut client, behind(0)).await, "first\n");
    assert_eq!(text(&mut client, behind(6)).await, "second\n");
    let end = output(&mut client, behind(13)).await.unwrap();
    assert_eq!((end.data.len(), end.outcome.unwrap().how), (0, Some(How::Exited(0))));

    drop(start(&mut client, "patient", shell(line), 0).await.unwrap());
    let whole = OutputRequest { until_end: true, ..behind(0) };
    let whole = OutputRequest { run_id: "patient".to_owned(), ..whole };
    assert_eq!(text(&mut client, whole).await, "first\nsecond\n");

    drop(start(&mut client, "b", shell("sleep 1000"), 0).await.unwrap());
    let since = Instant::now();
    let nothing = OutputRequest { wait_ms: 300, ..of("b", Stream::Stdout) };
    let nothing = output(&mut client, nothing).await.unwrap();
    assert_eq!((nothing.data.len(), nothing.outcome), (0, None));
    assert!(since.elapsed() >= Duration::from_millis(300));
    let refused = output(&mut client, of("c", Stream::Stdout)).await.unwrap_err();
    assert_eq!(refused.code, Code::RunNotFound);
}

#[tokio::test]
async fn runs_are_listed_with_what_they_are_and_how_they_ended() {
    let mut agent = Agent::start();
    let mut client = agent.client().await;
    let ended = run(&mut client, "ended", shell("echo out; echo e >&2; exit 3")).await;
    let code = run(&mut client, "code", python("\nprint('hi')")).await;
    drop(start(&mut client, "open", shell("sleep 1000"), 0).await.unwrap());
    let (listed, truncated) = runs(&mut client, 0).await;
    let info = |id: &str, title: &str, bytes: (u64, u64), seen: Option<&common::Seen>| RunInfo {
        run_id: id.to_owned(),
        title: title.to_owned(),
        started_unix_ms: seen.map_or(0, |seen| seen.started.as_ref().unwrap().unix_ms),
        stdout_bytes: bytes.0,
        stderr_bytes: bytes.1,
        outcome: seen.map(|seen| seen.outcome().clone()),
    };
    let known = [
        info("code", "python: print('hi')", (3, 0), Some(&code)),
        info("ended", "echo out; echo e >&2; exit 3", (4, 2), Some(&ended)),
    ];
    let mut open = listed[0].clone();
    assert!(open.started_unix_ms >= known[0].started_unix_ms);
    open.started_unix_ms = 0;
    assert_eq!(open, info("open", "sleep 1000", (0, 0), None));
    assert_eq!((&listed[1..], truncated), (&known[..], false));
    let (newest, truncated) = runs(&mut client, 1).await;
    assert_eq!((&newest[0].run_id[..], newest.len(), truncated), ("open", 1, true));

    // As they were, after a restart in place.
    agent.kill();
    agent.restart();
    let mut client = agent.client().await;
    let (mut again, _) = runs(&mut client, 0).await;
    again.sort_by(|a, b| a.run_id.cmp(&b.run_id));
    assert_eq!(again[..2], known);
    assert_eq!(
        (&*again[2].title, again[2].started_unix_ms),
        ("sleep 1000", listed[0].started_unix_ms)
    );
    assert_eq!(again[2].outcome.as_ref().unwrap().how, Some(How::Lost(Empty {})));
    assert!(!cancel(&mut client, "open").await);
}
