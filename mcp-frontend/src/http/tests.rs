use std::convert::Infallible;

use axum::body::{Body, Bytes};
use http::{Request, header};
use serde_json::{Value, json};
use tokio::time::timeout;
use tower::ServiceExt;

use super::*;
use crate::testing;

const MODERN: &str = "2026-07-28";
const LEGACY: &str = "2025-11-25";

fn routes(shutdown: Shutdown) -> Router {
    routes_with(shutdown, Arc::new(Semaphore::new(MAX_BODIES)))
}

fn routes_with(shutdown: Shutdown, room: Arc<Semaphore>) -> Router {
    let guard = guard::Guard {
        token: Some(guard::Token::of("t")),
        hosts: vec![],
        origins: vec!["https://app.example.com".into()],
    };
    let bodies = Bodies { within: Duration::from_millis(200), room };
    router(Server::new(testing::service(), Arc::default(), shutdown), guard, bodies)
}

async fn answer(request: http::request::Builder) -> Response {
    routes(Shutdown::default()).oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

/// A call of a tool as the protocol of 2026 makes it.
fn call(name: &str, arguments: &Value, meta: &Value) -> Request<Body> {
    let mut params = json!({"name": name, "arguments": arguments, "_meta": meta});
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = MODERN.into();
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    mcp("POST")
        .header("MCP-Protocol-Version", MODERN)
        .header("Mcp-Method", "tools/call")
        .header("Mcp-Name", name)
        .body(body.to_string().into())
        .unwrap()
}

/// The same as the protocol of 2025 makes it, without a session.
fn legacy_call(name: &str, arguments: &Value, meta: &Value) -> Request<Body> {
    let params = json!({"name": name, "arguments": arguments, "_meta": meta});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    mcp("POST").header("MCP-Protocol-Version", LEGACY).body(body.to_string().into()).unwrap()
}

/// Any request, as the protocol of 2026 makes it or that of 2025, and the JSON of its answer.
async fn asked(version: &str, method: &str, name: Option<&str>, mut params: Value) -> Value {
    if version == MODERN {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
        });
    }
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let mut request =
        mcp("POST").header("MCP-Protocol-Version", version).header("Mcp-Method", method);
    if let Some(name) = name {
        request = request.header("Mcp-Name", name);
    }
    let request = request.body(Body::from(body.to_string())).unwrap();
    let (_, _, body) = whole_of(routes(Shutdown::default()).oneshot(request).await.unwrap()).await;
    serde_json::from_str(&body).unwrap()
}

fn mcp(method: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri("/mcp")
        .header(header::HOST, "localhost")
        .header(header::AUTHORIZATION, "Bearer t")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream")
}

