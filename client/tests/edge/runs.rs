//! How runs go on when their streams do not, and what is said when they cannot.

use std::{sync::Arc, time::Duration};

use client::{Error, Run, Session};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};
use tonic::Status;
use wire::{
    limits,
    v1::{
        InputRequest, Outcome, OutputReply, OutputRequest, PictureReply, PictureRequest, RunEvent,
        RunInfo, RunSpec, Stream, run_event::Event,
    },
};

use crate::changes::{cut, uncertain};
use crate::support::{
    Answer, Asked, Cluster, Fault, apiserver, at_last,
    events::{event, exited, lines, lost, output, script, started},
    soon,
};

fn run(session: &Arc<Session>) -> Run {
    session.run("r".into(), RunSpec::default())
}

/// What comes of a run up to its outcome, or to the error in its stead.
async fn rest(run: &mut Run) -> (Vec<RunEvent>, Result<(), Error>) {
    let mut events = vec![];
    loop {
        match run.next().await {
            Ok(Some(event)) => events.push(event),
            Ok(None) => return (events, Ok(())),
            Err(error) => return (events, Err(error)),
        }
    }
}

/// A cluster, and a run of it of which two events have been seen and no more can come yet.
async fn half_seen() -> (Cluster, Run) {
    let cluster = Cluster::start().await;
    cluster.agent.runs(script(&lines(6)));
    cluster.agent.release(2);
    let mut run = run(&cluster.session());
    for event in &lines(6)[..2] {
        assert_eq!(soon(run.next()).await.unwrap().as_ref(), Some(event));
    }
    (cluster, run)
}

/// Breaks the stream and lets everything go on.
fn break_and_go_on(cluster: &Cluster) {
    cluster.inject(Fault::Cut);
    cluster.agent.release(usize::MAX);
}

fn unknown(end: Result<(), Error>) -> String {
    match end {
        Err(Error::Unknown { run, reason }) if run == "r" => reason,
        other => panic!("{other:?} is not unknown"),
    }
}

/// A2, A8, A11: every event once, in order, from one start.
#[tokio::test]
async fn a_loss_in_mid_stream_is_resumed_by_offset() {
    for fault in [Fault::Cut, Fault::Close, Fault::Exit("killed"), Fault::Garbage] {
        let (cluster, mut run) = half_seen().await;
        cluster.inject(fault);
        soon(cluster.open(0)).await;
        cluster.agent.release(usize::MAX);
        let (events, end) = soon(rest(&mut run)).await;
        end.unwrap();
        assert_eq!(events, lines(6)[2..]);
        assert_eq!(cluster.agent.starts(), 1);
        assert_eq!(
            cluster.agent.asked(),
            [Asked::Run("r".into(), 0), Asked::Attach("r".into(), 2)]
        );
    }
}

/// A8: the agent has started it, and nobody was told.
#[tokio::test]
async fn a_loss_before_the_answer_asks_again_for_the_same_run() {
    let cluster = Cluster::start().await;
    cluster.agent.runs(script(&lines(2)));
    cluster.agent.answers(false);
    let mut run = run(&cluster.session());
    let ((events, end), ()) = soon(async {
        tokio::join!(rest(&mut run), async {
            cluster.agent.started(1).await;
            cluster.inject(Fault::Cut);
            cluster.agent.answers(true);
        })
    })
    .await;
    end.unwrap();
    assert_eq!(events, lines(2));
    assert_eq!(cluster.agent.starts(), 1);
    assert_eq!(cluster.agent.asked(), [Asked::Run("r".into(), 0), Asked::Run("r".into(), 0)]);
}

/// A8: the agent has said yes, so it knows the run, and only its log will do.
#[tokio::test]
async fn a_loss_before_the_first_event_attaches() {
    let cluster = Cluster::start().await;
    let mut broken = script(&lines(2));
    broken.insert(0, Err(Status::unknown("error reading a body from connection")));
    cluster.agent.runs(broken);
    let (events, end) = soon(rest(&mut run(&cluster.session()))).await;
    end.unwrap();
    assert_eq!(events, lines(2));
    assert_eq!(cluster.agent.asked(), [Asked::Run("r".into(), 0), Asked::Attach("r".into(), 0)]);
}

/// An agent that restarted without its journal must not do it all again.
#[tokio::test]
async fn a_forgotten_run_is_unknown_and_never_run_again() {
    let (cluster, mut run) = half_seen().await;
    cluster.agent.forget();
    break_and_go_on(&cluster);
    let (events, end) = soon(rest(&mut run)).await;
    assert_eq!((events, unknown(end)), (vec![], "the agent has forgotten it".into()));
    assert_eq!(cluster.agent.starts(), 1);
}

