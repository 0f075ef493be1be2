//! What becomes of a sandbox that would be one too many.

use std::sync::{Arc, Mutex};

use http::Method;
use serde_json::{Value, json};
use service::{Code, Create, Limits, Service};

use crate::support::{self, Asked, SANDBOXES, me, refused};

/// Verbs for callers of whom each may have one sandbox, over an API server that has what it is sent, and the names of that.
fn service() -> (Service, Arc<Mutex<Vec<Value>>>) {
    let stored = Arc::new(Mutex::new(Vec::<Value>::new()));
    let server = stored.clone();
    let answer = move |Asked { method, uri, body }: Asked| {
        let mut stored = server.lock().unwrap();
        let named = |name: &str| stored.iter().position(|one| one["metadata"]["name"] == name);
        let name = uri.path().strip_prefix(SANDBOXES).unwrap_or_default().trim_start_matches('/');
        std::future::ready(if method == Method::POST {
            let mut sent: Value = serde_json::from_slice(&body).unwrap();
            if named(sent["metadata"]["name"].as_str().unwrap()).is_some() {
                refused(409, "AlreadyExists")
            } else {
                sent["metadata"]["uid"] = "1".into();
                stored.push(sent.clone());
                (201, sent)
            }
        } else if method == Method::DELETE {
            stored.retain(|one| one["metadata"]["name"] != name);
            (200, json!({"kind": "Status", "status": "Success"}))
        } else {
            named(name).map_or_else(|| refused(404, "NotFound"), |at| (200, stored[at].clone()))
        })
    };
    let limits = Limits { sandboxes: Some(1), ..Limits::default() };
    (Service::new(support::sandboxes(answer), support::config(limits)), stored)
}

fn named(name: Option<&str>) -> Create {
    Create { name: name.map(Into::into), ..Create::default() }
}

#[tokio::test]
async fn one_too_many_is_refused_before_anybody_is_asked_and_what_is_there_is_found() {
    let (service, stored) = service();
    service.create(&me(), &named(Some("first"))).await.unwrap();
    for name in [None, Some("second")] {
        let error = service.create(&me(), &named(name)).await.unwrap_err();
        assert_eq!(error.code, Code::QuotaExceeded, "{error}");
    }
    let again = service.create(&me(), &named(Some("first"))).await.unwrap();
    assert_eq!(again.metadata.name.as_deref(), Some("first"));
    let names: Vec<_> =
        stored.lock().unwrap().iter().map(|one| one["metadata"]["name"].clone()).collect();
    assert_eq!(names, [json!("first")]);
}

#[tokio::test]
async fn a_name_that_is_taken_uses_up_nothing() {
    let (service, stored) = service();
    stored.lock().unwrap().push(json!({"metadata": {"name": "taken", "uid": "2"}, "spec": {}}));
    let error = service.create(&me(), &named(Some("taken"))).await.unwrap_err();
    assert_eq!(error.code, Code::SandboxExists, "{error}");
    service.create(&me(), &named(Some("free"))).await.unwrap();
}

#[tokio::test]
async fn one_that_is_deleted_makes_room_at_once_whatever_the_watch_has_shown() {
    let (service, _) = service();
    service.create(&me(), &named(Some("first"))).await.unwrap();
    service.delete(&me(), "first").await.unwrap();
    service.create(&me(), &named(Some("second"))).await.unwrap();
}

#[tokio::test]
async fn what_may_have_been_made_takes_a_place_and_what_was_refused_takes_none() {
    for (code, reason, next) in
        [(403, "Forbidden", Code::Forbidden), (504, "Timeout", Code::QuotaExceeded)]
    {
        let answer = move |_: Asked| std::future::ready(refused(code, reason));
        let limits = Limits { sandboxes: Some(1), ..Limits::default() };
        let service = Service::new(support::sandboxes(answer), support::config(limits));
        service.create(&me(), &named(None)).await.unwrap_err();
        let error = service.create(&me(), &named(None)).await.unwrap_err();
        assert_eq!(error.code, next, "{error}");
    }
}
