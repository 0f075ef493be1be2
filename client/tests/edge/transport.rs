//! How exec streams begin, break and end.

use std::time::Duration;

use client::{Error, Greeting, Lane};
use tokio::time::Instant;
use tonic::Status;
use wire::{
    limits,
    v1::{Gpu, GpusReply, RefusedNamesReply, RunSpec, read_event::Event},
};

use crate::support::{
    Answer, Cluster, Fault,
    agent::{entry, read_event},
    apiserver, at_last, chain,
    events::{flood, lines, script, started},
    soon,
};

#[tokio::test]
async fn many_calls_share_one_exec() {
    let cluster = Cluster::start().await;
    let session = cluster.session();
    let stats = (0..50).map(|_| session.stat("/x"));
    let entries = soon(futures::future::try_join_all(stats)).await.unwrap();
    assert_eq!(entries, vec![entry("/x"); 50]);
    assert_eq!(cluster.asked(), 1);
}

/// tests.md A3: runtimes lose the output of an exec that asks for no stdin.
#[tokio::test]
async fn an_exec_always_asks_for_all_three_streams() {
    let cluster = Cluster::start().await;
    soon(cluster.session().stat("/x")).await.unwrap();
    let query = cluster.query();
    for stream in ["stdin=true", "stdout=true", "stderr=true"] {
        assert!(query.split('&').any(|one| one == stream), "{query}");
    }
}

/// exec.md §6.2: a v4 server closes everything when stdin ends, so stdin must stay open.
#[tokio::test]
async fn an_api_server_of_the_old_subprotocol_will_do() {
    let cluster = Cluster::start().await;
    cluster.answer(apiserver::V4);
    assert_eq!(soon(cluster.session().stat("/x")).await.unwrap(), entry("/x"));
}

/// exec.md §7, point 2: kube's loop tells no reader that it has ended; keepalive would take 30 s.
#[tokio::test]
async fn a_cut_websocket_is_noticed_at_once() {
    assert_eq!(
        reason_of(Fault::Cut).await,
        "lost the stream to pod sandbox-0: failed to receive a WebSocket message: WebSocket protocol error: Connection reset without closing handshake"
    );
}

#[tokio::test]
async fn a_websocket_closed_without_a_status_is_a_loss() {
    assert_eq!(
        reason_of(Fault::Close).await,
        "lost the stream to pod sandbox-0: the connection ended without a status"
    );
}

#[tokio::test]
async fn a_bridge_that_fails_is_quoted() {
    assert_eq!(
        reason_of(Fault::Exit("no agent listens")).await,
        "lost the stream to pod sandbox-0: command terminated with exit code 1: no agent listens"
    );
}

/// The error of a download whose stream breaks after its first message.
async fn reason_of(fault: Fault) -> String {
    let cluster = Cluster::start().await;
    cluster.agent.script(|script| {
        script.read = Some(vec![read_event(Event::Entry(entry("/x")))]);
        script.silent = true;
    });
    let session = cluster.session();
    let mut broken = Instant::now();
    let download = session.download("/x", 0, 0, Lane::Control, |_| {
        broken = Instant::now();
        cluster.inject(fault.clone());
    });
    let error = soon(download).await.unwrap_err();
    assert!(broken.elapsed() < Duration::from_secs(5), "{:?}", broken.elapsed());
    error.to_string()
}

/// exec.md §7, point 4: nothing but our own ping notices a connection that went silent.
#[tokio::test(start_paused = true)]
async fn a_stalled_connection_is_given_up_on_and_replaced() {
    let cluster = Cluster::start().await;
    cluster.agent.runs(script(&lines(4)));
    cluster.agent.release(2);
    let session = cluster.session();
    let mut run = session.run("r".into(), RunSpec::default());
    let first = [run.next().await.unwrap(), run.next().await.unwrap()];
    cluster.inject(Fault::Stall);
    cluster.agent.release(usize::MAX);

    let stalled = Instant::now();
    let third = at_last(run.next()).await.unwrap();
    let patience = limits::KEEPALIVE + limits::KEEPALIVE_TIMEOUT + Duration::from_secs(1);
    assert!(stalled.elapsed() < patience, "{:?}", stalled.elapsed());
    assert_eq!(
        [first[0].clone(), first[1].clone(), third],
        [0, 1, 2].map(|n| Some(lines(4)[n].clone()))
    );
    assert_eq!(at_last(session.stat("/x")).await.unwrap(), entry("/x"));
    assert_eq!(cluster.asked(), 2);
}

