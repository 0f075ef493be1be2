//! What becomes of a sandbox whose end is put off.

#![allow(clippy::unwrap_used, reason = "these are tests, helpers included")]

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use client::Sandboxes;
use http::{Method, Request, Response};
use jiff::{SignedDuration, Timestamp};
use kube::client::Body;
use serde_json::{Value, json};
use service::{Code, Config, Principal, Service};

const SANDBOX: &str = "/apis/codesandbox.dev/v1alpha1/namespaces/default/codesandboxes/demo";

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
    let answer = move |request: Request<Body>| {
        let stored = stored.clone();
        async move {
            let ours = request.uri().path() == SANDBOX;
            let patches = request.method() == Method::PATCH;
            let sent = request.into_body().collect_bytes().await.unwrap();
            let mut stored = stored.lock().unwrap();
            let refused =
                |code, reason| (code, json!({"kind": "Status", "code": code, "reason": reason}));
            let (code, body) = match (ours, patches) {
                (true, true) if stored.conflicts > 0 => {
                    stored.conflicts -= 1;
                    // As another front end's that wants less.
                    stored.sandbox["spec"]["ttl"] = "5400s".into();
                    refused(409, "Conflict")
                }
                (true, true) => {
                    let sent: Value = serde_json::from_slice(&sent).unwrap();
                    assert_eq!(sent["metadata"], json!({"uid": "1", "resourceVersion": "5"}));
                    stored.ttls.push(sent["spec"]["ttl"].as_str().unwrap().into());
                    stored.sandbox["spec"]["ttl"] = sent["spec"]["ttl"].clone();
                    (200, stored.sandbox.clone())
                }
                (true, false) => (200, stored.sandbox.clone()),
                (false, _) => refused(404, "NotFound"),
            };
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
        }
    };
    let kube = kube::Client::new(tower::service_fn(answer), "default");
    Service::new(Sandboxes::new(kube, "default"), Config { class: "codesandbox".into() })
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

fn me() -> Principal {
    Principal::new("me")
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
