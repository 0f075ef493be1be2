//! Calls through MCP: what the server itself takes, and calls on a live sandbox.

use std::time::Instant;

use anyhow::ensure;
use serde_json::{Value, json};

use crate::mcp::{Answer, Mcp};

/// Milliseconds of each call, by what was called.
pub(crate) type Calls = Vec<(String, Vec<f64>)>;

/// One call: what the report calls it, the tool and its arguments, and a part of the right answer.
struct Call {
    what: &'static str,
    tool: &'static str,
    arguments: Value,
    answer: &'static str,
}

/// The calls that reach no sandbox.
pub(crate) async fn trivial(mcp: &Mcp, id: &str, count: usize) -> anyhow::Result<Calls> {
    let list = times(count, async || {
        let tools = mcp.request("tools/list", None, json!({}), Answer::Json).await?;
        ensure!(tools["tools"].as_array().is_some_and(|tools| !tools.is_empty()), "{tools}");
        Ok(())
    })
    .await?;
    let get = Call {
        what: "sandbox_get",
        tool: "sandbox_get",
        arguments: json!({"sandbox_id": id}),
        answer: "\"ready\":true",
    };
    Ok(vec![
        ("tools/list".into(), list),
        (get.what.into(), get.times(mcp, count, Answer::Json).await?),
        (format!("{}, answer as SSE", get.what), get.times(mcp, count, Answer::Stream).await?),
    ])
}

/// The calls on a live sandbox. The first of each, which makes the context for example, is not counted.
pub(crate) async fn live(mcp: &Mcp, id: &str, count: usize) -> anyhow::Result<Calls> {
    let kib = json!({"sandbox_id": id, "path": "kib", "content": "x".repeat(1024)});
    mcp.call("file_write", kib).await?;
    let mut all = Vec::new();
    for call in [
        Call {
            what: "run_code(\"1+1\"), live context",
            tool: "run_code",
            arguments: json!({"sandbox_id": id, "code": "1+1"}),
            answer: "--- result\\n2",
        },
        Call {
            what: "run_command([\"true\"])",
            tool: "run_command",
            arguments: json!({"sandbox_id": id, "argv": ["true"]}),
            answer: "exit_code=0",
        },
        Call {
            what: "file_read of 1 KiB",
            tool: "file_read",
            arguments: json!({"sandbox_id": id, "path": "kib"}),
            answer: "xxxx",
        },
    ] {
        all.push((call.what.into(), call.times(mcp, count, Answer::Json).await?));
    }
    Ok(all)
}

impl Call {
    async fn times(&self, mcp: &Mcp, count: usize, answer: Answer) -> anyhow::Result<Vec<f64>> {
        times(count, async || {
            let result = mcp.call_for(self.tool, self.arguments.clone(), answer).await?;
            let text = result.to_string();
            ensure!(text.contains(self.answer), "{}: {text}", self.tool);
            Ok(())
        })
        .await
    }
}

/// How long something takes each time, without the first, in milliseconds.
pub(crate) async fn times(
    count: usize,
    mut once: impl AsyncFnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Vec<f64>> {
    once().await?;
    let mut times = Vec::new();
    for _ in 0..count {
        let began = Instant::now();
        once().await?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}
