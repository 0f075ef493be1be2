// What scenario.py does, with the official TypeScript client: prints what it saw as JSON.
// Reads URL and TOKEN, or COMMAND (a JSON list) for a server that is a child; MODE and NAME.

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

const { URL: url, TOKEN, COMMAND, MODE = "auto", NAME: name, KUBECONFIG } = process.env;

function transport() {
  if (!COMMAND) {
    const requestInit = { headers: { Authorization: `Bearer ${TOKEN}` } };
    return new StreamableHTTPClientTransport(new URL(url), { requestInit });
  }
  const [command, ...args] = JSON.parse(COMMAND);
  return new StdioClientTransport({ command, args, env: { KUBECONFIG }, stderr: "ignore" });
}

const mode = MODE === "legacy" || MODE === "auto" ? MODE : { pin: MODE };
const client = new Client({ name: "scenario", version: "0" }, { versionNegotiation: { mode } });
await client.connect(transport());

const call = (tool: string, args = {}) => client.callTool({ name: tool, arguments: { sandbox_id: name, ...args } });
const text = (result) => result.content[0].text;
const body = (result) => text(result).split("\n").slice(1).join("\n");

const tools = (await client.listTools()).tools.map((tool) => tool.name).sort();
const asked = { name, ttl: "10m", wait_seconds: 45 };
const created = await client.callTool({ name: "sandbox_create", arguments: asked });
if (created.isError) throw new Error(text(created));
try {
  await call("run_code", { code: "x = 20" });
  const ran = await call("run_code", { code: "print('out', end='')\nx + 22" });
  const failed = await call("run_command", { command: "echo out; echo err >&2; exit 3" });
  const written = await call("file_write", { path: "a b/ü.txt", content: "héllo\n" });
  const read = await call("file_read", { path: "a b/ü.txt" });
  const missing = await call("file_read", { path: "none" });
  const deleted = await call("sandbox_delete");
  const sandbox = created.structuredContent;
  console.log(JSON.stringify({
    protocol: client.getNegotiatedProtocolVersion(),
    tools,
    created: [sandbox.sandbox_id, sandbox.ready, sandbox.network_isolated],
    ran: body(ran),
    failed: [failed.isError ?? false, failed._meta["codesandbox.dev/run"].exit_code, body(failed)],
    written: written.structuredContent,
    read: text(read),
    missing: [missing.isError, text(missing).split(":")[0]],
    deleted: deleted.structuredContent,
  }));
} finally {
  await call("sandbox_delete");
  await client.close();
}