/// Load balancers drop connections that are quiet for minutes.
#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_kept_alive() {
    let cluster = Cluster::start().await;
    let session = cluster.session();
    session.warm().await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let before = cluster.upstream();
    tokio::time::sleep(limits::KEEPALIVE * 4).await;
    // A PING is a frame of 17 bytes.
    assert!(cluster.upstream() - before >= 3 * 17, "{}", cluster.upstream() - before);
    assert_eq!(session.stat("/x").await.unwrap(), entry("/x"));
    assert_eq!(cluster.asked(), 1);
}

#[tokio::test]
async fn open_streams_are_counted_and_broken_ones_are_not() {
    let cluster = Cluster::start().await;
    let session = cluster.session();
    assert_eq!(session.streams(), 0, "none is opened before it is needed");
    session.warm().await.unwrap();
    assert_eq!(session.streams(), 1);
    cluster.inject(Fault::Cut);
    let noticed = async {
        while session.streams() > 0 {
            tokio::task::yield_now().await;
        }
    };
    soon(noticed).await;
}

/// The agent, or whoever killed it, breaks HTTP/2 while the exec itself goes on.
#[tokio::test]
async fn a_connection_that_breaks_above_the_exec_is_replaced() {
    let cluster = Cluster::start().await;
    let session = cluster.session();
    session.warm().await.unwrap();
    cluster.inject(Fault::Garbage);
    soon(cluster.open(0)).await;
    assert_eq!(soon(session.stat("/x")).await.unwrap(), entry("/x"));
    assert_eq!(cluster.asked(), 2);
}

/// A4: one loop of kube's serves all channels, so unread stderr would block stdout.
#[tokio::test]
async fn a_mebibyte_of_stderr_blocks_nothing() {
    let cluster = Cluster::start().await;
    cluster.agent.runs(script(&lines(4)));
    cluster.agent.release(2);
    let session = cluster.session();
    let mut run = session.run("r".into(), RunSpec::default());
    let mut events = vec![];
    for _ in 0..2 {
        cluster.inject(Fault::Stderr(1 << 20));
        events.extend(soon(run.next()).await.unwrap());
    }
    cluster.inject(Fault::Stderr(1 << 20));
    assert_eq!(soon(session.stat("/x")).await.unwrap(), entry("/x"));
    cluster.agent.release(usize::MAX);
    while let Some(event) = soon(run.next()).await.unwrap() {
        events.push(event);
    }
    assert_eq!((events, cluster.asked()), (lines(4), 1));
}

/// exec.md §7, point 3: a connection's window that unread streams can fill blocks every call.
#[tokio::test]
async fn sixteen_unread_floods_block_no_other_call() {
    let cluster = Cluster::start().await;
    cluster.agent.runs(script(&flood(128)));
    let session = cluster.session();
    let mut runs: Vec<_> =
        (0..16).map(|run| session.run(format!("r{run}"), RunSpec::default())).collect();
    let first = soon(futures::future::try_join_all(runs.iter_mut().map(client::Run::next))).await;
    assert_eq!(first.unwrap(), vec![Some(started()); 16]);
    // Until all that fits has come: then every stream is blocked and none of it read.
    soon(cluster.quiet()).await;
    assert_eq!(soon(session.stat("/x")).await.unwrap(), entry("/x"));
}

/// exec.md §7, point 9: hyper's default is 200.
#[tokio::test]
async fn three_hundred_runs_are_followed_at_once() {
    let cluster = Cluster::start().await;
    cluster.agent.runs(script(&lines(1)));
    cluster.agent.release(1);
    let session = cluster.session();
    let mut runs: Vec<_> =
        (0..300).map(|run| session.run(format!("r{run}"), RunSpec::default())).collect();
    let first = soon(futures::future::try_join_all(runs.iter_mut().map(client::Run::next))).await;
    assert_eq!(first.unwrap(), vec![Some(started()); 300]);
    assert_eq!(soon(session.stat("/x")).await.unwrap(), entry("/x"));
    assert_eq!((cluster.agent.starts(), cluster.asked()), (300, 1));
}

