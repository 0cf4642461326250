// What protects services, what waits on disk for those that are away, and what was refused and why.
import { api } from "../api.js";
import { Badge, Busy, Facts, Field, ProblemBox, Tabs } from "../form.js";
import { bytes, count, duration } from "../format.js";
import { Guards, guardState } from "../guards.js";
import { html, useSignal } from "../lib.js";
import { useLoaded, useTicks } from "../loading.js";
import { stats } from "../live.js";
import { may } from "../login.js";
import { refusalText } from "../refusals.js";
import { link, setQuery } from "../router.js";
import { PagedTable, SimpleTable } from "../table.js";
import { t, words } from "../words.js";
import WORDS from "../words/resilience.js";
import { Spool } from "./spool.js";

words(WORDS);

const LOOK_MS = 5_000;
/** So many services are asked how they are protected; of the others one has to say the name. */
const MOST = 40;

export const title = () => t("resilience.title");

export function Page({ parts, query }) {
  if (parts[0] === "spool" && parts[1]) return html`<${Spool} key=${parts[1]} name=${parts[1]} />`;
  const tabs = ["services", "spools", ...(may("monitoring") ? ["refused"] : [])];
  const tab = tabs.includes(query.tab) ? query.tab : "services";
  const Shown = { services: Services, spools: Spools, refused: Refused }[tab];
  return html`
    <h1>${title()}</h1>
    <${Tabs} label=${title()} options=${tabs.map((each) => [each, t(`resilience.tab.${each}`)])} chosen=${tab} choose=${(to) => setQuery({ tab: to })} />
    <${Shown} query=${query} />
  `;
}

async function guarded(q, signal) {
  const { data, meta } = await api.get("/services", { q, limit: MOST }, { signal });
  const rows = await Promise.all(
    data.filter((each) => each.name).map(async ({ name }) => {
      const health = await api.get(`/services/${encodeURIComponent(name)}/health`, null, { signal }).catch((error) => {
        // It left in the meantime.
        if (error.status === 404) return { processes: [] };
        throw error;
      });
      return { name, processes: health.processes };
    }),
  );
  return { rows: rows.filter((each) => each.processes.length), more: Boolean(meta.next), all: rows.length };
}

function Services({ query }) {
  const q = query.q ?? "";
  const loaded = useLoaded((signal) => guarded(q, signal), [q], { on: ["service.", "document."], every: LOOK_MS });
  const found = loaded.value.value;
  const open = query.service;
  const columns = [
    { key: "name", label: t("resilience.service"), cell: ({ name }) => html`<button type="button" class="link" aria-pressed=${name === open ? "true" : "false"} onClick=${() => setQuery({ service: name === open ? null : name })}>${name}</button>` },
    { key: "state", label: t("resilience.state"), cell: ({ processes }) => html`<${GuardBadge} processes=${processes} />` },
    { key: "document", label: t("resilience.document"), cell: ({ processes }) => html`<code>${processes[0].document}</code>` },
    { key: "ejected", label: t("resilience.ejected"), number: true, cell: ({ processes }) => count(total(processes, (each) => each.ejected.length)) },
    { key: "open", label: t("resilience.open"), number: true, cell: ({ processes }) => count(total(processes, (each) => each.open)) },
    { key: "waiting", label: t("resilience.waiting"), number: true, cell: ({ processes }) => count(total(processes, (each) => each.waiting)) },
    { key: "refused", label: t("resilience.refused"), number: true, cell: ({ processes }) => count(total(processes, (each) => sum(each.refused))) },
    { key: "retries", label: t("resilience.retries"), number: true, cell: ({ processes }) => count(total(processes, (each) => sum(each.retries))) },
  ];
  const chosen = found?.rows.find((each) => each.name === open);
  return html`
    <div class="bar"><${Field} label=${t("resilience.find")} type="search" value=${q} onInput=${(event) => setQuery({ q: event.currentTarget.value || null })} /></div>
    <${ProblemBox} problem=${loaded.problem.value} />
    ${!found && !loaded.problem.value && html`<${Busy} />`}
    ${found && html`<${SimpleTable} rows=${found.rows} columns=${columns} caption=${t("resilience.tab.services")} rowKey=${(each) => each.name} empty=${t("resilience.noneGoverned", { n: found.all })} />`}
    ${found?.more && html`<p role="status">${t("resilience.moreServices", { n: MOST })}</p>`}
    ${chosen && html`<h2>${open}</h2><p><a href=${link("routes", [open])}>${t("resilience.toService")}</a></p><${Guards} name=${open} processes=${chosen.processes} reload=${loaded.reload} />`}
  `;
}