#[tokio::test]
async fn a_run_accepted_and_forgotten_before_its_first_event_is_unknown() {
    let cluster = Cluster::start().await;
    let agent = cluster.agent.clone();
    cluster.agent.runs(vec![Err(Status::unknown("error reading a body from connection"))]);
    cluster.agent.forgets_at_once();
    let (events, end) = soon(rest(&mut run(&cluster.session()))).await;
    assert_eq!((events, unknown(end)), (vec![], "the agent has forgotten it".into()));
    assert_eq!(agent.starts(), 1);
}

/// An agent that restarted with its journal says what became of it.
#[tokio::test]
async fn a_run_lost_with_its_agent_is_said_to_be_lost() {
    let (cluster, mut run) = half_seen().await;
    let journal = [&lines(6)[..2], &[lost(2)]].concat();
    cluster.agent.runs(script(&journal));
    break_and_go_on(&cluster);
    let (events, end) = soon(rest(&mut run)).await;
    end.unwrap();
    assert_eq!(events, [lost(2)]);
}

/// A2: cloudflare#873 made up an exit code 0 here.
#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_without_an_outcome_is_never_a_success() {
    let cluster = Cluster::start().await;
    cluster.agent.runs(script(&lines(3)[..4]));
    let (events, end) = at_last(rest(&mut run(&cluster.session()))).await;
    assert_eq!(events, lines(3)[..4]);
    assert_eq!(
        unknown(end),
        "lost the stream to pod sandbox-0: the stream ended before the outcome"
    );
    assert_eq!(cluster.agent.starts(), 1);
}

