//! `mcp-frontend`: MCP over HTTP, or over stdio for a client that starts it.

fn main() -> anyhow::Result<()> {
    mcp_frontend::main()
}
