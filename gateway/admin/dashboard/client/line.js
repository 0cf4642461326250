// One socket: stream 0 on it, and whether it lives. Carries a session.

import { CONNECTION_CLOSE, GatewayError, lost, unreachable } from "./errors.js";
import * as wire from "./frames.js";

const PROBE_MS = 5000; // for an answer where the browser said that the network has changed
const FAREWELL_MS = 1000; // for the close code behind an ERROR

export class Line {
  /** `over(error)` is called once, `told(frame)` for LEASE, RESUME_OK, METADATA_PUSH and a drain. */
  constructor(socket, options, told, over) {
    Object.assign(this, { socket, options, told, over });
    this.session = null;
    this.seen = Date.now(); // when the last frame came
    this.asked = 0; // when the last KEEPALIVE went
    this.error = null; // what the peer said
    this.timers = {};
    socket.binaryType = "arraybuffer";
    this.opened = new Promise((resolve) => (socket.onopen = resolve));
    socket.onerror = () => {}; // a close comes behind it, with as much as a browser tells
    socket.onclose = (event) => this.lose(this.error ?? this.why(event), event.code);
    socket.onmessage = (event) => this.receive(event.data);
  }

  get waiting() {
    return this.socket.bufferedAmount;
  }

  why({ code, reason }) {
    if (this.session) return lost(reason || `the connection ended (${code})`);
    const offline = globalThis.navigator?.onLine === false;
    return unreachable(offline ? "this device is offline" : `nobody answers at ${this.socket.url}`);
  }

  /** From now on it carries `session`, beginning with SETUP or RESUME. */
  start(session, first) {
    this.session = session;
    this.asked = Date.now();
    this.send(first);
    this.pace();
  }

  /** The intervals, in ms, that hold where the gateway takes no shorter ones. */
  pace({ keepalive_ms: least = 0, lifetime_ms: silence = 0 } = {}) {
    this.interval = Math.max(this.options.keepalive, least);
    this.lifetime = Math.max(this.options.lifetime, silence);
    clearInterval(this.timers.keep);
    this.timers.keep = setInterval(() => this.keep(), this.interval);
  }

  send(frame) {
    if (this.socket.readyState === 1) this.socket.send(frame);
  }

  keep() {
    const silent = Date.now() - this.seen;
    if (silent >= this.lifetime) this.lose(lost(`nothing came for ${Math.round(silent / 1000)} s`));
    else if (Date.now() - this.asked >= this.interval / 2) this.ask();
  }

  ask() {
    this.asked = Date.now();
    this.send(wire.keepalive(true, this.session.received));
  }

  /** Find out soon whether the line lives. At most two KEEPALIVE an interval: a gateway counts them. */
  probe() {
    if (!this.session || this.timers.probe || Date.now() - this.asked < this.interval / 2) return;
    const before = this.seen;
    this.ask();
    this.timers.probe = setTimeout(() => {
      delete this.timers.probe;
      if (this.seen === before) this.lose(lost("the network has changed, and nobody answers"));
    }, PROBE_MS);
  }

  receive(data) {
    if (!this.over) return;
    this.seen = Date.now();
    const raw = new Uint8Array(data);
    try {
      const frame = wire.read(raw);
      if (frame.stream) this.session.take(frame, data.byteLength);
      else this.control(frame);
    } catch (error) {
      if (raw[4] & (wire.IGNORE >> 8)) return; // P24
      this.lose(error instanceof GatewayError ? error : lost(String(error)));
    }
  }

  control(frame) {
    if (frame.kind === wire.KEEPALIVE) {
      this.session.forget(frame.position);
      if (frame.flags & wire.RESPOND) this.send(wire.keepalive(false, this.session.received, frame.data));
    } else if (frame.kind === wire.ERROR && frame.word === CONNECTION_CLOSE) {
      this.session.draining = true; // the gateway waits for the streams, then closes
      this.told(frame);
    } else if (frame.kind === wire.ERROR) {
      this.error = new GatewayError(frame.word, wire.text(frame.data));
      this.timers.farewell = setTimeout(() => this.lose(this.error), FAREWELL_MS);
    } else {
      this.told(frame);
    }
  }

  lose(error, closeCode = 0) {
    const { over } = this;
    if (!over) return;
    this.over = null;
    clearInterval(this.timers.keep);
    clearTimeout(this.timers.probe);
    clearTimeout(this.timers.farewell);
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
    over(Object.assign(error, { closeCode }));
  }
}
