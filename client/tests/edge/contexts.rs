//! What is made of what an agent tells about contexts.

use client::{Error, Session};
use wire::{
    limits::{MAX_CONTEXT, MAX_CONTEXTS, MAX_RUN_ID},
    v1::{ContextInfo, CreateContextRequest},
};

use crate::{
    changes::{cut, uncertain},
    support::{Cluster, soon},
};

fn named(name: &str) -> ContextInfo {
    ContextInfo { name: name.into(), ..ContextInfo::default() }
}

async fn create(session: &Session) -> Result<(ContextInfo, bool), Error> {
    soon(session.create_context(&CreateContextRequest::default())).await
}

#[tokio::test]
async fn contexts_are_told_as_the_agent_tells_them() {
    let cluster = Cluster::start().await;
    let one = ContextInfo { running: "r".into(), ..named("a") };
    let all = vec![one.clone(), named("b")];
    let session = cluster.session();
    assert!(!soon(session.delete_context("a")).await.unwrap());
    assert_eq!(soon(session.interrupt_context("a")).await.unwrap(), None);
    cluster.agent.script(|script| script.contexts.clone_from(&all));
    assert_eq!(soon(session.contexts()).await.unwrap(), all);
    assert_eq!(create(&session).await.unwrap(), (one, true));
    assert_eq!(soon(session.fork_context("a", &["b".into()])).await.unwrap(), all);
    assert!(soon(session.delete_context("a")).await.unwrap());
    assert_eq!(soon(session.interrupt_context("a")).await.unwrap(), Some("r".into()));
}

#[tokio::test]
async fn a_list_of_contexts_that_does_not_fit_is_corrupted() {
    let cluster = Cluster::start().await;
    let session = cluster.session();
    let none = create(&session).await;
    assert!(matches!(none, Err(Error::Corrupted { .. })), "{none:?}");
    let text = |length| "x".repeat(length);
    let fits = |context: fn(&mut ContextInfo, String), length: usize| {
        let mut info = named("a");
        context(&mut info, text(length));
        info
    };
    for (contexts, whole) in [
        (vec![named("a"); MAX_CONTEXTS], true),
        (vec![named("a"); MAX_CONTEXTS + 1], false),
        (vec![fits(|info, text| info.name = text, MAX_CONTEXT)], true),
        (vec![fits(|info, text| info.name = text, MAX_CONTEXT + 1)], false),
        (vec![fits(|info, text| info.language = text, MAX_CONTEXT + 1)], false),
        (vec![fits(|info, text| info.forked_from = text, MAX_CONTEXT + 1)], false),
        (vec![fits(|info, text| info.running = text, MAX_RUN_ID + 1)], false),
        (vec![fits(|info, text| info.cwd = text, 4096)], true),
        (vec![fits(|info, text| info.cwd = text, 4097)], false),
    ] {
        cluster.agent.script(|script| script.contexts.clone_from(&contexts));
        for told in [soon(session.contexts()).await, soon(session.fork_context("a", &[])).await] {
            match told {
                Ok(told) => assert!(whole && told == contexts),
                Err(error) => {
                    assert!(!whole && matches!(error, Error::Corrupted { .. }), "{error}");
                }
            }
        }
    }
}

/// It is not sent twice: the second could find the next run.
#[tokio::test]
async fn an_interrupt_whose_answer_is_lost_is_uncertain() {
    let end = cut(async |session| session.interrupt_context("a").await).await;
    assert_eq!(uncertain(end), ("InterruptContext context a".into(), 1));
}