/// Status, content type and body of an answer.
async fn whole_of(answer: Response) -> (StatusCode, String, String) {
    let kind = answer.headers().get(header::CONTENT_TYPE);
    let kind = kind.map_or("", |kind| kind.to_str().unwrap()).to_owned();
    let status = answer.status();
    let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    (status, kind, String::from_utf8(body.into()).unwrap())
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
        assert_eq!(header(header::ACCESS_CONTROL_ALLOW_HEADERS), Some("authorization,mcp-method"));
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

#[tokio::test]
async fn a_full_replica_lives_and_says_what_it_is() {
    for (path, status, begins) in [
        ("/healthz", StatusCode::OK, "ok"),
        ("/readyz", StatusCode::SERVICE_UNAVAILABLE, "TOO_MANY_CONNECTIONS: "),
        ("/mcp", StatusCode::SERVICE_UNAVAILABLE, "TOO_MANY_CONNECTIONS: "),
    ] {
        let answer = full().oneshot(Request::get(path).body(Body::empty()).unwrap()).await;
        let (said, _, body) = whole_of(answer.unwrap()).await;
        assert_eq!(said, status, "{path}");
        assert!(body.starts_with(begins), "{path}: {body}");
    }
}

#[tokio::test]
async fn a_body_has_to_come_in_time_and_in_bounds() {
    let never = futures::stream::pending::<Result<Bytes, Infallible>>();
    let large = Body::from(vec![b' '; MAX_BODY + 1]);
    for (body, status, begins) in [
        (Body::from_stream(never), StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT: "),
        (large, StatusCode::PAYLOAD_TOO_LARGE, "REQUEST_TOO_LARGE: "),
    ] {
        let request = mcp("POST").body(body).unwrap();
        let answer = routes(Shutdown::default()).oneshot(request);
        let answer = timeout(Duration::from_secs(5), answer).await.unwrap().unwrap();
        let (said, _, body) = whole_of(answer).await;
        assert_eq!(said, status);
        assert!(body.starts_with(begins), "{body}");
    }
}

#[tokio::test]
async fn who_asks_for_progress_is_answered_by_a_stream_at_once() {
    for call in [call, legacy_call] {
        let routes = routes(Shutdown::default());
        let plain = call("sandbox_list", &json!({}), &json!({}));
        let (status, kind, body) = whole_of(routes.clone().oneshot(plain).await.unwrap()).await;
        assert_eq!((status, kind.as_str()), (StatusCode::OK, "application/json"), "{body}");
        assert!(body.contains(r#""sandboxes":[]"#), "{body}");

        let told = call("sandbox_list", &json!({}), &json!({"progressToken": "p"}));
        let (status, kind, body) = whole_of(routes.oneshot(told).await.unwrap()).await;
        assert_eq!((status, kind.as_str()), (StatusCode::OK, "text/event-stream"), "{body}");
        let events: Vec<Value> = body
            .lines()
            .filter_map(|line| line.strip_prefix("data:"))
            .map(|event| serde_json::from_str(event).unwrap())
            .collect();
        let begun = json!({"progressToken": "p", "progress": 0.0, "message": "sandbox_list began"});
        assert_eq!(events[0]["params"], begun);
        assert_eq!(events[1]["result"]["structuredContent"], json!({"sandboxes": []}));
    }
}

#[tokio::test]
async fn arguments_that_do_not_fit_are_refused_with_a_code_and_say_why() {
    for (arguments, why) in [
        (json!({"sandbox_id": "a", "code": "1", "timeout": 1}), "unknown field `timeout`"),
        (json!({"sandbox_id": "a"}), "missing field `code`"),
        (
            json!({"sandbox_id": "a", "code": "1", "timeout_seconds": "1"}),
            "invalid type: string \"1\"",
        ),
    ] {
        let mut request = call("run_code", &arguments, &json!({}));
        request.headers_mut().insert("Mcp-Param-Sandbox", "a".parse().unwrap());
        let answer = routes(Shutdown::default()).oneshot(request).await.unwrap();
        let (status, _, body) = whole_of(answer).await;
        let result = &serde_json::from_str::<Value>(&body).unwrap()["result"];
        assert_eq!((status, &result["isError"]), (StatusCode::OK, &json!(true)), "{body}");
        let said = result["content"][0]["text"].as_str().unwrap();
        assert!(said.starts_with(&format!("INVALID_ARGUMENT: {why}")), "{said}");
        assert!(said.ends_with("the input schema of run_code says what it takes."), "{said}");
    }
}

#[tokio::test]
async fn the_header_that_names_the_sandbox_has_to_be_right() {
    for (header, status, code) in [
        (Some("a"), StatusCode::OK, None),
        (Some("b"), StatusCode::BAD_REQUEST, Some(-32020)),
        (None, StatusCode::BAD_REQUEST, Some(-32020)),
    ] {
        let mut request = call("sandbox_get", &json!({"sandbox_id": "a"}), &json!({}));
        if let Some(header) = header {
            request.headers_mut().insert("Mcp-Param-Sandbox", header.parse().unwrap());
        }
        let answer = routes(Shutdown::default()).oneshot(request).await.unwrap();
        let (said, _, body) = whole_of(answer).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((said, body["error"]["code"].as_i64()), (status, code), "{header:?}: {body}");
    }
}

#[tokio::test]
async fn a_replica_that_drains_is_not_ready_and_ends_its_connections() {
    let shutdown = Shutdown::default();
    let routes = routes(shutdown.clone());
    let closes = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = routes.clone().oneshot(request).await.unwrap();
        let close = answer.headers().get(header::CONNECTION).is_some_and(|value| value == "close");
        (close, whole_of(answer).await.2)
    };
    assert_eq!(closes("/healthz").await, (false, "ok\n".into()));
    shutdown.draining.cancel();
    assert_eq!(closes("/healthz").await, (true, "ok\n".into()));
    assert_eq!(closes("/readyz").await, (true, "stopping\n".into()));
}

#[tokio::test]
async fn a_call_that_waits_answers_as_it_is_when_the_process_closes() {
    let shutdown = Shutdown::default();
    let create = call("sandbox_create", &json!({"name": "a", "wait_seconds": 45}), &json!({}));
    let waiting = tokio::spawn(routes(shutdown.clone()).oneshot(create));
    // It waits for a sandbox that nobody makes ready.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    shutdown.closing.cancel();
    let answer = timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
    let (status, _, body) = whole_of(answer.unwrap()).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, StatusCode::OK);
    let sandbox = &body["result"]["structuredContent"];
    assert_eq!((&sandbox["sandbox_id"], &sandbox["ready"]), (&json!("a"), &json!(false)), "{body}");
}

#[tokio::test]
async fn a_call_that_waits_for_its_sandbox_is_answered_when_the_process_closes() {
    let shutdown = Shutdown::default();
    let routes = routes(shutdown.clone());
    let create = call("sandbox_create", &json!({"name": "a", "wait_seconds": 0}), &json!({}));
    assert_eq!(routes.clone().oneshot(create).await.unwrap().status(), StatusCode::OK);
    shutdown.closing.cancel();
    let unknown = "status=running run_id=r sandbox_id=a\n[nothing is known of the run yet: it waits for its turn, or the sandbox does not answer; call again with the same arguments and run_id=r to wait on]";
    let stops = "UNAVAILABLE: this replica stops, and sandbox a has not answered yet. Try again.";
    let changed = "OUTCOME_UNKNOWN: this replica stops, and sandbox a has not answered yet: x was changed once or not at all. Look at it before trying again.";
    for (tool, arguments, said) in [
        ("run_code", json!({"code": "1", "run_id": "r"}), unknown),
        ("run_command", json!({"command": "ls", "run_id": "r"}), unknown),
        ("file_read", json!({"path": "x"}), stops),
        ("file_write", json!({"path": "x", "content": ""}), stops),
        ("file_list", json!({}), stops),
        ("file_search", json!({"pattern": "x"}), stops),
        ("file_write", json!({"path": "x", "content": "", "append": true}), changed),
        ("file_edit", json!({"path": "x", "edits": [{"old": "a", "new": "b"}]}), changed),
    ] {
        let mut arguments = arguments;
        arguments["sandbox_id"] = "a".into();
        let mut request = call(tool, &arguments, &json!({}));
        request.headers_mut().insert("Mcp-Param-Sandbox", "a".parse().unwrap());
        // Nobody makes the sandbox ready, and the verbs wait 30 s for that.
        let answer = timeout(Duration::from_secs(5), routes.clone().oneshot(request)).await;
        let (_, _, body) = whole_of(answer.expect(tool).unwrap()).await;
        let result = &serde_json::from_str::<Value>(&body).unwrap()["result"];
        assert_eq!(result["content"][0]["text"], said, "{tool}: {body}");
        assert_eq!(result["isError"], said != unknown, "{tool}: {body}");
    }
}

#[tokio::test]
async fn what_is_no_digest_is_told_before_any_sandbox_is_asked() {
    let routes = routes(Shutdown::default());
    for digest in ["x", "00"] {
        let edits = json!([{"old": "a", "new": "b"}]);
        let arguments =
            json!({"sandbox_id": "a", "path": "x", "edits": edits, "if_sha256": digest});
        let mut request = call("file_edit", &arguments, &json!({}));
        request.headers_mut().insert("Mcp-Param-Sandbox", "a".parse().unwrap());
        let (_, _, body) = whole_of(routes.clone().oneshot(request).await.unwrap()).await;
        let result = &serde_json::from_str::<Value>(&body).unwrap()["result"];
        assert_eq!(
            result["content"][0]["text"],
            "INVALID_ARGUMENT: if_sha256 is no sha256 in hexadecimal digits; give one, or none",
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_body_for_which_there_is_no_room_is_refused() {
    let room = Arc::new(Semaphore::new(MAX_BODY));
    let routes = routes_with(Shutdown::default(), room.clone());
    let list = || call("sandbox_list", &json!({}), &json!({}));
    let held = room.clone().try_acquire_many_owned(u32::try_from(MAX_BODY).unwrap()).unwrap();
    let (status, _, body) = whole_of(routes.clone().oneshot(list()).await.unwrap()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.starts_with("OVERLOADED: "), "{body}");
    drop(held);
    assert_eq!(routes.oneshot(list()).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_body_takes_its_own_size_until_its_call_has_ended() {
    for meta in [json!({}), json!({"progressToken": "p"})] {
        let (shutdown, room) = (Shutdown::default(), Arc::new(Semaphore::new(MAX_BODY)));
        let routes = routes_with(shutdown.clone(), room.clone());
        let create = call("sandbox_create", &json!({"name": "a", "wait_seconds": 45}), &meta);
        // Nobody says beforehand how large it is.
        let (head, body) = create.into_parts();
        let body = to_bytes(body, MAX_BODY).await.unwrap();
        let size = body.len();
        let chunk = futures::stream::iter([Ok::<_, Infallible>(body)]);
        let request = Request::from_parts(head, Body::from_stream(chunk));
        let call =
            tokio::spawn(async move { whole_of(routes.oneshot(request).await.unwrap()).await });
        let reaches = async |free: usize| {
            let reached = async {
                while room.available_permits() != free {
                    tokio::task::yield_now().await;
                }
            };
            timeout(Duration::from_secs(5), reached).await.unwrap();
        };
        reaches(MAX_BODY - size).await;
        // By now the answer's head is there where it is a stream.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(room.available_permits(), MAX_BODY - size, "{meta}");
        shutdown.closing.cancel();
        assert_eq!(call.await.unwrap().0, StatusCode::OK);
        reaches(MAX_BODY).await;
    }
}

#[tokio::test]
async fn resources_are_templates_and_no_list() {
    let discovered = asked(MODERN, "server/discover", None, json!({})).await;
    assert_eq!(
        discovered["result"]["capabilities"],
        json!({"tools": {}, "resources": {}}),
        "{discovered}"
    );
    for version in [MODERN, LEGACY] {
        let list = asked(version, "resources/list", None, json!({})).await;
        assert_eq!(list["result"]["resources"], json!([]), "{list}");
        let templates = asked(version, "resources/templates/list", None, json!({})).await;
        let result = &templates["result"];
        let named: Vec<_> = result["resourceTemplates"]
            .as_array()
            .unwrap()
            .iter()
            .map(|template| template["uriTemplate"].as_str().unwrap())
            .collect();
        assert_eq!(
            named,
            [
                "sandbox://{sandbox_id}/runs/{run_id}/{stream}",
                "sandbox://{sandbox_id}/runs/{run_id}/displays/{number}",
                "sandbox://{sandbox_id}/files/{+path}"
            ]
        );
        let caching = (&result["ttlMs"], &result["cacheScope"]);
        let modern = (&json!(300_000), &json!("public"));
        let expected = if version == MODERN { modern } else { (&Value::Null, &Value::Null) };
        assert_eq!(caching, expected, "{version}");
    }
}

#[tokio::test]
async fn a_resource_that_is_not_there_is_an_error_with_our_code() {
    for (version, uri, code, begins) in [
        (MODERN, "sandbox://A/files/x", -32602, "SANDBOX_NOT_FOUND: "),
        (LEGACY, "sandbox://A/files/x", -32002, "SANDBOX_NOT_FOUND: "),
        (MODERN, "file:///etc/passwd", -32602, "INVALID_ARGUMENT: a URI is sandbox://"),
        (LEGACY, "file:///etc/passwd", -32602, "INVALID_ARGUMENT: a URI is sandbox://"),
    ] {
        let answer = asked(version, "resources/read", Some(uri), json!({"uri": uri})).await;
        let error = &answer["error"];
        assert_eq!(error["code"], code, "{answer}");
        assert!(error["message"].as_str().unwrap().starts_with(begins), "{answer}");
    }
}
