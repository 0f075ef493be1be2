//! A session with the agent of one pod: gRPC over an exec stream, opened again when it broke.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::{sync::Mutex, time::timeout};
use tonic::{
    Status,
    transport::{Channel, Endpoint, Uri},
};
use tower::service_fn;
use wire::{
    limits,
    v1::{AttachRequest, HelloRequest, RunEvent, RunRequest, RunSpec, agent_client::AgentClient},
};

use crate::{
    Error, Greeting, Run,
    exec::{self, Closed},
};

/// How long a short call may take: an exec, an answer, and a node under load.
pub(crate) const CALL_DEADLINE: Duration = Duration::from_secs(20);
/// The window of a stream for bulk data: twice the bandwidth, at the price of other calls' latency.
const BULK_WINDOW: u32 = 8 << 20;

pub(crate) type Agent = AgentClient<Channel>;

/// Which exec stream a call takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Runs and small data.
    Control,
    /// Large files, on a stream of their own with larger windows, so that they hold up nobody.
    Bulk,
}

/// A session with the agent of one pod.
///
/// It opens its streams when they are needed and again when they broke, and checks at each
/// opening that the pod is still the one it was made for: exec addresses names, not UIDs.
pub struct Session {
    pods: Api<Pod>,
    pod: String,
    pod_uid: String,
    /// Held while a stream is being opened, so that many calls open one.
    control: Mutex<Option<Connection>>,
    bulk: Mutex<Option<Connection>>,
}

/// A call's name, lane and deadline.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub(crate) doing: &'static str,
    pub(crate) lane: Lane,
    pub(crate) within: Duration,
}

impl Call {
    pub(crate) fn new(doing: &'static str, lane: Lane) -> Self {
        Self { doing, lane, within: CALL_DEADLINE }
    }
}

struct Connection {
    agent: Agent,
    closed: Closed,
    greeting: Greeting,
    refuses_names: bool,
}

impl Session {
    /// A session with the agent of the pod with this name and UID. Nothing is sent yet.
    pub fn new(pods: Api<Pod>, pod: String, pod_uid: String) -> Arc<Self> {
        Arc::new(Self { pods, pod, pod_uid, control: Mutex::default(), bulk: Mutex::default() })
    }

    /// The pod's name.
    pub fn pod(&self) -> &str {
        &self.pod
    }

    /// How many streams are open; one that is being opened is not yet.
    pub fn streams(&self) -> usize {
        let open = |lane: &&Mutex<Option<Connection>>| {
            lane.try_lock().is_ok_and(|slot| {
                slot.as_ref().is_some_and(|connection| connection.closed.borrow().is_none())
            })
        };
        [&self.control, &self.bulk].iter().filter(|lane| open(lane)).count()
    }

    /// Opens the stream if it is not open, so that the first call need not wait for it.
    pub async fn warm(&self) -> Result<(), Error> {
        self.agent(Lane::Control).await.map(drop)
    }

    /// What the agent said when its stream was opened, which costs nothing while that is open.
    pub async fn greeting(&self) -> Result<Greeting, Error> {
        self.warm().await?;
        let slot = self.control.lock().await;
        Ok(slot.as_ref().map(|connection| connection.greeting.clone()).unwrap_or_default())
    }

    /// Whether the agent says that it refuses names and tells which.
    pub(crate) async fn refuses_names(&self) -> Result<bool, Error> {
        self.warm().await?;
        let slot = self.control.lock().await;
        Ok(slot.as_ref().is_some_and(|connection| connection.refuses_names))
    }

    /// Starts a run, or attaches to it if its id is known. The run goes on when the [`Run`] is dropped.
    pub fn run(self: &Arc<Self>, id: String, spec: RunSpec) -> Run {
        Run::new(self.clone(), RunRequest { run_id: id, spec: Some(spec), from: 0 })
    }

    /// Attaches to a run by its id, from an event's number.
    pub fn attach(self: &Arc<Self>, id: String, from: u64) -> Run {
        Run::new(self.clone(), RunRequest { run_id: id, spec: None, from })
    }

    /// One call, tried once more on a new stream when the old one broke: only for what may happen twice.
    pub(crate) async fn call<T, F>(&self, call: Call, f: impl Fn(Agent) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        match self.once(call, &f).await {
            Err(error) if error.is_transport() => self.once(call, &f).await,
            answer => answer,
        }
    }

    /// One call that changes `path` in a way that must not happen twice. Its stream is opened twice if
    /// need be, but from when it has been sent a lost answer leaves it unknown whether it was made.
    pub(crate) async fn call_once<T, F>(
        &self,
        call: Call,
        path: &str,
        f: impl FnOnce(Agent) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let opening = Call { within: CALL_DEADLINE, ..call };
        let opened =
            self.call(opening, |agent| std::future::ready(Ok(tonic::Response::new(agent)))).await?;
        let answer = async { f(opened).await.map_err(|status| self.error(&status)) };
        self.answer(call, answer).await.map_err(|error| match error {
            error if error.is_transport() => {
                let reason = error.to_string();
                Error::Uncertain { doing: call.doing, path: path.into(), reason }
            }
            error => error,
        })
    }

