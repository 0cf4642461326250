// One exchange, of any interaction model, on either side of it.

import { GatewayError, INVALID, malformed } from "./errors.js";
import * as wire from "./frames.js";

const FRAGMENT_COST = 16; // of a fragment on top of its bytes, so that a flood of empty ones ends, too (P42)

/** Data and metadata as they came, and the data as text or JSON. */
export class Payload {
  constructor(data, metadata = null) {
    this.data = data;
    this.metadata = metadata;
  }
  text() {
    return wire.text(this.data);
  }
  json() {
    return JSON.parse(this.text());
  }
}

export class Stream {
  // `home`: the session's table that it stands in for as long as one direction is open.
  constructor(session, home, id, kind) {
    Object.assign(this, { session, home, id, kind });
    this.receiving = this.sending = false;
    this.queue = []; // payloads that came and were not taken; credit bounds it
    this.due = 0; // credit that the peer has of us
    this.credit = 0; // what we have of the peer
    this.error = null;
    this.partial = null; // fragments of an unfinished payload
    this.ending = []; // called when it is over
    this.begun = true; // false: a request of which fragments are missing
    this.waiting = null;
    home.set(id, this);
  }

  /** Resolves when something has changed. */
  change() {
    this.waiting ??= resolvers();
    return this.waiting.promise;
  }

  wake() {
    this.waiting?.resolve();
    this.waiting = null;
  }

  grant(n) {
    this.due += n;
    this.session.send(wire.REQUEST_N, this.id, 0, undefined, null, n);
  }

  item(value) {
    this.credit -= 1;
    const [data, metadata] = value instanceof Payload ? [value.data, value.metadata] : [value, null];
    this.session.send(wire.PAYLOAD, this.id, wire.NEXT, wire.bytes(data), metadata);
  }

  complete() {
    if (!this.sending) return;
    this.session.send(wire.PAYLOAD, this.id, wire.COMPLETE);
    this.close(this.receiving, false);
  }

  /** End it here and CANCEL there, unless it is over. */
  cancel(error = null) {
    if (!this.receiving && !this.sending) return;
    this.session.send(wire.CANCEL, this.id, 0);
    this.close(false, false, error);
  }

  /** Take nothing more. A requester ends everything with that; a responder still answers. */
  leave() {
    if (this.home === this.session.asking) {
      this.cancel();
    } else if (this.receiving) {
      this.session.send(wire.CANCEL, this.id, 0);
      this.close(false, this.sending);
    }
  }

  /** Answer with ERROR; to fire-and-forget with nothing (P35). */
  refuse(code, text) {
    if (!this.home.has(this.id)) return;
    if (this.kind !== wire.REQUEST_FNF) {
      this.session.send(wire.ERROR, this.id, 0, wire.bytes(text.slice(0, 500)), null, code);
    }
    this.close(false, false, new GatewayError(code, text));
  }

  close(receiving, sending, error = null) {
    this.receiving = receiving;
    this.sending = sending;
    this.error ??= error;
    if (!receiving && !sending) {
      this.partial = null;
      this.home.delete(this.id);
      for (const ended of this.ending.splice(0)) ended();
    }
    this.wake();
  }

  /** A frame of this stream that is no new request. */
  take(frame) {
    if (frame.kind === wire.PAYLOAD) {
      const whole = this.whole(frame);
      if (whole && this.begun) this.payload(whole);
      else if (whole) this.session.serve(this, whole);
    } else if (frame.kind === wire.REQUEST_N) {
      this.credit = Math.min(this.credit + frame.word, wire.MAX_N);
      this.wake();
    } else if (frame.kind === wire.ERROR) {
      this.close(false, false, new GatewayError(frame.word, wire.text(frame.data)));
    } else if (frame.kind === wire.CANCEL) {
      // A responder's ends what we send; a requester's ends everything (P33).
      const asked = this.home === this.session.asking;
      this.close(asked && this.receiving, false);
    }
  }

  payload({ flags, data, metadata }) {
    if (!this.receiving) return;
    if (flags & wire.NEXT) {
      if (this.due < 1) {
        this.cancel(new GatewayError(INVALID, "more items came than were asked for"));
        return;
      }
      this.due -= 1;
      this.queue.push(new Payload(data, metadata));
    }
    if (flags & wire.COMPLETE || this.kind === wire.REQUEST_RESPONSE) this.close(false, this.sending);
    else this.wake();
  }

