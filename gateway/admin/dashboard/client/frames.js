// RSocket 1.0 frames as bytes, and the metadata in them. Knows no socket, clock or stream.

import { malformed } from "./errors.js";

export const SETUP = 1, LEASE = 2, KEEPALIVE = 3, REQUEST_RESPONSE = 4, REQUEST_FNF = 5, REQUEST_STREAM = 6;
export const REQUEST_CHANNEL = 7, REQUEST_N = 8, CANCEL = 9, PAYLOAD = 10, ERROR = 11, METADATA_PUSH = 12;
export const RESUME = 13, RESUME_OK = 14;

// Flags; what a bit means depends on the type of frame.
export const IGNORE = 0x200, METADATA = 0x100, FOLLOWS = 0x80, RESPOND = 0x80, RESUMABLE = 0x80;
export const COMPLETE = 0x40, LEASED = 0x40, NEXT = 0x20;
export const MAX_N = 0x7fffffff;

const COMPOSITE = "message/x.rsocket.composite-metadata.v0";
const OCTETS = "application/octet-stream";
const ROUTING = "message/x.rsocket.routing.v0";
const BROKER_FRAME = "message/x.rsocket.broker.frame.v0";
const PRINCIPAL = "message/x.gateway.principal.v0";
const KNOWN = { [ROUTING]: 0xfe, "message/x.rsocket.authentication.v0": 0xfc, "message/x.rsocket.mime-type.v0": 0xfa };
const BY_ID = Object.fromEntries(Object.entries(KNOWN).map(([name, id]) => [id, name]));
const EMPTY = new Uint8Array(0);
const HEADERS = 13; // frame header, credit and length of metadata
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Bytes of what a caller hands over: bytes as they are, text as UTF-8, nothing as nothing, all else as JSON. */
export function bytes(value) {
  if (value instanceof Uint8Array) return value;
  if (value === undefined || value === null) return EMPTY;
  if (typeof value === "string") return encoder.encode(value);
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  return encoder.encode(JSON.stringify(value));
}

export const text = (data) => decoder.decode(data);

export function joined(parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

const viewOf = (b) => new DataView(b.buffer, b.byteOffset, b.byteLength);
const u24 = (n) => Uint8Array.of(n >> 16, n >> 8, n);
const short = (value) => {
  const raw = bytes(value);
  if (raw.length > 255) throw new RangeError(`"${value}" is longer than 255 bytes`);
  return joined([Uint8Array.of(raw.length), raw]);
};

function words(...numbers) {
  const out = new Uint8Array(numbers.length * 4);
  numbers.forEach((number, at) => viewOf(out).setUint32(at * 4, number));
  return out;
}

const long = (position) => words(Math.floor(position / 2 ** 32), position % 2 ** 32);
const readLong = (view, at) => view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4);

function head(kind, stream, flags) {
  const out = words(stream, 0);
  viewOf(out).setUint16(4, (kind << 10) | flags);
  return out.subarray(0, 6);
}

/** A frame of a stream. `word`: the credit of a request or of REQUEST_N, or the code of ERROR. */
export function frame(kind, stream, flags, data = EMPTY, metadata = null, word = 0) {
  const worded = kind === REQUEST_STREAM || kind === REQUEST_CHANNEL || kind === REQUEST_N || kind === ERROR;
  const parts = [head(kind, stream, metadata ? flags | METADATA : flags)];
  if (worded) parts.push(words(word));
  if (metadata) parts.push(u24(metadata.length), metadata);
  parts.push(data);
  return joined(parts);
}

/** Frames of at most `limit` bytes: metadata first, then data (P40). */
export function* fragments(limit, kind, stream, flags, data = EMPTY, metadata = null, word = 0) {
  const room = limit - HEADERS;
  for (;;) {
    const part = metadata && metadata.subarray(0, room);
    const left = room - (part ? part.length : 0);
    if ((!metadata || metadata.length <= room) && data.length <= left) {
      yield frame(kind, stream, flags, data, part, word);
      return;
    }
    yield frame(kind, stream, (flags & ~COMPLETE) | FOLLOWS, data.subarray(0, left), part, word);
    data = data.subarray(left);
    metadata = metadata && metadata.length > room ? metadata.subarray(room) : null;
    kind = PAYLOAD;
    flags |= NEXT;
  }
}

/** `resume`: the session's token, where it is to outlive its connection. */
export function setup({ keepalive, lifetime, metadata, resume = null, lease = false }) {
  const flags = METADATA | (resume ? RESUMABLE : 0) | (lease ? LEASED : 0);
  const parts = [head(SETUP, 0, flags), words(0x10000, keepalive, lifetime)];
  if (resume) parts.push(Uint8Array.of(resume.length >> 8, resume.length), resume);
  parts.push(short(COMPOSITE), short(OCTETS), u24(metadata.length), metadata);
  return joined(parts);
}

export const resume = (token, received, firstAvailable) =>
  joined([
    head(RESUME, 0, 0), words(0x10000), Uint8Array.of(token.length >> 8, token.length), token,
    long(received), long(firstAvailable),
  ]);

