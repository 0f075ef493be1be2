//! The end of a sandbox that nobody uses. tests.md E15.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::fs;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Agent, at, eventually, ours, python, run, shell};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use wire::Code;
use wire::v1::outcome::How;
use wire::v1::write_request::Part;
use wire::v1::{
    ContextsRequest, HelloRequest, RefusedNamesRequest, RunsRequest, StatRequest, WriteEnd,
    WriteRequest,
};

/// The idle timeout of these agents.
const IDLE: Duration = Duration::from_millis(400);
/// Longer than that.
const LONG: Duration = Duration::from_millis(900);

fn agent() -> Agent {
    Agent::start_with(&[("CODESANDBOX_IDLE_TIMEOUT_MS", "400")])
}

/// Waits for its end, and sees that it says why.
async fn ends_for_want_of_use(agent: &mut Agent) {
    assert_eq!(agent.ended().await, Some(0));
    assert_eq!(fs::read_to_string(agent.last_words()).unwrap(), r#"{"reason":"IdleTimeout"}"#);
}

#[tokio::test]
async fn a_sandbox_that_nobody_uses_ends_and_says_why() {
    let since = Instant::now();
    let mut agent = agent();
    // Connected, but that is all.
    let mut client = agent.client().await;
    client.hello(HelloRequest { protocol: wire::PROTOCOL }).await.unwrap();
    ends_for_want_of_use(&mut agent).await;
    assert!(since.elapsed() >= IDLE);
}

/// As a pod of a pool waits for its sandbox.
#[tokio::test]
async fn one_that_awaits_its_first_call_is_not_idle_before_it() {
    let waits = ("CODESANDBOX_AWAITS_CALL", "true");
    let mut agent = Agent::start_with(&[("CODESANDBOX_IDLE_TIMEOUT_MS", "400"), waits]);
    let mut client = agent.client().await;
    sleep(LONG).await;
    let since = Instant::now();
    client.hello(HelloRequest { protocol: wire::PROTOCOL }).await.unwrap();
    ends_for_want_of_use(&mut agent).await;
    assert!(since.elapsed() >= IDLE);
}

#[tokio::test]
async fn a_run_is_use_for_as_long_as_it_goes_on() {
    let mut agent = agent();
    let mut client = agent.client().await;
    let seen = run(&mut client, "a", shell("sleep 0.9; echo done")).await;
    assert_eq!((seen.out(), seen.how()), ("done\n", How::Exited(0)));
    let seen = run(&mut client, "b", python("import time\ntime.sleep(0.9)\n1")).await;
    assert_eq!(seen.result(), Some("1"));
    // The interpreter that waits is none.
    ends_for_want_of_use(&mut agent).await;
}

#[tokio::test]
async fn a_run_that_nobody_follows_is_use() {
    let mut agent = agent();
    let mut client = agent.client().await;
    drop(common::start(&mut client, "a", shell("sleep 0.9; echo done >done"), 0).await.unwrap());
    drop(client);
    assert_eq!(agent.ended().await, Some(0));
    assert!(agent.workspace().join("done").is_file());
}

// Case D6: an upload that runs for longer is not ended by the idle timeout.
#[tokio::test]
async fn an_upload_is_use_for_as_long_as_it_goes_on() {
    let mut agent = agent();
    let mut client = agent.client().await;
    let (to, parts) = mpsc::channel(1);
    let upload = tokio::spawn(async move { client.write(ReceiverStream::new(parts)).await });
    let part = |part| WriteRequest { part: Some(part) };
    to.send(part(Part::Start(at("slow")))).await.unwrap();
    for _ in 0..3 {
        sleep(LONG).await;
        to.send(part(Part::Data(Bytes::from_static(b"part ")))).await.unwrap();
    }
    to.send(part(Part::End(WriteEnd::default()))).await.unwrap();
    let since = Instant::now();
    upload.await.unwrap().unwrap();
    assert_eq!(fs::read(agent.workspace().join("slow")).unwrap(), b"part part part ");
    ends_for_want_of_use(&mut agent).await;
    assert!(since.elapsed() >= IDLE);
}

#[tokio::test]
async fn a_look_at_what_there_is_is_no_use() {
    let mut agent = agent();
    let mut client = agent.client().await;
    let words = agent.last_words();
    eventually(async || {
        // It may be gone already.
        let _ = client.runs(RunsRequest::default()).await;
        let _ = client.contexts(ContextsRequest {}).await;
        let _ = client.refused_names(RefusedNamesRequest {}).await;
        words.exists()
    })
    .await;
    ends_for_want_of_use(&mut agent).await;
}

#[tokio::test]
async fn an_ending_sandbox_says_so_to_who_comes_too_late() {
    let mut agent = agent();
    let mut client = agent.client().await;
    // It has to be killed, which takes two seconds.
    let stubborn = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n1";
    assert_eq!(run(&mut client, "a", python(stubborn)).await.result(), Some("1"));
    let words = agent.last_words();
    eventually(async || words.exists()).await;
    let late = client.stat(StatRequest { path: ".".to_owned(), sha256: false }).await.unwrap_err();
    assert_eq!(ours(&late).code, Code::IdleEnding);
    ends_for_want_of_use(&mut agent).await;
}
