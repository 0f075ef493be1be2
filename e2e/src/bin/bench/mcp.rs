//! An MCP client that costs next to nothing: one keep-alive connection, JSON both ways.
//!
//! The official clients take a millisecond of their own for each call; the subject here is the server.

use std::{env, time::Duration};

use anyhow::{Context, ensure};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tokio::time::timeout;

const VERSION: &str = "2026-07-28";

/// How an answer comes: as one document, or as a stream of events that ends with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Json,
    Stream,
}

/// The data of the last event of a stream.
fn last_event(stream: &str) -> &str {
    stream.lines().filter_map(|line| line.strip_prefix("data:")).next_back().unwrap_or_default()
}

/// The front end.
pub(crate) struct Mcp {
    client: Client<HttpConnector, Full<bytes::Bytes>>,
    url: String,
    token: String,
}

impl Mcp {
    pub(crate) fn from_env() -> anyhow::Result<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            url: env::var("CODESANDBOX_URL").context("CODESANDBOX_URL: see `make -s connect`")?,
            token: env::var("CODESANDBOX_TOKEN")
                .context("CODESANDBOX_TOKEN: see `make -s connect`")?,
        })
    }

    /// Calls a tool; its result, which has to be one.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> anyhow::Result<Value> {
        self.call_for(tool, arguments, Answer::Json).await
    }

    /// Calls a tool for an answer of a kind.
    pub(crate) async fn call_for(
        &self,
        tool: &str,
        arguments: Value,
        answer: Answer,
    ) -> anyhow::Result<Value> {
        let params = json!({"name": tool, "arguments": arguments});
        let result = self.request("tools/call", Some(tool), params, answer).await?;
        ensure!(result["isError"] != true, "{tool}: {result}");
        Ok(result)
    }

    /// Makes a request; its result.
    pub(crate) async fn request(
        &self,
        method: &str,
        name: Option<&str>,
        mut params: Value,
        answer: Answer,
    ) -> anyhow::Result<Value> {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": VERSION,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
        });
        if answer == Answer::Stream {
            params["_meta"]["progressToken"] = "bench".into();
        }
        let sandbox = params["arguments"]["sandbox_id"].as_str().map(String::from);
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let mut request = Request::post(&self.url)
            .header("Authorization", format!("Bearer {}", self.token))
            .header("Content-Type", "application/json")
            .header("Accept", "application/json, text/event-stream")
            .header("MCP-Protocol-Version", VERSION)
            .header("Mcp-Method", method);
        for (header, value) in [("Mcp-Name", name), ("Mcp-Param-Sandbox", sandbox.as_deref())] {
            if let Some(value) = value {
                request = request.header(header, value);
            }
        }
        let request = request.body(Full::new(body.to_string().into()))?;
        let response = timeout(Duration::from_mins(2), async {
            let (head, body) = self.client.request(request).await?.into_parts();
            anyhow::Ok((head, body.collect().await?.to_bytes()))
        });
        let (head, body) = response.await.context("no answer")??;
        let body = std::str::from_utf8(&body)?;
        ensure!(head.status.is_success(), "{}: {body}", head.status);
        let kind = head.headers.get("content-type").context("a content type")?.to_str()?;
        let (expected, message) = match answer {
            Answer::Json => ("application/json", body),
            Answer::Stream => ("text/event-stream", last_event(body)),
        };
        ensure!(kind.starts_with(expected), "{method} was answered as {kind}: {body}");
        let message: Value = serde_json::from_str(message).with_context(|| body.to_owned())?;
        ensure!(message["result"].is_object(), "{method}: {message}");
        Ok(message["result"].clone())
    }

    /// A ready sandbox's id.
    pub(crate) async fn create(&self, name: &str) -> anyhow::Result<String> {
        let created =
            self.call("sandbox_create", json!({"name": name, "wait_seconds": 45})).await?;
        ensure!(created["structuredContent"]["ready"] == true, "{created}");
        Ok(name.into())
    }

    pub(crate) async fn delete(&self, id: &str) -> anyhow::Result<()> {
        self.call("sandbox_delete", json!({"sandbox_id": id})).await.map(drop)
    }
}
