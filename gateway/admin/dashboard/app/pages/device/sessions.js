// The connections of a device: those that are open, with round trip and streams, and how the others ended.
import { api } from "../../api.js";
import { Badge, Busy, ProblemBox } from "../../form.js";
import { ago, bytes, count, duration, when } from "../../format.js";
import { html } from "../../lib.js";
import { useLoaded } from "../../loading.js";
import { reasonAdvice, reasonText } from "../../reasons.js";
import { link } from "../../router.js";
import { SimpleTable } from "../../table.js";
import { t } from "../../words.js";

export function Sessions({ device }) {
  const found = useLoaded((signal) => api.get(`/devices/${encodeURIComponent(device.id)}/sessions`, { limit: 200 }, { signal }), [device.id], { on: ["connection."], every: 5_000 });
  const rows = found.value.value?.data;
  const number = (row) => html`<a href=${link("connection", [row.id])}>${row.id}</a>`;
  const open = [
    { key: "id", label: t("device.connection"), cell: number },
    { key: "state", label: t("device.state"), cell: (row) => html`<${Badge} tone=${row.state === "open" ? "ok" : "warn"}>${row.state}</${Badge}>` },
    { key: "peer", label: t("device.peer") },
    { key: "since", label: t("device.since"), cell: (row) => html`<span title=${when(row.opened_at)}>${ago(row.opened_at)}</span>` },
    { key: "idle", label: t("device.lastFrame"), cell: (row) => t("device.ago", { duration: duration(row.idle_s) }) },
    { key: "rtt", label: t("device.rtt"), number: true, cell: (row) => (row.rtt_ms === null ? "–" : duration(row.rtt_ms / 1000)) },
    { key: "streams", label: t("device.streams"), number: true, cell: (row) => count(row.streams) },
    { key: "in", label: t("device.received"), number: true, cell: (row) => bytes(row.bytes_in) },
    { key: "out", label: t("device.sent"), number: true, cell: (row) => bytes(row.bytes_out) },
  ];
  const closed = [
    { key: "at", label: t("device.endedAt"), cell: (row) => html`<span title=${when(row.closed_at)}>${ago(row.closed_at)}</span>` },
    { key: "why", label: t("device.why"), cell: (row) => html`<strong>${reasonText(row.reason)}</strong>${row.text && html` <q>${row.text}</q>`}<br /><small>${reasonAdvice(row.reason)}</small>` },
    { key: "for", label: t("device.lasted"), cell: (row) => duration(row.duration_s) },
    { key: "peer", label: t("device.peer") },
    { key: "id", label: t("device.connection"), cell: number },
  ];
  return html`
    <${ProblemBox} problem=${found.problem.value} />
    ${!rows && !found.problem.value && html`<${Busy} />`}
    ${rows &&
    html`<h2>${t("device.openSessions")}</h2>
      <${SimpleTable} rows=${rows.filter((row) => row.state !== "closed")} columns=${open} caption=${t("device.openSessions")} rowKey=${(row) => row.id} empty=${t("device.noSession")} />
      <h2>${t("device.closedSessions")}</h2>
      <${SimpleTable} rows=${rows.filter((row) => row.state === "closed")} columns=${closed} caption=${t("device.closedSessions")} rowKey=${(row) => row.id} empty=${t("device.noClosed")} />`}
  `;
}
