// A request of the console as a line for a shell: what `gateway request`, `stream`, `fnf` and `channel` take.
import { textOf, toBase64 } from "./payload.js";

/** A word as a POSIX shell takes it. */
export const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** Text that cannot be an argument as it stands: read from elsewhere, taken for an option, or with a byte 0. */
const unfit = (text) => text === null || /^[-@]/.test(text) || text.includes("\0");

/**
 * `model`: request, stream, fnf or channel. `data`: bytes; of a channel a list of them. `tags`: of key and value.
 * `credit` of a stream or channel; `count`: items after which it ends, 0 for none. `timeout` in seconds.
 * null where the command line has nothing of the kind.
 */
export function command({ model, route, data, tags = {}, url, credit, count = 0, timeout }) {
  const words = ["gateway", model, quoted(route)];
  const options = Object.entries(tags).map(([key, value]) => `--tag ${quoted(`${key}=${value}`)}`);
  if (model === "stream" || model === "channel") options.push(`--credit ${credit}`);
  if (model === "stream" && count) options.push(`--count ${count}`);
  if (model === "request" && timeout) options.push(`--timeout ${timeout}s`);
  if (url) options.push(`--url ${quoted(url)}`);
  if (model === "push") return null;
  if (model === "channel") {
    const lines = data.map(textOf);
    // An item is a line there, so an item of several lines, or of other bytes, cannot be said.
    if (lines.some((line) => line === null || /[\n\0]/.test(line))) return null;
    return `printf '%s\\n' ${lines.map(quotedLine).join(" ")} | ${[...words, ...options].join(" ")}`;
  }
  if (!data.length) return [...words, ...options].join(" ");
  const text = textOf(data);
  if (text === null) return `printf %s ${toBase64(data)} | base64 -d | ${[...words, "-", ...options].join(" ")}`;
  if (unfit(text)) return `printf %s ${quoted(text)} | ${[...words, "-", ...options].join(" ")}`;
  return [...words, quoted(text), ...options].join(" ");
}

const quotedLine = (line) => (line === "" ? "''" : quoted(line));
