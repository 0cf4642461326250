// What happened to a device, what it logged, what firmware it was offered, and its last requests.
import { api } from "../../api.js";
import { Badge, Busy, Empty, ProblemBox } from "../../form.js";
import { ago, bytes, clock, duration, when } from "../../format.js";
import { html, useSignal } from "../../lib.js";
import { useLoaded } from "../../loading.js";
import { link } from "../../router.js";
import { SimpleTable } from "../../table.js";
import { t } from "../../words.js";

const VERDICTS = { FORWARDED: "ok", QUEUED: "warn", AUDIT: "warn" };

const path = (id) => `/devices/${encodeURIComponent(id)}`;

export function Events({ device }) {
  const found = useLoaded((signal) => api.get(`${path(device.id)}/events`, { limit: 200 }, { signal }), [device.id], { on: [""] });
  const columns = [
    { key: "at", label: t("device.time"), cell: (event) => html`<span title=${when(event.at)}>${ago(event.at)}</span>` },
    { key: "kind", label: t("device.what"), cell: (event) => html`<code>${event.kind}</code>` },
    { key: "data", label: t("device.details"), cell: (event) => Object.entries(event.data).map(([key, value]) => `${key}: ${Array.isArray(value) ? value.join(", ") : value}`).join(" · ") },
  ];
  return html`<h2>${t("device.tab.events")}</h2><${Loaded} found=${found} columns=${columns} caption=${t("device.tab.events")} rowKey=${(event) => event.id} empty=${t("device.noEvents")} />`;
}

function Loaded({ found, ...table }) {
  const page = found.value.value;
  if (!page) return found.problem.value ? html`<${ProblemBox} problem=${found.problem.value} />` : html`<${Busy} />`;
  return html`<${ProblemBox} problem=${found.problem.value} /><${SimpleTable} rows=${page.data} ...${table} />`;
}

/** Asked of the device itself, when somebody wants it. */
export function Log({ device }) {
  const log = useSignal(null);
  const problem = useSignal(null);
  const busy = useSignal(false);
  async function ask() {
    busy.value = true;
    problem.value = null;
    try {
      log.value = await api.get(`${path(device.id)}/log`);
    } catch (error) {
      problem.value = error;
    } finally {
      busy.value = false;
    }
  }
  const found = log.value;
  const text = found?.lines.map((line) => `${line.at ? when(line.at) : `+${duration(line.up_ms / 1000)}`}  ${line.text}`).join("\n");
  return html`
    <h2>${t("device.tab.log")}</h2>
    <p>${t("device.logHint")}</p>
    <p><button type="button" disabled=${busy.value} aria-busy=${busy.value ? "true" : null} onClick=${ask}>${t("device.askLog")}</button></p>
    <${ProblemBox} problem=${problem.value} />
    ${found && found.outcome !== "ok" && html`<${ProblemBox} problem=${{ status: 502, title: t("device.logFailed", { outcome: found.outcome }), detail: found.error?.text ?? "" }} />`}
    ${found && found.outcome === "ok" && !found.lines.length && html`<${Empty}>${t("device.logEmpty")}</${Empty}>`}
    ${text && html`<pre tabindex="0" aria-label=${t("device.tab.log")}><code>${text}</code></pre>`}
  `;
}

/** Which of the rollouts that are not over have offered it something, and how far it is. */
export function Rollouts({ device }) {
  const found = useLoaded(async (signal) => {
    const all = (await api.get("/rollouts", { limit: 50 }, { signal })).data;
    const steps = [];
    for (const rollout of all) {
      const page = await api.get(`/rollouts/${rollout.id}/devices`, { q: device.id, limit: 50 }, { signal });
      const mine = page.data.find((each) => each.device_id === device.id);
      if (mine) steps.push({ ...mine, rollout });
    }
    return { data: steps };
  }, [device.id], { on: ["rollout."] });
  const columns = [
    { key: "version", label: t("device.version"), cell: (row) => html`<a href=${link("rollout", [row.rollout.id])}>${row.rollout.firmware_version}</a>` },
    { key: "board", label: t("device.board"), cell: (row) => row.rollout.board },
    { key: "state", label: t("device.state"), cell: (row) => html`<${Badge}>${row.state}</${Badge}> ${row.reason}` },
    { key: "received", label: t("device.received"), number: true, cell: (row) => bytes(row.received) },
    { key: "at", label: t("device.changed"), cell: (row) => html`<span title=${when(row.updated_at)}>${ago(row.updated_at)}</span>` },
  ];
  return html`
    <h2>${t("device.tab.firmware")}</h2>
    <p>${device.firmware ? t("device.hasFirmware", { firmware: device.firmware }) : t("device.noFirmware")}</p>
    <${Loaded} found=${found} columns=${columns} caption=${t("device.rollouts")} rowKey=${(row) => row.rollout.id} empty=${t("device.noRollouts")} />
  `;
}

/** Its last requests, in both directions: never what was in them. */
export function Messages({ device }) {
  const name = JSON.stringify(device.id);
  const filter = `source.id == ${name} || destination.id == ${name}`;
  const found = useLoaded((signal) => api.get("/flows", { filter, limit: 100 }, { signal }), [device.id], { every: 3_000 });
  const columns = [
    { key: "time", label: t("device.time"), cell: (flow) => html`<span title=${when(flow.time)}>${clock(flow.time)}</span>` },
    { key: "way", label: t("device.way"), cell: (flow) => t(flow.source?.id === device.id ? "device.asked" : "device.wasAsked") },
    { key: "route", label: t("device.route"), cell: (flow) => html`<code>${flow.route || flow.topic}</code>` },
    { key: "verdict", label: t("device.verdict"), cell: (flow) => html`<${Badge} tone=${VERDICTS[flow.verdict] ?? "bad"}>${flow.verdict}</${Badge}> ${flow.reason}` },
    { key: "latency", label: t("device.latency"), number: true, cell: (flow) => (flow.latency_ns == null ? "–" : duration(flow.latency_ns / 1e9)) },
  ];
  return html`<h2>${t("device.tab.messages")}</h2><p>${t("device.messagesHint")}</p>
    <${Loaded} found=${found} columns=${columns} caption=${t("device.tab.messages")} rowKey=${(flow) => flow.number ?? flow.time} empty=${t("device.noMessages")} />`;
}
