//! What the tests share: verbs over a kube API that keeps the objects it is given and is down for all else.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
};

use axum::body::{Body, Bytes, to_bytes};
use client::Sandboxes;
use http::{Method, Request, Response};
use serde_json::Value;
use service::Service;

pub(crate) fn service() -> Arc<Service> {
    let objects: Arc<Mutex<HashMap<String, Bytes>>> = Arc::default();
    let kube = kube::Client::new(
        tower::service_fn(move |request: Request<kube::client::Body>| {
            let objects = objects.clone();
            async move {
                let path = request.uri().path().to_owned();
                let object = match *request.method() {
                    Method::POST => {
                        let object = to_bytes(Body::new(request.into_body()), 1 << 20).await;
                        let object = object.map_err(io::Error::other)?;
                        let parsed: Value = serde_json::from_slice(&object)?;
                        let name = parsed["metadata"]["name"].as_str().unwrap();
                        objects.lock().unwrap().insert(format!("{path}/{name}"), object.clone());
                        Some(object)
                    }
                    Method::GET => objects.lock().unwrap().get(&path).cloned(),
                    _ => None,
                };
                let object = object.ok_or_else(|| io::Error::other("down"))?;
                Ok::<_, io::Error>(Response::new(Body::from(object)))
            }
        }),
        "default",
    );
    Arc::new(Service::new(Sandboxes::new(kube, "default"), config()))
}

/// Verbs for callers without limits.
pub(crate) fn config() -> service::Config {
    let limits = service::Limits::default();
    service::Config { class: "codesandbox".into(), limits, default_template: None }
}