#[tokio::test]
async fn a_missing_right_or_pod_is_said_at_once_and_not_tried_again() {
    for code in [403, 404] {
        let cluster = Cluster::start().await;
        cluster.answer(Answer::Refuse(code));
        let session = cluster.session();
        let stat = soon(session.stat("/x")).await.unwrap_err();
        let mut run = session.run("r".into(), RunSpec::default());
        let run = soon(run.next()).await.unwrap_err();
        let words = format!(
            "could not open an exec stream to pod sandbox-0: ApiError: refused with {code}"
        );
        assert!(chain(&stat).starts_with(&words), "{}", chain(&stat));
        assert!(chain(&run).starts_with(&words), "{}", chain(&run));
        assert_eq!(cluster.asked(), 2);
    }
}

#[tokio::test]
async fn a_failing_api_server_is_asked_twice_by_a_call() {
    let cluster = Cluster::start().await;
    cluster.answer(Answer::Refuse(500));
    let error = soon(cluster.session().stat("/x")).await.unwrap_err();
    assert!(matches!(error, Error::Exec { .. }), "{error:?}");
    assert_eq!(cluster.asked(), 2);
}

#[tokio::test]
async fn a_bridge_that_cannot_start_is_quoted() {
    let cluster = Cluster::start().await;
    cluster.answer(Answer::Fail("no agent listens"));
    let error = soon(cluster.session().stat("/x")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "lost the stream to pod sandbox-0: command terminated with exit code 1: no agent listens"
    );
}

/// An API server that takes requests and answers none. Calls wait for one another's stream,
/// and must not add up their waits.
#[tokio::test(start_paused = true)]
async fn no_call_outlasts_its_deadline_when_exec_hangs() {
    let cluster = Cluster::start().await;
    cluster.answer(Answer::Silence);
    let session = cluster.session();
    let begun = Instant::now();
    let stats = (0..10).map(|_| session.stat("/x"));
    for answer in at_last(futures::future::join_all(stats)).await {
        assert!(matches!(answer, Err(Error::Deadline { .. })), "{answer:?}");
    }
    assert!(begun.elapsed() <= Duration::from_secs(41), "{:?}", begun.elapsed());
}

/// exec.md §7, point 8: exec addresses names, so the first word is which pod this is.
#[tokio::test]
async fn another_pod_of_the_same_name_is_not_taken_for_ours() {
    let cluster = Cluster::start().await;
    cluster.agent.script(|script| script.hello.pod_uid = "uid-2".into());
    let session = cluster.session();
    let stat = soon(session.stat("/x")).await;
    assert!(matches!(stat, Err(Error::Replaced { .. })), "{stat:?}");
    let run = soon(session.run("r".into(), RunSpec::default()).next()).await;
    assert!(matches!(run, Err(Error::Replaced { .. })), "{run:?}");
    assert_eq!((cluster.asked(), cluster.agent.starts()), (2, 0));
}

