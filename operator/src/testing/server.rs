//! An API server that answers as a test says and keeps a log of what it was asked.

use std::sync::{Arc, Mutex};

use http::{Request, Response};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tower_test::mock;

/// What the server does with a request.
pub(crate) enum Answer {
    /// Gives back this object.
    Object(Value),
    /// Gives back what was sent, as the API server does with a write that it takes; with this added to its metadata.
    Taken(Value),
    /// Refuses with a code, a reason and words.
    Refuse(u16, &'static str, &'static str),
    /// Refuses with a code and a body that is no object, as for a path that it does not know.
    Text(u16, &'static str),
    /// Drops the connection.
    Drop,
    /// Never answers.
    Silence,
}

/// What the server was asked, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Asked>>>);

#[derive(Clone)]
struct Asked {
    request: String,
    query: String,
    body: Value,
}

impl Log {
    /// Methods and paths, without what all of them begin with; the method of a watch is WATCH.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|asked| asked.request.clone()).collect()
    }

    /// The bodies of the requests of this name.
    pub(crate) fn bodies(&self, request: &str) -> Vec<Value> {
        let log = self.0.lock().unwrap();
        log.iter()
            .filter(|asked| asked.request == request)
            .map(|asked| asked.body.clone())
            .collect()
    }

    /// The body of the last request.
    pub(crate) fn last_body(&self) -> Value {
        self.0.lock().unwrap().last().unwrap().body.clone()
    }

    /// What requests of this method and path say after it.
    pub(crate) fn queries(&self, request: &str) -> Vec<String> {
        let asked = self.0.lock().unwrap();
        let these = asked.iter().filter(|asked| asked.request == request);
        these.map(|asked| asked.query.clone()).collect()
    }

    /// What the last request says after its path.
    pub(crate) fn last_query(&self) -> String {
        self.0.lock().unwrap().last().unwrap().query.clone()
    }

    pub(crate) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }
}

/// A server and a client of it.
pub(crate) fn server(mut answer: impl FnMut(&str) -> Answer + Send + 'static) -> (Client, Log) {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let log = Log::default();
    let kept = log.clone();
    tokio::spawn(async move {
        let mut unanswered = Vec::new();
        while let Some((request, respond)) = handle.next_request().await {
            let path = request.uri().path();
            let query = request.uri().query().unwrap_or_default().to_owned();
            let verb = if query.contains("watch=") { "WATCH" } else { request.method().as_str() };
            let name =
                format!("{verb} {}", path.split_once("/demo/").map_or(path, |parts| parts.1));
            let bytes = request.into_body().collect_bytes().await.unwrap();
            let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            let answer = answer(&name);
            kept.0.lock().unwrap().push(Asked { request: name, query, body: body.clone() });
            match answer {
                Answer::Object(object) => respond.send_response(response(200, &object)),
                Answer::Taken(metadata) => {
                    respond.send_response(response(200, &taken(body, metadata)));
                }
                Answer::Refuse(code, reason, message) => {
                    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                        "code": code, "reason": reason, "message": message});
                    respond.send_response(response(code, &status));
                }
                Answer::Text(code, text) => {
                    let body = Body::from(text.as_bytes().to_vec());
                    respond.send_response(Response::builder().status(code).body(body).unwrap());
                }
                Answer::Drop => respond.send_error("connection reset by peer"),
                Answer::Silence => unanswered.push(respond),
            }
        }
    });
    (Client::new(service, "demo"), log)
}

fn taken(mut body: Value, metadata: Value) -> Value {
    let Value::Object(added) = metadata else { return body };
    for (key, value) in added {
        body["metadata"][key] = value;
    }
    // A status is written without its spec, which an object has when it comes back.
    if body["kind"] == "CodeSandbox" {
        body["spec"] = json!({});
    }
    body
}

fn response(code: u16, body: &Value) -> Response<Body> {
    let bytes = serde_json::to_vec(body).unwrap();
    Response::builder().status(code).body(Body::from(bytes)).unwrap()
}
