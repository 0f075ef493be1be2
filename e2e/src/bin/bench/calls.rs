//! Calls on a live sandbox, through MCP.

use std::time::Instant;

use anyhow::ensure;
use serde_json::json;

use crate::mcp::Mcp;

/// Milliseconds of each call, by what was called.
pub(crate) type Calls = Vec<(&'static str, Vec<f64>)>;

pub(crate) async fn measure(mcp: &Mcp, id: &str, count: usize) -> anyhow::Result<Calls> {
    let mut all = Vec::new();
    for (what, tool, arguments, answer) in [
        ("sandbox_get", "sandbox_get", json!({"sandbox_id": id}), "\"ready\":true"),
        (
            "run_code(\"1+1\"), live context",
            "run_code",
            json!({"sandbox_id": id, "code": "1+1"}),
            "--- result\\n2",
        ),
        (
            "run_command([\"true\"])",
            "run_command",
            json!({"sandbox_id": id, "argv": ["true"]}),
            "exit_code=0",
        ),
        ("file_read of 1 KiB", "file_read", json!({"sandbox_id": id, "path": "kib"}), "xxxx"),
    ] {
        mcp.call(
            "file_write",
            json!({"sandbox_id": id, "path": "kib", "content": "x".repeat(1024)}),
        )
        .await?;
        let mut times = Vec::new();
        // The first makes the context, and is not counted.
        for index in 0..=count {
            let began = Instant::now();
            let result = mcp.call(tool, arguments.clone()).await?;
            if index > 0 {
                times.push(began.elapsed().as_secs_f64() * 1e3);
            }
            let text = result.to_string();
            ensure!(text.contains(answer), "{tool}: {text}");
        }
        all.push((what, times));
    }
    Ok(all)
}