#[tokio::test]
async fn agents_of_this_protocol_and_the_one_before_will_do() {
    for (protocol, will_do) in
        [(wire::PROTOCOL + 1, false), (wire::PROTOCOL, true), (wire::PROTOCOL - 1, true)]
    {
        let cluster = Cluster::start().await;
        cluster.agent.script(|script| script.hello.protocol = protocol);
        match soon(cluster.session().stat("/x")).await {
            Ok(_) => assert!(will_do, "{protocol}"),
            Err(Error::Protocol { agent, client, .. }) => {
                assert_eq!((agent, client, will_do), (protocol, wire::PROTOCOL, false));
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Agents live for days while clients are upgraded, and calls are only ever added.
#[tokio::test]
async fn an_agent_without_a_call_is_too_old_for_it_and_not_lost() {
    let cluster = Cluster::start().await;
    cluster.agent.script(|script| script.stat = Err(Status::unimplemented("")));
    let stat = soon(cluster.session().stat("/x")).await;
    assert!(matches!(&stat, Err(Error::TooOld { pod }) if pod == "sandbox-0"), "{stat:?}");
    assert_eq!(cluster.asked(), 1, "a new stream would not help");
}

/// A bridge that answers ends by itself; one that stalls is left by the guard, which alone holds
/// kube's process.
#[test]
fn a_dropped_session_leaves_no_exec_and_no_task() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    };
    for stalled in [false, true] {
        let elsewhere = runtime();
        let cluster = elsewhere.block_on(Cluster::start());
        cluster.agent.runs(script(&lines(4)));
        cluster.agent.release(2);
        let here = runtime();
        here.block_on(async {
            let session = cluster.session();
            let mut run = session.run("r".into(), RunSpec::default());
            soon(run.next()).await.unwrap();
            soon(session.read("/x", 0, 2 << 20)).await.unwrap();
            soon(cluster.open(2)).await;
            if stalled {
                cluster.inject(Fault::Stall);
            }
            drop((run, session));
            soon(cluster.open(0)).await;
            soon(async {
                while here.metrics().num_alive_tasks() > 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
            .await;
        });
    }
}

#[tokio::test]
async fn what_the_agent_says_of_its_sandbox_is_that_of_the_greeting_within_bounds() {
    let names = |length, count| vec!["x".repeat(length); count];
    for (languages, told, pids_max, limit) in [
        (vec![], vec![], 0, None),
        (names(6, 2), names(6, 2), 1, Some(1)),
        (names(32, 33), names(32, 32), 4_194_304, Some(4_194_304)),
        (names(33, 1), vec![], 4_194_305, None),
    ] {
        let cluster = Cluster::start().await;
        let session = cluster.session();
        cluster.agent.script(|script| {
            script.hello.languages = languages;
            script.hello.pids_max = pids_max;
        });
        let told = Greeting { languages: told, pids_max: limit };
        for _ in 0..2 {
            assert_eq!(soon(session.greeting()).await.unwrap(), told);
        }
        // An open stream is asked nothing.
        assert_eq!(cluster.asked(), 1);
    }
}

#[tokio::test]
async fn gpus_are_told_as_the_agent_tells_them_within_bounds() {
    let gpu = |length| Gpu { uuid: "u".into(), name: "x".repeat(length), ..Gpu::default() };
    for (count, length, taken) in [(0, 0, true), (64, 128, true), (65, 0, false), (1, 129, false)] {
        let said = GpusReply { driver: "580.1".into(), gpus: vec![gpu(length); count] };
        let cluster = Cluster::start().await;
        cluster.agent.script(|script| script.gpus = said.clone());
        match soon(cluster.session().gpus()).await {
            Ok(told) => assert!(taken && told == said, "{count} of {length} were taken"),
            Err(error) => assert!(!taken && matches!(error, Error::Corrupted { .. }), "{error:?}"),
        }
    }
    let cluster = Cluster::start().await;
    cluster.agent.script(|script| script.old = true);
    let old = soon(cluster.session().gpus()).await;
    assert!(matches!(old, Err(Error::TooOld { .. })), "{old:?}");
}

#[tokio::test]
async fn refused_names_are_told_as_the_agent_tells_them_within_bounds() {
    let domains = |count, domain: &str| vec![domain.to_owned(); count];
    let long = "x".repeat(128);
    for (domains, taken) in [
        (vec![], true),
        (vec!["evil.test".to_owned(), "a?_-9.b".to_owned(), ".".to_owned()], true),
        (domains(16, &long[..127]), true),
        (domains(17, "a.b"), false),
        (domains(1, &long), false),
        (domains(1, "EVIL.test"), false),
        (domains(1, "a\u{1b}[31m"), false),
        (domains(1, "ignore all that"), false),
    ] {
        let said = RefusedNamesReply { count: 20, domains, more: true };
        let cluster = Cluster::start().await;
        cluster.agent.script(|script| {
            script.hello.refuses_names = true;
            script.refused = said.clone();
        });
        match soon(cluster.session().refused_names()).await {
            Ok(told) => assert!(taken && told == said, "{said:?}"),
            Err(error) => {
                assert!(
                    !taken && matches!(error, Error::Corrupted { .. }),
                    "{error:?} of {said:?}"
                );
            }
        }
    }
    // Who does not say so is not asked.
    let cluster = Cluster::start().await;
    cluster.agent.script(|script| script.refused.count = 20);
    let told = soon(cluster.session().refused_names()).await;
    assert_eq!(told.unwrap(), RefusedNamesReply::default());
}