const total = (processes, pick) => processes.reduce((all, each) => all + pick(each), 0);
const sum = (table) => Object.values(table).reduce((all, each) => all + each, 0);

function GuardBadge({ processes }) {
  const [tone, text] = guardState(processes);
  return html`<${Badge} tone=${tone}>${text}</${Badge}>`;
}

function Spools() {
  const sort = useSignal("name");
  const ticks = useTicks(LOOK_MS);
  const columns = [
    { key: "name", label: t("resilience.spool"), sort: "name", cell: ({ name }) => html`<a href=${link("resilience", ["spool", name])}>${name}</a>` },
    { key: "state", label: t("resilience.state"), cell: (each) => html`<${SpoolBadge} spool=${each} />` },
    { key: "messages", label: t("resilience.messages"), sort: "messages", number: true, cell: (each) => count(each.messages) },
    { key: "age", label: t("resilience.oldest"), sort: "age", number: true, cell: (each) => duration(each.oldest_age_s) },
    { key: "bytes", label: t("resilience.bytes"), sort: "bytes", number: true, cell: (each) => t("resilience.bytesOf", { bytes: bytes(each.bytes), most: bytes(each.max_bytes) }) },
    { key: "flight", label: t("resilience.inFlight"), number: true, cell: (each) => count(each.in_flight) },
    { key: "eta", label: t("resilience.eta"), number: true, cell: (each) => duration(each.drain_eta_s) },
    { key: "lost", label: t("resilience.lost"), number: true, cell: (each) => count(sum(each.lost)) },
  ];
  return html`<${PagedTable} path="/spools" columns=${columns} caption=${t("resilience.tab.spools")} rowKey=${(each) => each.name} sort=${sort.value} onSort=${(to) => (sort.value = to)} version=${ticks} on=${["spool."]} empty=${t("resilience.noSpools")} />`;
}

export function SpoolBadge({ spool }) {
  if (!spool.messages) return html`<${Badge} tone="ok">${t("resilience.empty")}</${Badge}>`;
  return html`<${Badge} tone=${spool.behind ? "warn" : "quiet"}>${t(spool.behind ? "resilience.behind" : "resilience.waits")}</${Badge}>`;
}

/** What this node has refused since its start, and what waits to leave it. */
function Refused() {
  const now = stats.value;
  if (!now) return html`<${Busy} />`;
  return html`
    <${Facts} rows=${[[t("resilience.outbox"), bytes(now.outbox_bytes)], [t("resilience.streams"), count(now.streams_open)], [t("resilience.lag"), duration(now.loop_lag_s)]]} />
    <h2>${t("resilience.refusals")}</h2>
    <${Reasons} table=${now.refusals} caption=${t("resilience.refusals")} />
    <h2>${t("resilience.tokens")}</h2>
    <${Reasons} table=${now.tokens_refused} caption=${t("resilience.tokens")} />
    <p><a href=${link("connections", [], { state: "closed" })}>${t("resilience.closed")}</a></p>
  `;
}

/** Counters by reason, the greatest first, in words. */
export function Reasons({ table, caption }) {
  const rows = Object.entries(table).sort((a, b) => b[1] - a[1]);
  const columns = [
    { key: "why", label: t("resilience.why"), cell: ([reason]) => refusalText(reason) },
    { key: "reason", label: t("resilience.reason"), cell: ([reason]) => html`<code>${reason}</code>` },
    { key: "n", label: t("resilience.times"), number: true, cell: ([, n]) => count(n) },
  ];
  return html`<${SimpleTable} rows=${rows} columns=${columns} caption=${caption} rowKey=${([reason]) => reason} empty=${t("resilience.none")} />`;
}
