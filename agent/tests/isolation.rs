//! That nothing of a user's runs before the network is seen closed.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::{Agent, Client, create, python, run, shell};
use nix::sys::socket::{Backlog, listen};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use wire::v1::outcome::How;
use wire::v1::{HelloRequest, StatRequest};

/// For how long it is looked whether something does not happen.
const A_WHILE: Duration = Duration::from_millis(400);

/// An agent that has to see this closed.
fn agent(canary: SocketAddr) -> Agent {
    Agent::start_with(&[("CODESANDBOX_CANARY", canary.to_string().leak())])
}

/// What answers until it is closed.
struct Canary {
    address: SocketAddr,
    closing: Arc<AtomicBool>,
    answers: Option<thread::JoinHandle<()>>,
}

impl Canary {
    fn open(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let closing = Arc::new(AtomicBool::new(false));
        let closes = Arc::clone(&closing);
        let answers = thread::spawn(move || {
            while !closes.load(Ordering::Relaxed) {
                drop(listener.accept());
            }
        });
        Self { address, closing, answers: Some(answers) }
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
        self.answers.take().unwrap().join().unwrap();
    }
}

/// Runs something, and sees whether it has begun.
async fn begins(agent: &Agent, mut client: Client, id: &'static str) -> (bool, JoinHandle<How>) {
    let mark = agent.workspace().join(id);
    let line = format!("touch {id}");
    let run = tokio::spawn(async move { run(&mut client, id, shell(&line)).await.how() });
    sleep(A_WHILE).await;
    (mark.exists(), run)
}

#[tokio::test]
async fn nothing_runs_until_the_network_is_closed() {
    let canary = Canary::open("127.0.0.1:0");
    let agent = agent(canary.address);
    let mut client = agent.client().await;
    let (began, command) = begins(&agent, client.clone(), "a").await;
    assert!(!began);
    let mut own = client.clone();
    let context = tokio::spawn(async move { create(&mut own, "c", "python").await });
    // What runs nothing need not wait.
    client.hello(HelloRequest { protocol: wire::PROTOCOL }).await.unwrap();
    client.stat(StatRequest { path: ".".to_owned(), sha256: false }).await.unwrap();
    sleep(A_WHILE).await;
    assert!(!command.is_finished() && !context.is_finished());

    drop(canary);
    assert_eq!(command.await.unwrap(), How::Exited(0));
    context.await.unwrap().unwrap();
    assert_eq!(run(&mut client, "b", python("1")).await.result(), Some("1"));
}

#[tokio::test]
async fn the_network_is_looked_at_once_more_when_somebody_comes_later() {
    let canary = Canary::open("127.0.0.1:0");
    let address = canary.address;
    drop(canary);
    let agent = agent(address);
    // Proven, but by a canary that answered nobody, and not of late.
    sleep(Duration::from_millis(1500)).await;
    let canary = Canary::open(&address.to_string());
    let client = agent.client().await;
    let (began, command) = begins(&agent, client.clone(), "a").await;
    assert!(!began);
    drop(canary);
    assert_eq!(command.await.unwrap(), How::Exited(0));

    // From then on it is known.
    let _canary = Canary::open(&address.to_string());
    let (began, command) = begins(&agent, client, "b").await;
    assert!(began);
    assert_eq!(command.await.unwrap(), How::Exited(0));
}

/// The canary tells nothing of it, since no setup reaches that.
#[tokio::test]
async fn what_was_open_to_the_setup_is_out_of_reach_before_anything_runs() {
    let canary = Canary::open("127.0.0.1:0");
    let closed = canary.address;
    drop(canary);
    let opened = [Canary::open("127.0.0.1:0"), Canary::open("127.0.0.1:0")];
    let said = opened.each_ref().map(|one| one.address.to_string()).join("\n");
    let mut agent = agent(closed);
    agent.kill();
    fs::write(agent.runs().join("setup.opened"), said).unwrap();
    agent.restart();
    let (began, command) = begins(&agent, agent.client().await, "a").await;
    assert!(!began);
    let [first, second] = opened;
    drop(first);
    sleep(A_WHILE).await;
    assert!(!command.is_finished(), "all of it");
    drop(second);
    assert_eq!(command.await.unwrap(), How::Exited(0));
}

/// The usual case: the caller is on its way while the agent looks, and is not to wait for a second look.
#[tokio::test]
async fn a_look_of_just_before_is_good_enough() {
    let canary = Canary::open("127.0.0.1:0");
    let address = canary.address;
    drop(canary);
    let agent = agent(address);
    sleep(A_WHILE).await;
    let _canary = Canary::open(&address.to_string());
    let (began, command) = begins(&agent, agent.client().await, "a").await;
    assert!(began);
    assert_eq!(command.await.unwrap(), How::Exited(0));
}

/// Many nodes drop what they deny and do not refuse it.
#[tokio::test]
async fn a_canary_that_is_silent_is_out_of_reach() {
    let canary = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = canary.local_addr().unwrap();
    listen(&canary, Backlog::new(0).unwrap()).unwrap();
    // The one that waits to be accepted; the kernel answers no other.
    let _first = TcpStream::connect(address).unwrap();
    TcpStream::connect_timeout(&address, Duration::from_millis(200)).unwrap_err();

    let agent = agent(address);
    let seen = run(&mut agent.client().await, "a", shell("echo ran")).await;
    assert_eq!(seen.out(), "ran\n");
}

#[tokio::test]
async fn a_network_that_stays_open_ends_the_sandbox_with_nothing_run() {
    let canary = Canary::open("127.0.0.1:0");
    let mut agent = agent(canary.address);
    let (began, command) = begins(&agent, agent.client().await, "a").await;
    assert_eq!(agent.ended().await, Some(1));
    assert_eq!(fs::read_to_string(agent.last_words()).unwrap(), r#"{"reason":"NotIsolated"}"#);
    assert!(command.await.is_err());
    assert!(!began && !agent.workspace().join("a").exists());
}
