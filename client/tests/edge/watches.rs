//! Watches that end as they should, and otherwise.

use std::time::Duration;

use client::Error;
use futures::StreamExt;
use tokio::time::timeout;
use wire::v1::{WatchEvent, watch_event::Kind};

use crate::support::{Cluster, Fault, soon};

fn event(kind: Kind, path: &str) -> WatchEvent {
    WatchEvent { kind: kind.into(), path: path.to_owned().into(), ..WatchEvent::default() }
}

/// A cluster whose agent tells of these changes.
async fn cluster(events: &[WatchEvent], silent: bool) -> Cluster {
    let cluster = Cluster::start().await;
    cluster.agent.script(|script| {
        script.watch = events.to_vec();
        script.silent = silent;
    });
    cluster
}

#[tokio::test]
async fn a_watch_ends_with_its_directory_and_is_lost_otherwise() {
    let told = [event(Kind::Created, "/x/a"), event(Kind::Removed, "/x")];
    let cluster = cluster(&told, false).await;
    let watch = soon(cluster.session().watch("/x", true)).await.unwrap();
    let all: Vec<_> = soon(watch.map(Result::unwrap).collect()).await;
    assert_eq!(all, told);

    cluster.agent.script(|script| script.watch.truncate(1));
    let mut watch = soon(cluster.session().watch("/x", true)).await.unwrap();
    assert_eq!(soon(watch.next()).await.unwrap().unwrap(), told[0]);
    let end = soon(watch.next()).await.unwrap().unwrap_err();
    assert_eq!(
        end.to_string(),
        "lost the stream to pod sandbox-0: the watch of /x ended before its directory"
    );
    assert!(soon(watch.next()).await.is_none());
}

/// What changed meanwhile nobody could tell.
#[tokio::test]
async fn a_watch_whose_stream_breaks_is_lost() {
    let cluster = cluster(&[event(Kind::Created, "/x/a")], true).await;
    let mut watch = soon(cluster.session().watch("/x", true)).await.unwrap();
    soon(watch.next()).await.unwrap().unwrap();
    cluster.inject(Fault::Cut);
    let end = soon(watch.next()).await.unwrap();
    assert!(matches!(end, Err(Error::Lost { .. })), "{end:?}");
    assert!(soon(watch.next()).await.is_none());
    assert_eq!(cluster.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn that_nothing_changes_is_no_fault() {
    let cluster = cluster(&[], true).await;
    let mut watch = cluster.session().watch("/x", false).await.unwrap();
    let quiet = timeout(Duration::from_mins(10), watch.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
}

#[tokio::test]
async fn an_agent_that_cannot_watch_is_too_old_for_it() {
    let cluster = cluster(&[], false).await;
    cluster.agent.script(|script| script.old = true);
    let end = soon(cluster.session().watch("/x", true)).await.map(drop);
    assert!(matches!(end, Err(Error::TooOld { .. })), "{end:?}");
}
