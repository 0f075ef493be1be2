//! Changes of files whose answers get lost.

use bytes::Bytes;
use client::{Error, Session};
use wire::{
    Code,
    v1::{Entry, entry::Kind},
};

use crate::support::{Answer, Cluster, Fault, agent::entry, soon};

/// What becomes of a change whose answer is cut off, and how often it was made.
pub(crate) async fn cut<T>(change: impl AsyncFnOnce(&Session) -> T) -> (T, usize) {
    let cluster = Cluster::start().await;
    cluster.agent.answers(false);
    let session = cluster.session();
    let (end, ()) = soon(async {
        tokio::join!(change(&session), async {
            cluster.agent.changed(1).await;
            cluster.inject(Fault::Cut);
            cluster.agent.answers(true);
        })
    })
    .await;
    (end, cluster.agent.changes())
}

/// What is uncertain, and how often it was made.
pub(crate) fn uncertain<T: std::fmt::Debug>(
    (end, made): (Result<T, Error>, usize),
) -> (String, usize) {
    match end {
        Err(Error::Uncertain { doing, path, .. }) => (format!("{doing} {path}"), made),
        other => panic!("{other:?} is not uncertain"),
    }
}

#[tokio::test]
async fn what_would_be_another_change_the_second_time_is_made_once() {
    let made = cut(async |session| session.make_directory("/a", false).await).await;
    assert_eq!(uncertain(made), ("MakeDirectory /a".into(), 1));
    let made = cut(async |session| session.rename("/a", "/b", false).await).await;
    assert_eq!(uncertain(made), ("Move /b".into(), 1));
    let made = cut(async |session| session.copy("/a", "/b", false, false).await).await;
    assert_eq!(uncertain(made), ("Copy /b".into(), 1));
}

/// Appended twice it would be another file.
#[tokio::test]
async fn an_append_whose_answer_is_lost_is_made_once() {
    let made = cut(async |session| session.append("/a", "line\n".into(), false).await).await;
    assert_eq!(uncertain(made), ("Append /a".into(), 1));

    let cluster = Cluster::start().await;
    let session = cluster.session();
    for _ in 0..2 {
        let end = soon(session.append("/a", "line\n".into(), false)).await;
        assert_eq!(end.unwrap(), entry("/a"));
    }
    assert_eq!(cluster.agent.script(|script| script.file.clone()), "line\nline\n");
    // Had it arrived as something else, trying again would not mend it.
    cluster.agent.script(|script| script.written = Some("lie".into()));
    let end = soon(session.append("/a", "line\n".into(), false)).await;
    assert_eq!(uncertain((end, cluster.agent.changes())), ("Append /a".into(), 3));
}

/// Without a digest to tell, the text that was put in might be found again and replaced once more.
#[tokio::test]
async fn an_edit_whose_answer_is_lost_is_made_once() {
    let made = cut(async |session| session.edit("/a", vec![], Bytes::new()).await).await;
    assert_eq!(uncertain(made), ("Edit /a".into(), 1));
}

#[tokio::test]
async fn an_edit_of_a_known_file_is_tried_once_more_and_a_conflict_then_says_nothing() {
    let known = || Bytes::from("digest");
    let (end, made) = cut(async |session| session.edit("/a", vec![], known()).await).await;
    assert_eq!((end.unwrap().entry, made), (Some(entry("/a")), 2));

    let conflict = || wire::Error::new(Code::Conflict, "/a: is not what it was");
    let cluster = Cluster::start().await;
    cluster.agent.answers(false);
    cluster.agent.script(|script| script.refuse_edit = [None, Some(conflict())].into());
    let session = cluster.session();
    let (end, ()) = soon(async {
        tokio::join!(session.edit("/a", vec![], known()), async {
            cluster.agent.changed(1).await;
            cluster.inject(Fault::Cut);
        })
    })
    .await;
    assert_eq!(uncertain((end, cluster.agent.changes())), ("Edit /a".into(), 1));
    // The first answer is one to go by.
    cluster.agent.script(|script| script.refuse_edit = [Some(conflict())].into());
    let end = soon(session.edit("/a", vec![], known())).await;
    assert!(matches!(&end, Err(Error::Agent(error)) if *error == conflict()), "{end:?}");
}

#[tokio::test]
async fn what_is_the_same_the_second_time_is_tried_once_more() {
    let (end, made) = cut(async |session| session.make_directory("/a", true).await).await;
    assert_eq!((end.unwrap(), made), (entry("/a"), 2));
    let (end, made) = cut(async |session| session.set_mode("/a", 0o700).await).await;
    assert_eq!((end.unwrap(), made), (entry("/a"), 2));
}

/// A stream that does not open carries nothing, so that nothing is unknown.
#[tokio::test]
async fn a_change_that_was_never_sent_is_not_uncertain() {
    let cluster = Cluster::start().await;
    cluster.answer(Answer::Refuse(500));
    let end = soon(cluster.session().rename("/a", "/b", true)).await;
    assert!(matches!(end, Err(Error::Exec { .. })), "{end:?}");
    assert_eq!((cluster.asked(), cluster.agent.changes()), (2, 0));
}

/// An agent that does not know of digests leaves them out.
#[tokio::test]
async fn a_file_without_the_digest_that_was_asked_for_is_of_an_agent_too_old() {
    for (kind, sha256, old) in
        [(Kind::File, "", true), (Kind::File, "digest", false), (Kind::Directory, "", false)]
    {
        let cluster = Cluster::start().await;
        let said = Entry { kind: kind.into(), sha256: sha256.into(), ..entry("/a") };
        cluster.agent.script(|script| script.entry = said.clone());
        match soon(cluster.session().digest("/a")).await {
            Ok(entry) => assert_eq!((entry, old), (said, false)),
            Err(error) => assert!(old && matches!(error, Error::TooOld { .. }), "{error:?}"),
        }
    }
}
