// The gateway's client for browsers and Node.js: `connect(url, {token})`. What it offers is in gateway-client.d.ts.

import {
  CANCELED, CONNECTION_ERROR, GatewayError, REJECTED, REJECTED_RESUME, REJECTED_SETUP, closed, lost, timeout, unreachable,
} from "./errors.js";
import * as wire from "./frames.js";
import { Line } from "./line.js";
import { renewal, renewed } from "./renew.js";
import { Session } from "./session.js";
import { Items, Payload } from "./stream.js";

export { GatewayError, Payload };

const DEFAULTS = {
  token: "", // text, or a function that gives one, or {token, protocols}, for each attempt
  protocols: ["rsocket"],
  services: {}, // names that it serves under, with tags: {kitchen: {zone: "eu"}}
  routes: {}, // handlers by route
  renew: null, // {secret, save(token)}: renew the token in time
  resume: 256 * 1024, // bytes kept to go on where a lost connection was; 0: each connection is a new one
  resumeFor: 60_000, // how long streams wait for the next connection
  lease: false, // ask only what the gateway has lent
  credit: 16, // items under way on a stream
  timeout: 10_000, // for an answer, the wait for a connection included; 0: none
  connectTimeout: 10_000,
  keepalive: 20_000,
  lifetime: 90_000, // silence of the gateway that ends the connection
  backoff: [500, 30_000], // first and longest pause between attempts, before jitter
  stable: 60_000, // up for so long: the next outage starts with the shortest pause again
  fragment: 7168, // longest frame that is sent; a device takes 8 KiB
  maxPayload: 16 << 20, // longest payload put together from fragments
  maxServing: 64, // handlers running at once; REJECTED above
  maxWaiting: 1000, // calls that wait for a connection
  reconnect: true,
  WebSocket: null, // another implementation, as in Node.js before 22
};
// Answers that haste does not cure, as SETUP was refused or somebody else is here by this name.
const UNWELCOME_CLOSE = [4401, 4403, 4409, 4429];
const LEAST_PAUSE = 5000; // after such an answer, however often the user looks
const MOST_LENT = wire.MAX_N;

/** Connect, and stay connected. Returns at once; `await link.online()` waits. */
export function connect(url, options = {}) {
  for (const name of Object.keys(options)) {
    if (!(name in DEFAULTS)) throw new TypeError(`no such option: ${name}`);
  }
  const link = new Link([url].flat(), { ...DEFAULTS, ...options });
  link.run();
  return link;
}

class Link extends EventTarget {
  constructor(urls, options) {
    super();
    const { services } = options;
    if (Array.isArray(services)) options.services = Object.fromEntries(services.map((name) => [name, {}]));
    Object.assign(this, { urls, options });
    // The same id on each connection: the gateway replaces the registration of the one before.
    this.registered = Object.entries(options.services).map(([name, tags]) => [
      crypto.getRandomValues(new Uint8Array(16)), name, tags,
    ]);
    this.status = Object.freeze({ state: "connecting", reason: "", error: null, since: Date.now() });
    this.session = null;
    this.line = null;
    this.retiring = new Set(); // lines that end when their streams do
    this.waiters = new Set();
    this.timers = {};
    this.over = null; // why it is closed
    this.awake = null; // ends the pause
  }

  // Calls

  async request(route, data, { timeout: ms = this.options.timeout, signal, tags, metadata } = {}) {
    const said = wire.routed(route, tags, metadata);
    const until = ms ? Date.now() + ms : Infinity;
    const session = await this.usable(until, signal);
    const stream = session.ask(wire.REQUEST_RESPONSE, wire.bytes(data), said);
    const late = () => stream.cancel(timeout(`no answer from ${route} within ${ms} ms`));
    const abort = () => stream.cancel(signal.reason);
    const timer = ms && setTimeout(late, until - Date.now());
    signal?.addEventListener("abort", abort);
    try {
      return await answered(stream);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    }
  }

