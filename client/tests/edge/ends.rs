//! How sandboxes ended that are gone, from the operator's last event and from the watch.

use std::{sync::Arc, time::Duration};

use api::CodeSandbox;
use client::{End, Sandboxes};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{Stored, soon};

fn sandbox(uid: &str) -> CodeSandbox {
    serde_json::from_value(json!({
        "apiVersion": "codesandbox.dev/v1alpha1", "kind": "CodeSandbox",
        "metadata": {
            "name": "a", "namespace": "default", "uid": uid, "resourceVersion": "2",
            "annotations": {"codesandbox.dev/owner": "me"},
        },
        "spec": { "className": "codesandbox" },
    }))
    .unwrap()
}

/// The operator's last event about the sandbox of a UID.
fn last_event(uid: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {
            "name": "a.ended", "namespace": "default",
            "annotations": {"codesandbox.dev/owner": "me", "codesandbox.dev/class": "codesandbox"},
        },
        "involvedObject": {"kind": "CodeSandbox", "name": "a", "uid": uid},
        "reason": "Expired", "message": "its ttl (1h) was over",
        "eventTime": "2026-01-01T01:00:00.250000Z", "reportingComponent": "codesandbox-operator",
    })
}

async fn watched() -> (Stored, Arc<Sandboxes>) {
    let stored = Stored::start().await;
    let sandboxes = Sandboxes::new(stored.client(), "default");
    assert!(sandboxes.synced(Duration::from_secs(30)).await);
    soon(stored.watches(1)).await;
    (stored, sandboxes)
}

/// Has the watch show a sandbox and then that it is gone.
async fn seen_to_go(stored: &Stored, sandboxes: &Sandboxes, sandbox: &CodeSandbox) {
    let deadline = Instant::now() + Duration::from_secs(30);
    stored.tell("ADDED", sandbox);
    let came = |found: Option<&CodeSandbox>| found.map(|_| ());
    soon(sandboxes.wait(sandbox, deadline, came)).await.unwrap();
    let gone = |found: Option<&CodeSandbox>| found.is_none().then_some(());
    let (went, ()) = soon(async {
        tokio::join!(sandboxes.wait(sandbox, deadline, gone), async {
            stored.tell("DELETED", sandbox);
        })
    })
    .await;
    went.unwrap();
}

async fn how(sandboxes: &Sandboxes) -> Option<String> {
    soon(sandboxes.end("a", |_| true)).await.map(|end| end.how)
}

#[tokio::test]
async fn the_operators_last_event_says_how_a_sandbox_ended_that_this_process_never_saw() {
    let (stored, sandboxes) = watched().await;
    assert_eq!(how(&sandboxes).await, None);
    stored.put_event(&last_event("1"));
    let expected = End {
        uid: Some("1".into()),
        owner: Some("me".into()),
        class: Some("codesandbox".into()),
        at: "2026-01-01T01:00:00.25Z".parse().unwrap(),
        how: "its ttl (1h) was over".into(),
    };
    assert_eq!(soon(sandboxes.end("a", |_| true)).await, Some(expected));
    assert_eq!(soon(sandboxes.end("a", |end| end.owner.is_none())).await, None);
    assert_eq!(stored.asked_for_events(), 3, "one small request each");
}

#[tokio::test]
async fn an_event_of_somebody_else_or_about_something_else_is_no_word_about_an_end() {
    let (stored, sandboxes) = watched().await;
    for (key, value) in [
        ("reportingComponent", json!("kubelet")),
        ("involvedObject", json!({"kind": "Pod", "name": "a", "uid": "1"})),
        ("involvedObject", json!({"kind": "CodeSandbox", "name": "b", "uid": "1"})),
    ] {
        let mut event = last_event("1");
        event[key] = value;
        stored.put_event(&event);
        assert_eq!(how(&sandboxes).await, None, "{event}");
    }
}

#[tokio::test]
async fn a_deletion_by_somebody_is_told_by_who_saw_it() {
    let (stored, sandboxes) = watched().await;
    // A namesake's end, before.
    stored.put_event(&last_event("0"));
    let mut finished = json!(sandbox("1"));
    finished["status"]["conditions"] = json!([{"type": "Finished", "status": "True", "reason": "OOMKilled",
        "message": "out of memory", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    seen_to_go(&stored, &sandboxes, &serde_json::from_value(finished).unwrap()).await;
    let expected = "it was deleted; before, it had finished (OOMKilled: out of memory)";
    assert_eq!(how(&sandboxes).await.as_deref(), Some(expected));

    seen_to_go(&stored, &sandboxes, &sandbox("2")).await;
    let mine = |end: &End| {
        (end.owner.as_deref(), end.class.as_deref()) == (Some("me"), Some("codesandbox"))
    };
    let end = soon(sandboxes.end("a", mine)).await.unwrap();
    assert_eq!((end.uid.as_deref(), &*end.how), (Some("2"), "it was deleted"));
    assert_eq!(soon(sandboxes.end("a", |_| false)).await, None);
    assert_eq!(soon(sandboxes.end("b", |_| true)).await, None);
}

/// The operator deletes a sandbox and then says why: who hears of the first at once would miss the second.
#[tokio::test]
async fn the_operators_word_is_waited_for_a_moment_after_a_sandbox_went() {
    let (stored, sandboxes) = watched().await;
    seen_to_go(&stored, &sandboxes, &sandbox("1")).await;
    let (how, ()) = tokio::join!(how(&sandboxes), async {
        while stored.asked_for_events() == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        stored.put_event(&last_event("1"));
    });
    assert_eq!(how.as_deref(), Some("its ttl (1h) was over"));
}

#[tokio::test]
async fn who_may_not_hear_of_an_end_or_has_made_it_waits_for_no_word() {
    let (stored, sandboxes) = watched().await;
    seen_to_go(&stored, &sandboxes, &sandbox("1")).await;
    assert_eq!(soon(sandboxes.end("a", |_| false)).await, None);
    assert_eq!(stored.asked_for_events(), 1);

    let next = sandbox("2");
    stored.put(&next);
    sandboxes.delete("a", Some("2".into())).await.unwrap();
    stored.tell("ADDED", &next);
    stored.tell("DELETED", &next);
    // The watch keeps the order: what it showed before this one is known.
    let mut other = sandbox("3");
    other.metadata.name = Some("b".into());
    stored.tell("ADDED", &other);
    let deadline = Instant::now() + Duration::from_secs(30);
    let came = |found: Option<&CodeSandbox>| found.map(|_| ());
    soon(sandboxes.wait(&other, deadline, came)).await.unwrap();
    let end = soon(sandboxes.end("a", |_| true)).await.unwrap();
    assert_eq!((end.uid.as_deref(), stored.asked_for_events()), (Some("2"), 2));
}

#[tokio::test]
async fn an_api_server_that_does_not_say_holds_nobody_up() {
    let (stored, sandboxes) = watched().await;
    stored.hide_events();
    let end = timeout(Duration::from_secs(10), sandboxes.end("a", |_| true)).await;
    assert_eq!(end.unwrap(), None);
}
