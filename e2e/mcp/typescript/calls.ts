// Calls tools one after the other with the official TypeScript client: CALLS is a JSON list of their names and
// arguments. Prints the results as JSON. Reads what connect.ts reads.

import { client } from "./connect.ts";

const results = [];
for (const [name, args] of JSON.parse(process.env.CALLS)) {
  results.push(await client.callTool({ name, arguments: args }));
}
console.log(JSON.stringify(results));
await client.close();
