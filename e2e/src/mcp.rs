//! The public door as a program behind an agent sees it: MCP over HTTP, one tool call a request.
//!
//! Whatever comes back is an answer here, also when nothing does: who tests deaths counts those.

use std::{env, time::Duration};

use anyhow::Context;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tokio::time::timeout;

const VERSION: &str = "2026-07-28";
/// What clients wait for an answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// What became of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The tool's result.
    Told(Value),
    /// An error that the front end has put into words, by its code; its result.
    Refused(String, Value),
    /// No answer of the front end: why.
    Silence(String),
}

impl Answer {
    /// The code of what is no result.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Told(_) => None,
            Self::Refused(code, _) => Some(code),
            Self::Silence(_) => Some("NO_ANSWER"),
        }
    }

    /// All text of it.
    pub fn text(&self) -> &str {
        match self {
            Self::Told(result) | Self::Refused(_, result) => text(result),
            Self::Silence(why) => why,
        }
    }
}

/// The first text of a result, where every tool of ours says what there is to say.
pub fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_default()
}

/// The front end.
pub struct Door {
    client: Client<HttpConnector, Full<bytes::Bytes>>,
    url: String,
    token: String,
}

impl Door {
    /// The front end that `make -s connect` names.
    pub fn from_env() -> anyhow::Result<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let given = |name| env::var(name).with_context(|| format!("{name}: see `make -s connect`"));
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            url: given("CODESANDBOX_URL")?,
            token: given("CODESANDBOX_TOKEN")?,
        })
    }

    /// Calls a tool, once.
    pub async fn call(&self, tool: &str, arguments: Value) -> Answer {
        match timeout(PATIENCE, self.ask(tool, arguments)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Answer::Silence(format!("{error:#}")),
            Err(_) => Answer::Silence(format!("no answer within {PATIENCE:?}")),
        }
    }

    async fn ask(&self, tool: &str, arguments: Value) -> anyhow::Result<Answer> {
        let sandbox = arguments["sandbox_id"].as_str().map(String::from);
        let body = json!({
            "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": tool, "arguments": arguments, "_meta": {
                "io.modelcontextprotocol/protocolVersion": VERSION,
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": {"name": "e2e", "version": "1"},
            }},
        });
        let mut request = Request::post(&self.url)
            .header("Authorization", format!("Bearer {}", self.token))
            .header("Content-Type", "application/json")
            .header("Accept", "application/json, text/event-stream")
            .header("MCP-Protocol-Version", VERSION)
            .header("Mcp-Method", "tools/call")
            .header("Mcp-Name", tool);
        if let Some(sandbox) = sandbox {
            request = request.header("Mcp-Param-Sandbox", sandbox);
        }
        let request = request.body(Full::new(body.to_string().into()))?;
        let (head, body) = self.client.request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(read(head.status.as_u16(), &body))
    }
}

/// What a response says.
fn read(status: u16, body: &[u8]) -> Answer {
    let message: Value = match serde_json::from_slice(body) {
        Ok(message) if (200..300).contains(&status) => message,
        _ => return Answer::Refused(format!("HTTP_{status}"), Value::Null),
    };
    if let Some(code) = message["error"]["code"].as_i64() {
        return Answer::Refused(format!("RPC_{code}"), message["error"].clone());
    }
    let result = message["result"].clone();
    if result["isError"] != true {
        return Answer::Told(result);
    }
    Answer::Refused(code_of(text(&result)), result)
}

/// The code an error begins with; `UNCODED` where there is none, which is a fault of ours.
fn code_of(text: &str) -> String {
    if text.starts_with("status=lost ") {
        return "RUN_LOST".into();
    }
    let code = text.split_once(": ").map_or("", |(code, _)| code);
    let is_code =
        !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    if is_code { code.into() } else { "UNCODED".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_known_by_its_code() {
        let failed = |text: &str| {
            let result = json!({"isError": true, "content": [{"type": "text", "text": text}]});
            read(200, json!({"result": result}).to_string().as_bytes()).code().map(String::from)
        };
        assert_eq!(failed("UNAVAILABLE: lost. Try again.").unwrap(), "UNAVAILABLE");
        assert_eq!(failed("status=lost run_id=r").unwrap(), "RUN_LOST");
        assert_eq!(failed("something broke: badly").unwrap(), "UNCODED");
        assert_eq!(failed("").unwrap(), "UNCODED");
        let told = read(200, br#"{"result": {"content": []}}"#);
        assert_eq!(told, Answer::Told(json!({"content": []})));
        assert_eq!(read(503, b"starting").code(), Some("HTTP_503"));
        assert_eq!(read(200, br#"{"error": {"code": -32603}}"#).code(), Some("RPC_-32603"));
    }
}
