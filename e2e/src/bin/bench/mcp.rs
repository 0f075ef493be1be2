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
        let body = json!({
            "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": tool, "arguments": arguments, "_meta": {
                "io.modelcontextprotocol/protocolVersion": VERSION,
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
            }},
        });
        let request = Request::post(&self.url)
            .header("Authorization", format!("Bearer {}", self.token))
            .header("Content-Type", "application/json")
            .header("Accept", "application/json, text/event-stream")
            .header("MCP-Protocol-Version", VERSION)
            .header("Mcp-Method", "tools/call")
            .header("Mcp-Name", tool)
            .body(Full::new(body.to_string().into()))?;
        let answer = timeout(Duration::from_mins(2), async {
            let response = self.client.request(request).await?;
            anyhow::Ok((response.status(), response.into_body().collect().await?.to_bytes()))
        });
        let (status, body) = answer.await.context("no answer")??;
        ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
        let answer: Value = serde_json::from_slice(&body)
            .with_context(|| String::from_utf8_lossy(&body).into_owned())?;
        let result = &answer["result"];
        ensure!(result.is_object() && result["isError"] != true, "{tool}: {answer}");
        Ok(result.clone())
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
