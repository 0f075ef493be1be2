//! HTTP: MCP at `/mcp`, health and metrics beside it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use axum::{
    Router,
    body::{HttpBody, to_bytes},
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{Method, StatusCode};
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
};
use service::Service;
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tower_http::cors::{AllowHeaders, CorsLayer};

use crate::{
    connections::{self, Limits, Routes},
    guard,
    server::Server,
    shutdown::{self, Shutdown},
};

/// The largest request: a file of 6 MiB in base64, and what stands around it. Larger ones go through
/// `kubectl` or the client library.
pub(crate) const MAX_BODY: usize = (8 << 20) + (64 << 10);
/// How many bytes of bodies are held at once. The bound on connections allows 8 GiB, and what is made
/// of a body is about as large once more: both have to fit into the container (512 MiB).
const MAX_BODIES: usize = 128 << 20;
/// How long a request's body may take: the largest one over 1 Mbit/s.
const BODY: Duration = Duration::from_secs(70);

/// What bodies may take.
#[derive(Clone)]
struct Bodies {
    /// How long one may take, from the wait for room to its end.
    within: Duration,
    /// A permit for every byte that may be held.
    room: Arc<Semaphore>,
}

/// Serves until SIGTERM or SIGINT.
pub(crate) async fn serve(
    address: SocketAddr,
    limits: Limits,
    server: Server,
    guard: guard::Guard,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("could not listen on {address}"))?;
    tracing::info!(%address, "listening");
    let (metrics, shutdown) = (server.metrics.clone(), server.shutdown.clone());
    let bodies = Bodies { within: BODY, room: Arc::new(Semaphore::new(MAX_BODIES)) };
    let routes = Routes { routes: router(server, guard, bodies), full: full() };
    connections::serve(
        listener,
        routes,
        &limits,
        &metrics.connections,
        &shutdown,
        shutdown.asked(),
    )
    .await;
    Ok(())
}

/// All routes. Health and metrics ask for no token; they tell nothing of callers or code.
fn router(server: Server, guard: guard::Guard, bodies: Bodies) -> Router {
    let Server { service, metrics, shutdown, .. } = server.clone();
    let config = StreamableHttpServerConfig::default()
        // Any replica answers any call.
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(MAX_BODY)
        // `guard` checks hosts, since addresses need no list.
        .disable_allowed_hosts()
        .with_allowed_origins(guard.origins.clone())
        .enforce_origin_validation();
    let mcp = StreamableHttpService::new(
        move || Ok(server.clone()),
        Arc::new(NeverSessionManager::default()),
        config,
    );
    let browsers = cors(&guard.origins);
    let mcp = Router::new()
        .nest_service("/mcp", mcp)
        .layer(middleware::from_fn_with_state(bodies, whole))
        .layer(middleware::from_fn_with_state(Arc::new(guard), guard::check))
        // Outside the guard: a browser asks first, and without the token.
        .layer(browsers);
    let streams = service.clone();
    Router::new()
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .with_state((service, shutdown.clone()))
        .route("/metrics", get(move || async move { metrics.text(streams.streams()) }))
        .merge(mcp)
        .layer(middleware::from_fn_with_state(shutdown, shutdown::end_connections))
}

/// What a connection above the bound is told. Being full is no reason to be killed, but one to get no more calls.
fn full() -> Router {
    let why = "TOO_MANY_CONNECTIONS: this replica has as many as it takes (--max-connections). Try again in a moment.\n";
    Router::new()
        .route("/healthz", get(healthy))
        .fallback(move || async move { (StatusCode::SERVICE_UNAVAILABLE, why) })
}

/// Hands on requests that have come whole, once there is room for them. Whoever sends one slowly is let go.
async fn whole(
    State(Bodies { within, room }): State<Bodies>,
    request: Request,
    next: Next,
) -> Response {
    let deadline = Instant::now() + within;
    let (mut head, body) = request.into_parts();
    let announced = body.size_hint().upper().and_then(|bytes| usize::try_from(bytes).ok());
    let most = announced.map_or(MAX_BODY, |bytes| bytes.min(MAX_BODY));
    let permits = u32::try_from(most).expect("MAX_BODY is a few MiB");
    let Ok(Ok(mut room)) = timeout_at(deadline, room.acquire_many_owned(permits)).await else {
        let why = "OVERLOADED: the requests this replica holds leave no room for the body of this one. Try again in a moment.\n";
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    };
    match timeout_at(deadline, to_bytes(body, MAX_BODY)).await {
        Ok(Ok(body)) => {
            drop(room.split(most - body.len()));
            // The head goes along with the call, and so the room is given back when the call has
            // ended and not when its answer begins, as a stream.
            head.extensions.insert(Arc::new(room));
            next.run(Request::from_parts(head, body.into())).await
        }
        Ok(Err(_)) => {
            let why = format!(
                "REQUEST_TOO_LARGE: the request did not come whole within {MAX_BODY} bytes. Send larger files in parts.\n"
            );
            (StatusCode::PAYLOAD_TOO_LARGE, why).into_response()
        }
        Err(_) => {
            let why = format!(
                "REQUEST_TIMEOUT: the request's body did not come within {} s. Send it faster, or in parts.\n",
                within.as_secs()
            );
            (StatusCode::REQUEST_TIMEOUT, why).into_response()
        }
    }
}

/// What browsers of the allowed origins may send. Without an origin it allows nothing.
fn cors(origins: &[String]) -> CorsLayer {
    let origins: Vec<_> = origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::POST])
        // MCP's own, the content type and the token: a wildcard would leave out the token.
        .allow_headers(AllowHeaders::mirror_request())
}

async fn healthy() -> &'static str {
    "ok\n"
}

async fn ready(
    State((service, shutdown)): State<(Arc<Service>, Shutdown)>,
) -> (StatusCode, &'static str) {
    if shutdown.draining.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    } else if service.ready().await {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the list of CodeSandboxes has not been read yet\n")
    }
}

#[cfg(test)]
mod tests;
