// The node's public API, and nothing else: every figure on every page comes through here.
import { accessToken, me } from "./login.js";

const API = "/api/v1";
const TIMEOUT_MS = 35_000;

/** What the node says no with (RFC 9457). `slug` is the last part of its type; `network` where there was no answer. */
export class Problem extends Error {
  constructor(status, document = {}) {
    super(document.detail || document.title || `HTTP ${status}`);
    this.name = "Problem";
    this.status = status;
    this.slug = (document.type ?? "").split("/").pop() || (status ? "unknown" : "network");
    this.title = document.title ?? "";
    this.detail = document.detail ?? "";
    this.errors = document.errors ?? [];
    this.traceId = document.trace_id ?? "";
  }
}

/** Ask, and give the Response. `params`: query values, null and "" left out. Rejects with a Problem. */
export async function raw(method, path, { params, body, type, headers = {}, signal, endless = false } = {}) {
  const url = API + path + query(params);
  const timeout = endless ? undefined : AbortSignal.timeout(TIMEOUT_MS);
  const ends = signal && timeout ? AbortSignal.any([signal, timeout]) : (signal ?? timeout);
  const encoded = body === undefined || type ? body : JSON.stringify(body);
  const all = { ...headers };
  if (body !== undefined) all["content-type"] = type ?? "application/json";
  // A create that was sent twice makes one thing.
  if (method === "POST") all["idempotency-key"] ??= crypto.getRandomValues(new Uint32Array(4)).join("-");
  let refused = false;
  for (let attempt = 0; ; attempt += 1) {
    const answer = await once(method, url, all, encoded, ends, refused);
    if (answer.ok) return answer;
    if (answer.status === 401 && !refused) {
      refused = true;
      continue;
    }
    refused = false;
    const document = await answer.json().catch(() => ({}));
    if (answer.status === 429 && method === "GET" && attempt < 3) {
      await pause(1000 * Number(answer.headers.get("retry-after") || 1) + 300 * Math.random());
      continue;
    }
    throw new Problem(answer.status, document);
  }
}

async function once(method, url, headers, body, signal, fresh) {
  let token;
  try {
    token = await accessToken({ fresh });
  } catch (error) {
    throw new Problem(0, { title: "network", detail: error.message });
  }
  if (!token) {
    me.value = null;
    throw new Problem(401, { type: "/problems/unauthenticated", title: "Not logged in" });
  }
  try {
    return await fetch(url, { method, headers: { ...headers, authorization: `Bearer ${token}` }, body, signal, cache: "no-store" });
  } catch (error) {
    if (signal?.aborted && error.name === "AbortError") throw error;
    throw new Problem(0, { title: "network", detail: error.message });
  }
}

function query(params) {
  const given = Object.entries(params ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function parsed(answer) {
  if (answer.status === 204) return null;
  const text = await answer.text();
  return text ? JSON.parse(text) : null;
}

/** The same, with the body parsed. */
export const api = {
  get: async (path, params, options) => parsed(await raw("GET", path, { params, ...options })),
  post: async (path, body, options) => parsed(await raw("POST", path, { body, ...options })),
  put: async (path, body, options) => parsed(await raw("PUT", path, { body, ...options })),
  patch: async (path, body, options) => parsed(await raw("PATCH", path, { body, ...options })),
  delete: async (path, options) => parsed(await raw("DELETE", path, options)),
};

/** Server-sent events of a path: calls `take(kind, data, id)` for each until `signal` aborts or the stream ends. */
export async function follow(path, params, take, signal, headers = {}) {
  const answer = await raw("GET", path, { params, headers, signal, endless: true });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const fields = {};
      for (const line of part.split("\n")) {
        const colon = line.indexOf(": ");
        if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
      }
      if (fields.data !== undefined) take(fields.event, JSON.parse(fields.data), fields.id);
    }
  }
}

/** Save what a GET answers as a file. */
export async function download(path, params, name) {
  const answer = await raw("GET", path, { params, endless: true });
  save(await answer.blob(), name);
}

/** Offer a Blob as a file. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
