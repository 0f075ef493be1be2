// What scenario.py does, with the official TypeScript client: prints what it saw as JSON.
// Reads NAME, and what connect.ts reads.

import { client } from "./connect.ts";

const { NAME: name } = process.env;
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
