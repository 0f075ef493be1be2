//! What callers are told while the watch shows a sandbox as it was.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::{Either, pending, ready};
use serde_json::{Value, json};
use service::{Code, Error, Service};

use crate::support::{self, SANDBOX, SANDBOXES, me, refused, verbs};

const FIRST: &str = "/api/v1/namespaces/default/pods/demo-0/exec";
const SECOND: &str = "/api/v1/namespaces/default/pods/demo-1/exec";

/// What an API server was asked for, whose watch shows one sandbox and never anything else.
struct Asked(Arc<Mutex<Vec<String>>>);

/// The verbs over such an API server. It has another sandbox by now, none, or no answer where that is null; the first pod is
/// gone, and no agent answers in the second.
async fn service(shown: Value, now: Option<Value>) -> (Service, Asked) {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = asked.clone();
    let answer = move |asked: support::Asked| {
        let path = asked.uri.path().to_owned();
        let watches = asked.uri.query().unwrap_or_default().contains("watch=true");
        log.lock().unwrap().push(path.clone());
        Either::Right(ready(match &*path {
            SANDBOXES if watches => return Either::Left(pending()),
            SANDBOXES => (200, json!({"metadata": {"resourceVersion": "5"}, "items": [shown]})),
            SECOND => refused(500, "InternalError"),
            SANDBOX => match &now {
                Some(Value::Null) => refused(503, "ServiceUnavailable"),
                Some(now) => (200, now.clone()),
                None => refused(404, "NotFound"),
            },
            _ => refused(404, "NotFound"),
        }))
    };
    let sandboxes = support::sandboxes(answer);
    assert!(sandboxes.synced(Duration::from_secs(30)).await);
    (verbs(sandboxes), Asked(asked))
}

/// A sandbox of mine whose pod of this number is ready.
fn sandbox(version: u32, pod: u32, losses: u32) -> Value {
    let ready = json!({"type": "Ready", "status": "True", "reason": "Ready", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    json!({
        "apiVersion": "codesandbox.dev/v1alpha1", "kind": "CodeSandbox",
        "metadata": {
            "name": "demo", "namespace": "default", "uid": "1",
            "resourceVersion": version.to_string(),
            "annotations": {"codesandbox.dev/owner": "me"},
        },
        "spec": {"className": "codesandbox"},
        "status": {
            "attempt": pod + 1, "losses": losses, "conditions": [ready],
            "podName": format!("demo-{pod}"), "podUID": format!("p{pod}"),
        },
    })
}

/// The same, suspended by its user.
fn suspended(version: u32) -> Value {
    let mut sandbox = sandbox(version, 0, 0);
    sandbox["spec"]["suspend"] = true.into();
    sandbox["status"] = json!({"attempt": 2, "losses": 0});
    sandbox
}

/// What a caller is told, and which pods were asked.
async fn told(shown: Value, now: Option<Value>) -> (Error, Vec<String>) {
    let (service, Asked(asked)) = service(shown, now).await;
    let error = service.greeting(&me(), "demo").await.unwrap_err();
    let mut pods = asked.lock().unwrap().clone();
    pods.retain(|path| path.ends_with("/exec"));
    pods.dedup();
    (error, pods)
}

#[tokio::test]
async fn a_pod_that_ended_with_a_suspension_is_no_loss_and_the_next_is_asked() {
    let (error, pods) = told(sandbox(5, 0, 0), Some(sandbox(9, 1, 0))).await;
    assert_eq!((error.code, pods), (Code::Unavailable, vec![FIRST.into(), SECOND.into()]));
}

#[tokio::test]
async fn a_pod_that_was_lost_is_said_to_be_gone_and_the_next_is_not_asked() {
    let mut namesake = sandbox(9, 1, 0);
    namesake["metadata"]["uid"] = "2".into();
    // The operator may know it or not yet.
    for now in [sandbox(9, 1, 1), sandbox(5, 0, 0), sandbox(9, 0, 0), namesake] {
        let (error, pods) = told(sandbox(5, 0, 0), Some(now)).await;
        assert_eq!((error.code, pods), (Code::SandboxReplaced, vec![FIRST.into()]));
    }
}

#[tokio::test]
async fn one_that_has_been_resumed_is_not_said_to_be_suspended() {
    let (error, pods) = told(suspended(5), Some(sandbox(9, 1, 0))).await;
    assert_eq!((error.code, pods), (Code::Unavailable, vec![SECOND.into()]));

    let (error, pods) = told(suspended(5), Some(suspended(5))).await;
    assert_eq!((error.code, pods), (Code::SandboxSuspended, vec![]));
}

#[tokio::test]
async fn one_that_has_been_suspended_since_is_said_to_be() {
    let (error, pods) = told(sandbox(5, 0, 0), Some(suspended(9))).await;
    assert_eq!((error.code, pods), (Code::SandboxSuspended, vec![FIRST.into()]));
}

#[tokio::test]
async fn one_that_has_gone_since_is_not_found() {
    let mut theirs = sandbox(9, 1, 0);
    theirs["metadata"]["uid"] = "2".into();
    theirs["metadata"]["annotations"] = json!({"codesandbox.dev/owner": "you"});
    for now in [None, Some(theirs)] {
        let (error, pods) = told(sandbox(5, 0, 0), now).await;
        assert_eq!((error.code, pods), (Code::SandboxNotFound, vec![FIRST.into()]));
    }
}

#[tokio::test]
async fn what_is_known_is_told_though_the_api_server_does_not_answer() {
    let (error, pods) = told(suspended(5), Some(Value::Null)).await;
    assert_eq!((error.code, pods), (Code::SandboxSuspended, vec![]));

    let mut finished = sandbox(5, 0, 0);
    finished["status"]["conditions"][0]["type"] = "Finished".into();
    let (service, Asked(asked)) = service(finished, Some(Value::Null)).await;
    let error = service.greeting(&me(), "demo").await.unwrap_err();
    assert_eq!(error.code, Code::SandboxFinished);
    let asked = asked.lock().unwrap();
    assert!(!asked.iter().any(|path| path == SANDBOX), "it is over, whatever comes: {asked:?}");
}
