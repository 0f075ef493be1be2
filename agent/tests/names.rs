//! What becomes of names where nothing is reached. tests.md F6.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::fs;
use std::net::{SocketAddr, UdpSocket as StdUdpSocket};
use std::time::Instant;

use common::{Agent, Client, DEADLINE, eventually, run, shell};
use futures::future::join_all;
use tokio::net::UdpSocket;
use tokio::time::timeout;
use wire::limits::MAX_REFUSED_DOMAINS;
use wire::v1::outcome::How;
use wire::v1::{HelloRequest, RefusedNamesReply, RefusedNamesRequest};

/// The types of addresses, both of which programs ask for.
const A: u8 = 1;
const AAAA: u8 = 28;
/// How many queries a flood has, and how many who ask at once.
const FLOOD: usize = 10_000;
const ASKERS: usize = 8;

/// An agent that refuses names, and where it does.
async fn agent() -> (Agent, SocketAddr) {
    let agent = Agent::start_with(&[("CODESANDBOX_RESOLVER_PORT", "0")]);
    let mut address = None;
    eventually(async || {
        let log = agent.log();
        let said = log.first().and_then(|line| line.strip_prefix("agent: refuses names on "));
        address = said.map(|address| address.parse().unwrap());
        address.is_some()
    })
    .await;
    (agent, address.unwrap())
}

/// Who asks it.
async fn asker(resolver: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(resolver).await.unwrap();
    socket
}

/// A message about a name, as programs send it for its addresses: its header says that it is a query, or refused.
fn message(id: u8, flags: [u8; 2], name: &str, kind: u8) -> Vec<u8> {
    let header = [0, id, flags[0], flags[1], 0, 1, 0, 0, 0, 0, 0, 0];
    let labels = name
        .split('.')
        .flat_map(|label| [u8::try_from(label.len()).unwrap()].into_iter().chain(label.bytes()));
    header.into_iter().chain(labels).chain([0, 0, kind, 0, 1]).collect()
}

fn query(id: u8, name: &str, kind: u8) -> Vec<u8> {
    message(id, [1, 0], name, kind)
}

async fn answer(socket: &UdpSocket) -> Vec<u8> {
    let mut answer = [0; 1500];
    let length = timeout(DEADLINE, socket.recv(&mut answer)).await.expect("an answer").unwrap();
    answer[..length].to_vec()
}

/// Asks for a name, and sees that it is refused.
async fn is_refused(socket: &UdpSocket, id: u8, name: &str, kind: u8) {
    socket.send(&query(id, name, kind)).await.unwrap();
    assert_eq!(answer(socket).await, message(id, [0x81, 5], name, kind), "{name}");
}

async fn told(client: &mut Client) -> RefusedNamesReply {
    client.refused_names(RefusedNamesRequest {}).await.unwrap().into_inner()
}

/// Whether Hello says that there may be something to tell.
async fn says_so(client: &mut Client) -> bool {
    let request = HelloRequest { protocol: wire::PROTOCOL };
    client.hello(request).await.unwrap().into_inner().refuses_names
}

fn line(domain: &str) -> String {
    format!(
        "agent: refused to resolve a name in {domain}: under spec.network.egress Deny none is. Use addresses that spec.network.allow opens, or egress Internet (docs/network.md)"
    )
}

#[tokio::test]
async fn names_are_refused_and_told_without_what_stands_before_their_domains() {
    let (mut agent, resolver) = agent().await;
    assert_eq!(resolver.ip().to_string(), "127.0.0.1");
    let mut client = agent.client().await;
    assert!(says_so(&mut client).await);
    assert_eq!(told(&mut client).await, RefusedNamesReply::default());
    let socket = asker(resolver).await;
    is_refused(&socket, 1, "s3cret.evil.test", A).await;
    is_refused(&socket, 2, "s3cret.evil.test", AAAA).await;
    is_refused(&socket, 3, "more.s3cret.EVIL.Test", A).await;
    is_refused(&socket, 4, "registry", A).await;

    let reply = told(&mut client).await;
    let domains = vec!["evil.test".into(), "registry".into()];
    assert_eq!(reply, RefusedNamesReply { count: 4, domains, more: false });
    agent.terminate();
    let end = "agent: ends: Signal(15)".to_owned();
    eventually(async || agent.log().last() == Some(&end)).await;
    let first = format!("agent: refuses names on {resolver}");
    assert_eq!(agent.log(), [first, line("evil.test"), line("registry"), end]);
}