  /** Resolves when it is handed to the socket. */
  async fireAndForget(route, data, { timeout: ms = this.options.timeout, signal, tags, metadata } = {}) {
    const said = wire.routed(route, tags, metadata);
    const session = await this.usable(ms ? Date.now() + ms : Infinity, signal);
    session.ask(wire.REQUEST_FNF, wire.bytes(data), said);
  }

  /** `credit`: items under way; "manual": `request(n)` of what it returns asks for them. */
  stream(route, data, { credit = this.options.credit, timeout: ms = this.options.timeout, signal, tags, metadata } = {}) {
    const said = wire.routed(route, tags, metadata);
    const begin = async (granted) => {
      const session = await this.usable(ms ? Date.now() + ms : Infinity, signal);
      return session.ask(wire.REQUEST_STREAM, wire.bytes(data), said, { n: granted() });
    };
    return new Items(credit === "manual" ? 0 : credit, begin, signal);
  }

  /** What comes back for `items`; of those one is taken for each that the responder has asked for. */
  channel(route, items, { credit = this.options.credit, timeout: ms = this.options.timeout, signal, tags, metadata } = {}) {
    const said = wire.routed(route, tags, metadata);
    const begin = async (granted) => {
      const session = await this.usable(ms ? Date.now() + ms : Infinity, signal);
      const source = items[Symbol.asyncIterator]?.() ?? items[Symbol.iterator]();
      const first = await source.next(); // it goes with the request
      const asked = { n: granted(), complete: first.done };
      const stream = session.ask(wire.REQUEST_CHANNEL, wire.bytes(first.value), said, asked);
      if (!first.done) stream.pump({ [Symbol.asyncIterator]: () => source }).catch((error) => stream.cancel(error));
      return stream;
    };
    return new Items(credit === "manual" ? 0 : credit, begin, signal);
  }

  /** A stream that is asked for again when the connection or the responder was lost. It ends when the responder says so. */
  async *subscribe(route, data, options = {}) {
    for (let failures = 0; ; failures++) {
      try {
        for await (const item of this.stream(route, data, { ...options, timeout: 0 })) {
          failures = 0;
          yield item;
        }
        return;
      } catch (error) {
        const again = [REJECTED, CANCELED, CONNECTION_ERROR].includes(error.code) || error.name === "LOST";
        if (!again || options.signal?.aborted || this.over) throw error;
        await this.wait(() => false, Date.now() + this.pause(null, failures), options.signal).catch((ended) => {
          if (ended.name !== "UNREACHABLE") throw ended;
        });
      }
    }
  }

  async metadataPush(metadata) {
    const session = await this.usable(Date.now() + this.options.timeout);
    session.line.send(wire.metadataPush(metadata));
  }

  /** What `gateway.ready` answered, once the link is up. Throws at the first failure where it does not reconnect. */
  async online({ timeout: ms = 0, signal } = {}) {
    return (await this.wait(() => this.up, ms ? Date.now() + ms : Infinity, signal)).ready;
  }

  /** End the connection for good. */
  close(reason = "closed by this side") {
    this.end(closed(reason));
  }

  end(error) {
    if (this.over) return;
    this.over = error;
    for (const line of [this.line, ...this.retiring]) line?.lose(this.over);
    this.session?.end(this.over);
    this.awake?.();
    for (const timer of Object.values(this.timers)) clearTimeout(timer);
    this.say("closed", error.message, { error });
  }

  // Waiting

  /** The session that a request may go to now, or null. */
  get up() {
    return this.status.state === "online" && this.session?.line && !this.session.draining ? this.session : null;
  }

  async usable(until, signal) {
    for (;;) {
      const session = await this.wait(() => this.up?.borrow() && this.up, until, signal);
      await session.writable().catch(() => {}); // another one may take its place
      if (this.up === session) return session;
    }
  }

