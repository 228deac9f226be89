// The official MCP client, through the proxy: client.mjs FOLDER streamable|sse URL, with the folder whose node_modules has
// the SDK.
//
// Speaks to the echo server, and says on one line what it found. Any surprise is an exception.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, mode, url] = process.argv.slice(2);
const { resolve } = createRequire(join(folder, "client.mjs"));
const sdk = (name) => import(pathToFileURL(resolve(`@modelcontextprotocol/sdk/${name}`)));
const { Client } = await sdk("client/index.js");
const { StreamableHTTPClientTransport } = await sdk("client/streamableHttp.js");
const { SSEClientTransport } = await sdk("client/sse.js");

async function open() {
  const client = new Client({ name: "test", version: "1" });
  const Transport = mode === "sse" ? SSEClientTransport : StreamableHTTPClientTransport;
  const transport = new Transport(new URL(url));
  await client.connect(transport);
  return { client, transport };
}

async function call(client, name, args, options) {
  const result = await client.callTool({ name, arguments: args }, undefined, options);
  assert.ok(!result.isError, JSON.stringify(result));
  return result.content.map((part) => part.text).join("");
}

// Two sessions at once, whose calls overlap: the slow one is asked first and answered last.
const [first, second] = await Promise.all([open(), open()]);
const order = [];
await Promise.all([
  call(first.client, "slow", { ms: 500 }).then(() => order.push("slow")),
  call(second.client, "slow", { ms: 10 }).then(() => order.push("quick")),
]);
assert.deepEqual(order, ["quick", "slow"]);

for (const { client } of [first, second]) {
  const { tools } = await client.listTools();
  assert.ok(tools.some((tool) => tool.name === "echo"));
  assert.equal(await call(client, "echo", { text: "ü€😀" }), "ü€😀");
  await client.ping();
  const seen = [];
  await call(client, "progress", { steps: 3, ms: 1 }, { onprogress: (progress) => seen.push(progress.progress) });
  // With SSE the SDK forgets who wants progress when the answer comes in one piece with it.
  if (mode !== "sse") assert.deepEqual(seen, [1, 2, 3]);
  // A call that is given up, and the next one.
  const aborter = new AbortController();
  const given_up = call(client, "slow", { ms: 60_000 }, { signal: aborter.signal });
  setImmediate(() => aborter.abort());
  await assert.rejects(given_up);
  assert.equal(await call(client, "echo", { text: "on" }), "on");
}

console.log(first.client.getServerVersion().name);
for (const { client, transport } of [first, second]) {
  if (mode !== "sse") {
    assert.ok(transport.sessionId);
    await transport.terminateSession();
  }
  await client.close();
}
process.exit(0);
