// Doing something to many things at once: a few at a time, so that the node's limit of requests is not met.
import { Problem } from "./api.js";

const AT_ONCE = 3;
const ATTEMPTS = 5;
const PAUSE_MS = 1_000;

/** Call `act(each)` for all; `progress(done)` after each. Gives {done, failed: [[each, error]]}. */
export async function forAll(all, act, progress = () => {}) {
  const waiting = [...all];
  const failed = [];
  let done = 0;
  async function worker() {
    while (waiting.length) {
      const each = waiting.shift();
      try {
        await patiently(() => act(each));
      } catch (error) {
        failed.push([each, error]);
      }
      done += 1;
      progress(done);
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return { done: done - failed.length, failed };
}

async function patiently(act) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 429 || attempt === ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }
}

/** Read a whole list of the API, up to `most` rows. */
export async function whole(read, most = 10_000) {
  const rows = [];
  for (let cursor; rows.length < most; ) {
    const page = await read(cursor);
    rows.push(...page.data);
    cursor = page.meta.next;
    if (!cursor) break;
  }
  return rows.slice(0, most);
}
