// The page without a network: what the node gave last time. With one, the node is asked first, so an upgrade shows at once.

const SHELL = "shell";
const FILES = [
  "./", "phone.css", "phone.js", "credential.js", "outbox.js", "scanner.js", "icon.svg", "icon-180.png",
  "icon-512.png", "manifest.webmanifest",
  "client/gateway-client.js", "client/errors.js", "client/frames.js", "client/line.js", "client/renew.js",
  "client/session.js", "client/stream.js", "vendor/jsqr.js",
];

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(SHELL).then((cache) => cache.addAll(FILES)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  if (event.request.method === "GET") event.respondWith(answered(event.request));
});

async function answered(request) {
  const cache = await caches.open(SHELL);
  try {
    const answer = await fetch(request);
    if (answer.ok) await cache.put(request, answer.clone());
    return answer;
  } catch (error) {
    const kept = await cache.match(request, { ignoreSearch: true });
    if (kept) return kept;
    throw error;
  }
}
