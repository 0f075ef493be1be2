//! How this process ends without dropping a call.
//!
//! ```text
//! SIGTERM ─ DRAIN ─► no new connections ─ calls end ─► waiting calls answer as they are ─► exit
//! ```

use std::time::Duration;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderValue, header};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long calls still come after SIGTERM: until every node has heard that this replica takes none any more.
const DRAIN: Duration = Duration::from_secs(5);

/// What has begun of the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shutdown {
    /// Not ready any more; calls are still taken, and connections end with their answers.
    pub(crate) draining: CancellationToken,
    /// Calls that wait for something answer with what they have: a caller can come back for the rest.
    pub(crate) closing: CancellationToken,
}

impl Shutdown {
    /// Waits for the signal to end and, after SIGTERM, until nobody sends calls here any more.
    pub(crate) async fn asked(&self) {
        let mut term = signal(SignalKind::terminate()).expect("a handler can be set");
        let mut int = signal(SignalKind::interrupt()).expect("a handler can be set");
        // Whoever sits at a terminal does not want to wait.
        let drain = tokio::select! { _ = term.recv() => DRAIN, _ = int.recv() => Duration::ZERO };
        tracing::info!("stopping; runs go on");
        self.draining.cancel();
        tokio::time::sleep(drain).await;
    }
}

/// Ends a connection with its next answer once the process drains. A client that keeps it would
/// send its next call into the closing one.
pub(crate) async fn end_connections(
    State(shutdown): State<Shutdown>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    if shutdown.draining.is_cancelled() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
