// A client of the server that URL and TOKEN name, or COMMAND (a JSON list) for one that is a child; in the protocol of MODE.

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

const { URL: url, TOKEN, COMMAND, MODE = "auto", KUBECONFIG } = process.env;

function transport() {
  if (!COMMAND) {
    const requestInit = { headers: { Authorization: `Bearer ${TOKEN}` } };
    return new StreamableHTTPClientTransport(new URL(url), { requestInit });
  }
  const [command, ...args] = JSON.parse(COMMAND);
  return new StdioClientTransport({ command, args, env: { KUBECONFIG }, stderr: "ignore" });
}

const mode = MODE === "legacy" || MODE === "auto" ? MODE : { pin: MODE };
export const client = new Client({ name: "e2e", version: "0" }, { versionNegotiation: { mode } });
await client.connect(transport());
