//! An API server that knows only `pods/exec`, and the bridge it starts, with faults on demand.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    extract::{
        State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
    serve::ListenerExt,
};
use client::Session;
use kube::{Api, Config};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::TcpListener,
    sync::{broadcast, mpsc, watch},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use wire::{limits, v1::agent_server::AgentServer};

use super::{Agent, agent::UID};

pub const POD: &str = "sandbox-0";

const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const CLOSE: u8 = 255;

/// How exec requests are answered, from now on.
#[derive(Clone)]
pub enum Answer {
    /// With the bridge, in this subprotocol.
    Bridge(&'static str),
    /// With this error instead of the upgrade.
    Refuse(u16),
    /// With a kubelet's words instead of the upgrade: it does not know the pod.
    UnknownToKubelet,
    /// With a bridge that writes this to stderr and fails.
    Fail(&'static str),
    /// Not at all.
    Silence,
}

pub const V5: Answer = Answer::Bridge("v5.channel.k8s.io");
/// Of API servers before 1.30.
pub const V4: Answer = Answer::Bridge("v4.channel.k8s.io");

/// What happens to all the open bridges.
#[derive(Clone)]
pub enum Fault {
    /// The TCP connection ends without a word.
    Cut,
    /// The websocket is closed in order, without a status.
    Close,
    /// The bridge writes this to stderr and exits with 1.
    Exit(&'static str),
    /// The connection stays, and nothing comes through any more.
    Stall,
    /// This many bytes of stderr, in one go.
    Stderr(usize),
    /// Bytes on stdout that are no HTTP/2.
    Garbage,
}

/// The API server, the bridges and the agent behind them.
pub struct Cluster {
    address: SocketAddr,
    pub agent: Agent,
    shared: Arc<Shared>,
}

struct Shared {
    answer: Mutex<Answer>,
    faults: broadcast::Sender<Fault>,
    /// Exec requests, refused ones included.
    asked: AtomicUsize,
    /// What the last of them asked for.
    query: Mutex<String>,
    /// Bytes that clients sent to their bridges.
    upstream: watch::Sender<u64>,
    /// Bytes that bridges sent to clients.
    downstream: watch::Sender<u64>,
    /// Bridges whose client is there.
    open: watch::Sender<usize>,
    to_agent: mpsc::Sender<std::io::Result<DuplexStream>>,
}

impl Cluster {
    pub async fn start() -> Self {
        let agent = Agent::new();
        let (to_agent, connections) = mpsc::channel(16);
        // As the real agent serves, but for its keepalive: that of the client is tested.
        let server = Server::builder()
            .max_concurrent_streams(limits::MAX_STREAMS)
            .add_service(AgentServer::new(agent.clone()).max_encoding_message_size(usize::MAX));
        tokio::spawn(server.serve_with_incoming(ReceiverStream::new(connections)));

        let shared = Arc::new(Shared {
            answer: Mutex::new(V5),
            query: Mutex::default(),
            faults: broadcast::Sender::new(16),
            asked: AtomicUsize::new(0),
            upstream: watch::Sender::new(0),
            downstream: watch::Sender::new(0),
            open: watch::Sender::new(0),
            to_agent,
        });
        let router = Router::new()
            .route("/api/v1/namespaces/{namespace}/pods/{pod}/exec", get(exec))
            .with_state(shared.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // As Go's servers do. Delayed ACKs would also let paused time run ahead of the bytes.
        let listener = listener.tap_io(|tcp| tcp.set_nodelay(true).unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, agent, shared }
    }

    /// A client of this API server, made as the product makes its own.
    pub fn client(&self) -> kube::Client {
        let url = format!("http://{}", self.address).parse().unwrap();
        client::client(&Config::new(url)).unwrap()
    }

    pub fn session(&self) -> Arc<Session> {
        Session::new(Api::namespaced(self.client(), "default"), POD.into(), UID.into())
    }

    pub fn answer(&self, answer: Answer) {
        *self.shared.answer.lock().unwrap() = answer;
    }

    /// Does this to every open bridge.
    pub fn inject(&self, fault: Fault) {
        self.shared.faults.send(fault).ok();
    }

    /// How many exec requests have come.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::Relaxed)
    }

    /// The query of the last exec request.
    pub fn query(&self) -> String {
        self.shared.query.lock().unwrap().clone()
    }

    /// How many bytes clients have sent to bridges.
    pub fn upstream(&self) -> u64 {
        *self.shared.upstream.borrow()
    }

    /// How many bytes bridges have sent to clients.
    pub fn downstream(&self) -> u64 {
        *self.shared.downstream.borrow()
    }

    /// Waits until clients have sent so many bytes.
    pub async fn received(&self, bytes: u64) {
        self.shared.upstream.subscribe().wait_for(|&sent| sent >= bytes).await.unwrap();
    }

    /// Waits until nothing has come down for as long as a loaded machine may pause.
    pub async fn quiet(&self) {
        let mut downstream = self.shared.downstream.subscribe();
        let pause = std::time::Duration::from_millis(300);
        while tokio::time::timeout(pause, downstream.changed()).await.is_ok() {}
    }

    /// Waits until so many bridges are open.
    pub async fn open(&self, bridges: usize) {
        self.shared.open.subscribe().wait_for(|&open| open == bridges).await.unwrap();
    }
}

async fn exec(State(shared): State<Arc<Shared>>, uri: Uri, upgrade: WebSocketUpgrade) -> Response {
    shared.asked.fetch_add(1, Ordering::Relaxed);
    uri.query().unwrap_or_default().clone_into(&mut shared.query.lock().unwrap());
    let answer = shared.answer.lock().unwrap().clone();
    match answer {
        Answer::Bridge(protocol) => {
            upgrade.protocols([protocol]).on_upgrade(|socket| bridge(shared, socket))
        }
        Answer::Fail(words) => upgrade
            .protocols(["v5.channel.k8s.io"])
            .on_upgrade(move |mut socket| async move { fail(&mut socket, words).await }),
        Answer::Refuse(code) => {
            let reason = if code == 404 { "NotFound" } else { "Test" };
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure",
                "reason": reason, "message": format!("refused with {code}"), "code": code,
            });
            let json = [(header::CONTENT_TYPE, "application/json")];
            (StatusCode::from_u16(code).unwrap(), json, status.to_string()).into_response()
        }
        Answer::UnknownToKubelet => (StatusCode::NOT_FOUND, "pod does not exist\n").into_response(),
        Answer::Silence => std::future::pending().await,
    }
}

/// One more bridge, for as long as the value lives.
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: Arc<Shared>) -> Self {
        shared.open.send_modify(|open| *open += 1);
        Self(shared)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

/// Copies between the websocket's channels and a connection to the agent, until either ends.
async fn bridge(shared: Arc<Shared>, mut socket: WebSocket) {
    let mut faults = shared.faults.subscribe();
    let open = Open::new(shared);
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    open.0.to_agent.send(Ok(theirs)).await.unwrap();
    let (mut from_agent, mut to_agent) = tokio::io::split(ours);
    let mut buffer = vec![0; limits::CHUNK];
    let mut stalled = false;
    // kubectl's server begins with an empty message on each channel.
    let _ = socket.send(channel(STDOUT, &[])).await;
    loop {
        tokio::select! {
            message = socket.recv() => match message {
                // A stalled connection is still read, or its end would not be noticed here.
                Some(Ok(_)) if stalled => {}
                Some(Ok(Message::Binary(data))) => match data.split_first() {
                    Some((0, data)) => {
                        open.0.upstream.send_modify(|bytes| *bytes += data.len() as u64);
                        // A dead agent is told by its end, below.
                        let _ = to_agent.write_all(data).await;
                    }
                    Some((&CLOSE, _)) => { let _ = to_agent.shutdown().await; }
                    other => panic!("a client sent {other:?}"),
                },
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            read = from_agent.read(&mut buffer), if !stalled => match read {
                Ok(read @ 1..) => {
                    open.0.downstream.send_modify(|bytes| *bytes += read as u64);
                    if socket.send(channel(STDOUT, &buffer[..read])).await.is_err() {
                        return;
                    }
                }
                _ => return fail(&mut socket, "").await,
            },
            fault = faults.recv() => match fault.unwrap() {
                Fault::Cut => return,
                Fault::Close => { let _ = socket.send(Message::Close(None)).await; return; }
                Fault::Exit(words) => return fail(&mut socket, words).await,
                Fault::Stall => stalled = true,
                Fault::Stderr(bytes) => for _ in 0..bytes / limits::CHUNK {
                    let _ = socket.send(channel(STDERR, &vec![b'e'; limits::CHUNK])).await;
                },
                Fault::Garbage => {
                    let _ = socket.send(channel(STDOUT, &[b'g'; 4096])).await;
                }
            },
        }
    }
}

/// What the kubelet sends of a command that fails.
async fn fail(socket: &mut WebSocket, words: &str) {
    let status = json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": "command terminated with exit code 1",
        "details": { "causes": [{ "reason": "ExitCode", "message": "1" }] },
    });
    let _ = socket.send(channel(STDERR, words.as_bytes())).await;
    let _ = socket.send(channel(STATUS, status.to_string().as_bytes())).await;
    let _ = socket.send(Message::Close(None)).await;
}

fn channel(number: u8, data: &[u8]) -> Message {
    Message::Binary([&[number], data].concat().into())
}
