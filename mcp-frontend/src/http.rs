//! HTTP: MCP at `/mcp`, health and metrics beside it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use axum::{Router, extract::State, middleware, routing::get, serve::ListenerExt};
use http::StatusCode;
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
};
use service::Service;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use crate::{guard, metrics::Metrics, server::Server};

/// The largest request: a file of 6 MiB in base64. Larger ones go through `kubectl` or the client library.
const MAX_BODY: usize = 8 << 20;
/// How long calls may go on after SIGTERM. Their runs go on in any case.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(20);

/// Serves until SIGTERM or SIGINT.
pub(crate) async fn serve(
    address: SocketAddr,
    service: Arc<Service>,
    guard: guard::Guard,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("could not listen on {address}"))?
        // Without it, events wait for a delayed ACK: 42 ms (measured).
        .tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "could not set TCP_NODELAY");
            }
        });
    tracing::info!(%address, "listening");
    let (stopping, mut stopped) = tokio::sync::watch::channel(false);
    let server = axum::serve(listener, router(service, guard)).with_graceful_shutdown(async move {
        terminated().await;
        stopping.send_replace(true);
    });
    tokio::select! {
        result = server => result.context("the HTTP server failed"),
        () = async {
            let _ = stopped.wait_for(|stopping| *stopping).await;
            tokio::time::sleep(SHUTDOWN_GRACE).await;
        } => Ok(()),
    }
}

/// All routes. Health and metrics ask for no token; they tell nothing of callers or code.
pub(crate) fn router(service: Arc<Service>, guard: guard::Guard) -> Router {
    let metrics = Arc::new(Metrics::default());
    let config = StreamableHttpServerConfig::default()
        // Any replica answers any call.
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(MAX_BODY)
        // `guard` checks hosts, since addresses need no list.
        .disable_allowed_hosts()
        .with_allowed_origins(guard.origins.clone())
        .enforce_origin_validation();
    let server = Server::new(service.clone(), metrics.clone());
    let mcp = StreamableHttpService::new(
        move || Ok(server.clone()),
        Arc::new(NeverSessionManager::default()),
        config,
    );
    let mcp = Router::new()
        .nest_service("/mcp", mcp)
        .layer(middleware::from_fn_with_state(Arc::new(guard), guard::check));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(service)
        .route("/metrics", get(move || async move { metrics.text() }))
        .merge(mcp)
}

async fn ready(State(service): State<Arc<Service>>) -> (StatusCode, &'static str) {
    if service.ready().await {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the list of CodeSandboxes has not been read yet\n")
    }
}

async fn terminated() {
    let mut term = signal(SignalKind::terminate()).expect("a handler can be set");
    let mut int = signal(SignalKind::interrupt()).expect("a handler can be set");
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    tracing::info!("stopping; runs go on");
}
