// One service: who serves it, how it does, what protects it, and what describes it.
import { api } from "../api.js";
import { Badge, Busy, ProblemBox } from "../form.js";
import { count, duration, rate } from "../format.js";
import { html } from "../lib.js";
import { useLoaded } from "../loading.js";
import { may } from "../login.js";
import { Guards } from "../guards.js";
import { link } from "../router.js";
import { SimpleTable } from "../table.js";
import { t } from "../words.js";
import { firstRoutes, routeColumns } from "./routes.js";

const LOOK_MS = 5_000;
const WINDOW_S = 60;

export function Service({ name }) {
  const loaded = useLoaded((signal) => read(name, signal), [name], { on: ["route.", "service.", "document."], every: LOOK_MS });
  const found = loaded.value.value;
  return html`
    <p><a href=${link("routes")}>${t("routes.all")}</a></p>
    <h1>${name}</h1>
    <${ProblemBox} problem=${loaded.problem.value} />
    ${found ? html`<${Known} name=${name} found=${found} reload=${loaded.reload} />` : !loaded.problem.value && html`<${Busy} />`}
  `;
}

async function read(name, signal) {
  const path = encodeURIComponent(name);
  const [routes, health, red, documents] = await Promise.all([
    firstRoutes(name, signal),
    api.get(`/services/${path}/health`, null, { signal }).catch((error) => {
      // Nobody serves it any more, and no document speaks of it.
      if (error.slug === "not-found") return null;
      throw error;
    }),
    may("monitoring") ? api.get("/red", { window: WINDOW_S }, { signal }) : null,
    may("policy") ? api.get("/documents", { kind: "Service", limit: 1000 }, { signal }) : null,
  ]);
  return { routes, health, red: red?.data.filter((each) => each.service === name), documents: documents?.data };
}

function Known({ name, found, reload }) {
  const names = new Set((found.health?.processes ?? []).map((each) => each.document.replace("Service/", "")));
  const documents = (found.documents ?? []).filter((each) => names.has(each.name));
  return html`
    <p><a href=${link("explain", [], { ask: "route", route: name })}>${t("routes.explainThis")}</a></p>
    <h2>${t("routes.instances")}</h2>
    <${SimpleTable} rows=${found.routes} columns=${routeColumns().filter((each) => each.key !== "service")} caption=${t("routes.instances")} rowKey=${(each) => each.id} empty=${t("routes.nobody")} />
    ${found.routes.length === 100 && html`<p><a href=${link("routes", [], { tab: "routes", q: name })}>${t("routes.more")}</a></p>`}
    ${found.red && html`<h2>${t("routes.red", { window: duration(WINDOW_S) })}</h2><${Red} rows=${found.red} />`}
    <h2>${t("routes.protection")}</h2>
    ${found.health ? html`<${Guards} name=${name} processes=${found.health.processes} reload=${reload} />` : html`<p>${t("routes.gone")}</p>`}
    ${documents.map((each) => html`<h2 key=${each.name}>Service/${each.name}</h2><pre tabindex="0" aria-label="Service/${each.name}"><code>${JSON.stringify(each.body, null, 2)}</code></pre>`)}
  `;
}

/** Rate, errors and duration, one row a rule. */
function Red({ rows }) {
  const columns = [
    { key: "route", label: t("routes.rule"), cell: (each) => each.route || t("routes.anyRule") },
    { key: "subset", label: t("routes.subset"), cell: (each) => each.subset || t("routes.whole") },
    { key: "rate", label: t("routes.rate"), number: true, cell: (each) => rate(each.rate) },
    { key: "errors", label: t("routes.errors"), number: true, cell: (each) => html`<${Errors} share=${each.error_share} />` },
    { key: "p50", label: "p50", number: true, cell: (each) => duration(each.p50_s) },
    { key: "p99", label: "p99", number: true, cell: (each) => duration(each.p99_s) },
    { key: "requests", label: t("routes.requests"), number: true, cell: (each) => count(each.requests) },
  ];
  return html`<${SimpleTable} rows=${rows} columns=${columns} caption=${t("routes.redCaption")} empty=${t("routes.noRequests")} />`;
}

/** A share of errors: from 1 % on it is worth a look, from 10 % on it is trouble. */
export const toneOf = (share) => (share >= 0.1 ? "bad" : share >= 0.01 ? "warn" : "ok");

export const Errors = ({ share }) => html`<${Badge} tone=${toneOf(share)}>${t("routes.percent", { n: (share * 100).toFixed(share && share < 0.1 ? 1 : 0) })}</${Badge}>`;
