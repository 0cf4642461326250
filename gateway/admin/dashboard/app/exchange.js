// One request of the console while it runs: what was granted, what came, how it ended. Figures are signals.
import { batch, signal } from "./lib.js";

/** Items that are kept; the figures count all. */
export const KEPT = 200;

export class Exchange {
  /** `model`: request, fnf, stream, channel or push. `window`: items granted at a time; `refill`: by itself. */
  constructor(model, { window = 1, refill = false } = {}) {
    Object.assign(this, { model, window, refill });
    /** waiting, open, done, failed or canceled. */
    this.state = signal("waiting");
    this.items = signal([]);
    this.received = signal(0);
    this.bytes = signal(0);
    this.granted = signal(0);
    this.sent = signal(0);
    /** Whether the responder would take an item of ours. */
    this.wanted = signal(false);
    this.error = signal(null);
    /** Seconds to its end; null while it runs. */
    this.took = signal(null);
    this.began = performance.now();
    this.at = new Date();
    this.ending = new AbortController();
    this.source = null;
    this.feed = model === "channel" ? new Feed(this) : null;
    this.fresh = [];
    this.count = 0;
    this.size = 0;
    this.drawing = null;
  }

  get running() {
    return this.state.value === "waiting" || this.state.value === "open";
  }

  /** Send it over `link` and follow it to its end. Never rejects: the outcome is in the signals. */
  async run(link, route, data, options) {
    try {
      if (this.model === "push") await link.metadataPush(data);
      else if (this.model === "fnf") await link.fireAndForget(route, data, this.with(options));
      else if (this.model === "request") this.take(await link.request(route, data, this.with(options)));
      else await this.follow(link, route, data, options);
      this.end(this.ending.signal.aborted ? "canceled" : "done");
    } catch (error) {
      this.end(this.ending.signal.aborted ? "canceled" : "failed", error);
    }
  }

  with(options) {
    return { ...options, signal: this.ending.signal };
  }

  async follow(link, route, data, options) {
    const given = { ...this.with(options), credit: "manual" };
    if (this.feed) {
      this.feed.push(data);
      this.source = link.channel(route, this.feed, given);
    } else this.source = link.stream(route, data, given);
    this.grant(this.window);
    this.state.value = "open";
    for await (const item of this.source) {
      this.take(item);
      if (this.refill && this.granted.peek() - this.count <= this.window / 2) this.grant(this.window - (this.granted.peek() - this.count));
    }
  }

  /** Let `n` more items come. */
  grant(n) {
    if (!this.source || this.took.peek() !== null) return;
    this.source.request(n);
    this.granted.value += n;
  }

  /** Send an item of a channel; it leaves when the responder asks for it. */
  send(data) {
    this.feed.push(data);
  }

  /** Say that no item of ours follows. */
  complete() {
    this.feed.end();
  }

  cancel() {
    this.ending.abort(new DOMException("canceled", "AbortError"));
    this.feed?.end();
    this.source?.return();
    this.end("canceled");
  }

  take({ data, metadata }) {
    this.count += 1;
    this.size += data.length;
    this.fresh.push({ number: this.count, after: (performance.now() - this.began) / 1000, data, metadata });
    // A fast stream draws once a frame of the screen, not once an item.
    this.drawing ??= setTimeout(() => this.draw(), 50);
  }

  draw() {
    clearTimeout(this.drawing);
    this.drawing = null;
    batch(() => {
      this.items.value = this.items.peek().concat(this.fresh).slice(-KEPT);
      this.received.value = this.count;
      this.bytes.value = this.size;
    });
    this.fresh = [];
  }

  end(state, error = null) {
    if (this.took.peek() !== null) return;
    this.draw();
    batch(() => {
      this.state.value = state;
      this.error.value = state === "failed" ? error : null;
      this.took.value = (performance.now() - this.began) / 1000;
      this.wanted.value = false;
    });
  }
}

/** What goes out over a channel: items that somebody adds, taken one for each that the responder has asked for. */
class Feed {
  constructor(exchange) {
    this.exchange = exchange;
    this.queue = [];
    /** What has left, as far as it is kept. */
    this.past = [];
    this.over = false;
    this.taker = null;
  }

  push(data) {
    if (this.over) return;
    this.queue.push(data);
    this.give();
  }

  end() {
    this.over = true;
    this.give();
  }

  give() {
    if (!this.taker || (!this.queue.length && !this.over)) return;
    const take = this.taker;
    this.taker = null;
    this.exchange.wanted.value = false;
    if (this.queue.length) {
      const value = this.queue.shift();
      if (this.past.length < KEPT) this.past.push(value);
      this.exchange.sent.value += 1;
      take({ value, done: false });
    } else take({ value: undefined, done: true });
  }

  next() {
    return new Promise((resolve) => {
      this.taker = resolve;
      this.exchange.wanted.value = true;
      this.give();
    });
  }

  async return() {
    this.over = true;
    this.exchange.wanted.value = false;
    return { value: undefined, done: true };
  }

  [Symbol.asyncIterator]() {
    return this;
  }
}