#[tokio::test]
async fn a_run_whose_pod_is_gone_is_unknown() {
    let (cluster, mut run) = half_seen().await;
    cluster.answer(Answer::Refuse(404));
    break_and_go_on(&cluster);
    let (events, end) = soon(rest(&mut run)).await;
    assert_eq!(events, []);
    assert_eq!(unknown(end), "could not open an exec stream to pod sandbox-0");
    assert_eq!(cluster.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_pod_stays_closed_to_us_is_unknown() {
    let (cluster, mut run) = half_seen().await;
    cluster.answer(Answer::Refuse(403));
    break_and_go_on(&cluster);
    let began = Instant::now();
    let (events, end) = at_last(rest(&mut run)).await;
    assert_eq!(events, []);
    assert_eq!(unknown(end), "could not open an exec stream to pod sandbox-0");
    let asked = began.elapsed();
    assert!((5..10).contains(&asked.as_secs()), "{asked:?}");
}

#[tokio::test]
async fn a_run_whose_pod_was_replaced_is_unknown() {
    let (cluster, mut run) = half_seen().await;
    cluster.agent.script(|script| script.hello.pod_uid = "uid-2".into());
    break_and_go_on(&cluster);
    let (events, end) = soon(rest(&mut run)).await;
    assert_eq!(events, []);
    assert_eq!(unknown(end), "pod sandbox-0 was replaced: its files, processes and runs are gone");
}

/// A11: an API server or a kubelet that restarts.
#[tokio::test(start_paused = true)]
async fn a_run_outlives_half_a_minute_without_an_api_server() {
    outlives(Answer::Refuse(500), Duration::from_secs(30)).await;
}

/// Seen in the audit log after kills: it refuses what it granted until it has read the roles.
#[tokio::test(start_paused = true)]
async fn a_run_outlives_an_api_server_that_has_just_started() {
    outlives(Answer::Refuse(403), Duration::from_secs(2)).await;
}

/// Seen in the kill matrix: for its first second a kubelet knows no pod.
#[tokio::test(start_paused = true)]
async fn a_run_outlives_a_kubelet_that_does_not_know_its_pod_yet() {
    outlives(Answer::UnknownToKubelet, Duration::from_secs(30)).await;
}

async fn outlives(away: Answer, lasts: Duration) {
    let (cluster, mut run) = half_seen().await;
    cluster.answer(away);
    break_and_go_on(&cluster);
    let ((events, end), ()) = at_last(async {
        tokio::join!(rest(&mut run), async {
            tokio::time::sleep(lasts).await;
            cluster.answer(apiserver::V5);
        })
    })
    .await;
    end.unwrap();
    assert_eq!((events.as_slice(), cluster.agent.starts()), (&lines(6)[2..], 1));
}

#[tokio::test(start_paused = true)]
async fn a_run_is_given_up_on_when_the_api_server_stays_away() {
    let (cluster, mut run) = half_seen().await;
    cluster.answer(Answer::Refuse(500));
    break_and_go_on(&cluster);
    let (events, end) = at_last(rest(&mut run)).await;
    assert_eq!(events, []);
    assert_eq!(unknown(end), "could not open an exec stream to pod sandbox-0");
    // Every two seconds at the end, not as fast as it can.
    assert!((20..50).contains(&cluster.asked()), "{}", cluster.asked());
}

#[tokio::test]
async fn next_may_be_dropped_at_any_time_and_loses_nothing() {
    let cluster = Cluster::start().await;
    cluster.agent.runs(script(&lines(40)));
    cluster.agent.release(0);
    let mut run = run(&cluster.session());
    let releases: JoinHandle<()> = tokio::spawn({
        let agent = cluster.agent.clone();
        async move {
            for released in 0..50 {
                tokio::time::sleep(Duration::from_millis(3)).await;
                agent.release(released);
            }
        }
    });
    let (mut events, mut tries, mut dropped) = (vec![], 0_u32, 0);
    soon(async {
        loop {
            // Mostly polled once and dropped; now and then with the patience an opening takes.
            let patience = Duration::from_secs(u64::from(tries % 50 == 49));
            tries += 1;
            match timeout(patience, run.next()).await {
                Ok(event) => match event.unwrap() {
                    Some(event) => events.push(event),
                    None => break,
                },
                Err(_) => dropped += 1,
            }
            tokio::task::yield_now().await;
            if events.len() == 20 && cluster.asked() == 1 {
                cluster.inject(Fault::Cut);
                cluster.open(0).await;
            }
        }
    })
    .await;
    releases.await.unwrap();
    assert_eq!(events, lines(40));
    assert_eq!(cluster.agent.starts(), 1);
    assert!(dropped >= 49, "{dropped} of {tries}");
}

#[tokio::test]
async fn a_run_can_be_followed_from_the_middle() {
    let (cluster, run) = half_seen().await;
    cluster.agent.release(usize::MAX);
    let mut later = cluster.session().attach(run.id().into(), run.position());
    let (events, end) = soon(rest(&mut later)).await;
    end.unwrap();
    assert_eq!(events, lines(6)[2..]);
}

/// A1, and exec.md §7, point 8: the agent's word is not believed.
#[tokio::test]
async fn output_that_differs_from_its_digest_is_corrupted() {
    for (stdout, stderr, what) in [("lie", "err", "stdout"), ("out", "lie", "stderr")] {
        let cluster = Cluster::start().await;
        cluster.agent.runs(script(&[
            started(),
            output(1, Stream::Stdout, "out"),
            output(2, Stream::Stderr, "err"),
            exited(3, stdout.as_bytes(), stderr.as_bytes()),
        ]));
        let (events, end) = soon(rest(&mut run(&cluster.session()))).await;
        assert_eq!(events.len(), 3);
        assert!(matches!(end, Err(Error::Corrupted { .. })), "{end:?}");
        assert_eq!(
            end.unwrap_err().to_string(),
            format!("{what} of run r arrived corrupted: its sha256 differs from the agent's")
        );
    }
}

#[tokio::test]
async fn an_outcome_without_its_totals_is_corrupted() {
    let cluster = Cluster::start().await;
    let mut end = exited(1, b"", b"");
    if let Some(Event::Outcome(outcome)) = &mut end.event {
        outcome.stdout = None;
    }
    cluster.agent.runs(script(&[started(), end]));
    let (events, end) = soon(rest(&mut run(&cluster.session()))).await;
    assert_eq!(events, [started()]);
    assert!(matches!(end, Err(Error::Corrupted { .. })), "{end:?}");
}

/// An agent of the future, or a liar.
#[tokio::test]
async fn an_outcome_that_does_not_say_how_is_unknown() {
    let cluster = Cluster::start().await;
    cluster.agent.runs(script(&[started(), event(1, Event::Outcome(Outcome::default()))]));
    let (events, end) = soon(rest(&mut run(&cluster.session()))).await;
    assert_eq!(events, [started()]);
    assert_eq!(unknown(end), "the agent's outcome does not say how it ended");
}

#[tokio::test(start_paused = true)]
async fn events_out_of_order_are_never_handed_on() {
    for number in [0, 2, u64::MAX] {
        let cluster = Cluster::start().await;
        cluster.agent.runs(script(&[started(), exited(number, b"", b"")]));
        let (events, end) = at_last(rest(&mut run(&cluster.session()))).await;
        assert_eq!(events, [started()]);
        assert_eq!(
            unknown(end),
            format!("lost the stream to pod sandbox-0: event {number} came where 1 was due")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_over_the_limit_is_never_handed_on() {
    let cluster = Cluster::start().await;
    let huge = vec![0; limits::MAX_MESSAGE + 1];
    cluster.agent.runs(script(&[started(), output(1, Stream::Stdout, huge)]));
    let (events, end) = at_last(rest(&mut run(&cluster.session()))).await;
    assert_eq!(events, [started()]);
    let reason = unknown(end);
    assert!(reason.contains("decoded message length too large"), "{reason}");
}

/// A proxy's or a runtime's words are not the agent's.
#[tokio::test]
async fn a_status_that_is_not_the_agents_is_a_loss() {
    let cluster = Cluster::start().await;
    let mut broken = script(&lines(2));
    broken.insert(2, Err(Status::not_found("no such thing")));
    cluster.agent.runs(broken);
    let (events, end) = soon(rest(&mut run(&cluster.session()))).await;
    end.unwrap();
    assert_eq!(events, lines(2));
}

#[tokio::test]
async fn the_agents_own_error_is_handed_on() {
    let cluster = Cluster::start().await;
    let conflict = wire::Error::new(wire::Code::RunConflict, "r has another spec");
    cluster.agent.runs(vec![Err(conflict.clone().into())]);
    let (events, end) = soon(rest(&mut run(&cluster.session()))).await;
    assert_eq!(events, []);
    assert!(matches!(end, Err(Error::Agent(error)) if error == conflict));
}

/// exec.md §7, point 8: a caller that believed it would read for ever, or hold more than it asked for.
#[tokio::test]
async fn a_part_of_the_output_that_does_not_fit_is_corrupted() {
    let cluster = Cluster::start().await;
    let session = cluster.session();
    let whole = OutputRequest { run_id: "r".into(), length: 4, ..OutputRequest::default() };
    let lines = OutputRequest { pattern: "x".into(), ..whole.clone() };
    let part = |data: &[u8], offset, next, kept| OutputReply {
        data: data.to_vec().into(),
        offset,
        next,
        kept,
        ..OutputReply::default()
    };
    for (request, reply, fits) in [
        (&whole, part(b"abcd", 6, 10, 12), true),
        (&whole, part(b"", 12, 12, 12), true),
        (&whole, part(b"abcde", 6, 11, 12), false),
        (&whole, part(b"abcd", 6, 9, 12), false),
        (&whole, part(b"abcd", 6, 10, 9), false),
        (&whole, part(b"abcd", u64::MAX, 3, 12), false),
        (&lines, part(b"axb\n", 0, 12, 12), true),
        (&lines, part(b"", 6, 5, 12), false),
        (&lines, part(&b"x".repeat(limits::MAX_LINE + 6), 0, 12, 12), false),
    ] {
        cluster.agent.script(|script| script.output = reply.clone());
        match soon(session.output(request)).await {
            Ok(told) => assert_eq!((told, fits), (reply, true)),
            Err(Error::Corrupted { what, .. }) => {
                assert_eq!((&*what, fits), ("output of run r", false), "{reply:?}");
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// exec.md §7, point 8: models are shown it, and every later message of a conversation carries it again.
#[tokio::test]
async fn a_picture_larger_than_asked_for_or_of_another_type_is_corrupted() {
    let cluster = Cluster::start().await;
    let session = cluster.session();
    let request = PictureRequest {
        run_id: "r".into(),
        number: 3,
        mime: "image/png".into(),
        max_side: 20,
        max_bytes: 4,
    };
    let scaled = PictureReply {
        mime: "image/jpeg".into(),
        data: b"jpeg"[..].into(),
        width: 20,
        height: 10,
        original_width: 200,
        original_height: 100,
        ..PictureReply::default()
    };
    let as_it_is = PictureReply { fits: true, ..PictureReply::default() };
    for (reply, expected) in [
        (scaled.clone(), Ok(Some(scaled.clone()))),
        (as_it_is, Ok(None)),
        (
            PictureReply { data: b"jpegs"[..].into(), ..scaled.clone() },
            Err("larger than what was asked for"),
        ),
        (PictureReply { width: 21, ..scaled.clone() }, Err("larger than what was asked for")),
        (PictureReply { height: 21, ..scaled.clone() }, Err("larger than what was asked for")),
        (PictureReply { mime: "text/html".into(), ..scaled.clone() }, Err("of another type")),
    ] {
        cluster.agent.script(|script| script.picture = reply.clone());
        match (soon(session.picture(&request)).await, expected) {
            (Ok(told), Ok(expected)) => assert_eq!(told, expected),
            (Err(Error::Corrupted { what, why }), Err(expected)) => {
                assert_eq!(what, "the picture in event 3 of run r");
                assert!(why.contains(expected), "{why}");
            }
            (told, expected) => panic!("{told:?} is not {expected:?}"),
        }
    }
    cluster.agent.script(|script| script.old = true);
    let end = soon(session.picture(&request)).await;
    assert!(matches!(end, Err(Error::TooOld { .. })), "{end:?}");
}

#[tokio::test]
async fn a_list_of_runs_that_does_not_fit_is_corrupted() {
    let cluster = Cluster::start().await;
    cluster.agent.script(|script| script.infos = vec![RunInfo::default(); 3]);
    let session = cluster.session();
    assert_eq!(soon(session.runs(3)).await.unwrap(), (vec![RunInfo::default(); 3], false));
    let long = soon(session.runs(2)).await;
    assert!(matches!(long, Err(Error::Corrupted { .. })), "{long:?}");
    // They are handed on to whoever asked, as lines of a list.
    let title = |length| RunInfo { title: "x".repeat(length), ..RunInfo::default() };
    let id = |length| RunInfo { run_id: "x".repeat(length), ..RunInfo::default() };
    for (info, fits) in [
        (title(limits::MAX_TITLE), true),
        (title(limits::MAX_TITLE + 1), false),
        (id(limits::MAX_RUN_ID), true),
        (id(limits::MAX_RUN_ID + 1), false),
    ] {
        cluster.agent.script(|script| script.infos = vec![info]);
        let told = soon(session.runs(2)).await;
        assert_eq!(told.is_ok(), fits, "{told:?}");
    }
}

#[tokio::test]
async fn one_event_of_a_run_is_read_by_its_number_and_another_is_not_taken_for_it() {
    let cluster = Cluster::start().await;
    let mut events = lines(2);
    events[1].number = 7;
    cluster.agent.runs(script(&events));
    let session = cluster.session();
    let unknown = soon(session.event("r", 2)).await;
    assert!(matches!(unknown, Err(Error::Agent(error)) if error.code == wire::Code::RunNotFound));
    assert_eq!(soon(run(&session).next()).await.unwrap(), Some(started()));
    assert_eq!(soon(session.event("r", 2)).await.unwrap(), Some(events[2].clone()));
    let lie = soon(session.event("r", 1)).await;
    assert!(
        matches!(&lie, Err(Error::Corrupted { what, .. }) if what == "event 1 of run r"),
        "{lie:?}"
    );
    assert_eq!(soon(session.event("r", 4)).await.unwrap(), None);
}

/// Written twice it would be other input; with an offset the agent knows what it has.
#[tokio::test]
async fn input_whose_answer_is_lost_is_sent_again_only_with_its_offset() {
    let text = |offset| InputRequest {
        run_id: "r".into(),
        data: "x".into(),
        offset,
        ..InputRequest::default()
    };
    let end = cut(async |session| session.input(text(None)).await).await;
    assert_eq!(uncertain(end), ("Input run r".into(), 1));
    let (end, made) = cut(async |session| session.input(text(Some(0))).await).await;
    assert_eq!((end.unwrap().taken, made), (1, 2));
    let end = cut(async |session| session.signal("r", 15).await).await;
    assert_eq!(uncertain(end), ("Signal run r".into(), 1));
}

/// It would say that the spec is empty, which the caller could not understand.
#[tokio::test]
async fn an_interactive_run_is_not_sent_to_an_agent_that_is_too_old_for_it() {
    let cluster = Cluster::start().await;
    cluster.agent.runs(script(&lines(2)));
    let session = cluster.session();
    let mut run = soon(session.interactive("r".into(), RunSpec::default())).await.unwrap();
    assert_eq!(soon(run.next()).await.unwrap().as_ref(), Some(&lines(2)[0]));
    cluster.agent.script(|script| script.old = true);
    let old = soon(session.interactive("s".into(), RunSpec::default())).await.map(drop);
    assert!(matches!(old, Err(Error::TooOld { .. })), "{old:?}");
    assert_eq!(cluster.agent.starts(), 1);
}
