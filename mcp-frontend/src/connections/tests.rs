use axum::routing::get;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
    task::JoinHandle,
    time::Instant,
};

use super::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// What a test can wait for.
const TIGHT: Limits = Limits {
    connections: 9,
    head: Duration::from_millis(300),
    spare_head: Duration::from_millis(100),
    idle: Duration::from_millis(900),
    unread: Duration::from_millis(300),
    rest: Duration::from_millis(600),
    calls: Duration::from_millis(300),
    answers: Duration::from_millis(300),
};

/// A server with tight limits, and what the tests want of it.
struct Server {
    address: SocketAddr,
    open: Gauge,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

async fn start(connections: usize, shutdown: Shutdown, routes: Router) -> Server {
    start_with(Limits { connections, ..TIGHT }, shutdown, routes).await
}

async fn start_with(limits: Limits, shutdown: Shutdown, routes: Router) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let open = Gauge::default();
    let gauge = open.clone();
    let full = Router::new().fallback(async || "full");
    let ended = tokio::spawn(async move {
        let until = async move { drop(stopped.await) };
        serve(listener, Routes { routes, full }, &limits, &gauge, &shutdown, until).await;
    });
    Server { address, open, stop, ended }
}

fn hello() -> Router {
    Router::new().route("/", get(async || "hello"))
}

impl Server {
    /// A connection on which this was sent.
    async fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }
}

/// The next answer on a connection that stays open.
async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = vec![0; 4096];
    let length = timeout(Duration::from_secs(5), stream.read(&mut bytes)).await;
    String::from_utf8_lossy(&bytes[..length.unwrap().unwrap()]).into_owned()
}

/// All that still comes until the connection is closed, and when that was.
async fn rest(stream: &mut TcpStream) -> (String, Instant) {
    let mut text = String::new();
    timeout(Duration::from_secs(5), stream.read_to_string(&mut text)).await.unwrap().unwrap();
    (text, Instant::now())
}

#[tokio::test]
async fn who_dawdles_is_let_go_while_others_are_answered() {
    let server = start(9, Shutdown::default(), hello()).await;
    let began = Instant::now();
    let mut silent = server.send(b"").await;
    let mut slow = server.send(b"GET / HTTP/1.1\r\nHo").await;
    let mut kept = server.send(GET).await;
    assert!(answer(&mut kept).await.ends_with("hello"));

    let ((text, silent_until), (half, slow_until)) =
        tokio::join!(rest(&mut silent), rest(&mut slow));
    assert_eq!((text.as_str(), half.as_str()), ("", ""));
    for until in [silent_until, slow_until] {
        let lasted = until - began;
        assert!(lasted >= Duration::from_millis(300), "{lasted:?}");
        assert!(lasted < Duration::from_millis(900), "only a first head is hurried: {lasted:?}");
    }

    kept.write_all(GET).await.unwrap();
    assert!(answer(&mut kept).await.ends_with("hello"), "an idle connection is kept longer");
    kept.write_all(b"GET / HT").await.unwrap();
    let began = Instant::now();
    let lasted = rest(&mut kept).await.1 - began;
    assert!(lasted < Duration::from_secs(2), "but not for ever: {lasted:?}");
}

#[tokio::test]
async fn connections_above_the_bound_are_told_so_and_closed() {
    let server = start(2, Shutdown::default(), hello()).await;
    let mut held = [server.send(GET).await, server.send(GET).await];
    for stream in &mut held {
        assert!(answer(stream).await.ends_with("hello"));
    }
    let (text, _) = rest(&mut server.send(GET).await).await;
    assert!(text.contains("connection: close") && text.ends_with("full"), "{text}");
    assert_eq!(server.open.get(), 2);

    // A place that becomes free is given again.
    drop(held);
    reaches(&server.open, 0).await;
    assert!(answer(&mut server.send(GET).await).await.ends_with("hello"));
}

#[tokio::test]
async fn nobody_is_answered_above_the_bound_and_the_spare_places() {
    let patient = Limits { connections: 0, spare_head: Duration::from_mins(1), ..TIGHT };
    let server = start_with(patient, Shutdown::default(), hello()).await;
    let mut held = Vec::new();
    for _ in 0..SPARE {
        held.push(server.send(b"").await);
    }
    let spare = i64::try_from(SPARE).unwrap();
    reaches(&server.open, spare).await;
    let mut refused = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(rest(&mut refused).await.0, "");
    assert_eq!(server.open.get(), spare, "while these are still held");
}

#[tokio::test]
async fn silence_above_the_bound_keeps_probes_out_for_a_moment_only() {
    let server = start(1, Shutdown::default(), hello()).await;
    let began = Instant::now();
    let mut silent = server.send(b"").await;
    reaches(&server.open, 1).await;
    let mut spare = server.send(b"").await;
    let ((_, until), (_, spare_until)) = tokio::join!(rest(&mut silent), rest(&mut spare));
    assert!(spare_until - began >= Duration::from_millis(100));
    assert!(spare_until < until, "sooner than an earlier one below the bound");
}