    async fn once<T, F>(&self, call: Call, f: &impl Fn(Agent) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        self.answer(call, async {
            f(self.agent(call.lane).await?).await.map_err(|s| self.error(&s))
        })
        .await
    }

    /// An answer within the call's deadline. It holds for the stream's opening too: calls wait
    /// for one another there, and what each waits would add up.
    pub(crate) async fn answer<T>(
        &self,
        Call { doing, within, .. }: Call,
        answer: impl Future<Output = Result<tonic::Response<T>, Error>>,
    ) -> Result<T, Error> {
        match timeout(within, answer).await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(Error::Deadline { doing, pod: self.pod.clone(), after: within }),
        }
    }

    /// The stream of a run's events, from its request's number on.
    pub(crate) async fn events(
        &self,
        request: RunRequest,
    ) -> Result<tonic::Streaming<RunEvent>, Error> {
        let doing = if request.spec.is_some() { "Run" } else { "Attach" };
        self.answer(Call::new(doing, Lane::Control), async {
            let mut agent = self.agent(Lane::Control).await?;
            let answer = if request.spec.is_some() {
                agent.run(request).await
            } else {
                let RunRequest { run_id, from, .. } = request;
                agent.attach(AttachRequest { run_id, from }).await
            };
            answer.map_err(|status| self.error(&status))
        })
        .await
    }

    pub(crate) fn error(&self, status: &Status) -> Error {
        match wire::Error::of(status) {
            Some(error) => Error::Agent(error),
            // What gRPC answers to a call it does not know.
            None if status.code() == tonic::Code::Unimplemented => {
                Error::TooOld { pod: self.pod.clone() }
            }
            None => Error::Lost { pod: self.pod.clone(), reason: cause(status) },
        }
    }

    pub(crate) async fn agent(&self, lane: Lane) -> Result<Agent, Error> {
        let mut slot = match lane {
            Lane::Control => self.control.lock().await,
            Lane::Bulk => self.bulk.lock().await,
        };
        if let Some(connection) = &*slot
            && connection.closed.borrow().is_none()
        {
            return Ok(connection.agent.clone());
        }
        let connection = self.open(lane).await?;
        let agent = connection.agent.clone();
        *slot = Some(connection);
        Ok(agent)
    }

    async fn open(&self, lane: Lane) -> Result<Connection, Error> {
        let (stream, closed) = exec::open(&self.pods, &self.pod).await?;
        // The channel would call its connector again by itself; a stream that was not
        // greeted is of no use, so there is only one.
        let mut stream = Some(TokioIo::new(stream));
        let connector = service_fn(move |_: Uri| {
            std::future::ready(stream.take().ok_or(io::Error::from(io::ErrorKind::NotConnected)))
        });
        let window = match lane {
            Lane::Control => limits::STREAM_WINDOW,
            Lane::Bulk => BULK_WINDOW,
        };
        let endpoint = Endpoint::from_static("http://agent")
            .initial_stream_window_size(window)
            .initial_connection_window_size(limits::CONNECTION_WINDOW)
            .http2_keep_alive_interval(limits::KEEPALIVE)
            .keep_alive_timeout(limits::KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let lost = |reason: String| Error::Lost { pod: self.pod.clone(), reason };
        let channel = timeout(CALL_DEADLINE, endpoint.connect_with_connector(connector))
            .await
            .map_err(|_| lost("the agent's bridge did not answer".into()))?
            .map_err(|error| lost(error.to_string()))?;
        let mut agent = AgentClient::new(channel)
            .max_decoding_message_size(limits::MAX_MESSAGE)
            .max_encoding_message_size(limits::MAX_MESSAGE);

        let hello = HelloRequest { protocol: wire::PROTOCOL };
        let hello = self
            .answer(Call::new("Hello", Lane::Control), async {
                agent.hello(hello).await.map_err(|status| self.error(&status))
            })
            .await
            .map_err(|error| match error {
                // A bridge that ended before HTTP/2 began is not told by the transport.
                Error::Lost { reason, .. } => lost(closed.borrow().clone().unwrap_or(reason)),
                error => error,
            })?;
        if hello.pod_uid != self.pod_uid {
            return Err(Error::Replaced { pod: self.pod.clone() });
        }
        // N−1 works: agents live for days while front ends roll.
        if !(wire::PROTOCOL.saturating_sub(1)..=wire::PROTOCOL).contains(&hello.protocol) {
            return Err(Error::Protocol {
                pod: self.pod.clone(),
                agent: hello.protocol,
                client: wire::PROTOCOL,
            });
        }
        let refuses_names = hello.refuses_names;
        Ok(Connection { agent, closed, greeting: Greeting::from(hello), refuses_names })
    }
}

/// The innermost cause: what the guard of the exec said. The words around it are the same for every loss.
fn cause(status: &Status) -> String {
    let mut words = status.message().to_owned();
    let mut error: &dyn std::error::Error = status;
    while let Some(source) = error.source() {
        words = source.to_string();
        error = source;
    }
    words
}

/// Compares what arrived with what the agent says it sent.
pub(crate) fn check_digest(what: &str, ours: &[u8], theirs: &Bytes) -> Result<(), Error> {
    if ours == &theirs[..] {
        return Ok(());
    }
    Err(Error::Corrupted { what: what.into(), why: "its sha256 differs from the agent's" })
}
