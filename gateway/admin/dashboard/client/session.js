// One RSocket session: its streams, whichever socket carries them, and what resuming needs. Knows no reconnecting.

import { APPLICATION_ERROR, GatewayError, INVALID, REJECTED } from "./errors.js";
import * as wire from "./frames.js";
import { Items, Payload, Stream, resolvers } from "./stream.js";

const MODELS = {
  [wire.REQUEST_RESPONSE]: "request",
  [wire.REQUEST_FNF]: "fireAndForget",
  [wire.REQUEST_STREAM]: "stream",
  [wire.REQUEST_CHANNEL]: "channel",
};
const CROWDED = 1 << 20; // bytes that wait in the socket above which nobody sends more
const LOOK_MS = 20; // between two looks at them: a browser does not tell

export class Session {
  constructor(options) {
    this.options = options;
    this.handlers = new Map(Object.entries(options.routes));
    this.asking = new Map();
    this.serving = new Map();
    this.nextId = 1;
    this.line = null; // what carries it now
    this.attached = resolvers();
    this.error = null; // why it is over
    this.ready = null; // what the gateway said of it
    this.draining = false;
    this.lease = { left: 0, until: 0 };
    this.token = options.resume ? crypto.getRandomValues(new Uint8Array(16)) : null;
    // Positions count bytes of frames of streams (P50). Of what was sent the last frames are kept, `resume` bytes of them.
    this.received = this.sent = this.firstKept = 0;
    this.kept = [];
  }

  // What goes out

  send(kind, stream, flags, data, metadata = null, word = 0) {
    if (this.error) return;
    for (const frame of wire.fragments(this.options.fragment, kind, stream, flags, data, metadata, word)) {
      if (this.token) this.keep(frame);
      this.line?.send(frame);
    }
  }

  keep(frame) {
    this.kept.push(frame);
    this.sent += frame.length;
    this.forget(this.sent - this.options.resume);
  }

  /** The peer has all before `position`: P54. Whole frames go. */
  forget(position) {
    let gone = 0;
    while (gone < this.kept.length && this.firstKept + this.kept[gone].length <= position) {
      this.firstKept += this.kept[gone++].length;
    }
    if (gone) this.kept.splice(0, gone);
  }

  /** Wait for a socket that takes more. Throws why the session ended. */
  async writable() {
    for (;;) {
      if (this.error) throw this.error;
      if (!this.line) await this.attached.promise;
      else if (this.line.waiting < CROWDED) return;
      else await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  /** A stream of our own, its request sent. `n`: first credit; more is to come on a channel unless `complete`. */
  ask(kind, data, metadata, { n = 0, complete = false } = {}) {
    while (this.asking.has(this.nextId)) this.nextId = (this.nextId + 2) & wire.MAX_N;
    const stream = new Stream(this, this.asking, this.nextId, kind);
    this.nextId = (this.nextId + 2) & wire.MAX_N;
    stream.receiving = kind !== wire.REQUEST_FNF;
    stream.sending = kind === wire.REQUEST_CHANNEL && !complete;
    stream.due = n || 1;
    this.send(kind, stream.id, complete ? wire.COMPLETE : 0, data, metadata, n);
    if (kind === wire.REQUEST_FNF) stream.close(false, false);
    return stream;
  }

  /** Whether one more request is lent; takes it. */
  borrow() {
    if (!this.options.lease) return true;
    if (this.lease.left < 1 || Date.now() >= this.lease.until) return false;
    this.lease.left -= 1;
    return true;
  }

  // What comes in

  /** A frame of a stream, `size` bytes long. */
  take(frame, size) {
    this.received += size;
    const ours = frame.stream & 1;
    const stream = (ours ? this.asking : this.serving).get(frame.stream);
    if (stream) stream.take(frame);
    else if (!ours && MODELS[frame.kind]) this.accept(frame);
  }

  accept(frame) {
    const stream = new Stream(this, this.serving, frame.stream, frame.kind);
    stream.begun = false;
    stream.sending = true;
    if (this.serving.size > this.options.maxServing) {
      stream.refuse(REJECTED, "busy");
      return;
    }
    const whole = stream.whole(frame);
    if (whole) this.serve(stream, whole);
  }

  serve(stream, { flags, data, metadata, word }) {
    stream.begun = true;
    let request;
    try {
      request = wire.requestOf(metadata);
    } catch (error) {
      stream.refuse(INVALID, error.message);
      return;
    }
    const handler = this.handler(request.route, MODELS[stream.kind]);
    if (!handler) {
      stream.refuse(REJECTED, `no handler for ${request.route || "a request without a route"}`);
      return;
    }
    const leaving = new AbortController();
    stream.ending.push(() => leaving.abort());
    request.signal = leaving.signal;
    stream.credit += word ?? 0;
    this.answer(stream, handler, new Payload(data, metadata), request, flags).catch((error) => {
      const coded = error instanceof GatewayError && error.code > APPLICATION_ERROR;
      if (!coded && this.serving.has(stream.id)) console.error(`handler of ${request.route}:`, error);
      stream.refuse(coded ? error.code : APPLICATION_ERROR, coded ? error.text : error?.name ?? "Error");
    });
  }

  async answer(stream, handler, payload, request, flags) {
    if (stream.kind === wire.REQUEST_STREAM) {
      await stream.pump(handler(payload, request));
    } else if (stream.kind === wire.REQUEST_CHANNEL) {
      stream.receiving = !(flags & wire.COMPLETE);
      stream.queue.push(payload);
      const items = new Items(this.options.credit, null);
      items.opening = Promise.resolve();
      items.stream = stream;
      await stream.pump(handler(items, request));
      stream.cancel();
    } else {
      const answer = await handler(payload, request);
      if (stream.sending && stream.kind === wire.REQUEST_RESPONSE) {
        await this.writable();
        const [out, metadata] = answer instanceof Payload ? [answer.data, answer.metadata] : [answer, null];
        if (stream.sending) this.send(wire.PAYLOAD, stream.id, wire.NEXT | wire.COMPLETE, wire.bytes(out), metadata);
      }
      stream.close(false, false);
    }
  }

  /** An exact match wins; else a service's name is taken off at a `.` or `/`; else "*". A function takes requests. */
  handler(route, model) {
    const names = [route];
    for (const service of Object.keys(this.options.services)) {
      if (route === service) names.push("");
      else if (route.startsWith(service) && "./".includes(route[service.length])) {
        names.push(route.slice(service.length + 1));
      }
    }
    for (const name of [...names, "*"]) {
      const found = this.handlers.get(name);
      const plain = typeof found === "function" && (model === "request" || model === "fireAndForget");
      const handler = plain ? found : found?.[model];
      if (handler) return handler;
    }
    return null;
  }

  // Its life

  attach(line) {
    this.line = line;
    this.attached.resolve();
  }

  /** No socket carries it. */
  detach() {
    this.line = null;
    this.attached = resolvers();
  }

  /** Frames that the peer, which has all before `position`, lacks. */
  *missing(position) {
    this.forget(position);
    yield* [...this.kept];
  }

  end(error) {
    if (this.error) return;
    this.error = error;
    this.line = null;
    this.kept = [];
    for (const stream of [...this.asking.values(), ...this.serving.values()]) stream.close(false, false, error);
    this.attached.resolve();
  }
}
