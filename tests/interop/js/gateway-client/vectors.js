// Holds frames.js to tests/vectors, as the gateway's codec and the device SDK's are held. Prints what differs.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { GatewayError } from "../../../../gateway/admin/dashboard/client/errors.js";
import * as wire from "../../../../gateway/admin/dashboard/client/frames.js";

const vectors = (name) => JSON.parse(readFileSync(new URL(`../../../vectors/${name}.json`, import.meta.url), "utf8"));
const hex = (bytes) => bytes && Buffer.from(bytes).toString("hex");
const raw = (text) => text === null ? null : new Uint8Array(Buffer.from(text, "hex"));
const flag = (frame, name) => (frame.flags & name) !== 0;
const STREAMS = ["REQUEST_RESPONSE", "REQUEST_FNF", "REQUEST_STREAM", "REQUEST_CHANNEL", "REQUEST_N", "CANCEL", "PAYLOAD", "ERROR"];
let checked = 0;

function check(vector, work) {
  try {
    work();
    checked += 1;
  } catch (error) {
    console.error(`${vector.name}: ${error.message}`);
    process.exitCode = 1;
  }
}

for (const vector of vectors("frames")) {
  const { type } = vector;
  if (vector.position > Number.MAX_SAFE_INTEGER) continue; // 9 petabytes of one session
  const frame = wire.read(raw(vector.hex));
  if (STREAMS.includes(type)) {
    const word = vector.initial_n ?? vector.n ?? vector.code;
    check(vector, () => {
      assert.deepEqual([frame.kind, frame.stream], [wire[type], vector.stream_id]);
      if (word !== undefined) assert.equal(frame.word, word);
      if ("metadata" in vector) assert.deepEqual([hex(frame.metadata), hex(frame.data)], [vector.metadata, vector.data]);
      if (type === "ERROR") assert.equal(wire.text(frame.data), vector.text);
      if ("next" in vector) assert.equal(flag(frame, wire.NEXT), vector.next);
      if ("complete" in vector) assert.equal(flag(frame, wire.COMPLETE), vector.complete);
    });
    if (vector.decode_only) continue;
    const flags = (vector.follows && wire.FOLLOWS) | (vector.complete && wire.COMPLETE) | (vector.next && wire.NEXT);
    const data = type === "ERROR" ? wire.bytes(vector.text) : raw(vector.data ?? "");
    const made = wire.frame(wire[type], vector.stream_id, flags, data, raw(vector.metadata ?? null), word);
    check(vector, () => assert.equal(hex(made), vector.hex));
  } else if (type === "KEEPALIVE") {
    check(vector, () => {
      assert.deepEqual([flag(frame, wire.RESPOND), frame.position, hex(frame.data)], [vector.respond, vector.position, vector.data]);
      assert.equal(hex(wire.keepalive(vector.respond, vector.position, raw(vector.data))), vector.hex);
    });
  } else if (type === "LEASE") {
    check(vector, () => assert.deepEqual([frame.ttl, frame.count], [vector.ttl_ms, vector.requests]));
    if (!vector.decode_only && vector.metadata === null) {
      check(vector, () => assert.equal(hex(wire.lease(vector.ttl_ms, vector.requests)), vector.hex));
    }
  } else if (type === "METADATA_PUSH") {
    check(vector, () => assert.equal(hex(frame.metadata), vector.metadata));
  } else if (type === "RESUME") {
    const made = wire.resume(raw(vector.token), vector.server_position, vector.client_position);
    if (vector.major === 1) check(vector, () => assert.equal(hex(made), vector.hex));
  } else if (type === "RESUME_OK") {
    check(vector, () => assert.equal(frame.position, vector.position));
  }
}

for (const vector of vectors("metadata")) {
  if (vector.type !== "composite" || vector.name.includes("capitals")) continue;
  const found = wire.entries(raw(vector.hex));
  // Of the well-known types the client knows those that it uses.
  const known = found.every(([mime]) => !mime.startsWith("id:"));
  if (known) check(vector, () => assert.deepEqual(found.map(([mime, content]) => [mime, hex(content)]), vector.entries));
  else check(vector, () => assert.deepEqual(found.map(([, content]) => hex(content)), vector.entries.map(([, content]) => content)));
}

const refused = (error) => error instanceof GatewayError && error.name === "MALFORMED";
for (const vector of vectors("malformed")) {
  if (vector.kind === "composite" && !/not ASCII/.test(vector.name)) {
    check(vector, () => assert.throws(() => wire.entries(raw(vector.hex)), refused));
  } else if (vector.kind === "frame" && /cut short|beyond the frame|no metadata length|byte/.test(vector.name)) {
    if (/SETUP|RESUME (cut|token|without)|EXT/.test(vector.name)) continue; // a client gets none
    check(vector, () => assert.throws(() => wire.read(raw(vector.hex)), refused));
  }
}
console.log(`${checked} held`);
