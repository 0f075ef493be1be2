//! One `pods/exec` of the agent's bridge as one byte stream. The only file that knows `AttachedProcess`.
//!
//! kube's message loop tells nobody that it has ended: on a websocket error it returns without
//! shutting stdout, so a reader would hang for ever. So a guard owns the process, watches
//! its status and its end, and the stream asks the guard's word whenever stdout is silent.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use api::names;
use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{AttachParams, AttachedProcess},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    sync::{oneshot, watch},
    time::timeout,
};

use crate::Error;

/// How long the API server and the kubelet may take to start the bridge. A new exec costs 50 ms.
const OPEN_DEADLINE: Duration = Duration::from_secs(15);
/// How much of the bridge's stderr is kept for the reason of a loss, in bytes.
const STDERR_TAIL: usize = 512;
/// The pipes between kube's loop and us. Its default of 1 KiB would cost a wake-up per KiB.
const BUFFER: usize = 1 << 20;

/// Why a stream ended; `None` while it lives.
pub(crate) type Closed = watch::Receiver<Option<String>>;

/// The stdio of one bridge. Dropping it ends the exec.
pub(crate) struct ExecStream {
    stdin: Pin<Box<dyn AsyncWrite + Send>>,
    stdout: Pin<Box<dyn AsyncRead + Send>>,
    /// Completes when the exec has ended, with the reason.
    done: Pin<Box<dyn Future<Output = String> + Send>>,
    /// Dropped with the stream; the guard then drops the process.
    _alive: oneshot::Sender<()>,
}

/// Starts the agent's bridge in a pod.
pub(crate) async fn open(pods: &Api<Pod>, pod: &str) -> Result<(ExecStream, Closed), Error> {
    let params = AttachParams::default()
        .container(names::CONTAINER)
        .stdin(true)
        .stdout(true)
        .stderr(true)
        .max_stdin_buf_size(BUFFER)
        .max_stdout_buf_size(BUFFER)
        .max_stderr_buf_size(64 << 10);
    let mut process = timeout(OPEN_DEADLINE, pods.exec(pod, names::connect_command(), &params))
        .await
        .map_err(|_| Error::Deadline { doing: "exec", pod: pod.into(), after: OPEN_DEADLINE })?
        .map_err(|source| Error::Exec { pod: pod.into(), source: Box::new(source) })?;

    let stdin = process.stdin().expect("stdin was asked for");
    let stdout = process.stdout().expect("stdout was asked for");
    let (alive, dropped) = oneshot::channel();
    let (closed_tx, closed) = watch::channel(None);
    tokio::spawn(guard(process, dropped, closed_tx));

    let mut done = closed.clone();
    let done = Box::pin(async move {
        match done.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the exec stream was dropped".into(),
        }
    });
    let stream =
        ExecStream { stdin: Box::pin(stdin), stdout: Box::pin(stdout), done, _alive: alive };
    Ok((stream, closed))
}

/// Owns the process: dropping it aborts kube's loop, and only `join` knows why the loop ended.
async fn guard(
    mut process: AttachedProcess,
    dropped: oneshot::Receiver<()>,
    closed: watch::Sender<Option<String>>,
) {
    // Taken first: without a receiver the loop fails when the status arrives.
    let status = process.take_status().expect("nobody took it before");
    let mut stderr = process.stderr().expect("stderr was asked for");
    let mut tail = Vec::new();
    let status = tokio::select! {
        status = status => status,
        () = drain(&mut stderr, &mut tail) => unreachable!("drain never ends"),
        _ = dropped => {
            // HTTP/2 ended above an exec that goes on: the session learns it from this alone.
            closed.send_replace(Some("the connection was given up".into()));
            return;
        }
    };
    let mut reason = match status.map(|status| status.message.unwrap_or_default()) {
        Some(message) if !message.is_empty() => message,
        Some(_) => "the bridge ended".into(),
        // No status is no answer: the connection broke, whatever the process does now.
        None => match timeout(OPEN_DEADLINE, process.join()).await {
            Ok(Err(error)) => error.to_string(),
            _ => "the connection ended without a status".into(),
        },
    };
    // What was written just before the end lies in the pipe still.
    let _ = drain(&mut stderr, &mut tail).now_or_never();
    let tail = String::from_utf8_lossy(&tail);
    if !tail.trim().is_empty() {
        reason = format!("{reason}: {}", tail.trim());
    }
    closed.send_replace(Some(reason));
}

/// Keeps the last of stderr. It is read all the while: a full pipe would block stdout and pings too.
async fn drain(stderr: &mut (impl AsyncRead + Unpin), tail: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        tail.extend_from_slice(&buffer[..read]);
        let excess = tail.len().saturating_sub(STDERR_TAIL);
        tail.drain(..excess);
    }
    std::future::pending::<()>().await;
}

impl ExecStream {
    /// What stdout has. Its end is not told as one: only the guard knows why it came.
    fn poll_stdout(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match self.stdout.as_mut().poll_read(cx, buf) {
            Poll::Ready(Ok(())) if buf.filled().len() == before => Poll::Pending,
            polled => polled,
        }
    }
}

impl AsyncRead for ExecStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let ready @ Poll::Ready(_) = self.poll_stdout(cx, buf) {
            return ready;
        }
        let Poll::Ready(reason) = self.done.as_mut().poll(cx) else { return Poll::Pending };
        // What came before the end is read before the end is told.
        if let ready @ Poll::Ready(_) = self.poll_stdout(cx, buf) {
            return ready;
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, reason)))
    }
}

impl AsyncWrite for ExecStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stdin.as_mut().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stdin.as_mut().poll_flush(cx)
    }

    // Dropping a pipe of kube 5.0 sends no end of file; shutting it down does.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stdin.as_mut().poll_shutdown(cx)
    }
}
