//! An API server that a test answers for.

use std::{convert::Infallible, sync::Arc};

use client::Sandboxes;
use http::{Method, Request, Response, Uri};
use kube::client::Body;
use serde_json::{Value, json};
use service::{Config, Limits, Principal, Service};

pub const SANDBOXES: &str = "/apis/codesandbox.dev/v1alpha1/namespaces/default/codesandboxes";
pub const SANDBOX: &str = "/apis/codesandbox.dev/v1alpha1/namespaces/default/codesandboxes/demo";

/// What an API server is asked.
pub struct Asked {
    pub method: Method,
    pub uri: Uri,
    pub body: Vec<u8>,
}

/// The code and the object that it answers with.
pub type Answer = (u16, Value);

pub fn refused(code: u16, reason: &str) -> Answer {
    (code, json!({"kind": "Status", "code": code, "reason": reason}))
}

/// The sandboxes of an API server that answers so.
pub fn sandboxes<F>(answer: impl Fn(Asked) -> F + Clone + Send + 'static) -> Arc<Sandboxes>
where
    F: Future<Output = Answer> + Send,
{
    let serve = move |request: Request<Body>| {
        let answer = answer.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap().to_vec();
            let (code, object) = answer(Asked { method: parts.method, uri: parts.uri, body }).await;
            let body = Body::from(serde_json::to_vec(&object).unwrap());
            Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
        }
    };
    Sandboxes::new(kube::Client::new(tower::service_fn(serve), "default"), "default")
}

/// The verbs over them.
pub fn verbs(sandboxes: Arc<Sandboxes>) -> Service {
    Service::new(sandboxes, config(Limits::default()))
}

/// What they need to know, where callers have such limits.
pub fn config(limits: Limits) -> Config {
    Config { class: "codesandbox".into(), limits, default_template: None }
}

pub fn me() -> Principal {
    Principal::new("me")
}