#[tokio::test]
async fn what_is_no_query_gets_no_answer_and_is_not_counted() {
    let (agent, resolver) = agent().await;
    let mut client = agent.client().await;
    let socket = asker(resolver).await;
    let cut = &query(1, "a.evil.test", A)[..20];
    let response = message(2, [0x81, 5], "b.evil.test", A);
    for nonsense in [b"".as_slice(), b"nonsense", &[0xff; 1500], cut, &response] {
        socket.send(nonsense).await.unwrap();
    }
    // Only its question is looked at.
    let mut padded = query(3, "c.evil.test", A);
    padded.resize(1500, 0);
    socket.send(&padded).await.unwrap();
    assert_eq!(answer(&socket).await, message(3, [0x81, 5], "c.evil.test", A));
    let domains = vec!["evil.test".into()];
    assert_eq!(told(&mut client).await, RefusedNamesReply { count: 1, domains, more: false });
}

/// What is the agent's own of its memory, in KiB.
fn memory(agent: &Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Asks for names of so many domains, by several at once.
async fn flood(resolver: SocketAddr, queries: usize) {
    let ask = async |first: usize| {
        let socket = asker(resolver).await;
        for number in (first..queries).step_by(ASKERS) {
            let id = u8::try_from(number % 256).unwrap();
            is_refused(&socket, id, &format!("s3cret.flood{number}.test"), A).await;
        }
    };
    join_all((0..ASKERS).map(ask)).await;
}

#[tokio::test]
async fn a_flood_of_names_takes_no_memory_and_holds_up_no_run() {
    let (agent, resolver) = agent().await;
    let mut client = agent.client().await;
    let domains: Vec<_> =
        (0..MAX_REFUSED_DOMAINS).map(|number| format!("d{number}.test")).collect();
    let socket = asker(resolver).await;
    for domain in &domains {
        is_refused(&socket, 0, &format!("s3cret.{domain}"), A).await;
    }
    // As much as takes all the memory that there is to take.
    flood(resolver, ASKERS * 100).await;
    run(&mut client, "before", shell("true")).await;
    let before = memory(&agent);

    let flooded = tokio::spawn(flood(resolver, FLOOD));
    let mut runs = 0;
    // Each run takes some memory of its own.
    while !flooded.is_finished() && runs < 10 {
        let began = Instant::now();
        let ran = run(&mut client, &format!("during{runs}"), shell("true")).await;
        assert_eq!(ran.how(), How::Exited(0));
        assert!(began.elapsed() < DEADLINE / 6, "{:?}", began.elapsed());
        runs += 1;
    }
    flooded.await.unwrap();
    let after = memory(&agent);
    assert!(after <= before + 256, "{before} KiB, then {after} KiB with {runs} runs");

    let count = (MAX_REFUSED_DOMAINS + ASKERS * 100 + FLOOD) as u64;
    assert_eq!(
        told(&mut client).await,
        RefusedNamesReply { count, domains: domains.clone(), more: true }
    );
    let mut lines = vec![format!("agent: refuses names on {resolver}")];
    lines.extend(domains.iter().map(|domain| line(domain)));
    lines.push(
        "agent: refused names in more than 16 domains: of others none is said, they are counted"
            .into(),
    );
    eventually(async || agent.log().len() >= lines.len()).await;
    assert_eq!(agent.log(), lines);
}

#[tokio::test]
async fn an_agent_that_cannot_listen_says_so_and_goes_on() {
    let taken = StdUdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let port = address.port().to_string().leak();
    let agent = Agent::start_with(&[("CODESANDBOX_RESOLVER_PORT", port)]);
    let mut client = agent.client().await;
    assert_eq!(run(&mut client, "a", shell("true")).await.how(), How::Exited(0));
    assert!(!says_so(&mut client).await);
    assert_eq!(told(&mut client).await, RefusedNamesReply::default());
    let line = format!(
        "agent: could not listen on {address}; names fail, and nobody is told which: Address already in use (os error 98)"
    );
    eventually(async || !agent.log().is_empty()).await;
    assert_eq!(agent.log(), [line]);
}
