//! What a caller is told of a sandbox that is gone.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use service::{Code, Service};

use crate::support::{self, Asked, SANDBOX, me, refused, verbs};

const LAST_EVENT: &str = "/api/v1/namespaces/default/events/demo.ended";

/// The verbs over an API server that has just these objects, and the paths it was asked for.
fn service(objects: Vec<(&'static str, Value)>) -> (Service, Arc<Mutex<Vec<String>>>) {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = asked.clone();
    let answer = move |Asked { uri, .. }: Asked| {
        let object = objects.iter().find(|(known, _)| *known == uri.path());
        log.lock().unwrap().push(uri.path().to_owned());
        std::future::ready(match object {
            Some((_, object)) => (200, object.clone()),
            None => refused(404, "NotFound"),
        })
    };
    (verbs(support::sandboxes(answer)), asked)
}

fn last_event(owner: &str, class: &str) -> Value {
    json!({
        "metadata": {
            "name": "demo.ended",
            "annotations": {"codesandbox.dev/owner": owner, "codesandbox.dev/class": class},
        },
        "involvedObject": {"kind": "CodeSandbox", "name": "demo", "uid": "1"},
        "message": "its ttl (1h) was over",
        "eventTime": "2026-01-01T01:00:00.250000Z", "reportingComponent": "codesandbox-operator",
    })
}

fn sandbox(owner: &str) -> Value {
    json!({
        "metadata": {
            "name": "demo", "namespace": "default", "uid": "2",
            "annotations": {"codesandbox.dev/owner": owner},
        },
        "spec": {"className": "codesandbox"},
    })
}

/// What a caller named `me` is told who asks for a sandbox that is not there.
async fn told(service: &Service, name: &str) -> String {
    let error = service.get(&me(), name).await.unwrap_err();
    assert_eq!(error.code, Code::SandboxNotFound);
    error.to_string()
}

#[tokio::test]
async fn its_owner_is_told_how_a_sandbox_ended() {
    let (service, _) = service(vec![(LAST_EVENT, last_event("me", "codesandbox"))]);
    assert_eq!(
        told(&service, "demo").await,
        "SANDBOX_NOT_FOUND: sandbox demo is gone since 2026-01-01T01:00:00Z: its ttl (1h) was over. Call sandbox_create and try again with the new id; its files and variables have to be made anew."
    );
}

#[tokio::test]
async fn an_end_that_is_somebody_elses_is_told_to_nobody() {
    let never_was = told(&service(vec![]).0, "demo").await;
    assert!(never_was.contains("there is no sandbox demo: it was deleted"), "{never_was}");
    let mut unowned = last_event("me", "codesandbox");
    unowned["metadata"]["annotations"] = json!({"codesandbox.dev/class": "codesandbox"});
    for event in [last_event("you", "codesandbox"), last_event("me", "other"), unowned] {
        let (service, _) = service(vec![(LAST_EVENT, event)]);
        assert_eq!(told(&service, "demo").await, never_was);
    }
}

#[tokio::test]
async fn a_namesake_is_found_as_ever_and_hides_what_was_before_to_its_owner_alone() {
    let event = || (LAST_EVENT, last_event("me", "codesandbox"));
    let (mine, asked) = service(vec![event(), (SANDBOX, sandbox("me"))]);
    let found = mine.get(&me(), "demo").await.unwrap();
    assert_eq!(found.metadata.uid.as_deref(), Some("2"));
    assert!(!asked.lock().unwrap().iter().any(|path| path == LAST_EVENT));

    let (theirs, _) = service(vec![event(), (SANDBOX, sandbox("you"))]);
    assert!(told(&theirs, "demo").await.contains("its ttl (1h) was over"), "it was mine");
}

/// It would become a part of a path.
#[tokio::test]
async fn what_could_not_name_a_sandbox_is_looked_for_nowhere() {
    let (service, asked) = service(vec![]);
    for name in ["../pods/a", "a/status", "a?watch=1"] {
        told(&service, name).await;
    }
    let asked = asked.lock().unwrap();
    assert!(
        !asked.iter().any(|path| path.contains("events") || path.contains("pods")),
        "{asked:?}"
    );
}

/// Who deletes what is gone wants it gone, and not to hear why.
#[tokio::test]
async fn a_deletion_of_what_is_gone_does_not_ask_how_it_ended() {
    let (service, asked) = service(vec![]);
    service.delete(&me(), "demo").await.unwrap();
    assert!(!asked.lock().unwrap().iter().any(|path| path == LAST_EVENT));
}
