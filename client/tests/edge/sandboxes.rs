//! The watch cache of sandboxes, and what is asked of the API server beside it.

use std::{sync::Arc, time::Duration};

use api::CodeSandbox;
use client::{Error, Sandboxes};
use kube::ResourceExt;
use serde_json::json;
use tokio::time::Instant;

use crate::support::{Stored, soon};

fn sandbox(name: &str, uid: &str, pod_uid: &str) -> CodeSandbox {
    serde_json::from_value(json!({
        "apiVersion": "codesandbox.dev/v1alpha1", "kind": "CodeSandbox",
        "metadata": {
            "name": name, "namespace": "default", "uid": uid, "resourceVersion": "2",
        },
        "spec": { "className": "codesandbox" },
        "status": { "podName": format!("{name}-0"), "podUID": pod_uid },
    }))
    .unwrap()
}

/// The sandboxes of an API server, once they are watched.
async fn watched() -> (Stored, Arc<Sandboxes>) {
    let stored = Stored::start().await;
    let sandboxes = Sandboxes::new(stored.client(), "default");
    assert!(sandboxes.synced(Duration::from_secs(30)).await);
    soon(stored.watches(1)).await;
    (stored, sandboxes)
}

/// Whatever the cache has, as soon as it has it.
fn cached(found: Option<&CodeSandbox>) -> Option<CodeSandbox> {
    found.cloned()
}

fn in_a_while() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// E3: another replica created it a moment ago.
#[tokio::test]
async fn a_sandbox_the_cache_lacks_is_asked_for() {
    let (stored, sandboxes) = watched().await;
    let a = sandbox("a", "1", "p1");
    assert_eq!(sandboxes.get("a").await.unwrap(), None);
    stored.put(&a);
    assert_eq!(sandboxes.get("a").await.unwrap().as_deref(), Some(&a));
    assert_eq!((stored.gets(), sandboxes.list().len()), (2, 0));

    stored.tell("ADDED", &a);
    let seen = sandboxes.wait(&a, in_a_while(), cached);
    assert_eq!(soon(seen).await, Some(a.clone()));
    assert_eq!(sandboxes.get("a").await.unwrap().as_deref(), Some(&a));
    assert_eq!(stored.gets(), 2);
}

#[tokio::test]
async fn a_deleted_sandbox_is_found_no_more_though_the_watch_still_shows_it() {
    let (stored, sandboxes) = watched().await;
    let (a, b) = (sandbox("a", "1", "p1"), sandbox("b", "2", "p2"));
    for one in [&a, &b] {
        stored.put(one);
        stored.tell("ADDED", one);
        soon(sandboxes.wait(one, in_a_while(), cached)).await;
    }
    sandboxes.delete("a", a.uid()).await.unwrap();
    stored.take("a");
    assert_eq!(sandboxes.get("a").await.unwrap(), None);
    assert_eq!(sandboxes.list().into_keys().collect::<Vec<_>>(), ["b"]);

    // Another of its name is another.
    let next = sandbox("a", "3", "p3");
    stored.put(&next);
    stored.tell("MODIFIED", &next);
    assert_eq!(soon(sandboxes.wait(&next, in_a_while(), cached)).await, Some(next));
}

/// Somebody has looked past the cache, as a caller whose pod is gone does.
#[tokio::test]
async fn a_view_that_is_older_than_what_was_seen_is_passed_over() {
    let (stored, sandboxes) = watched().await;
    let shown = sandbox("a", "1", "p1");
    stored.tell("ADDED", &shown);
    soon(sandboxes.wait(&shown, in_a_while(), cached)).await;

    let version = |version: &str| {
        let mut sandbox = sandbox("a", "1", "p2");
        sandbox.metadata.resource_version = Some(version.into());
        sandbox
    };
    let (seen, next) = (version("9"), version("10"));
    assert_eq!(sandboxes.wait(&seen, Instant::now(), cached).await, None);
    stored.tell("MODIFIED", &next);
    assert_eq!(soon(sandboxes.wait(&seen, in_a_while(), cached)).await, Some(next));
}