  /** The payload that a frame is or makes whole; null while fragments are missing, and when they are too many (P42). */
  whole({ flags, data, metadata, word }) {
    const more = flags & wire.FOLLOWS && !(flags & wire.COMPLETE); // P34
    if (!more && !this.partial) return { flags, data, metadata, word };
    const partial = (this.partial ??= { size: 0, data: [], metadata: null, word });
    partial.size += data.length + (metadata?.length ?? 0) + FRAGMENT_COST;
    if (partial.size > this.session.options.maxPayload) {
      const text = `a payload longer than ${this.session.options.maxPayload} bytes`;
      if (this.receiving) this.cancel(malformed(text));
      else this.refuse(INVALID, text);
      return null;
    }
    partial.data.push(data);
    if (metadata) partial.metadata = [...(partial.metadata ?? []), metadata];
    if (more) return null;
    this.partial = null;
    const joined = partial.metadata && wire.joined(partial.metadata);
    return { flags: flags | wire.NEXT, data: wire.joined(partial.data), metadata: joined, word: partial.word };
  }

  /** Send what `items` yields as the peer gives credit, then COMPLETE; one item is taken for each that may leave. */
  async pump(items) {
    const source = items[Symbol.asyncIterator]?.() ?? items[Symbol.iterator]();
    this.ending.push(() => void Promise.resolve(source.return?.()).catch(() => {}));
    while (this.sending) {
      if (this.credit < 1) {
        await this.change();
        continue;
      }
      const { value, done } = await source.next();
      if (done) return this.complete();
      await this.session.writable();
      if (this.sending) this.item(value);
    }
  }
}

export function resolvers() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}

/**
 * What comes on a stream, one at a time: `for await (const payload of items)`. The peer has credit for `window` items,
 * and gets more when half of them were taken; with a window of 0 `request(n)` alone gives credit. Leaving the loop
 * cancels. `begin(n)` opens the stream with its first credit.
 */
export class Items {
  constructor(window, begin, signal = null) {
    Object.assign(this, { window, begin, signal });
    this.granted = 0; // credit given before the stream was open
    this.opening = null;
    this.stream = null;
    this.over = false;
    this.asked = resolvers();
  }

  /** Credit for `n` more. The first one sends the request. */
  request(n) {
    if (!Number.isInteger(n) || n < 1 || n > wire.MAX_N) throw new RangeError(`no credit: ${n}`);
    if (this.over) return;
    if (this.stream) {
      if (this.stream.receiving) this.stream.grant(n);
    } else {
      this.granted = Math.min(this.granted + n, wire.MAX_N);
      if (!this.opening) {
        this.opening = this.open();
        this.opening.catch(() => {}); // `next` tells
      }
      this.asked.resolve();
    }
  }

  async open() {
    this.signal?.throwIfAborted();
    let told = this.granted;
    const stream = await this.begin(() => (told = this.granted));
    if (this.over) return stream.cancel();
    this.stream = stream;
    const abort = () => stream.cancel(this.signal.reason);
    this.signal?.addEventListener("abort", abort);
    stream.ending.push(() => this.signal?.removeEventListener("abort", abort));
    if (this.granted > told) stream.grant(this.granted - told);
  }

  async next() {
    if (this.over) return { value: undefined, done: true };
    if (!this.opening) {
      if (this.window) this.request(this.window);
      else await this.asked.promise;
    }
    await this.opening;
    const { stream } = this;
    if (!stream) return { value: undefined, done: true };
    if (this.window && stream.receiving) {
      const ahead = stream.due + stream.queue.length;
      if (ahead <= this.window / 2) stream.grant(this.window - ahead);
    }
    while (!stream.queue.length) {
      if (!stream.receiving) {
        this.over = true;
        if (stream.error) throw stream.error;
        return { value: undefined, done: true };
      }
      await stream.change();
    }
    return { value: stream.queue.shift(), done: false };
  }

  async return() {
    this.over = true;
    this.asked.resolve();
    this.stream?.leave();
    return { value: undefined, done: true };
  }

  [Symbol.asyncIterator]() {
    return this;
  }
}
