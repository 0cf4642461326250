// What this phone posts, kept in IndexedDB until the gateway has it. docs/spool.md: posts have an epoch and a number, the
// next one goes when the one before was answered, and one that is sent again has the number that it had.

const ENTRY = "message/x.gateway.post.v0";
const PATIENCE_MS = 120_000; // longer than a session waits for its next connection
const MOST = 10_000; // that wait; then the oldest go
const REFUSALS = ["APPLICATION_ERROR", "INVALID", "APPLICATION_CODE"]; // it would be no better the next time

const done = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

export class Outbox {
  static async open() {
    const opening = indexedDB.open("gateway-outbox", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("posts", { autoIncrement: true });
    const outbox = new Outbox(await done(opening));
    outbox.waiting = await done(outbox.store("readonly").count());
    return outbox;
  }

  constructor(database) {
    this.database = database;
    [this.epoch] = crypto.getRandomValues(new Uint32Array(1));
    this.number = this.acknowledged = this.dropped = this.waiting = 0;
    this.trouble = "";
    this.onchange = () => {};
    this.some = null;
  }

  store(mode) {
    return this.database.transaction("posts", mode, { durability: "strict" }).objectStore("posts");
  }

  /** Resolves when it is kept. */
  async post(route, data) {
    await done(this.store("readwrite").add({ route, data, epoch: this.epoch, number: ++this.number }));
    this.waiting += 1;
    if (this.waiting > MOST) {
      const first = await this.first();
      await this.remove(first.key);
      this.dropped += 1;
    }
    this.some?.();
    this.onchange();
  }

  async first() {
    const cursor = await done(this.store("readonly").openCursor());
    return cursor && { key: cursor.key, ...cursor.value };
  }

  async remove(key) {
    await done(this.store("readwrite").delete(key));
    this.waiting -= 1;
  }

  async clear() {
    await done(this.store("readwrite").clear());
    this.waiting = 0;
  }

  /** Send what is there, and what comes, until the link is closed. */
  async send(link) {
    for (;;) {
      const post = await this.first();
      if (!post) {
        await new Promise((resolve) => (this.some = resolve));
        continue;
      }
      const entry = new Uint8Array(8);
      new DataView(entry.buffer).setUint32(0, post.epoch);
      new DataView(entry.buffer).setUint32(4, post.number);
      try {
        await link.request(post.route, post.data, { metadata: [[ENTRY, entry]], timeout: PATIENCE_MS });
        this.acknowledged += 1;
        this.trouble = "";
      } catch (error) {
        if (error.name === "CLOSED") return;
        this.trouble = error.message;
        if (!REFUSALS.includes(error.name)) {
          this.onchange();
          await new Promise((resolve) => setTimeout(resolve, 1000 + Math.random() * 2000));
          continue;
        }
        this.dropped += 1;
      }
      await this.remove(post.key);
      this.onchange();
    }
  }
}
