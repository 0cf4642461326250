// Which page is shown: `#/device/kitchen?tab=sessions` is page "device", parts ["kitchen"], query {tab: "sessions"}.
import { signal } from "./lib.js";

export const place = signal(read());

addEventListener("hashchange", () => {
  place.value = read();
});

function read() {
  const [path, search = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [page, ...parts] = path.split("/").map(decode);
  return { page: page || "overview", parts, query: Object.fromEntries(new URLSearchParams(search)) };
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The address of a page: link("device", ["kitchen"], {tab: "log"}). */
export function link(page, parts = [], query = {}) {
  const path = [page, ...parts].map(encodeURIComponent).join("/");
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return `#/${path}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
}

/** Go there. */
export function go(page, parts, query) {
  location.hash = link(page, parts, query);
}

/** Change the query of this page without a step in the browser's history: filters, tabs, sorting. */
export function setQuery(change) {
  const { page, parts, query } = place.peek();
  const address = link(page, parts, { ...query, ...change });
  if (address === location.hash) return;
  history.replaceState(null, "", address);
  place.value = read();
}
