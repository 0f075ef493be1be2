//! What becomes of a sandbox whose end is put off.

use std::sync::{Arc, Mutex};

use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use service::{Code, Principal, Service};

use crate::support::{self, Asked, SANDBOX, me, refused, verbs};

/// What the API server has, and the ttls that were written.
#[derive(Default)]
struct Stored {
    sandbox: Value,
    /// How many writes come too late: another came before.
    conflicts: u32,
    ttls: Vec<String>,
}

fn service(stored: &Arc<Mutex<Stored>>) -> Service {
    let stored = stored.clone();
    let answer = move |Asked { method, uri, body }: Asked| {
        let mut stored = stored.lock().unwrap();
        std::future::ready(match (uri.path() == SANDBOX, method == Method::PATCH) {
            (true, true) if stored.conflicts > 0 => {
                stored.conflicts -= 1;
                // As another front end's that wants less.
                stored.sandbox["spec"]["ttl"] = "5400s".into();
                refused(409, "Conflict")
            }
            (true, true) => {
                let sent: Value = serde_json::from_slice(&body).unwrap();
                assert_eq!(sent["metadata"], json!({"uid": "1", "resourceVersion": "5"}));
                stored.ttls.push(sent["spec"]["ttl"].as_str().unwrap().into());
                stored.sandbox["spec"]["ttl"] = sent["spec"]["ttl"].clone();
                (200, stored.sandbox.clone())
            }
            (true, false) => (200, stored.sandbox.clone()),
            (false, _) => refused(404, "NotFound"),
        })
    };
    verbs(support::sandboxes(answer))
}

/// A sandbox of mine that is as old as this and lives for an hour.
fn sandbox(age: SignedDuration) -> Arc<Mutex<Stored>> {
    let created = Timestamp::from_second((Timestamp::now() - age).as_second()).unwrap();
    let sandbox = json!({
        "apiVersion": "codesandbox.dev/v1alpha1", "kind": "CodeSandbox",
        "metadata": {
            "name": "demo", "namespace": "default", "uid": "1", "resourceVersion": "5",
            "creationTimestamp": created.to_string(),
            "annotations": {"codesandbox.dev/owner": "me"},
        },
        "spec": {"className": "codesandbox", "ttl": "1h"},
    });
    Arc::new(Mutex::new(Stored { sandbox, ..Stored::default() }))
}

#[tokio::test]
async fn a_sandbox_lives_at_least_so_long_from_now_on() {
    let stored = sandbox(SignedDuration::from_mins(50));
    let service = service(&stored);
    let before = Timestamp::now();
    let end = service.extend(&me(), "demo", "30m").await.unwrap().unwrap();
    let late = end.duration_since(before + SignedDuration::from_mins(30));
    assert!((SignedDuration::ZERO..SignedDuration::from_secs(5)).contains(&late), "{late}");

    // It lives as long as that anyway.
    assert_eq!(service.extend(&me(), "demo", "10m").await.unwrap(), Some(end));
    assert_eq!(stored.lock().unwrap().ttls.len(), 1);
}

#[tokio::test]
async fn an_extension_that_another_came_before_shortens_nothing() {
    let stored = sandbox(SignedDuration::from_mins(50));
    stored.lock().unwrap().conflicts = 1;
    service(&stored).extend(&me(), "demo", "30m").await.unwrap();
    assert_eq!(stored.lock().unwrap().ttls, [""; 0], "that of the other is longer");

    stored.lock().unwrap().conflicts = 99;
    let error = service(&stored).extend(&me(), "demo", "3h").await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
}

#[tokio::test]
async fn what_is_no_duration_somebody_elses_or_over_is_extended_by_nobody() {
    let stored = sandbox(SignedDuration::ZERO);
    let service = service(&stored);
    for by in ["", "soon", "-1h", "30"] {
        let error = service.extend(&me(), "demo", by).await.unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument, "{by}: {error}");
    }
    let error = service.extend(&Principal::new("you"), "demo", "3h").await.unwrap_err();
    assert_eq!(error.code, Code::SandboxNotFound);

    let finished = json!({"type": "Finished", "status": "True", "reason": "Completed", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    stored.lock().unwrap().sandbox["status"] = json!({"conditions": [finished]});
    let error = service.extend(&me(), "demo", "3h").await.unwrap_err();
    assert_eq!(error.code, Code::SandboxFinished);
    assert_eq!(stored.lock().unwrap().ttls, [""; 0]);
}

#[tokio::test]
async fn nothing_is_written_before_it_is_known_how_long_a_sandbox_lives_or_when_it_goes() {
    let stored = sandbox(SignedDuration::ZERO);
    let service = service(&stored);
    stored.lock().unwrap().sandbox["spec"]["ttl"].take();
    let error = service.extend(&me(), "demo", "3h").await.unwrap_err();
    assert_eq!(error.code, Code::SandboxNotReady, "its template may give it more");
    stored.lock().unwrap().sandbox["status"] = json!({"podName": "demo-1"});
    service.extend(&me(), "demo", "3h").await.unwrap();
    assert_eq!(std::mem::take(&mut stored.lock().unwrap().ttls).len(), 1);

    stored.lock().unwrap().sandbox["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    let error = service.extend(&me(), "demo", "30h").await.unwrap_err();
    assert_eq!(error.code, Code::SandboxNotFound);
    assert_eq!(stored.lock().unwrap().ttls, [""; 0]);
}
