// A peer on the gateway's own client for browsers: as the stock ones, and its link can be cut, watched and told to renew.

import { createRequire } from "node:module";
import WebSocket from "ws";
import { GatewayError, connect } from "../../../../gateway/admin/dashboard/client/gateway-client.js";

const { RemoteError, Record, method, serve } = createRequire(import.meta.url)("../lines.js");
const BROKER_FRAME = "message/x.rsocket.broker.frame.v0";
const links = new Map();
const record = new Record();
const frames = ({ frames: all = [] }) => all.map((frame) => [BROKER_FRAME, Buffer.from(frame.hex, "hex")]);
const json = (value) => JSON.stringify(value);

// Sockets of a link in the order of their opening; the driver cuts the last one.
function sockets() {
  const all = [];
  class Watched extends WebSocket {
    constructor(...args) {
      super(...args);
      all.push(this);
    }
  }
  return { all, Watched };
}

function failure(error, items = []) {
  return new RemoteError(error instanceof GatewayError ? error.code : null, error.text ?? String(error), items);
}

const answers = {
  echo: (payload) => payload.data,
  slow: (payload) => new Promise((resolve) => setTimeout(resolve, 20, payload.data)),
  fail: (payload) => {
    const { code, text } = payload.json();
    throw new GatewayError(code, text);
  },
  break: () => {
    throw new TypeError("a secret of the device");
  },
  seen: (_, request) => json(request.metadata.map(([mime, content]) => [mime, Buffer.from(content).toString("hex")])),
  caller: (_, request) => json(request.caller),
  notes: () => json(record.notes),
  progress: (payload) => json(record.streams.get(payload.text()) ?? null),
  never: (_, { signal }) =>
    new Promise((resolve) => signal.addEventListener("abort", () => resolve(record.notes.push("left")))),
};

async function* items(payload, request) {
  const { key, count, code, text, size = 0 } = payload.json();
  const state = record.stream(key);
  request.signal.addEventListener("abort", () => (state.cancelled = true));
  while (state.produced < count) yield String(state.produced++).padEnd(size);
  if (text !== undefined) throw new GatewayError(code, text);
}

const routes = {
  "*": {
    request: (payload, request) => answers[method(request.route)](payload, request),
    fireAndForget: (payload) => record.notes.push(payload.text()),
    stream: items,
    async *channel(came) {
      for await (const item of came) yield item.data;
    },
  },
};

async function collected(stream, credits) {
  const got = [];
  try {
    const left = [...credits];
    let due = left.shift();
    stream.request(due);
    for await (const item of stream) {
      got.push(item.text());
      if (--due === 0) {
        if (!left.length) return { items: got, completed: false };
        due = left.shift();
        stream.request(due);
      }
    }
    return { items: got, completed: true };
  } catch (error) {
    throw failure(error, got);
  }
}

serve({
  async connect(args) {
    const { all, Watched } = sockets();
    const statuses = [];
    const saved = [];
    const link = connect(args.url, {
      token: args.token,
      services: args.services ?? [],
      routes: { ...Object.fromEntries(Object.entries(args.answers ?? {}).map(([name, said]) => [name, () => said])), ...routes },
      keepalive: args.keepalive_ms ?? 20_000,
      lifetime: args.lifetime_ms ?? 90_000,
      fragment: args.fragment_bytes ?? 7168,
      backoff: [10, 100],
      WebSocket: Watched,
      renew: { secret: args.secret, save: (token) => saved.push(token) },
      ...args.options,
    });
    link.addEventListener("status", ({ detail }) => statuses.push(detail));
    links.set(args.connection, { link, all, statuses, saved });
    if (args.wait === false) return {};
    return { data: json(await link.online({ timeout: 20_000 }).catch((error) => Promise.reject(failure(error)))) };
  },
  async request({ connection, route, data, timeout, abort, ...args }) {
    const signal = abort ? AbortSignal.timeout(abort) : undefined;
    const { link } = links.get(connection);
    const answer = link.request(route, data, { metadata: frames(args), timeout, signal, tags: args.tags });
    return { data: (await answer.catch((error) => Promise.reject(failure(error)))).text() };
  },
  async fnf({ connection, route, data }) {
    await links.get(connection).link.fireAndForget(route, data);
    return {};
  },
  async stream({ connection, route, data, credits }) {
    return collected(links.get(connection).link.stream(route, data, { credit: "manual" }), credits);
  },
  async channel({ connection, route, items: sent, credits }) {
    return collected(links.get(connection).link.channel(route, sent, { credit: "manual" }), credits);
  },
  // As a page does: a loop, which is left after `take` items. `cuts`: at which of them a socket is torn.
  async loop({ connection, route, data, credit, take, cuts = [], cut_of: torn = connection, subscribe = false }) {
    const { link } = links.get(connection);
    const got = [];
    const stream = subscribe ? link.subscribe(route, data, { credit }) : link.stream(route, data, { credit });
    try {
      for await (const item of stream) {
        got.push(item.text().trim());
        if (cuts.includes(got.length)) links.get(torn).all.at(-1).terminate();
        if (got.length === take) break;
      }
    } catch (error) {
      throw failure(error, got);
    }
    return { items: got };
  },
  // `count` requests at once, of which the socket is torn under each `every`th. `settle`: an error is an item, too.
  async burst({ connection, route, count, every, settle = false }) {
    const { link, all } = links.get(connection);
    const asked = Array.from({ length: count }, async (_, number) => {
      const answer = link.request(route, String(number));
      if (number % every === every - 1) {
        await new Promise((resolve) => setTimeout(resolve, 5));
        all.at(-1).terminate();
      }
      return answer.then((payload) => payload.text(), (error) => (settle ? error.message : Promise.reject(error)));
    });
    return { items: await Promise.all(asked) };
  },
  async push({ connection, data }) {
    await links.get(connection).link.metadataPush(Buffer.from(data));
    return {};
  },
  cut({ connection }) {
    links.get(connection).all.at(-1).terminate();
    return {};
  },
  async online({ connection }) {
    return { data: json(await links.get(connection).link.online({ timeout: 20_000 })) };
  },
  statuses({ connection }) {
    const { statuses, saved } = links.get(connection);
    return { data: json({ statuses, saved }) };
  },
  close({ connection }) {
    links.get(connection).link.close();
    return {};
  },
});
