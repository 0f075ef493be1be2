//! What a restart in place finds: ended runs as they were, open ones lost, and the bounds on all of them.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use common::{Agent, argv, attach, lives, python, refused, run, see, shell, start, until};
use wire::Code;
use wire::v1::outcome::How;
use wire::v1::{Empty, HelloRequest};

#[tokio::test]
async fn after_a_restart_open_runs_are_lost_and_ended_ones_are_as_they_were() {
    let mut agent = Agent::start();
    let mut client = agent.client().await;
    let ended = run(&mut client, "ended", shell("echo whole; exit 4")).await;
    let mut events =
        start(&mut client, "open", shell("(setsid sleep 1000 & echo $!); sleep 1000"), 0)
            .await
            .unwrap();
    until(&mut events, "\n").await;
    agent.kill();
    agent.restart();
    let mut client = agent.client().await;
    assert_eq!(see(attach(&mut client, "ended", 0).await.unwrap()).await.events, ended.events);
    let lost = see(attach(&mut client, "open", 0).await.unwrap()).await;
    assert_eq!(lost.how(), How::Lost(Empty {}));
    let numbers: Vec<u64> = lost.events.iter().map(|event| event.number).collect();
    assert_eq!(numbers, [0, 1, 2]);
    // The same id never runs twice, restart or not.
    assert_eq!(refused(&mut client, "ended", shell("true")).await.code, Code::RunConflict);
    assert_eq!(run(&mut client, "ended", shell("echo whole; exit 4")).await.events, ended.events);
    // Its supervisor has seen the agent go.
    let deadline = std::time::Instant::now() + common::DEADLINE;
    while lives(lost.out()) {
        assert!(std::time::Instant::now() < deadline);
    }
    agent.kill();
    agent.restart();
    let again = see(attach(&mut agent.client().await, "open", 0).await.unwrap()).await;
    assert_eq!(again.events, lost.events);
}

#[tokio::test]
async fn the_oldest_logs_make_room_for_new_ones() {
    let mut agent = Agent::start();
    let mut client = agent.client().await;
    let line = || argv(&["head", "-c", "30000000", "/dev/zero"]);
    for number in 0..5 {
        let seen = run(&mut client, &format!("a{number}"), line()).await;
        assert_eq!((seen.truncated, seen.stdout.len()), (false, 30_000_000));
    }
    assert_eq!(attach(&mut client, "a0", 0).await.unwrap_err(), Code::RunNotFound);
    // Nor does it run again: who asks may not have heard of its outcome.
    assert_eq!(refused(&mut client, "a0", line()).await.code, Code::RunNotFound);
    assert_eq!(see(attach(&mut client, "a1", 0).await.unwrap()).await.stdout.len(), 30_000_000);
    let sizes = std::fs::read_dir(agent.runs())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len());
    assert!(sizes.sum::<u64>() <= wire::limits::ALL_LOGS + (1 << 20));
    // Nor after a restart in place.
    agent.kill();
    agent.restart();
    let mut client = agent.client().await;
    assert_eq!(refused(&mut client, "a0", line()).await.code, Code::RunNotFound);
}

#[tokio::test]
async fn no_more_runs_go_on_at_once_than_the_limit() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    for number in 0..wire::limits::MAX_ACTIVE_RUNS {
        drop(start(&mut client, &format!("a{number}"), argv(&["sleep", "1000"]), 0).await.unwrap());
    }
    assert_eq!(refused(&mut client, "one-more", argv(&["true"])).await.code, Code::TooMany);
    assert!(common::cancel(&mut client, "a0").await);
    see(attach(&mut client, "a0", 0).await.unwrap()).await;
    assert_eq!(run(&mut client, "one-more", argv(&["true"])).await.how(), How::Exited(0));
}

#[tokio::test]
async fn hello_tells_the_pod_and_the_protocol() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let hello = client.hello(HelloRequest { protocol: wire::PROTOCOL }).await.unwrap().into_inner();
    assert_eq!((hello.protocol, &*hello.pod_uid), (wire::PROTOCOL, "a-uid"));
}

/// Within one run, and so that nothing of it is a matter of the machine's speed: an idle agent is small.
#[tokio::test]
async fn an_agent_at_rest_holds_little_memory_after_much_output() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    run(&mut client, "a", shell("head -c 20000000 /dev/zero")).await;
    run(&mut client, "b", python("print('x' * 20_000_000)")).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kib: u64 = rss.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 8 << 10, "{kib} KiB");
}
