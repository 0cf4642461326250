// Every page: its name in the address, its section of the navigation (null: reached by links alone), the scope that it
// reads, and its module. `sample`: what to open it with, where it needs something (tests walk this list).

export const SECTIONS = ["now", "fleet", "mesh", "work", "node"];

export const PAGES = [
  { path: "overview", section: "now", scope: "monitoring", load: () => import("./pages/overview.js") },
  { path: "account", section: null, scope: "any", load: () => import("./pages/account.js") },
];

export const pageOf = (path) => PAGES.find((page) => page.path === path);