/// What a later version wrote, for example.
#[tokio::test]
async fn a_sandbox_that_cannot_be_decoded_hides_no_other_and_is_shown_once_it_can_be() {
    let stored = Stored::start().await;
    let (a, b) = (sandbox("a", "1", "p1"), sandbox("b", "2", "p2"));
    let mut bad = json!(b);
    bad["spec"]["ttl"] = json!(7);
    stored.put(&a);
    stored.put(&bad);
    let sandboxes = Sandboxes::new(stored.client(), "default");
    assert!(sandboxes.synced(Duration::from_secs(30)).await);
    soon(stored.watches(1)).await;
    assert_eq!(sandboxes.list().into_keys().collect::<Vec<_>>(), ["a"]);

    stored.tell("MODIFIED", &b);
    assert_eq!(soon(sandboxes.wait(&b, in_a_while(), cached)).await, Some(b.clone()));
    stored.tell("MODIFIED", &bad);
    let gone = |found: Option<&CodeSandbox>| found.is_none().then_some(());
    soon(sandboxes.wait(&b, in_a_while(), gone)).await;
    assert_eq!(sandboxes.list().into_keys().collect::<Vec<_>>(), ["a"], "it is not what it was");
}

#[tokio::test]
async fn a_delete_names_the_uid_it_means() {
    let (stored, sandboxes) = watched().await;
    stored.put(&sandbox("a", "1", "p1"));
    sandboxes.delete("a", Some("1".into())).await.unwrap();
    assert_eq!(
        stored.deletes(),
        [json!({ "preconditions": { "uid": "1" }, "propagationPolicy": "Background" })]
    );
}

/// Gone already, or made anew under the same name since: what was meant is not there.
#[tokio::test]
async fn a_delete_that_comes_too_late_is_a_success() {
    let (stored, sandboxes) = watched().await;
    sandboxes.delete("a", Some("1".into())).await.unwrap();
    stored.refuse_deletes(409);
    sandboxes.delete("a", Some("1".into())).await.unwrap();
    stored.refuse_deletes(403);
    let refused = sandboxes.delete("a", Some("1".into())).await;
    assert!(matches!(refused, Err(Error::Kube { doing: "delete", .. })), "{refused:?}");
}

#[tokio::test]
async fn absence_counts_only_once_the_cache_has_had_it() {
    let (stored, sandboxes) = watched().await;
    let a = sandbox("a", "1", "p1");
    let judge = |found: Option<&CodeSandbox>| found.is_none().then_some("gone");
    let soon_over = Instant::now() + Duration::from_millis(50);
    assert_eq!(sandboxes.wait(&a, soon_over, judge).await, None);

    stored.tell("ADDED", &a);
    let seen = sandboxes.wait(&a, in_a_while(), |found| found.map(ResourceExt::name_any));
    assert_eq!(soon(seen).await, Some("a".into()));
    let (gone, ()) = soon(async {
        tokio::join!(sandboxes.wait(&a, in_a_while(), judge), async {
            stored.tell("DELETED", &a);
        })
    })
    .await;
    assert_eq!(gone, Some("gone"));
}

#[tokio::test]
async fn a_namesake_is_not_taken_for_the_sandbox_that_is_waited_for() {
    let (stored, sandboxes) = watched().await;
    let (a, namesake) = (sandbox("a", "1", "p1"), sandbox("a", "2", "p2"));
    stored.tell("ADDED", &namesake);
    let seen = sandboxes.wait(&namesake, in_a_while(), cached);
    assert_eq!(soon(seen).await, Some(namesake));
    let soon_over = Instant::now() + Duration::from_millis(50);
    assert_eq!(sandboxes.wait(&a, soon_over, cached).await, None);
}

#[tokio::test]
async fn a_pod_has_one_session_which_ends_with_it() {
    let (stored, sandboxes) = watched().await;
    let (a, b) = (sandbox("a", "1", "p1"), sandbox("b", "2", "p2"));
    stored.tell("ADDED", &a);
    stored.tell("ADDED", &b);
    soon(sandboxes.wait(&b, in_a_while(), cached)).await.unwrap();
    let (of_a, of_b) = (sandboxes.session(&a).unwrap(), sandboxes.session(&b).unwrap());
    assert!(Arc::ptr_eq(&of_a, &sandboxes.session(&a).unwrap()));
    assert_eq!((of_a.pod(), of_b.pod()), ("a-0", "b-0"));

    let (of_a, of_b) = {
        let (held_a, held_b) = (of_a, of_b);
        (Arc::downgrade(&held_a), Arc::downgrade(&held_b))
    };
    let next = sandbox("a", "1", "p3");
    stored.tell("MODIFIED", &next);
    let replaced = |found: Option<&CodeSandbox>| (found == Some(&next)).then_some(());
    soon(sandboxes.wait(&next, in_a_while(), replaced)).await.unwrap();
    soon(async {
        while of_a.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(of_b.strong_count(), 1);
}

/// A watch of a quiet namespace has no event at which to notice.
#[tokio::test]
async fn dropped_sandboxes_are_watched_no_more() {
    let (stored, sandboxes) = watched().await;
    drop(sandboxes);
    soon(stored.watches(0)).await;
}
