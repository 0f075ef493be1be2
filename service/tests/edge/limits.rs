//! What becomes of a sandbox with which its owner's would use too much.

use std::{
    future::{Ready, ready},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::{Either, Pending, pending};
use http::Method;
use serde_json::{Value, json};
use service::{Code, Config, Create, Limits, Service};

use crate::support::{self, Answer, Asked, SANDBOX, SANDBOXES, me, refused};

const TEMPLATES: &str = "/apis/codesandbox.dev/v1alpha1/namespaces/default/codesandboxtemplates";

/// An API server whose watch shows these sandboxes and never anything else.
#[derive(Clone, Default)]
struct Server {
    shown: Vec<Value>,
    /// What `demo` is by now, where that is not what the watch shows.
    now: Option<Value>,
    /// Whether the templates may not be listed.
    closed: bool,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn showing(shown: Vec<Value>) -> Self {
        Self { shown, ..Self::default() }
    }

    /// The verbs over it, for callers whose sandboxes may use four CPUs.
    async fn service(&self) -> Service {
        self.service_with(|_| ()).await
    }

    async fn service_with(&self, change: impl FnOnce(&mut Config)) -> Service {
        let server = self.clone();
        let sandboxes = support::sandboxes(move |asked| server.answer(asked));
        assert!(sandboxes.synced(Duration::from_secs(30)).await);
        let mut config = support::config(Limits { cpu: Some(4e3), ..Limits::default() });
        change(&mut config);
        Service::new(sandboxes, config)
    }

    fn answer(&self, Asked { method, uri, body }: Asked) -> Either<Pending<Answer>, Ready<Answer>> {
        let path = uri.path();
        if uri.query().unwrap_or_default().contains("watch=true") {
            return Either::Left(pending());
        }
        self.log.lock().unwrap().push(format!("{method} {path}"));
        let list =
            |items: &[Value]| (200, json!({"metadata": {"resourceVersion": "5"}, "items": items}));
        let named = |name: &str| self.shown.iter().find(|one| one["metadata"]["name"] == name);
        let answer = match (method, path) {
            (Method::GET, SANDBOXES) => list(&self.shown),
            (Method::GET, TEMPLATES) if self.closed => refused(403, "Forbidden"),
            (Method::GET, TEMPLATES) => list(&[large()]),
            (Method::POST, _) => {
                let sent: Value = serde_json::from_slice(&body).unwrap();
                match named(sent["metadata"]["name"].as_str().unwrap()) {
                    Some(_) => refused(409, "AlreadyExists"),
                    None => (201, sent),
                }
            }
            (_, SANDBOX) => {
                let demo = self.now.as_ref().or_else(|| named("demo"));
                demo.map_or_else(|| refused(404, "NotFound"), |demo| (200, demo.clone()))
            }
            _ => refused(404, "NotFound"),
        };
        Either::Right(ready(answer))
    }

    /// How often it was asked this.
    fn times(&self, asked: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|one| *one == asked).count()
    }
}

/// A template that gives three CPUs.
fn large() -> Value {
    json!({"metadata": {"name": "large"}, "spec": {"defaults": {"resources": {"cpu": "3"}}}})
}

/// A sandbox of mine.
fn sandbox(name: &str, spec: &Value, status: &Value) -> Value {
    let mut sandbox = json!({
        "apiVersion": "codesandbox.dev/v1alpha1", "kind": "CodeSandbox",
        "metadata": {
            "name": name, "namespace": "default", "uid": name, "resourceVersion": "5",
            "annotations": {"codesandbox.dev/owner": "me"},
        },
        "spec": spec, "status": status,
    });
    sandbox["spec"]["className"] = "codesandbox".into();
    sandbox
}

fn using(name: &str, cpu: &str) -> Value {
    sandbox(name, &json!({"resources": {"cpu": cpu}}), &json!({}))
}

