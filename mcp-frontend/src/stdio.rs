//! The same server over stdin and stdout, for a client that starts us itself.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::Context as _;
use rmcp::{RoleServer, ServiceExt, transport::async_rw::AsyncRwTransport};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use crate::{http::MAX_BODY, server::Server};

/// How long calls may go on when stdin has closed, before those that only wait answer as they are.
/// Clients kill us after 2 s, and the library cancels calls after 5 s, and with them their runs.
const GRACE: Duration = Duration::from_secs(1);

/// Serves until the client closes `input`.
pub(crate) async fn serve(
    server: Server,
    (input, output): (
        impl AsyncRead + Send + Unpin + 'static,
        impl AsyncWrite + Send + Unpin + 'static,
    ),
) -> anyhow::Result<()> {
    let closed = CancellationToken::new();
    let closing = server.shutdown.closing.clone();
    let input = Input { input, closed: closed.clone() };
    tokio::spawn(async move {
        closed.cancelled().await;
        tokio::time::sleep(GRACE).await;
        closing.cancel();
    });
    let transport =
        AsyncRwTransport::<RoleServer, _, _>::new(input, output).with_max_line_length(MAX_BODY);
    tracing::info!("serving on stdin and stdout");
    match server.serve(transport).await {
        Ok(running) => running.waiting().await.map(drop).context("the MCP server failed"),
        // A client that only looked whether the program starts.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => Ok(()),
        Err(error) => Err(error).context("the client began with something else than MCP"),
    }
}

/// An input that tells of its end.
struct Input<R> {
    input: R,
    closed: CancellationToken,
}

impl<R: AsyncRead + Unpin> AsyncRead for Input<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.input).poll_read(context, buffer);
        if matches!(read, Poll::Ready(Err(_))) || read.is_ready() && buffer.filled().len() == before
        {
            self.closed.cancel();
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};
    use service::Principal;
    use tokio::{
        io::{AsyncBufReadExt, AsyncWriteExt, BufReader, split},
        time::{Instant, timeout},
    };

    use super::*;
    use crate::{shutdown::Shutdown, testing};

    #[tokio::test]
    async fn it_ends_when_the_input_closes_and_a_waiting_call_is_answered() {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let server = Server::new(testing::service(), Arc::default(), Shutdown::default());
        let running = tokio::spawn(serve(server.of(Principal::new("me")), split(theirs)));
        let (answers, mut requests) = split(ours);
        let mut answers = BufReader::new(answers).lines();

        let initialize = json!({
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"},
        });
        let create =
            json!({"name": "sandbox_create", "arguments": {"name": "a", "wait_seconds": 45}});
        for (id, method, params) in [(1, "initialize", initialize), (2, "tools/call", create)] {
            let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
            requests.write_all(format!("{request}\n").as_bytes()).await.unwrap();
        }
        let mut next = async || -> Value {
            let line = timeout(Duration::from_secs(10), answers.next_line()).await.unwrap();
            serde_json::from_str(&line.unwrap().unwrap()).unwrap()
        };
        assert_eq!(next().await["result"]["serverInfo"]["name"], "codesandbox");

        let closed = Instant::now();
        requests.shutdown().await.unwrap();
        let answer = next().await;
        assert_eq!(answer["result"]["structuredContent"]["sandbox_id"], "a", "{answer}");
        timeout(Duration::from_secs(10), running).await.unwrap().unwrap().unwrap();
        let lasted = closed.elapsed();
        assert!((GRACE..GRACE + Duration::from_secs(1)).contains(&lasted), "{lasted:?}");
    }
}