export const keepalive = (respond, position, data = EMPTY) =>
  joined([head(KEEPALIVE, 0, respond ? RESPOND : 0), long(position), data]);

export const lease = (ttl, count) => joined([head(LEASE, 0, 0), words(ttl, count)]);

export const metadataPush = (metadata) => joined([head(METADATA_PUSH, 0, METADATA), metadata]);

/** The parts of a frame; those that its type has. Throws what is `malformed`. */
export function read(b) {
  if (b.length < 6) throw malformed(`a frame of ${b.length} bytes`);
  const view = viewOf(b);
  const kind = b[4] >> 2;
  const flags = view.getUint16(4) & 0x3ff;
  const found = { kind, flags, stream: view.getUint32(0) & MAX_N, metadata: null, data: EMPTY };
  try {
    if (kind >= REQUEST_RESPONSE && kind <= ERROR) {
      let at = 6;
      if (kind === REQUEST_STREAM || kind === REQUEST_CHANNEL || kind === REQUEST_N || kind === ERROR) {
        found.word = view.getUint32(at);
        at += 4;
      }
      if (flags & METADATA && kind !== ERROR) {
        const end = at + 3 + ((b[at] << 16) | view.getUint16(at + 1));
        if (end > b.length) throw malformed("metadata is cut short");
        found.metadata = b.subarray(at + 3, end);
        at = end;
      }
      found.data = b.subarray(at);
    } else if (kind === KEEPALIVE || kind === RESUME_OK) {
      found.position = readLong(view, 6);
      found.data = b.subarray(14);
    } else if (kind === LEASE) {
      found.ttl = view.getUint32(6);
      found.count = view.getUint32(10);
    } else if (kind === METADATA_PUSH) {
      found.metadata = b.subarray(6);
    }
  } catch (error) {
    throw error instanceof RangeError ? malformed(`frame of type ${kind} is cut short`) : error;
  }
  return found;
}

/** `entries`: pairs of a MIME type and bytes. */
export function composite(entries) {
  return joined(
    entries.flatMap(([mime, content]) => {
      const name = encoder.encode(mime);
      const type = KNOWN[mime] ? Uint8Array.of(KNOWN[mime]) : joined([Uint8Array.of(name.length - 1), name]);
      const body = bytes(content);
      return [type, u24(body.length), body];
    }),
  );
}

/** The entries of composite metadata in order; ids that are not known here are `id:0x…` (X06). */
export function entries(metadata) {
  const found = [];
  for (let at = 0; at < metadata.length; ) {
    const first = metadata[at++];
    let mime = BY_ID[first] ?? `id:0x${(first & 0x7f).toString(16)}`;
    if (first < 0x80) {
      mime = text(metadata.subarray(at, at + first + 1));
      at += first + 1;
    }
    const end = at + 3 + ((metadata[at] << 16) | (metadata[at + 1] << 8) | metadata[at + 2]);
    if (!(end <= metadata.length)) throw malformed("an entry of metadata is cut short");
    found.push([mime, metadata.subarray(at + 3, end)]);
    at = end;
  }
  return found;
}

/** Metadata of a request: its route, `key=value` tags, then `more` entries. */
export function routed(route, tags = {}, more = []) {
  const all = [route, ...Object.entries(tags).map(([key, value]) => `${key}=${value}`)];
  return composite([[ROUTING, joined(all.map(short))], ...more]);
}

/** What the metadata of a request says: `route`, `tags`, `caller` as the node established it, `metadata`. */
export function requestOf(metadata) {
  const found = { route: "", tags: [], caller: null, metadata: entries(metadata ?? EMPTY) };
  for (const [mime, content] of found.metadata) {
    if (mime === ROUTING && !found.route) {
      const all = [];
      for (let at = 0; at < content.length; at += content[at] + 1) {
        all.push(text(content.subarray(at + 1, at + 1 + content[at])));
      }
      [found.route = "", ...found.tags] = all;
    } else if (mime === PRINCIPAL) {
      found.caller = JSON.parse(text(content));
    }
  }
  return found;
}

/** Metadata of SETUP: the bearer token, then a ROUTE_SETUP a service. `services`: [id of 16 bytes, name, tags] each. */
export function identity(token, services) {
  const said = token ? [["message/x.rsocket.authentication.v0", joined([Uint8Array.of(0x81), bytes(token)])]] : [];
  const registered = services.map(([id, name, tags]) => {
    const parts = [Uint8Array.of(0, 0, 0, 1, 4, 0), id, short(name)];
    const pairs = Object.entries(tags).filter(([, value]) => value !== "");
    pairs.forEach(([key, value], at) => {
      const content = bytes(String(value));
      if (content.length > 127) throw new RangeError(`tag ${key} is longer than 127 bytes`);
      parts.push(short(key), Uint8Array.of(content.length | (at < pairs.length - 1 ? 0x80 : 0)), content);
    });
    return [BROKER_FRAME, joined(parts)];
  });
  return composite([...said, ...registered]);
}
