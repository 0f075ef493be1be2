//! Uploads whose streams break, whose answers are lost, whose agents are old or forget.

use std::io::Cursor;

use bytes::Bytes;
use client::{Error, Lane, Session};
use wire::{Code, v1::Entry};

use crate::{
    changes::uncertain,
    support::{Answer, Cluster, Fault, agent::entry, at_last, soon},
};

/// More than any window, and of no period that a lost chunk could hide in.
fn large() -> Bytes {
    (0..5_u32 << 20).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

async fn upload(session: &Session, mut source: Cursor<Bytes>) -> Result<Entry, Error> {
    session.upload("an-id", "/x", &mut source, 0, false, Lane::Bulk).await
}

/// Cuts the connection each time that clients have sent so many bytes.
async fn cut(cluster: &Cluster, at: &[u64]) {
    for &bytes in at {
        cluster.received(bytes).await;
        cluster.inject(Fault::Cut);
    }
}

#[tokio::test]
async fn an_upload_that_breaks_goes_on_where_it_broke() {
    let data = large();
    for cuts in [&[1 << 20][..], &[3 << 20, 11 << 20, 19 << 20]] {
        let cluster = Cluster::start().await;
        let session = cluster.session();
        let upload = upload(&session, Cursor::new(data.clone()));
        let (written, ()) = soon(async { tokio::join!(upload, cut(&cluster, cuts)) }).await;
        assert_eq!((written.unwrap(), cluster.agent.changes()), (entry("/x"), 1));
        assert!(cluster.agent.script(|script| script.file == data));
        // Beside its bytes come those that were on their way at each cut, and frames around them.
        let again = cluster.upstream() - data.len() as u64;
        assert!(again < (cuts.len() as u64) << 20, "{again} bytes were sent again");
        assert_eq!(cluster.asked(), 1 + cuts.len());
    }
}

/// What is written from memory is an upload where it is large.
#[tokio::test]
async fn a_large_write_that_breaks_goes_on_where_it_broke() {
    let (cluster, data) = (Cluster::start().await, large());
    let session = cluster.session();
    let write = session.write("/x", data.clone(), 0, false);
    let (written, ()) = soon(async { tokio::join!(write, cut(&cluster, &[15 << 20])) }).await;
    assert_eq!((written.unwrap(), cluster.agent.changes()), (entry("/x"), 1));
    assert!(cluster.agent.script(|script| script.file == data));
    assert!(cluster.upstream() < (data.len() + (1 << 20)) as u64);
}

#[tokio::test]
async fn an_upload_whose_answer_is_lost_is_made_once_and_gets_it() {
    let cluster = Cluster::start().await;
    cluster.agent.answers(false);
    let session = cluster.session();
    let (end, ()) = soon(async {
        tokio::join!(upload(&session, Cursor::new("data".into())), async {
            cluster.agent.changed(1).await;
            cluster.inject(Fault::Cut);
        })
    })
    .await;
    assert_eq!((end.unwrap(), cluster.agent.changes()), (entry("/x"), 1));
}

/// It may have been made, and another file be there by now.
#[tokio::test]
async fn an_upload_that_was_sent_to_its_end_and_forgotten_is_uncertain() {
    let cluster = Cluster::start().await;
    cluster.agent.answers(false);
    let session = cluster.session();
    let (end, ()) = soon(async {
        tokio::join!(upload(&session, Cursor::new("data".into())), async {
            cluster.agent.changed(1).await;
            cluster.agent.forget();
            cluster.inject(Fault::Cut);
        })
    })
    .await;
    assert_eq!(uncertain((end, cluster.agent.changes())), ("Upload /x".into(), 1));
}

/// Before its end nothing can have been made of it.
#[tokio::test]
async fn an_upload_that_was_forgotten_in_the_middle_begins_anew() {
    let (cluster, data) = (Cluster::start().await, large());
    let session = cluster.session();
    let upload = upload(&session, Cursor::new(data.clone()));
    let forgotten = async {
        cluster.received(9 << 20).await;
        cluster.agent.forget();
        cluster.inject(Fault::Cut);
    };
    let (written, ()) = soon(async { tokio::join!(upload, forgotten) }).await;
    assert_eq!((written.unwrap(), cluster.agent.changes()), (entry("/x"), 1));
    assert!(cluster.agent.script(|script| script.file == data));
}

/// What the process before has sent is read again for the digest alone.
#[tokio::test]
async fn an_upload_that_was_given_up_is_gone_on_with_by_its_id() {
    let (cluster, data) = (Cluster::start().await, large());
    let session = cluster.session();
    {
        let given_up = upload(&session, Cursor::new(data.clone()));
        soon(async {
            tokio::select! {
                end = given_up => panic!("{end:?}"),
                () = cluster.received(10 << 20) => {}
            }
        })
        .await;
    }
    let end = soon(upload(&cluster.session(), Cursor::new(data.clone()))).await;
    assert_eq!(end.unwrap(), entry("/x"));
    assert!(cluster.agent.script(|script| script.file == data));
    assert!(cluster.upstream() < (data.len() + (2 << 20)) as u64);
}

#[tokio::test]
async fn a_source_that_is_another_when_it_is_gone_on_with_is_corrupted() {
    let (cluster, data) = (Cluster::start().await, large());
    let session = cluster.session();
    let mut changed = data.to_vec();
    changed[0] ^= 1;
    for (source, ours) in [(Bytes::from(changed), false), (data.slice(..10), true)] {
        cluster.agent.forget();
        let begun = cluster.upstream();
        {
            let given_up = upload(&session, Cursor::new(data.clone()));
            soon(async {
                tokio::select! {
                    end = given_up => panic!("{end:?}"),
                    () = cluster.received(begun + (10 << 20)) => {}
                }
            })
            .await;
        }
        match soon(upload(&session, Cursor::new(source))).await {
            Err(Error::Agent(error)) => assert_eq!((error.code, ours), (Code::Corrupted, false)),
            Err(Error::Corrupted { why, .. }) => {
                assert_eq!((why, ours), ("the agent has more of it than there is", true));
            }
            end => panic!("{end:?}"),
        }
    }
}

/// It takes the bytes as a write, in one stream and at worst in a second.
#[tokio::test]
async fn an_agent_that_knows_no_uploads_is_sent_all_of_it_anew() {
    let (cluster, data) = (Cluster::start().await, large());
    cluster.agent.script(|script| script.old = true);
    let session = cluster.session();
    let upload = upload(&session, Cursor::new(data.clone()));
    let (written, ()) = soon(async { tokio::join!(upload, cut(&cluster, &[10 << 20])) }).await;
    assert_eq!((written.unwrap(), cluster.asked()), (entry("/x"), 2));
    assert!(cluster.agent.script(|script| script.file == data));
    assert!(cluster.upstream() > data.len() as u64 + (9 << 20));
}

/// Longer than an API server takes to come back, and not for ever.
#[tokio::test(start_paused = true)]
async fn an_upload_is_given_up_on_when_the_api_server_stays_away() {
    let cluster = Cluster::start().await;
    cluster.answer(Answer::Refuse(500));
    let begun = tokio::time::Instant::now();
    let end = at_last(upload(&cluster.session(), Cursor::new("data".into()))).await;
    assert!(matches!(end, Err(Error::Exec { .. })), "{end:?}");
    let waited = begun.elapsed().as_secs();
    assert!((60..70).contains(&waited), "{waited}");
}
