//! What an agent holds after a day's work: as much as at the beginning.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests may")]

mod common;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use common::{Agent, Client, create, delete, python_in, run, shell, zombies_below};
use wire::v1::outcome::How;

const RUNS: u64 = 20_000;
const CONTEXTS: u64 = 2_000;
/// How many callers there are at once.
const CALLERS: u64 = 8;

/// What a process holds.
#[derive(Debug)]
struct Held {
    descriptors: usize,
    threads: u64,
    rss_kib: u64,
    /// Of all processes there are.
    children: usize,
}

fn held(pid: i32) -> Held {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    Held {
        descriptors: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
        threads: field("Threads:"),
        rss_kib: field("VmRSS:"),
        children: children.split_whitespace().count(),
    }
}

/// Waits until all are gone but the supervisors of what stays: three contexts, and what new ones are copies of.
async fn settled(agent: &Agent) {
    common::eventually(async || held(agent.pid()).children == 4 && zombies_below(agent.pid()) == 0)
        .await;
}

/// Does something so many times, by several callers at once.
async fn often<F>(client: &Client, times: u64, one: fn(Client, u64) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let next = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (client, next) = (client.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= times {
                        return;
                    }
                    one(client.clone(), number).await;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
}

async fn a_run(mut client: Client, number: u64) {
    let id = format!("run{number}");
    let spec = match number % 4 {
        0 => shell("echo out; echo err >&2"),
        caller => python_in(
            &format!("steady{caller}"),
            "print('out')\nn = globals().get('n', 0) + 1; 1 + 1",
        ),
    };
    let seen = run(&mut client, &id, spec).await;
    assert_eq!((seen.how(), seen.out()), (How::Exited(0), "out\n"), "{id}");
}

async fn a_context(mut client: Client, number: u64) {
    let name = format!("c{number}");
    create(&mut client, &name, if number.is_multiple_of(8) { "bash" } else { "python" })
        .await
        .unwrap();
    if !number.is_multiple_of(8) {
        let seen = run(&mut client, &name, python_in(&name, "6 * 7")).await;
        assert_eq!(seen.result(), Some("42"), "{name}");
    }
    assert!(delete(&mut client, &name).await, "{name}");
}

#[tokio::test]
async fn twenty_thousand_runs_and_two_thousand_contexts_leave_nothing() {
    let agent = Agent::start();
    let client = agent.client().await;
    // As many runs as are remembered, so that what is kept has its size.
    often(&client, 2_000, |client, number| a_run(client, 1_000_000 + number)).await;
    often(&client, 100, |client, number| a_context(client, 1_000_000 + number)).await;
    settled(&agent).await;
    let before = held(agent.pid());
    let began = Instant::now();
    often(&client, RUNS, a_run).await;
    println!("{RUNS} runs in {:?}", began.elapsed());
    let began = Instant::now();
    often(&client, CONTEXTS, a_context).await;
    println!("{CONTEXTS} contexts in {:?}", began.elapsed());
    let counted = run(&mut client.clone(), "count", python_in("steady1", "n")).await;
    println!("one context of three has run {} times", counted.result().unwrap());
    settled(&agent).await;
    let after = held(agent.pid());
    println!("before: {before:?}\nafter:  {after:?}");
    assert_eq!((after.descriptors, after.children), (before.descriptors, before.children));
    assert!(after.threads <= before.threads.max(9), "{after:?}");
    assert!(after.rss_kib <= before.rss_kib + 1024, "{after:?}");
}
