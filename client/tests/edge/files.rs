//! Files, both ways, past agents that err and lie.

use std::time::Duration;

use bytes::Bytes;
use client::{Contents, Error, Lane, Piece, Session};
use tokio::time::Instant;
use wire::{
    Code, limits,
    v1::{Entry, ListRequest, ReadEnd, ReadEvent, read_event::Event},
};

use crate::support::{
    Cluster, Fault,
    agent::{entry, read_event, read_events},
    at_last, soon,
};

/// More than any window, and of no period that a lost chunk could hide in.
fn large() -> Bytes {
    (0..5_u32 << 20).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

/// exec.md §7, point 9: bulk data take an exec of their own, so that they hold up nobody.
#[tokio::test]
async fn twenty_mebibytes_go_both_ways_on_the_bulk_lane() {
    let (cluster, data) = (Cluster::start().await, large());
    let session = cluster.session();
    soon(session.stat("/x")).await.unwrap();
    assert_eq!(cluster.asked(), 1);
    let written = soon(session.write("/x", data.clone(), 0, false)).await.unwrap();
    assert_eq!((written, cluster.asked()), (entry("/x"), 2));
    assert!(cluster.agent.script(|script| script.file == data));
    let contents = soon(session.read("/x", 0, data.len())).await.unwrap();
    assert!(contents.data == data);
    assert_eq!((contents.entry, cluster.asked()), (entry("/x"), 2));
}

#[tokio::test]
async fn small_files_share_the_control_lane() {
    let cluster = Cluster::start().await;
    let session = cluster.session();
    soon(session.write("/x", "abcdef".into(), 0, false)).await.unwrap();
    let contents = soon(session.read("/x", 2, 3)).await.unwrap();
    assert_eq!((contents.data.as_slice(), cluster.asked()), (&b"cde"[..], 1));
}

/// C7: no bytes are a file too.
#[tokio::test]
async fn an_empty_file_goes_both_ways() {
    let cluster = Cluster::start().await;
    let session = cluster.session();
    soon(session.write("/x", Bytes::new(), 0, false)).await.unwrap();
    let contents = soon(session.read("/x", 0, 10)).await.unwrap();
    assert_eq!((contents.entry, contents.data), (entry("/x"), vec![]));
}

/// What comes of downloading the agent's file where the connection is cut after so many pieces, and how many entries
/// and bytes came.
async fn cut_download(
    cluster: &Cluster,
    length: u64,
    cuts: &[usize],
    mut at_a_cut: impl FnMut(),
) -> (Result<u64, Error>, usize, Vec<u8>) {
    let session = cluster.session();
    let (mut pieces, mut entries, mut data) = (0, 0, Vec::new());
    let download = session.download("/x", 4, length, Lane::Bulk, |piece| {
        pieces += 1;
        match piece {
            Piece::Entry(_) => entries += 1,
            Piece::Data(piece) => data.extend_from_slice(&piece),
        }
        if cuts.contains(&pieces) {
            at_a_cut();
            cluster.inject(Fault::Cut);
        }
    });
    let end = soon(download).await;
    (end, entries, data)
}

#[tokio::test]
async fn a_download_that_breaks_goes_on_where_it_broke() {
    let file = large();
    let most = file.len() as u64 - 4;
    for length in [0, most] {
        let cluster = Cluster::start().await;
        cluster.agent.script(|script| script.file.clone_from(&file));
        // Behind the first is what was on its way already.
        let (end, entries, data) = cut_download(&cluster, length, &[20, 250], || {}).await;
        assert_eq!((end.unwrap(), entries, cluster.asked()), (most, 1, 3));
        assert!(data == file[4..]);
    }
}

/// All of its bytes are there; what is missing is that they are right.
#[tokio::test]
async fn a_download_that_breaks_before_its_digest_gets_that() {
    for length in [0, 4] {
        let cluster = Cluster::start().await;
        cluster.agent.script(|script| {
            script.file = "not data".into();
            script.read = Some(read_events("/x", &"data".into())[..2].to_vec());
            script.silent = true;
        });
        let go_on = || cluster.agent.script(|script| script.silent = false);
        let (end, entries, data) = cut_download(&cluster, length, &[2], go_on).await;
        assert_eq!((end.unwrap(), entries, &data[..]), (4, 1, &b"data"[..]));
    }
}

#[tokio::test]
async fn a_file_that_changes_while_its_download_is_broken_is_corrupted() {
    let cluster = Cluster::start().await;
    cluster.agent.script(|script| script.file = large());
    let change = || {
        cluster.agent.script(|script| {
            let mut file = script.file.to_vec();
            file[4] ^= 1;
            script.file = file.into();
        });
    };
    let (end, ..) = cut_download(&cluster, 0, &[20], change).await;
    assert_eq!(corrupted(end), "/x arrived corrupted: its sha256 differs from the agent's");
}

#[tokio::test]
async fn a_download_that_an_old_agent_cannot_resume_is_no_file() {
    let cluster = Cluster::start().await;
    cluster.agent.script(|script| (script.file, script.old) = (large(), true));
    let (end, ..) = cut_download(&cluster, 0, &[20], || {}).await;
    assert!(matches!(end, Err(Error::Lost { .. })), "{end:?}");
}

#[tokio::test]
async fn an_upload_refused_half_way_is_the_agents_error() {
    let cluster = Cluster::start().await;
    let full = wire::Error::new(Code::NoSpace, "/x: the disk is full");
    cluster.agent.script(|script| script.refuse_write = Some(full.clone()));
    let end = soon(cluster.session().write("/x", large(), 0, false)).await;
    assert!(matches!(&end, Err(Error::Agent(error)) if *error == full), "{end:?}");
    assert_eq!(cluster.asked(), 1);
}

#[tokio::test]
async fn an_upload_that_arrived_as_something_else_is_corrupted() {
    let cluster = Cluster::start().await;
    cluster.agent.script(|script| script.written = Some("lie".into()));
    let end = soon(cluster.session().write("/x", "data".into(), 0, false)).await;
    assert_eq!(corrupted(end), "/x arrived corrupted: its sha256 differs from the agent's");
}

/// What becomes of reading four bytes from an agent that sends this.
async fn read_of(events: Vec<ReadEvent>) -> Result<Contents, Error> {
    let cluster = Cluster::start().await;
    cluster.agent.script(|script| script.read = Some(events));
    soon(cluster.session().read("/x", 0, 4)).await
}

fn corrupted<T: std::fmt::Debug>(end: Result<T, Error>) -> String {
    match end {
        Err(error @ Error::Corrupted { .. }) => error.to_string(),
        other => panic!("{other:?} is not corrupted"),
    }
}

#[tokio::test]
async fn a_file_that_differs_from_its_digest_is_corrupted() {
    let mut events = read_events("/x", &"data".into());
    events[1] = read_event(Event::Data("lies".into()));
    assert_eq!(
        corrupted(read_of(events).await),
        "/x arrived corrupted: its sha256 differs from the agent's"
    );
}

#[tokio::test]
async fn a_file_that_differs_from_its_length_is_corrupted() {
    let mut events = read_events("/x", &"data".into());
    if let Some(Event::End(ReadEnd { bytes, .. })) = &mut events[2].event {
        *bytes = 1 << 40;
    }
    assert_eq!(
        corrupted(read_of(events).await),
        "/x arrived corrupted: its length differs from the agent's"
    );
}

/// tests.md C5; exec.md §7, point 8: an agent may send for ever, and all of it is kept in memory.
#[tokio::test]
async fn more_of_a_file_than_was_asked_for_is_corrupted() {
    assert_eq!(
        corrupted(read_of(read_events("/x", &"database".into())).await),
        "/x arrived corrupted: it is longer than what was asked for"
    );
}

#[tokio::test]
async fn a_file_that_ends_before_its_digest_is_a_loss() {
    let mut events = read_events("/x", &"data".into());
    events.pop();
    assert_eq!(
        read_of(events).await.unwrap_err().to_string(),
        "lost the stream to pod sandbox-0: /x ended before its digest"
    );
}

#[tokio::test]
async fn a_list_longer_than_its_limit_is_corrupted() {
    for (limit, entries, fits) in [
        (2, 2, true),
        (2, 3, false),
        (0, limits::LIST_LIMIT, true),
        (0, limits::LIST_LIMIT + 1, false),
    ] {
        let cluster = Cluster::start().await;
        let entries = vec![entry("/x"); usize::try_from(entries).unwrap()];
        cluster.agent.script(|script| script.entries.clone_from(&entries));
        let list: Result<Vec<Entry>, Error> = soon(cluster.session().list("/", 1, limit)).await;
        if fits {
            assert_eq!(list.unwrap(), entries);
        } else {
            assert_eq!(
                corrupted(list),
                "the list of / arrived corrupted: it is longer than what was asked for"
            );
        }
    }
}

/// It would list everything from the beginning, and a reader of pages would never come to an end.
#[tokio::test]
async fn an_agent_that_knows_no_globs_and_pages_lists_but_is_too_old_for_them() {
    let cluster = Cluster::start().await;
    cluster.agent.script(|script| {
        script.old = true;
        script.entries = vec![entry("/x")];
    });
    let session = cluster.session();
    assert_eq!(soon(session.list("/", 1, 10)).await.unwrap(), [entry("/x")]);
    let glob = ListRequest { glob: "*".into(), ..ListRequest::default() };
    let after = ListRequest { after: "/x".into(), ..ListRequest::default() };
    for request in [glob, after] {
        let end = soon(session.find(request.clone())).await;
        assert!(matches!(end, Err(Error::TooOld { .. })), "{end:?}");
        cluster.agent.script(|script| script.old = false);
        assert_eq!(soon(session.find(request)).await.unwrap(), [entry("/x")]);
        cluster.agent.script(|script| script.old = true);
    }
}

/// The connection is alive, so that no keepalive ends the wait.
#[tokio::test(start_paused = true)]
async fn an_agent_that_falls_silent_is_not_waited_for_for_ever() {
    async fn times_out<T: std::fmt::Debug>(call: impl Future<Output = Result<T, Error>>) {
        let begun = Instant::now();
        let end = at_last(call).await;
        assert!(matches!(end, Err(Error::Deadline { .. })), "{end:?}");
        assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
    }
    let cluster = Cluster::start().await;
    cluster.agent.script(|script| {
        script.silent = true;
        script.entries = vec![entry("/x")];
        script.read = Some(vec![read_event(Event::Entry(entry("/x")))]);
    });
    let session: &Session = &cluster.session();
    times_out(session.read("/x", 0, 4)).await;
    times_out(session.list("/", 1, 10)).await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_says_a_little_now_and_then_is_not_waited_for_for_ever() {
    let cluster = Cluster::start().await;
    cluster.agent.script(|script| {
        script.pace = Duration::from_secs(15);
        script.entries = vec![entry("/x"); 100];
        script.read = Some(vec![read_event(Event::Entry(entry("/x"))); 100]);
    });
    let session: &Session = &cluster.session();
    let read = at_last(session.read("/x", 0, 4)).await.map(drop);
    let list = at_last(session.list("/", 1, 1000)).await.map(drop);
    for end in [read, list] {
        assert!(matches!(end, Err(Error::Deadline { .. })), "{end:?}");
    }
}
