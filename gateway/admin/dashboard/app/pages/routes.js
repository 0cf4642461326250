// Who serves what: the services with their counters, and every registration with the node that it is at.
import { api } from "../api.js";
import { Badge, Field, Tabs } from "../form.js";
import { count } from "../format.js";
import { html, useSignal } from "../lib.js";
import { useTicks } from "../loading.js";
import { link, setQuery } from "../router.js";
import { PagedTable } from "../table.js";
import { t, words } from "../words.js";
import WORDS from "../words/routes.js";
import { Service } from "./service.js";

words(WORDS);

const LOOK_MS = 5_000;

export const title = () => t("routes.title");

export function Page({ parts, query }) {
  if (parts[0]) return html`<${Service} key=${parts[0]} name=${parts[0]} />`;
  const tab = query.tab ?? "services";
  return html`
    <h1>${title()}</h1>
    <${Tabs} label=${title()} options=${[["services", t("routes.services")], ["routes", t("routes.routes")]]} chosen=${tab} choose=${(to) => setQuery({ tab: to })} />
    <div class="bar">
      <${Field} label=${t("routes.find")} type="search" value=${query.q ?? ""} onInput=${(event) => setQuery({ q: event.currentTarget.value || null })} />
      <p><a href=${link("explain", [], { ask: "route" })}>${t("routes.explain")}</a></p>
    </div>
    ${tab === "routes" ? html`<${Routes} q=${query.q} />` : html`<${Services} q=${query.q} />`}
  `;
}

function Services({ q }) {
  const ticks = useTicks(LOOK_MS);
  const columns = [
    { key: "name", label: t("routes.service"), cell: ({ name }) => (name ? html`<a href=${link("routes", [name])}>${name}</a>` : t("routes.unnamed")) },
    { key: "instances", label: t("routes.instances"), number: true, cell: (each) => count(each.instances) },
    { key: "open", label: t("routes.open"), number: true, cell: (each) => count(each.open) },
    { key: "requests", label: t("routes.requests"), number: true, cell: (each) => count(each.requests) },
    { key: "ok", label: t("routes.ok"), number: true, cell: (each) => count(each.ok) },
    { key: "failed", label: t("routes.failed"), number: true, cell: (each) => count(each.failed) },
    { key: "refused", label: t("routes.refused"), number: true, cell: (each) => count(each.refused) },
    { key: "canceled", label: t("routes.canceled"), number: true, cell: (each) => count(each.canceled) },
  ];
  return html`<${PagedTable} path="/services" params=${{ q }} columns=${columns} caption=${t("routes.services")} rowKey=${(each) => each.name} version=${ticks} on=${["route."]} empty=${t("routes.noServices")} />`;
}

function Routes({ q }) {
  const sort = useSignal("service");
  return html`<${PagedTable} path="/routes" params=${{ q }} columns=${routeColumns()} caption=${t("routes.routes")} rowKey=${(each) => each.id} sort=${sort.value} onSort=${(to) => (sort.value = to)} on=${["route."]} empty=${t("routes.noRoutes")} />`;
}

/** Columns of a list of routes. */
export const routeColumns = () => [
  { key: "service", label: t("routes.service"), sort: "service", cell: ({ service }) => (service ? html`<a href=${link("routes", [service])}>${service}</a>` : t("routes.bySubject")) },
  { key: "subject", label: t("routes.subject"), sort: "subject" },
  { key: "node", label: t("routes.node") },
  { key: "link", label: t("routes.link"), cell: (each) => html`<${Badge} tone=${each.link === "local" ? "ok" : "quiet"}>${t(`routes.link.${each.link}`)}</${Badge}>` },
  { key: "pending", label: t("routes.pending"), sort: "pending", number: true, cell: (each) => count(each.pending) },
  { key: "tags", label: t("routes.tags"), cell: (each) => Object.entries(each.tags).map(([key, value]) => html`<code key=${key}>${key}=${value}</code> `) },
  { key: "connection", label: t("routes.connection"), cell: (each) => html`<a href=${link("connection", [each.connection])}>${each.connection}</a>` },
];

/** All pages of a list that is short for one service. */
export async function firstRoutes(service, signal) {
  return (await api.get("/routes", { service, limit: 100 }, { signal })).data;
}
