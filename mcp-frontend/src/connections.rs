//! Connections: how many, how long they may dawdle, and how they end.
//!
//! HTTP/1.1 only: every client and proxy speaks it, and a connection then is at most one call,
//! so that the bound on connections is one on calls.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::Request};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

use crate::{
    linger::{Linger, Unread},
    patience::Patience,
    shutdown::Shutdown,
};

/// How many connections above the bound are told so, and how many probes are still answered.
const SPARE: usize = 64;
/// The largest head of a request, and what is read of a connection at once.
const MAX_HEAD: usize = 64 << 10;

/// What connections may take.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// How many there may be.
    pub(crate) connections: usize,
    /// How long the head of a connection's first request may take.
    pub(crate) head: Duration,
    /// The same above the bound, where places are few: silent connections must not keep probes of
    /// health out until these have failed too often.
    pub(crate) spare_head: Duration,
    /// How long a connection is kept without a request, and how long a later head may take. Longer than
    /// proxies and clients keep theirs (60 s), so that they close first: a request on its way to
    /// a closing connection would be lost.
    pub(crate) idle: Duration,
    /// How long an answer may wait for its reader without any progress.
    pub(crate) unread: Duration,
    /// How long the rest of a request that was refused may still come.
    pub(crate) rest: Duration,
    /// How long calls may go on after the listener has closed before those that only wait answer as they are.
    pub(crate) calls: Duration,
    /// How long these answers may take.
    pub(crate) answers: Duration,
}

impl Limits {
    pub(crate) fn new(connections: usize) -> Self {
        Self {
            connections,
            head: Duration::from_secs(10),
            spare_head: Duration::from_secs(1),
            idle: Duration::from_secs(75),
            unread: Duration::from_secs(30),
            rest: Duration::from_secs(30),
            calls: Duration::from_secs(15),
            answers: Duration::from_secs(5),
        }
    }
}

/// What answers: `routes`, or `full` on a connection above the bound.
pub(crate) struct Routes {
    pub(crate) routes: Router,
    pub(crate) full: Router,
}

/// Serves until `until`, then lets the calls end.
pub(crate) async fn serve(
    listener: TcpListener,
    Routes { routes, full }: Routes,
    limits: &Limits,
    open: &Gauge,
    shutdown: &Shutdown,
    until: impl Future<Output = ()>,
) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let spare = Arc::new(Semaphore::new(SPARE));
    let graceful = GracefulShutdown::new();
    let mut until = std::pin::pin!(until);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    await_descriptors(&error).await;
                    continue;
                }
            },
            () = &mut until => break,
        };
        let (permit, router, keep) = if let Ok(permit) = slots.clone().try_acquire_owned() {
            (permit, routes.clone(), true)
        } else if let Ok(permit) = spare.clone().try_acquire_owned() {
            (permit, full.clone(), false)
        } else {
            continue; // Closed without a word: words would cost what there is none of.
        };
        let held = Held { _permit: permit, open: open.clone() };
        open.inc();
        tokio::spawn(connection(stream, router, keep, limits.clone(), graceful.watcher(), held));
    }
    drop(listener);
    let mut ended = std::pin::pin!(graceful.shutdown());
    if timeout(limits.calls, &mut ended).await.is_err() {
        shutdown.closing.cancel();
        let _ = timeout(limits.answers, ended).await;
    }
}

/// A connection's place, and its count.
struct Held {
    _permit: OwnedSemaphorePermit,
    open: Gauge,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.open.dec();
    }
}

async fn connection(
    (stream, peer): (TcpStream, SocketAddr),
    router: Router,
    keep: bool,
    limits: Limits,
    watcher: Watcher,
    _held: Held,
) {
    // Without it, events wait for a delayed ACK: 42 ms (measured).
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "could not set TCP_NODELAY");
    }
    let asked = Arc::new(Notify::new());
    let answers = TowerToHyperService::new(router);
    let unread = Unread::default();
    let (first, body) = (asked.clone(), unread.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        first.notify_one();
        answers.call(request.map(|incoming| body.of(incoming)))
    });
    let stream = Patience::new(Linger::new(stream, unread, limits.rest), limits.unread);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .keep_alive(keep)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let head = if keep { limits.head } else { limits.spare_head };
    let silent = async {
        if timeout(head, asked.notified()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        ended = watcher.watch(connection) => if let Err(error) = ended {
            tracing::debug!(%peer, %error, "a connection broke");
        },
        () = silent => tracing::debug!(%peer, "no request came"),
    }
}

/// A connection that broke before it was accepted is none; without descriptors it is better to
/// wait for some than to ask in a circle.
async fn await_descriptors(error: &io::Error) {
    use io::ErrorKind as Kind;
    if matches!(
        error.kind(),
        Kind::ConnectionRefused | Kind::ConnectionAborted | Kind::ConnectionReset
    ) {
        return;
    }
    tracing::error!(%error, "could not accept a connection");
    sleep(Duration::from_secs(1)).await;
}

#[cfg(test)]
mod tests;
