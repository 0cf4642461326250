// One connection: what it is, what is under way on it, and how it ended.
import { api } from "../api.js";
import { ActionButton, Badge, Busy, Facts, ProblemBox, confirmed } from "../form.js";
import { ago, bytes, count, duration, when } from "../format.js";
import { html } from "../lib.js";
import { useLoaded } from "../loading.js";
import { may } from "../login.js";
import { listText } from "../pairs.js";
import { Reason } from "../reasons.js";
import { link } from "../router.js";
import { PagedTable } from "../table.js";
import { t } from "../words.js";
import { STATES, Subject, close } from "./connections.js";

export const title = () => t("connections.one");

export function Page({ parts }) {
  const [id] = parts;
  if (!/^\d{1,18}$/.test(id ?? "")) return html`<h1>${title()}</h1><p><a href=${link("connections")}>${t("connections.title")}</a></p>`;
  return html`<${Connection} key=${id} id=${id} />`;
}

function Connection({ id }) {
  const found = useLoaded((signal) => api.get(`/connections/${id}`, null, { signal }), [id], { on: ["connection."], every: 2_000 });
  const row = found.value.value;
  const over = row?.state === "closed" || found.problem.value?.status === 404;
  async function end() {
    if (!(await confirmed(t("connections.sureClose", { subject: row.subject || row.peer }), t("connections.close")))) return false;
    await close(id);
    found.reload();
    return false;
  }
  return html`
    <p class="crumbs"><a href=${link("connections")}>${t("connections.title")}</a></p>
    <h1>${t("connections.oneOf", { id })}</h1>
    <${ProblemBox} problem=${found.problem.value} />
    ${!row && !found.problem.value && html`<${Busy} />`}
    ${row && html`<${What} row=${row} />`}
    ${row?.state === "closed" && html`<h2>${t("connections.why")}</h2><${Reason} reason=${row.reason} text=${row.text} />`}
    ${row && !over && may("connections", "operate") && html`<p><${ActionButton} class="small" act=${end}>${t("connections.close")}</${ActionButton}></p>`}
    ${row && !over && html`<h2>${t("connections.streams")}</h2><${Streams} id=${id} version=${row.streams} />`}
  `;
}

function What({ row }) {
  const closed = row.state === "closed";
  return html`<${Facts} rows=${[
    [t("connections.state"), html`<${Badge} tone=${STATES[row.state]}>${t(`connections.is.${row.state}`)}</${Badge}>`],
    [t("connections.subject"), html`<${Subject} row=${row} />`],
    [t("connections.kind"), `${row.principal_kind || "–"} / ${row.kind}`],
    [t("connections.peer"), row.peer],
    [t("connections.since"), html`<span title=${when(row.opened_at)}>${ago(row.opened_at)}</span>`],
    [t("connections.endedAt"), closed ? when(row.closed_at) : undefined],
    [t("connections.lasted"), closed ? duration(row.duration_s) : undefined],
    [t("connections.idle"), closed ? undefined : duration(row.idle_s)],
    [t("connections.rtt"), closed ? undefined : row.rtt_ms === null ? "–" : duration(row.rtt_ms / 1000)],
    [t("connections.pending"), closed ? undefined : count(row.pending)],
    [t("connections.backlog"), closed ? undefined : bytes(row.outbox_bytes)],
    [t("connections.received"), `${bytes(row.bytes_in)}, ${t("connections.frames", { n: row.frames_in })}`],
    [t("connections.sent"), `${bytes(row.bytes_out)}, ${t("connections.frames", { n: row.frames_out })}`],
    [t("connections.services"), closed ? undefined : listText(row.services) || "–"],
    [t("connections.expires"), closed ? undefined : row.expires_at ? html`<span title=${when(row.expires_at)}>${ago(row.expires_at)}</span>` : "–"],
    [t("connections.resumable"), closed ? undefined : t(row.resumable ? "connections.yes" : "connections.no")],
  ]} />`;
}

function Streams({ id, version }) {
  const columns = [
    { key: "id", label: t("connections.stream") },
    { key: "interaction", label: t("connections.interaction"), cell: (row) => row.interaction.replaceAll("_", " ") },
    { key: "direction", label: t("connections.direction"), cell: (row) => t(`connections.${row.direction}`) },
    { key: "other", label: t("connections.other"), cell: (row) => html`<a href=${link("connection", [row.other])}>${row.other_subject || row.other}</a>` },
    { key: "credit", label: t("connections.credit"), number: true, cell: (row) => count(row.credit) },
    { key: "held", label: t("connections.held"), number: true, cell: (row) => count(row.held) },
    { key: "age", label: t("connections.age"), number: true, cell: (row) => duration(row.age_s) },
  ];
  return html`<${PagedTable} path="/connections/${id}/streams" columns=${columns} caption=${t("connections.streams")} rowKey=${(row) => row.direction + row.id} empty=${t("connections.noStreams")} version=${version} />`;
}
