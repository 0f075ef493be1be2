//! An API server that knows only CodeSandboxes and the last events about them, and tells its watches no more than it is told to.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures::stream;
use kube::Config;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{broadcast, watch},
};

const PATH: &str = "/apis/codesandbox.dev/v1alpha1/namespaces/default/codesandboxes";
const LAST_EVENTS: &str = "/api/v1/namespaces/default/events";

/// What the API server has, and what was asked of it.
pub struct Stored {
    address: SocketAddr,
    state: Arc<Shared>,
}

struct Shared {
    objects: Mutex<BTreeMap<String, Value>>,
    events: broadcast::Sender<Bytes>,
    watches: watch::Sender<usize>,
    gets: Mutex<usize>,
    last_events: Mutex<BTreeMap<String, Value>>,
    /// How often it was asked for one of them.
    asked: Mutex<usize>,
    /// Whether it never answers that.
    silent: Mutex<bool>,
    /// The bodies of all deletes.
    deletes: Mutex<Vec<Value>>,
    /// What a delete is answered with.
    refusal: Mutex<Option<u16>>,
}

impl Stored {
    pub async fn start() -> Self {
        let state = Arc::new(Shared {
            objects: Mutex::default(),
            events: broadcast::Sender::new(16),
            watches: watch::Sender::new(0),
            gets: Mutex::default(),
            last_events: Mutex::default(),
            asked: Mutex::default(),
            silent: Mutex::default(),
            deletes: Mutex::default(),
            refusal: Mutex::default(),
        });
        let router = Router::new()
            .route(PATH, get(list))
            .route(&format!("{PATH}/{{name}}"), get(one).delete(delete))
            .route(&format!("{LAST_EVENTS}/{{name}}"), get(last_event))
            .with_state(state.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, state }
    }

    pub fn client(&self) -> kube::Client {
        let url = format!("http://{}", self.address).parse().unwrap();
        client::client(&Config::new(url)).unwrap()
    }

    /// Stores a sandbox, of which the watches do not hear.
    pub fn put(&self, sandbox: &impl Serialize) {
        let sandbox = json!(sandbox);
        let name = sandbox["metadata"]["name"].as_str().unwrap().to_owned();
        self.state.objects.lock().unwrap().insert(name, sandbox);
    }

    pub fn take(&self, name: &str) {
        self.state.objects.lock().unwrap().remove(name);
    }

    /// Stores the last event about a sandbox.
    pub fn put_event(&self, event: &Value) {
        let name = event["metadata"]["name"].as_str().unwrap().to_owned();
        self.state.last_events.lock().unwrap().insert(name, event.clone());
    }

    /// How often it was asked for a last event.
    pub fn asked_for_events(&self) -> usize {
        *self.state.asked.lock().unwrap()
    }

    /// Lets it answer no more what it is asked about last events.
    pub fn hide_events(&self) {
        *self.state.silent.lock().unwrap() = true;
    }

    /// Tells the watches.
    pub fn tell(&self, event: &str, sandbox: &impl Serialize) {
        let line = format!("{}\n", json!({ "type": event, "object": sandbox }));
        self.state.events.send(line.into()).unwrap();
    }

    pub fn refuse_deletes(&self, code: u16) {
        *self.state.refusal.lock().unwrap() = Some(code);
    }

    pub fn gets(&self) -> usize {
        *self.state.gets.lock().unwrap()
    }

    pub fn deletes(&self) -> Vec<Value> {
        self.state.deletes.lock().unwrap().clone()
    }

    /// Waits until so many watches are open.
    pub async fn watches(&self, watches: usize) {
        self.state.watches.subscribe().wait_for(|&open| open == watches).await.unwrap();
    }
}

async fn list(State(state): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Response {
    if query.unwrap_or_default().contains("watch=true") {
        let watch = Watch::new(state);
        let events = stream::unfold(watch, |mut watch| async {
            let event = watch.events.recv().await.ok()?;
            Some((Ok::<_, Infallible>(event), watch))
        });
        return Body::from_stream(events).into_response();
    }
    let items: Vec<_> = state.objects.lock().unwrap().values().cloned().collect();
    answer(
        200,
        &json!({
            "apiVersion": "codesandbox.dev/v1alpha1", "kind": "CodeSandboxList",
            "metadata": { "resourceVersion": "1" }, "items": items,
        }),
    )
}

async fn one(State(state): State<Arc<Shared>>, Path(name): Path<String>) -> Response {
    *state.gets.lock().unwrap() += 1;
    match state.objects.lock().unwrap().get(&name) {
        Some(sandbox) => answer(200, sandbox),
        None => refuse(404),
    }
}

async fn last_event(State(state): State<Arc<Shared>>, Path(name): Path<String>) -> Response {
    *state.asked.lock().unwrap() += 1;
    if *state.silent.lock().unwrap() {
        std::future::pending::<()>().await;
    }
    match state.last_events.lock().unwrap().get(&name) {
        Some(event) => answer(200, event),
        None => refuse(404),
    }
}

async fn delete(
    State(state): State<Arc<Shared>>,
    Path(name): Path<String>,
    body: Bytes,
) -> Response {
    state.deletes.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
    if let Some(code) = *state.refusal.lock().unwrap() {
        return refuse(code);
    }
    match state.objects.lock().unwrap().remove(&name) {
        Some(sandbox) => answer(200, &sandbox),
        None => refuse(404),
    }
}

fn refuse(code: u16) -> Response {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "Forbidden",
    };
    let message = format!("refused with {code}");
    answer(
        code,
        &json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure",
            "reason": reason, "message": message, "code": code,
        }),
    )
}

fn answer(code: u16, body: &Value) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (StatusCode::from_u16(code).unwrap(), json, body.to_string()).into_response()
}

/// A watch, for as long as its client reads it.
struct Watch {
    events: broadcast::Receiver<Bytes>,
    state: Arc<Shared>,
}

impl Watch {
    fn new(state: Arc<Shared>) -> Self {
        let events = state.events.subscribe();
        state.watches.send_modify(|open| *open += 1);
        Self { events, state }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.state.watches.send_modify(|open| *open -= 1);
    }
}