/// `demo`, which is paused.
fn paused() -> Value {
    let paused = json!({"type": "Suspended", "status": "True", "reason": "Paused", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    sandbox("demo", &json!({}), &json!({"attempt": 2, "conditions": [paused]}))
}

fn asking(template: Option<&str>, cpu: Option<&str>) -> Create {
    let text = |text: Option<&str>| text.map(String::from);
    Create { template: text(template), cpu: text(cpu), ..Create::default() }
}

/// What is said to who asks for so much where so much is used.
fn full(has: &str, asks: &str) -> String {
    format!(
        "QUOTA_EXCEEDED: your sandboxes have {has} of at most 4 CPUs, and this one asks for {asks}. Ask for less, delete those that are not needed (sandbox_list has them), or wait for the end of their ttl."
    )
}

#[tokio::test]
async fn what_is_shown_and_what_was_just_made_count_together() {
    let server = Server::showing(vec![using("a", "1500m")]);
    let service = server.service().await;
    let error = service.create(&me(), &asking(None, Some("3"))).await.unwrap_err();
    assert_eq!(error.to_string(), full("1.5", "3"));
    service.create(&me(), &asking(None, Some("2"))).await.unwrap();
    let error = service.create(&me(), &asking(None, None)).await.unwrap_err();
    assert_eq!(error.to_string(), full("3.5", "1"));
    assert_eq!(server.times(&format!("POST {SANDBOXES}")), 1);
    assert_eq!(server.times(&format!("GET {TEMPLATES}")), 0, "nobody awaits one");
}

#[tokio::test]
async fn a_template_counts_before_it_is_taken_down() {
    let awaiting = sandbox("a", &json!({"templateRef": {"name": "large"}}), &json!({}));
    let service = Server::showing(vec![awaiting]).service().await;
    let error = service.create(&me(), &asking(None, Some("2"))).await.unwrap_err();
    assert_eq!(error.to_string(), full("3", "2"));
    let error = service.create(&me(), &asking(Some("large"), None)).await.unwrap_err();
    assert_eq!(error.to_string(), full("3", "3"));
    service.create(&me(), &asking(Some("large"), Some("1"))).await.unwrap();
}

#[tokio::test]
async fn who_names_no_template_has_the_default_one() {
    let server = Server::default();
    let large = |config: &mut Config| config.default_template = Some("large".into());
    let service = server.service_with(large).await;
    service.create(&me(), &asking(None, None)).await.unwrap();
    let error = service.create(&me(), &asking(None, None)).await.unwrap_err();
    assert_eq!(error.to_string(), full("3", "3"));
}

#[tokio::test]
async fn without_limits_templates_are_nobodys_business_and_with_them_they_have_to_be_known() {
    let server = Server { closed: true, ..Server::default() };
    let free = server.service_with(|config| config.limits = Limits::default()).await;
    free.create(&me(), &asking(Some("large"), None)).await.unwrap();
    assert_eq!(server.times(&format!("GET {TEMPLATES}")), 0);

    let limited = server.service().await;
    let error = limited.create(&me(), &asking(Some("large"), None)).await.unwrap_err();
    assert_eq!(error.code, Code::Forbidden, "{error}");
    assert_eq!(server.times(&format!("POST {SANDBOXES}")), 1);
}

#[tokio::test]
async fn one_that_is_paused_is_woken_where_there_is_room_and_counts_from_then_on() {
    let server = Server::showing(vec![paused(), using("a", "2")]);
    let service = server.service().await;
    let demo = Create { name: Some("demo".into()), ..Create::default() };
    service.create(&me(), &demo).await.unwrap();
    assert_eq!(server.times(&format!("PATCH {SANDBOX}")), 1);
    let error = service.create(&me(), &asking(None, Some("2"))).await.unwrap_err();
    assert_eq!(error.to_string(), full("3", "2"));
}

#[tokio::test]
async fn one_that_is_paused_stays_so_where_there_is_no_room() {
    let server = Server::showing(vec![paused(), using("a", "4")]);
    let service = server.service().await;
    let said = "QUOTA_EXCEEDED: sandbox demo is paused and cannot be woken now: your sandboxes have 4 of at most 4 CPUs, and this one asks for 1. Delete those that are not needed (sandbox_list has them), or wait until others end or are paused.";
    let error = service.greeting(&me(), "demo").await.unwrap_err();
    assert_eq!(error.to_string(), said);
    let demo = Create { name: Some("demo".into()), ..Create::default() };
    let error = service.create(&me(), &demo).await.unwrap_err();
    assert_eq!(error.to_string(), said);
    assert_eq!(server.times(&format!("PATCH {SANDBOX}")), 0);
}

#[tokio::test]
async fn one_that_somebody_else_has_woken_is_not_refused_for_a_watch_that_lags() {
    let ready = json!({"type": "Ready", "status": "True", "reason": "Ready", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = json!({"attempt": 2, "conditions": [ready], "podName": "demo-1", "podUID": "p"});
    let mut awake = sandbox("demo", &json!({}), &status);
    awake["metadata"]["resourceVersion"] = "9".into();
    let shown = vec![paused(), using("a", "4")];
    let server = Server { now: Some(awake), ..Server::showing(shown) };
    let service = server.service().await;
    let error = service.greeting(&me(), "demo").await.unwrap_err();
    assert_ne!(error.code, Code::QuotaExceeded, "{error}");
    let exec = "GET /api/v1/namespaces/default/pods/demo-1/exec";
    assert!(server.times(exec) > 0, "its agent is asked");
}
