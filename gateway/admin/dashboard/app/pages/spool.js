// One spool: what waits in it, class by class and message by message; sending it now, and throwing it away.
import { api } from "../api.js";
import { ActionButton, Busy, Facts, ProblemBox, confirmed } from "../form.js";
import { bytes, count, duration } from "../format.js";
import { html, useSignal } from "../lib.js";
import { useLoaded } from "../loading.js";
import { may } from "../login.js";
import { link } from "../router.js";
import { PagedTable, SimpleTable } from "../table.js";
import { t } from "../words.js";
import { Reasons, SpoolBadge } from "./resilience.js";

const LOOK_MS = 3_000;

export function Spool({ name }) {
  const loaded = useLoaded((signal) => read(name, signal), [name], { on: ["spool."], every: LOOK_MS });
  const spool = loaded.value.value;
  return html`
    <p><a href=${link("resilience", [], { tab: "spools" })}>${t("resilience.allSpools")}</a></p>
    <h1>${name}</h1>
    <${ProblemBox} problem=${loaded.problem.value} />
    ${spool ? html`<${Known} spool=${spool} reload=${loaded.reload} />` : spool === null ? html`<p>${t("resilience.goneSpool")}</p>` : !loaded.problem.value && html`<${Busy} />`}
  `;
}

async function read(name, signal) {
  const { data } = await api.get("/spools", { q: name, limit: 1000 }, { signal });
  return data.find((each) => each.name === name) ?? null;
}

function Known({ spool, reload }) {
  const chosen = useSignal(new Set());
  const version = useSignal(0);
  const again = async () => {
    version.value += 1;
    chosen.value = new Set();
    await reload();
  };
  return html`
    <${Facts}
      rows=${[
        [t("resilience.state"), html`<${SpoolBadge} spool=${spool} />`],
        [t("resilience.messages"), count(spool.messages)],
        [t("resilience.oldest"), duration(spool.oldest_age_s)],
        [t("resilience.bytes"), t("resilience.bytesOf", { bytes: bytes(spool.bytes), most: bytes(spool.max_bytes) })],
        [t("resilience.inFlight"), count(spool.in_flight)],
        [t("resilience.eta"), duration(spool.drain_eta_s)],
        [t("resilience.appended"), count(spool.appended)],
        [t("resilience.delivered"), count(spool.delivered)],
        [t("resilience.sentAgain"), count(spool.sent_again)],
        [t("resilience.service"), html`<a href=${link("routes", [spool.service])}>${spool.service}</a>`],
      ]}
    />
    <${Actions} spool=${spool} chosen=${chosen} again=${again} />
    ${may("routing", "operate") && html`<h2>${t("resilience.waiting")}</h2><${Messages} spool=${spool} chosen=${chosen} version=${version.value + spool.appended + spool.delivered} />`}
    <h2>${t("resilience.classes")}</h2>
    <${Classes} rows=${spool.classes} />
    <h2>${t("resilience.lost")}</h2>
    <${Reasons} table=${spool.lost} caption=${t("resilience.lost")} />
    <h2>${t("resilience.refusedSpool")}</h2>
    <${Reasons} table=${spool.refused} caption=${t("resilience.refusedSpool")} />
  `;
}

function Actions({ spool, chosen, again }) {
  const replay = async () => {
    const { messages } = await api.post("/spools:replay", { spool: spool.name });
    await again();
    return messages;
  };
  const drop = async () => {
    const ids = [...chosen.value];
    const body = { spool: spool.name, ...(ids.length ? { ids } : {}) };
    const { messages } = await api.post("/spools:drop", body, { params: { dry_run: 1 } });
    if (!(await confirmed(t("resilience.dropSure", { n: count(messages), name: spool.name }), t("resilience.drop")))) return false;
    const done = await api.post("/spools:drop", body);
    await again();
    return done.messages;
  };
  if (!spool.messages) return null;
  return html`<p class="bar">
    ${may("routing", "operate") && html`<${ActionButton} class="secondary" act=${replay} done=${(n) => t("resilience.replayed", { n })}>${t("resilience.replay")}</${ActionButton}>`}
    ${may("routing", "write") && html`<${ActionButton} class="secondary" act=${drop} done=${(n) => t("resilience.dropped", { n })}>${chosen.value.size ? t("resilience.dropChosen", { n: chosen.value.size }) : t("resilience.dropAll")}</${ActionButton}>`}
  </p>`;
}

function Messages({ spool, chosen, version }) {
  const columns = [
    { key: "age", label: t("resilience.age"), number: true, cell: (each) => duration(each.age_s) },
    { key: "priority", label: t("resilience.priority"), number: true },
    { key: "subject", label: t("resilience.from") },
    { key: "route", label: t("resilience.route"), cell: (each) => html`<code>${each.route}</code>` },
    { key: "key", label: t("resilience.key") },
    { key: "bytes", label: t("resilience.size"), number: true, cell: (each) => bytes(each.bytes) },
    { key: "data", label: t("resilience.data"), cell: (each) => (each.damaged ? t("resilience.damaged") : (each.data ?? each.base64)) },
  ];
  return html`<${PagedTable} path="/spools/messages" params=${{ spool: spool.name }} columns=${columns} caption=${t("resilience.waiting")} rowKey=${(each) => each.id} version=${version} select=${may("routing", "write") ? chosen : undefined} empty=${t("resilience.nothingWaits")} />`;
}

function Classes({ rows }) {
  const columns = [
    { key: "priority", label: t("resilience.priority"), number: true },
    { key: "messages", label: t("resilience.messages"), number: true, cell: (each) => count(each.messages) },
    { key: "bytes", label: t("resilience.size"), number: true, cell: (each) => bytes(each.bytes) },
    { key: "flight", label: t("resilience.inFlight"), number: true, cell: (each) => count(each.in_flight) },
  ];
  return html`<${SimpleTable} rows=${rows} columns=${columns} caption=${t("resilience.classes")} rowKey=${(each) => each.priority} empty=${t("resilience.nothingWaits")} />`;
}
