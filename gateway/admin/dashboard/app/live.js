// What happens at the node, as it happens: one pair of streams for all tabs of this browser, because a browser opens
// six connections to a host. The tab that holds the lock reads them and tells the others. Where streams cannot be had
// (a proxy that holds them back, too many readers) it asks every 5 s instead, and tries again.
import { api, follow, Problem } from "./api.js";
import { batch, signal } from "./lib.js";

const POLL_MS = 5_000;
const TOGETHER_MS = 1_000;
const RETRY_MS = [1_000, 30_000];
/** A stream that was open for so long has worked: the next trouble starts with the shortest pause again. */
const STEADY_MS = 10_000;

/** "live", "polling" or "off" (the node does not answer). */
export const liveness = signal("polling");
/** The last answer of /node/stats with `rates` per second since the one before; null at first. */
export const stats = signal(null);

const listeners = new Set();
let channel = null;
let leading = false;
let waiting = [];
let lastEvent = null;
let ending = null;

/** Call `callback(events)` at most once a second with the new events whose kind begins with one of `prefixes`.
 * Returns what ends it. */
export function onEvents(prefixes, callback) {
  const listener = { prefixes: [prefixes].flat(), callback };
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Begin; called once somebody is logged in. Ended by `stop`. */
export function start() {
  if (ending) return;
  ending = new AbortController();
  const { signal: ended } = ending;
  if (!navigator.locks || !globalThis.BroadcastChannel) {
    lead(ended);
    return;
  }
  channel = new BroadcastChannel("gateway.live");
  channel.onmessage = ({ data }) => {
    if (data.hello) {
      if (leading && stats.value) channel.postMessage({ stats: stats.value, liveness: liveness.value });
    } else if (!leading) take(data);
  };
  channel.postMessage({ hello: true });
  navigator.locks
    .request("gateway.live", { signal: ended }, () => lead(ended))
    .catch((error) => {
      if (error.name !== "AbortError") throw error;
    });
}

/** End all of it: nobody is logged in any more. */
export function stop() {
  ending?.abort();
  channel?.close();
  ending = channel = null;
  leading = false;
  waiting = [];
  lastEvent = null;
  stats.value = null;
}

async function lead(ended) {
  leading = true;
  const flushing = setInterval(flush, TOGETHER_MS);
  const polling = setInterval(() => liveness.value !== "live" && poll(ended), POLL_MS);
  let pause = RETRY_MS[0];
  poll(ended);
  while (!ended.aborted) {
    const began = performance.now();
    await stream(ended).catch(() => {});
    if (ended.aborted) break;
    if (liveness.value === "live") say({ liveness: "polling" });
    pause = performance.now() - began > STEADY_MS ? RETRY_MS[0] : Math.min(RETRY_MS[1], pause * 2);
    await new Promise((resolve) => setTimeout(resolve, pause * (0.5 + Math.random() / 2)));
  }
  clearInterval(flushing);
  clearInterval(polling);
}

/** Both streams, until one of them ends. */
async function stream(ended) {
  const either = new AbortController();
  const both = AbortSignal.any([ended, either.signal]);
  const headers = lastEvent === null ? {} : { "last-event-id": String(lastEvent) };
  try {
    await Promise.race([
      follow("/stream/stats", { interval_s: 1 }, (kind, data) => say({ stats: withRates(data), liveness: "live" }), both),
      follow("/stream/events", {}, (kind, data) => gather([data]), both, headers),
    ]);
  } finally {
    either.abort();
  }
}

async function poll(ended) {
  try {
    const figures = await api.get("/node/stats", null, { signal: ended });
    const page = await api.get("/events", { limit: 100 }, { signal: ended });
    const fresh = page.data.filter((event) => lastEvent !== null && event.id > lastEvent).reverse();
    if (lastEvent === null || fresh.length) lastEvent = page.data[0]?.id ?? 0;
    gather(fresh);
    if (liveness.value !== "live") say({ stats: withRates(figures), liveness: "polling" });
  } catch (error) {
    if (error instanceof Problem && error.status === 0 && !ended.aborted) say({ liveness: "off" });
  }
}

function gather(events) {
  for (const event of events) {
    if (event.id !== undefined) lastEvent = event.id;
    waiting.push(event);
  }
  // Whoever was not here for so many has to ask again anyway.
  if (waiting.length > 1_000) waiting = waiting.slice(-1_000);
}

function flush() {
  if (!waiting.length) return;
  const events = waiting;
  waiting = [];
  say({ events });
}

function say(news) {
  take(news);
  if (news.stats || news.events || news.liveness) channel?.postMessage(news);
}

function take(news) {
  batch(() => {
    if (news.stats) stats.value = news.stats;
    if (news.liveness) liveness.value = news.liveness;
  });
  for (const event of news.events ?? []) lastEvent = Math.max(lastEvent ?? 0, event.id ?? 0);
  if (!news.events) return;
  for (const { prefixes, callback } of [...listeners]) {
    const wanted = news.events.filter((event) => prefixes.some((prefix) => event.kind?.startsWith(prefix)));
    if (wanted.length) callback(wanted);
  }
}

function withRates(figures) {
  const before = stats.value;
  const seconds = before ? figures.uptime_s - before.uptime_s : 0;
  // The node has started anew, or this is the first answer: no rate is known.
  if (seconds <= 0.2) return { ...figures, rates: before?.rates ?? null };
  const per = (pick) => Math.max(0, (pick(figures) - pick(before)) / seconds);
  return {
    ...figures,
    rates: {
      requests: per((f) => f.requests.requests),
      failed: per((f) => f.requests.failed + f.requests.refused),
      framesIn: per((f) => f.frames.received),
      framesOut: per((f) => f.frames.sent),
      bytesIn: per((f) => f.bytes.received),
      bytesOut: per((f) => f.bytes.sent),
      cpu: per((f) => f.cpu_s),
    },
  };
}