  /** Wait for what `found` returns. UNREACHABLE when it is late: nothing was sent. */
  wait(found, until, signal) {
    return new Promise((resolve, reject) => {
      const look = () => {
        if (signal?.aborted) return done(reject, signal.reason);
        if (this.over) return done(reject, this.over);
        const value = found();
        return value ? done(resolve, value) : false;
      };
      let timer = null;
      const done = (settle, value) => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", look);
        this.waiters.delete(look);
        settle(value);
        return true;
      };
      if (look()) return;
      if (this.waiters.size >= this.options.maxWaiting) {
        reject(unreachable(`${this.waiters.size} calls wait for a connection`));
        return;
      }
      this.waiters.add(look);
      signal?.addEventListener("abort", look);
      if (until !== Infinity) {
        const late = () => done(reject, unreachable(this.status.reason || "not connected in time"));
        timer = setTimeout(late, until - Date.now());
      }
    });
  }

  say(state, reason = "", more = {}) {
    this.status = Object.freeze({ state, reason, error: null, since: Date.now(), ...more });
    for (const look of [...this.waiters]) look();
    this.dispatchEvent(new CustomEvent("status", { detail: this.status }));
  }

  // Its life

  async run() {
    const wakes = [["visibilitychange", globalThis.document], ["online"], ["offline"], ["pageshow"]];
    this.onWake = ({ type }) => this.wake(type);
    for (const [name, target = globalThis] of wakes) target.addEventListener?.(name, this.onWake);
    await null; // whoever connects listens first
    for (let failures = 0, attempt = 0; !this.over; attempt++) {
      this.say("connecting", this.status.reason);
      let failure;
      let since = Infinity;
      try {
        const { down } = await this.dial(this.urls[attempt % this.urls.length]);
        since = Date.now();
        failure = await down;
      } catch (error) {
        failure = error instanceof GatewayError ? error : unreachable(String(error?.message ?? error));
      }
      if (this.over) break;
      if (!this.options.reconnect) return this.end(failure);
      if (Date.now() - since >= this.options.stable) failures = 0;
      if (failure.code === REJECTED_RESUME || failure.name === "RENEWED") continue;
      const slow = (failure.code && failure.code <= REJECTED_SETUP) || UNWELCOME_CLOSE.includes(failure.closeCode);
      await this.rest(failure, this.pause(slow, failures++), slow);
    }
    for (const [name, target = globalThis] of wakes) target.removeEventListener?.(name, this.onWake);
  }

  /** Full jitter; the upper half of the longest pause where haste does not help. */
  pause(slow, failures) {
    const [base, cap] = this.options.backoff;
    return slow ? cap * (1 - Math.random() / 2) : Math.random() * Math.min(cap, base * 2 ** Math.min(failures, 30));
  }

  async rest(failure, ms, slow) {
    this.say("waiting", failure.message, { error: failure, retryAt: Date.now() + ms });
    const began = Date.now();
    await new Promise((resolve) => {
      let timer = setTimeout(resolve, ms);
      this.awake = () => {
        const left = slow && !this.over ? LEAST_PAUSE - (Date.now() - began) : 0;
        clearTimeout(timer);
        timer = setTimeout(resolve, Math.max(0, Math.min(left, began + ms - Date.now())));
      };
    });
    this.awake = null;
  }

  /** The browser says that something has changed: do not wait, and see whether the line lives. */
  wake(type) {
    if (globalThis.document?.visibilityState === "hidden") return;
    if (type !== "offline") this.awake?.();
    this.line?.probe();
  }

  /** Connect once. Resolves, when the gateway is ready, to the promise of how it ends, in an object. */
  async dial(url) {
    const { options } = this;
    const given = typeof options.token === "function" ? await options.token() : options.token;
    const { token, protocols = options.protocols } = typeof given === "string" ? { token: given } : given;
    if (this.over) throw this.over;
    const socket = new (options.WebSocket ?? globalThis.WebSocket)(url, protocols);
    let ended;
    const down = new Promise((resolve) => (ended = resolve));
    const told = (frame) => this.told(line, frame, ended);
    const line = new Line(socket, options, told, (error) => {
      this.dropped(line, error);
      ended(error);
    });
    this.line = line;
    const timer = setTimeout(() => line.lose(unreachable(`${url} does not answer`)), options.connectTimeout);
    const failed = down.then((error) => Promise.reject(error));
    failed.catch(() => {});
    try {
      await Promise.race([line.opened, failed]);
      const goesOn = this.session?.token && !this.session.error;
      await Promise.race([goesOn ? this.resume(line) : this.begin(line, token), failed]);
    } catch (error) {
      line.lose(error);
      throw error;
    } finally {
      clearTimeout(timer);
    }
    return { down };
  }

  async begin(line, token) {
    const { options } = this;
    const session = new Session(options);
    const metadata = wire.identity(token, this.registered);
    this.session = session;
    session.attach(line);
    line.start(session, wire.setup({ ...options, metadata, resume: session.token }));
    if (options.lease) {
      line.send(wire.lease(MOST_LENT, MOST_LENT)); // `maxServing` bounds what comes
      await this.wait(() => session.borrow(), Date.now() + options.connectTimeout);
    }
    const ready = (await asked(session, "gateway.ready")).json();
    if (ready.renew && options.renew) {
      await this.renew(session);
      throw new GatewayError(0, "", "RENEWED"); // with a token that had run out nothing was registered
    }
    line.pace(ready);
    if (!ready.resume) session.token = null;
    session.ready = ready;
    if (options.renew && ready.expires) this.planRenewal(ready.expires - ready.time / 1000);
    this.say("online", "", { node: ready.node, resumed: false });
  }

  async resume(line) {
    const { session } = this;
    line.start(session, wire.resume(session.token, session.received, session.firstKept));
    const position = await new Promise((resolve) => (this.resumed = resolve));
    for (const frame of session.missing(position)) line.send(frame);
    session.attach(line);
    line.pace(session.ready);
    clearTimeout(this.timers.parked);
    this.timers.parked = null;
    this.say("online", "", { node: session.ready.node, resumed: true });
  }

  /** What came on stream 0 and is not the line's own. */
  told(line, frame, ended) {
    if (frame.kind === wire.RESUME_OK) {
      this.resumed?.(frame.position);
    } else if (frame.kind === wire.LEASE) {
      line.session.lease = { left: frame.count, until: Date.now() + frame.ttl };
      for (const look of [...this.waiters]) look();
    } else if (frame.kind === wire.METADATA_PUSH) {
      this.dispatchEvent(new CustomEvent("push", { detail: frame.metadata }));
    } else if (frame.kind === wire.ERROR && line === this.line) {
      this.retiring.add(line);
      this.line = this.session = null;
      ended(lost(wire.text(frame.data)));
    }
  }

  /** A line is gone. Its session waits for the next one, or ends. */
  dropped(line, error) {
    const { session } = line;
    this.retiring.delete(line);
    if (line === this.line) this.line = null;
    if (!session) return;
    const refused = error.code > 0 && error.code <= REJECTED_RESUME;
    if (session === this.session && session.token && session.ready && !refused && !this.over && this.options.reconnect) {
      session.detach();
      this.timers.parked ??= setTimeout(() => {
        this.timers.parked = null;
        session.end(lost(error.text || error.message));
      }, this.options.resumeFor);
      return;
    }
    if (session === this.session) {
      clearTimeout(this.timers.parked);
      this.timers.parked = null;
    }
    // Whoever waits for an answer to SETUP is told why it was refused.
    session.end(session.ready ? lost(error.text || error.message) : error);
  }

  async renew(session) {
    const { options } = this;
    const { token, expires_in } = await renewed((data) => asked(session, "gateway.renew", data), options.renew.secret);
    options.token = token;
    await options.renew.save?.(token);
    return expires_in;
  }

  planRenewal(seconds) {
    clearTimeout(this.timers.renew);
    this.timers.renew = setTimeout(async () => {
      try {
        this.planRenewal(await this.renew(await this.usable(Date.now() + this.options.timeout)));
      } catch {
        this.planRenewal(seconds / 5); // of what is left
      }
    }, renewal(seconds));
  }

}

async function answered(stream) {
  while (stream.receiving) await stream.change();
  if (stream.error) throw stream.error;
  return stream.queue[0] ?? new Payload(new Uint8Array(0));
}

function asked(session, route, data) {
  return answered(session.ask(wire.REQUEST_RESPONSE, wire.bytes(data), wire.routed(route)));
}
