//! Trees, both ways, past streams that break and sinks and sources that fail.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use client::{Error, Lane, Session};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf, duplex};
use wire::{
    Code,
    limits::CHUNK,
    v1::{ArchiveEnd, ArchiveEvent, ExtractReply, archive_event::Event},
};

use crate::{
    changes::uncertain,
    support::{Cluster, Fault, agent::entry, soon},
};

/// What an honest agent sends, some of these bytes in each part.
fn archive(data: &[u8]) -> Vec<ArchiveEvent> {
    let parts = data.chunks(CHUNK).map(|part| Event::Data(Bytes::copy_from_slice(part)));
    let sha256 = Sha256::digest(data).to_vec().into();
    let end = ArchiveEnd { bytes: data.len() as u64, sha256, entries: 3, skipped: 1 };
    let events = parts.chain([Event::End(end)]);
    events.map(|event| ArchiveEvent { event: Some(event) }).collect()
}

fn data(length: u32) -> Vec<u8> {
    (0..length).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()
}

/// What becomes of an archive of these messages, and what has arrived of it.
async fn arrived(events: Vec<ArchiveEvent>) -> (Result<ArchiveEnd, Error>, Vec<u8>) {
    let cluster = Cluster::start().await;
    cluster.agent.script(|script| script.archive.clone_from(&events));
    let mut sink = Vec::new();
    let end = soon(cluster.session().archive("/x", &mut sink, Lane::Bulk)).await;
    (end, sink)
}

#[tokio::test]
async fn an_archive_arrives_whole_or_is_none() {
    let data = data(200_000);
    let whole = archive(&data);
    let (end, sink) = arrived(whole.clone()).await;
    let end = end.unwrap();
    assert!(sink == data);
    assert_eq!((end.bytes, end.entries, end.skipped), (200_000, 3, 1));

    let mut without_end = whole.clone();
    without_end.pop();
    assert!(matches!(arrived(without_end).await.0, Err(Error::Lost { .. })));
    let mut without_a_part = whole.clone();
    without_a_part.remove(1);
    let mut of_other_length = whole;
    if let Some(Event::End(end)) = &mut of_other_length.last_mut().unwrap().event {
        end.bytes += 1;
    }
    for (events, why) in [
        (without_a_part, "/x arrived corrupted: its sha256 differs from the agent's"),
        (of_other_length, "/x arrived corrupted: its length differs from the agent's"),
    ] {
        assert_eq!(arrived(events).await.0.unwrap_err().to_string(), why);
    }
}

/// What nobody takes stays where it is.
#[tokio::test]
async fn an_archive_comes_no_faster_than_its_sink_takes_it() {
    let (cluster, data) = (Cluster::start().await, data(20 << 20));
    cluster.agent.script(|script| script.archive = archive(&data));
    let session = cluster.session();
    let (mut sink, mut source) = duplex(CHUNK);
    let taken = async {
        cluster.quiet().await;
        assert!(cluster.downstream() < 1 << 20, "{} bytes came", cluster.downstream());
        let mut taken = vec![0; 20 << 20];
        source.read_exact(&mut taken).await.unwrap();
        taken
    };
    let (end, taken) =
        soon(async { tokio::join!(session.archive("/x", &mut sink, Lane::Control), taken) }).await;
    assert_eq!(end.unwrap().bytes, 20 << 20);
    assert!(taken == data);
}

/// Files may have changed since, so that its parts would belong to no tree.
#[tokio::test]
async fn an_archive_that_breaks_is_lost_and_not_begun_again() {
    let cluster = Cluster::start().await;
    cluster.agent.script(|script| {
        script.archive = archive(&data(200_000));
        script.archive.pop();
        script.silent = true;
    });
    let session = cluster.session();
    let mut sink = Vec::new();
    let (end, ()) = soon(async {
        tokio::join!(session.archive("/x", &mut sink, Lane::Control), async {
            cluster.open(1).await;
            cluster.quiet().await;
            cluster.inject(Fault::Cut);
        })
    })
    .await;
    assert!(matches!(end, Err(Error::Lost { .. })), "{end:?}");
    assert_eq!((sink.len(), cluster.asked()), (200_000, 1));
}

