// Connections: those that are open, by what they cost, and how the others ended.
import { api } from "../api.js";
import { Badge, Field, Select, Tabs, toast } from "../form.js";
import { ago, bytes, count, duration, when } from "../format.js";
import { html, useRef } from "../lib.js";
import { may } from "../login.js";
import { reasonAdvice, reasonText } from "../reasons.js";
import REASONS from "../words/reasons.js";
import { link, setQuery } from "../router.js";
import { PagedTable } from "../table.js";
import { t, words } from "../words.js";
import WORDS from "../words/connections.js";

words(WORDS);

const TYPED_MS = 300;

export const title = () => t("connections.title");

export function Page({ query }) {
  const timer = useRef(null);
  const state = query.state === "closed" ? "closed" : "open";
  const closed = state === "closed";
  const params = { state, q: query.q, kind: query.kind, reason: closed ? query.reason : undefined };
  const reasons = Object.keys(REASONS).filter((key) => key.startsWith("reason.")).map((key) => key.slice(7));
  const type = (event) => {
    const q = event.currentTarget.value.trim();
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setQuery({ q }), TYPED_MS);
  };
  return html`
    <h1>${title()}</h1>
    <${Tabs} label=${t("connections.which")} chosen=${state} choose=${(next) => setQuery({ state: next, sort: "" })} options=${[["open", t("connections.open")], ["closed", t("connections.closed")]]} />
    <form class="bar" aria-label=${t("connections.filters")} onSubmit=${(event) => event.preventDefault()}>
      <${Field} label=${t("connections.search")} type="search" maxlength="128" value=${query.q ?? ""} onInput=${type} />
      <${Select} label=${t("connections.kind")} value=${query.kind ?? ""} onChange=${(event) => setQuery({ kind: event.currentTarget.value })}
        options=${[["", t("connections.any")], ...["device", "service", "user", "node", "admin"].map((kind) => [kind, kind])]} />
      ${closed && html`<${Select} label=${t("connections.why")} value=${query.reason ?? ""} onChange=${(event) => setQuery({ reason: event.currentTarget.value })}
        options=${[["", t("connections.any")], ...reasons.map((reason) => [reason, reasonText(reason)])]} />`}
    </form>
    <${PagedTable}
      key=${state} path="/connections" params=${params} columns=${closed ? closedColumns() : openColumns()} caption=${t(`connections.${state}`)} rowKey=${(row) => row.id}
      sort=${query.sort || (closed ? "-closed_at" : "-id")} onSort=${(sort) => setQuery({ sort })} on=${["connection."]} empty=${t(closed ? "connections.noneClosed" : "connections.noneOpen")}
    />
  `;
}

const number = (row) => html`<a href=${link("connection", [row.id])}>${row.id}</a>`;

/** Who it is, with a way to its device. */
export function Subject({ row }) {
  if (!row.subject) return html`<em>${t("connections.nobody")}</em>`;
  return ["device", "user", "service"].includes(row.principal_kind) && may("devices") ? html`<a href=${link("device", [row.subject])}>${row.subject}</a>` : row.subject;
}

export const STATES = { open: "ok", parked: "warn", draining: "warn", closed: "quiet" };

const openColumns = () => [
  { key: "id", label: t("connections.number"), sort: "id", cell: number },
  { key: "subject", label: t("connections.subject"), sort: "subject", cell: (row) => html`<${Subject} row=${row} />` },
  { key: "state", label: t("connections.state"), cell: (row) => html`<${Badge} tone=${STATES[row.state]}>${t(`connections.is.${row.state}`)}</${Badge}>` },
  { key: "rtt", label: t("connections.rtt"), sort: "rtt", number: true, cell: (row) => (row.rtt_ms === null ? "–" : duration(row.rtt_ms / 1000)) },
  { key: "pending", label: t("connections.pending"), sort: "pending", number: true, cell: (row) => count(row.pending) },
  { key: "streams", label: t("connections.streams"), sort: "streams", number: true, cell: (row) => count(row.streams) },
  { key: "idle", label: t("connections.idle"), sort: "idle", number: true, cell: (row) => duration(row.idle_s) },
  { key: "in", label: t("connections.received"), sort: "bytes_in", number: true, cell: (row) => bytes(row.bytes_in) },
  { key: "out", label: t("connections.sent"), sort: "bytes_out", number: true, cell: (row) => bytes(row.bytes_out) },
  { key: "outbox", label: t("connections.backlog"), sort: "outbox", number: true, cell: (row) => bytes(row.outbox_bytes) },
  { key: "opened", label: t("connections.since"), sort: "opened_at", cell: (row) => html`<span title=${when(row.opened_at)}>${ago(row.opened_at)}</span>` },
  { key: "kind", label: t("connections.kind"), cell: (row) => `${row.principal_kind} / ${row.kind}` },
  { key: "peer", label: t("connections.peer") },
];

const closedColumns = () => [
  { key: "closed_at", label: t("connections.endedAt"), sort: "closed_at", cell: (row) => html`<span title=${when(row.closed_at)}>${ago(row.closed_at)}</span>` },
  { key: "subject", label: t("connections.subject"), sort: "subject", cell: (row) => html`<${Subject} row=${row} />` },
  { key: "reason", label: t("connections.why"), sort: "reason", cell: (row) => html`<span title="${row.text} ${reasonAdvice(row.reason)}">${reasonText(row.reason)}</span>` },
  { key: "id", label: t("connections.number"), sort: "id", cell: number },
  { key: "text", label: t("connections.told") },
  { key: "duration", label: t("connections.lasted"), sort: "duration", number: true, cell: (row) => duration(row.duration_s) },
  { key: "in", label: t("connections.received"), sort: "bytes_in", number: true, cell: (row) => bytes(row.bytes_in) },
  { key: "out", label: t("connections.sent"), sort: "bytes_out", number: true, cell: (row) => bytes(row.bytes_out) },
  { key: "peer", label: t("connections.peer") },
];

/** Close a connection. */
export async function close(id) {
  await api.delete(`/connections/${id}`);
  toast(t("connections.isClosed"));
}
