//! HTTP: MCP at `/mcp`, health and metrics beside it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use axum::{Router, extract::State, middleware, routing::get, serve::ListenerExt};
use http::{Method, StatusCode};
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
};
use service::Service;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tower_http::cors::{AllowHeaders, CorsLayer};

use crate::{guard, metrics::Metrics, server::Server};

/// The largest request: a file of 6 MiB in base64, and what stands around it. Larger ones go through
/// `kubectl` or the client library.
const MAX_BODY: usize = (8 << 20) + (64 << 10);
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
    let browsers = cors(&guard.origins);
    let mcp = Router::new()
        .nest_service("/mcp", mcp)
        .layer(middleware::from_fn_with_state(Arc::new(guard), guard::check))
        // Outside the guard: a browser asks first, and without the token.
        .layer(browsers);
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(service)
        .route("/metrics", get(move || async move { metrics.text() }))
        .merge(mcp)
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

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use client::Sandboxes;
    use http::{Request, header};
    use tower::ServiceExt;

    use super::*;

    /// The routes over a kube API that is not there.
    fn routes() -> Router {
        let kube = kube::Client::new(
            tower::service_fn(|_: Request<kube::client::Body>| async {
                Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("down"))
            }),
            "default",
        );
        let service = Service::new(
            Sandboxes::new(kube, "default"),
            service::Config { class: "codesandbox".into() },
        );
        let origins = vec!["https://app.example.com".into()];
        router(
            Arc::new(service),
            guard::Guard { token: Some(guard::Token::of("t")), hosts: vec![], origins },
        )
    }

    async fn answer(request: http::request::Builder) -> http::Response<Body> {
        routes().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn browsers_of_allowed_origins_may_ask_and_others_may_not() {
        for (origin, allowed) in [
            ("https://app.example.com", Some("https://app.example.com")),
            ("https://evil.example.com", None),
        ] {
            let preflight = Request::options("/mcp")
                .header(header::HOST, "localhost")
                .header(header::ORIGIN, origin)
                .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
                .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization,mcp-method");
            let answer = answer(preflight).await;
            assert_eq!(answer.status(), StatusCode::OK);
            let header = |name| answer.headers().get(name).map(|value| value.to_str().unwrap());
            assert_eq!(header(header::ACCESS_CONTROL_ALLOW_ORIGIN), allowed, "{origin}");
            assert_eq!(
                header(header::ACCESS_CONTROL_ALLOW_HEADERS),
                Some("authorization,mcp-method")
            );
        }
    }

    #[tokio::test]
    async fn every_route_of_mcp_is_guarded_and_health_is_not() {
        for (method, path, status) in [
            (Method::POST, "/mcp", StatusCode::UNAUTHORIZED),
            (Method::GET, "/mcp", StatusCode::UNAUTHORIZED),
            (Method::POST, "/mcp/", StatusCode::UNAUTHORIZED),
            (Method::POST, "/mcp/more", StatusCode::UNAUTHORIZED),
            (Method::GET, "/healthz", StatusCode::OK),
            (Method::GET, "/metrics", StatusCode::OK),
            // The kube API is down, so the cache was never filled.
            (Method::GET, "/readyz", StatusCode::SERVICE_UNAVAILABLE),
        ] {
            let request =
                Request::builder().method(&method).uri(path).header(header::HOST, "localhost");
            assert_eq!(answer(request).await.status(), status, "{method} {path}");
        }
    }
}