#[tokio::test]
async fn who_reads_no_answer_loses_its_place() {
    // More than any socket holds.
    let routes = Router::new().route("/", get(async || vec![b' '; 64 << 20]));
    let server = start(9, Shutdown::default(), routes).await;
    let _unread = server.send(GET).await;
    reaches(&server.open, 1).await;
    reaches(&server.open, 0).await;
}

/// Limits under which who is waited for is waited for longer than any test takes.
fn patient() -> Limits {
    Limits { rest: Duration::from_mins(1), ..TIGHT }
}

/// A router that refuses every request before it has read its body.
fn closed() -> Router {
    Router::new().fallback(async || (http::StatusCode::PAYLOAD_TOO_LARGE, "no"))
}

#[tokio::test]
async fn who_sends_on_after_a_refusal_still_reads_it() {
    let server = start_with(patient(), Shutdown::default(), closed()).await;
    // More than the sockets between us hold, so that the answer is there long before the body's end.
    let body = vec![b' '; 32 << 20];
    let head =
        format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut stream = server.send(head.as_bytes()).await;
    stream.write_all(&body).await.unwrap();
    let (text, _) = rest(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 413 ") && text.ends_with("no"), "{text}");
    reaches(&server.open, 1).await;
    drop(stream);
    reaches(&server.open, 0).await;
}

#[tokio::test]
async fn who_sends_on_for_ever_loses_its_place() {
    let server = start(9, Shutdown::default(), closed()).await;
    let began = Instant::now();
    let head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut stream = server.send(head).await;
    reaches(&server.open, 1).await;
    let sends = async { while stream.write_all(b"1\r\n \r\n").await.is_ok() {} };
    timeout(Duration::from_secs(5), sends).await.unwrap();
    assert!(began.elapsed() >= TIGHT.rest, "{:?}", began.elapsed());
    reaches(&server.open, 0).await;
}

#[tokio::test]
async fn whose_body_was_read_is_not_waited_for() {
    let routes = Router::new().fallback(async |body: String| body);
    let server = start_with(patient(), Shutdown::default(), routes).await;
    for framing in
        ["Content-Length: 2\r\n\r\nhi", "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"]
    {
        let request =
            format!("POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{framing}");
        let mut stream = server.send(request.as_bytes()).await;
        let (text, _) = rest(&mut stream).await;
        assert!(text.ends_with("hi"), "{text}");
        reaches(&server.open, 0).await;
        drop(stream); // Not before.
    }
}

/// Waits until a gauge is so high.
async fn reaches(gauge: &Gauge, count: i64) {
    let reached = async {
        while gauge.get() != count {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(5), reached).await.unwrap();
}

#[tokio::test]
async fn a_call_that_goes_on_is_answered_after_the_listener_has_closed() {
    let (calls, release) = (Gauge::default(), Arc::new(Notify::new()));
    let (called, released) = (calls.clone(), release.clone());
    let routes = Router::new().route(
        "/",
        get(async move || {
            called.inc();
            released.notified().await;
            "done"
        }),
    );
    let server = start(9, Shutdown::default(), routes).await;
    let mut call = server.send(GET).await;
    reaches(&calls, 1).await;
    server.stop.send(()).unwrap();
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!server.ended.is_finished(), "the call goes on");
    release.notify_one();
    let (text, _) = rest(&mut call).await;
    assert!(text.contains("connection: close") && text.ends_with("done"), "{text}");
    server.ended.await.unwrap();
}

#[tokio::test]
async fn at_the_end_waiting_calls_answer_and_the_others_are_given_up() {
    let shutdown = Shutdown::default();
    let calls = Gauge::default();
    let (waiting, stuck, closing) = (calls.clone(), calls.clone(), shutdown.closing.clone());
    let waits = async move || {
        waiting.inc();
        closing.cancelled().await;
    };
    let hangs = async move || {
        stuck.inc();
        std::future::pending::<()>().await;
    };
    let routes = Router::new().route("/", get(waits)).route("/stuck", get(hangs));
    let server = start(9, shutdown, routes).await;
    let mut waiting = server.send(GET).await;
    let _stuck = server.send(b"GET /stuck HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    reaches(&calls, 2).await;
    let began = Instant::now();
    server.stop.send(()).unwrap();
    let (text, answered) = rest(&mut waiting).await;
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    assert!(answered - began >= Duration::from_millis(300), "calls have their time first");
    timeout(Duration::from_secs(5), server.ended).await.unwrap().unwrap();
    assert!(began.elapsed() >= Duration::from_millis(600), "answers have theirs");
}
