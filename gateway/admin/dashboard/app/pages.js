// Every page: its name in the address, its section of the navigation (null: reached by links alone), the scope that it
// reads, and its module. `action`: what one must be allowed within the scope, where that is not to read. `sample`: what
// to open it with, where it needs something (tests walk this list).

export const SECTIONS = ["now", "fleet", "mesh", "work", "node"];

export const PAGES = [
  { path: "overview", section: "now", scope: "monitoring", load: () => import("./pages/overview.js") },
  { path: "devices", section: "fleet", scope: "devices", load: () => import("./pages/devices.js") },
  { path: "device", section: null, scope: "devices", sample: ["thermostat-1"], load: () => import("./pages/device.js") },
  { path: "add-device", section: "fleet", scope: "devices", action: "write", load: () => import("./pages/add-device.js") },
  { path: "connections", section: "fleet", scope: "connections", load: () => import("./pages/connections.js") },
  { path: "connection", section: null, scope: "connections", load: () => import("./pages/connection.js") },
  { path: "enrollment", section: "fleet", scope: "enrollment", load: () => import("./pages/enrollment.js") },
  { path: "firmware", section: "fleet", scope: "devices", load: () => import("./pages/firmware.js") },
  { path: "rollout", section: null, scope: "devices", load: () => import("./pages/rollout.js") },
  { path: "topology", section: "mesh", scope: "federation", load: () => import("./pages/topology.js") },
  { path: "federation", section: "mesh", scope: "federation", load: () => import("./pages/federation.js") },
  { path: "routes", section: "mesh", scope: "routing", load: () => import("./pages/routes.js") },
  { path: "graph", section: "mesh", scope: "monitoring", load: () => import("./pages/graph.js") },
  { path: "explain", section: "mesh", scope: "any", load: () => import("./pages/explain.js") },
  { path: "resilience", section: "mesh", scope: "routing", load: () => import("./pages/resilience.js") },
  { path: "console", section: "work", scope: "publish", action: "publish", load: () => import("./pages/console.js") },
  { path: "tap", section: "work", scope: "monitoring", load: () => import("./pages/tap.js") },
  { path: "mqtt", section: "work", scope: "mqtt", load: () => import("./pages/mqtt.js") },
  { path: "documents", section: "work", scope: "policy", load: () => import("./pages/documents.js") },
  { path: "events", section: "work", scope: "monitoring", load: () => import("./pages/events.js") },
  { path: "audit", section: "work", scope: "audit", load: () => import("./pages/audit.js") },
  { path: "settings", section: "node", scope: "config", load: () => import("./pages/settings.js") },
  { path: "users", section: "node", scope: "users", load: () => import("./pages/users.js") },
  { path: "api-keys", section: "node", scope: "api_keys", load: () => import("./pages/api-keys.js") },
  { path: "certificates", section: "node", scope: "system", load: () => import("./pages/certificates.js") },
  { path: "backups", section: "node", scope: "backup", load: () => import("./pages/backups.js") },
  { path: "diagnostics", section: "node", scope: "monitoring", load: () => import("./pages/diagnostics.js") },
  { path: "account", section: null, scope: "any", load: () => import("./pages/account.js") },
];

export const pageOf = (path) => PAGES.find((page) => page.path === path);