/// Reads a little and fails, or writes nothing at all.
struct Broken(usize);

impl AsyncRead for Broken {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0 == 0 {
            return Poll::Ready(Err(io::Error::other("the source is gone")));
        }
        let part = self.0.min(buffer.remaining());
        buffer.put_slice(&vec![b'x'; part]);
        self.0 -= part;
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_source_or_sink_that_fails_is_told_as_the_callers_own() {
    let cluster = Cluster::start().await;
    cluster.agent.script(|script| script.archive = archive(b"data"));
    let session = cluster.session();
    let (mut sink, _) = duplex(1);
    let end = soon(session.archive("/x", &mut sink, Lane::Control)).await;
    assert!(matches!(end, Err(Error::Local { .. })), "{end:?}");
    let end = soon(session.extract("/x", &mut Broken(200_000), 0, false, Lane::Control)).await;
    assert!(matches!(end, Err(Error::Local { .. })), "{end:?}");
    assert_eq!(cluster.agent.changes(), 0);
}

async fn extract(session: &Session, source: &[u8]) -> Result<ExtractReply, Error> {
    session.extract("/x", &mut { source }, 0, false, Lane::Bulk).await
}

#[tokio::test]
async fn an_archive_is_sent_as_it_is_read_and_its_digest_compared() {
    let (cluster, data) = (Cluster::start().await, data(20 << 20));
    let session = cluster.session();
    let reply = soon(extract(&session, &data)).await.unwrap();
    assert_eq!((reply.entry, cluster.agent.changes()), (Some(entry("/x")), 1));
    assert!(cluster.agent.script(|script| script.file == data));
    // Unpacked as something else it is not as it was before.
    cluster.agent.script(|script| script.written = Some("lie".into()));
    let end = soon(extract(&session, b"data")).await;
    assert_eq!(uncertain((end, cluster.agent.changes())), ("Extract /x".into(), 2));
}

#[tokio::test]
async fn an_archive_refused_half_way_is_the_agents_error() {
    let cluster = Cluster::start().await;
    let full = wire::Error::new(Code::NoSpace, "/x/a: the disk is full");
    cluster.agent.script(|script| script.refuse_write = Some(full.clone()));
    let end = soon(extract(&cluster.session(), &data(20 << 20))).await;
    assert!(matches!(&end, Err(Error::Agent(error)) if *error == full), "{end:?}");
    assert_eq!(cluster.asked(), 1);
}

#[tokio::test]
async fn an_archive_whose_stream_breaks_is_lost_before_its_end_and_uncertain_behind_it() {
    let cluster = Cluster::start().await;
    let (session, large) = (cluster.session(), data(20 << 20));
    let (end, ()) = soon(async {
        tokio::join!(extract(&session, &large), async {
            cluster.received(10 << 20).await;
            cluster.inject(Fault::Cut);
        })
    })
    .await;
    assert!(matches!(end, Err(Error::Lost { .. })), "{end:?}");
    assert_eq!((cluster.asked(), cluster.agent.changes()), (1, 0));

    cluster.agent.answers(false);
    let (end, ()) = soon(async {
        tokio::join!(extract(&session, b"data"), async {
            cluster.agent.changed(1).await;
            cluster.inject(Fault::Cut);
            cluster.agent.answers(true);
        })
    })
    .await;
    assert_eq!(uncertain((end, cluster.agent.changes())), ("Extract /x".into(), 1));
}

#[tokio::test]
async fn an_agent_that_knows_no_archives_is_too_old_for_them() {
    let cluster = Cluster::start().await;
    cluster.agent.script(|script| script.old = true);
    let session = cluster.session();
    let end = soon(session.archive("/x", &mut Vec::new(), Lane::Control)).await;
    assert!(matches!(end, Err(Error::TooOld { .. })), "{end:?}");
    let end = soon(extract(&session, &data(20 << 20))).await;
    assert!(matches!(end, Err(Error::TooOld { .. })), "{end:?}");
}
