// Why a device is offline: what the node knows of it, the likeliest cause first.
import { api } from "../../api.js";
import { Busy, Field, ProblemBox } from "../../form.js";
import { ago, clock, count } from "../../format.js";
import { html, useSignal } from "../../lib.js";
import { useLoaded } from "../../loading.js";
import { may } from "../../login.js";
import { Reason, reasonText } from "../../reasons.js";
import { refusalText } from "../../refusals.js";
import { link, setQuery } from "../../router.js";
import { SimpleTable } from "../../table.js";
import { t } from "../../words.js";
import { Sentences } from "./parts.js";

const LATEST = 20;

export function Offline({ query }) {
  const device = useSignal(query.device ?? "");
  const ask = (event) => {
    event.preventDefault();
    setQuery({ ask: "offline", device: device.value.trim() });
  };
  return html`
    <form class="asking bar" onSubmit=${ask}>
      <${Field} label=${t("explain.device")} bind=${device} required />
      <button type="submit">${t("explain.go")}</button>
    </form>
    ${query.device && html`<${Answer} key=${query.device} id=${query.device} />`}
  `;
}

async function read(id, signal) {
  const path = `/devices/${encodeURIComponent(id)}`;
  const unless404 = (error) => {
    if (error.status === 404) return null;
    throw error;
  };
  const get = (allowed, from, params) => (allowed ? api.get(from, params, { signal }).catch(unless404) : null);
  const [device, sessions, credentials, events, stats] = await Promise.all([
    get(true, path),
    get(may("connections"), `${path}/sessions`, { limit: LATEST }),
    get(true, `${path}/credentials`, { limit: 100 }),
    get(may("monitoring"), "/events", { subject: id, limit: LATEST }),
    get(may("monitoring"), "/node/stats"),
  ]);
  return { device, sessions: sessions?.data ?? [], credentials: credentials?.data, events: events?.data ?? [], stats };
}

function Answer({ id }) {
  const loaded = useLoaded((signal) => read(id, signal), [id], { on: ["connection.", "device.", "credential.", "subject."] });
  const found = loaded.value.value;
  if (!found) return loaded.problem.value ? html`<${ProblemBox} problem=${loaded.problem.value} />` : html`<${Busy} />`;
  const ended = found.sessions.filter((each) => each.state === "closed");
  return html`<section aria-live="polite">
    <h2>${t("explain.answer")}</h2>
    <${ProblemBox} problem=${loaded.problem.value} />
    <${Sentences} all=${sentences(id, found)} />
    ${found.device && !found.device.online && last(found) && html`<h2>${t("explain.lastSession")}</h2><${Reason} reason=${last(found).reason} text=${last(found).text} />`}
    ${found.device && html`<p><a href=${link("device", [id])}>${t("explain.toDevice", { id })}</a></p>`}
    ${ended.length > 0 && html`<h2>${t("explain.sessions")}</h2><${Sessions} rows=${ended} />`}
    ${found.events.length > 0 && html`<h2>${t("explain.events")}</h2><${Events} rows=${found.events} />`}
    ${found.stats && html`<h2>${t("explain.refusedTokens")}</h2><${Refused} table=${found.stats.tokens_refused} />`}
  </section>`;
}

/** How its last session ended, as far as this node remembers. */
function last({ sessions, device }) {
  return sessions.find((each) => each.state === "closed") ?? device?.closed ?? null;
}

const isOver = (each) => each.revoked_at || (each.ends_at && new Date(each.ends_at) < Date.now()) || (each.expires_at && new Date(each.expires_at) < Date.now());

function sentences(id, found) {
  const { device, sessions, credentials } = found;
  const open = sessions.find((each) => each.state !== "closed");
  if (!device) {
    return [["bad", t("explain.notRegistered", { id })], open && ["ok", t("explain.connectedAnyway", { ago: ago(open.opened_at) })]];
  }
  const standing = credentials?.filter((each) => !isOver(each));
  const newest = credentials?.filter((each) => each.expires_at).sort((a, b) => (a.expires_at < b.expires_at ? 1 : -1))[0];
  const ending = last(found);
  const parked = open?.state === "parked";
  return [
    device.online && ["ok", t("explain.isOnline", { node: device.node || t("explain.here") })],
    parked && ["warn", t("explain.parked")],
    !device.online && device.last_seen_at && ["warn", t("explain.isOffline", { ago: ago(device.last_seen_at) })],
    !device.online && !device.last_seen_at && ["warn", t("explain.neverSeen")],
    !device.enabled && ["bad", t("explain.disabled")],
    device.not_before && ["warn", t("explain.notBefore", { ago: ago(device.not_before) })],
    standing && !standing.length && credentials.length > 0 && ["bad", newest && !newest.revoked_at ? t("explain.expired", { ago: ago(newest.expires_at) }) : t("explain.revoked")],
    credentials && !credentials.length && ["warn", t("explain.noCredential")],
    standing?.length > 0 && ["ok", t("explain.hasCredential", { n: standing.length, until: standing[0].expires_at ? ago(standing[0].expires_at) : t("explain.noEnd") })],
    !device.online && ending && ["warn", t("explain.ended", { reason: reasonText(ending.reason) })],
    !device.online && device.enabled && standing?.length > 0 && !ending && ["quiet", t("explain.notHeard")],
  ];
}

function Sessions({ rows }) {
  const columns = [
    { key: "closed", label: t("explain.closed"), cell: (each) => ago(each.closed_at) },
    { key: "reason", label: t("explain.why"), cell: (each) => html`${reasonText(each.reason)} <code>${each.reason}</code>` },
    { key: "text", label: t("explain.told"), cell: (each) => each.text },
    { key: "peer", label: t("explain.peer") },
  ];
  return html`<${SimpleTable} rows=${rows} columns=${columns} caption=${t("explain.sessions")} rowKey=${(each) => each.id} />`;
}

function Events({ rows }) {
  const columns = [
    { key: "at", label: t("explain.at2"), cell: (each) => clock(each.at) },
    { key: "kind", label: t("explain.what"), cell: (each) => html`<code>${each.kind}</code>` },
    { key: "data", label: t("explain.data"), cell: (each) => Object.entries(each.data).map(([key, value]) => `${key}: ${value}`).join(", ") },
  ];
  return html`<${SimpleTable} rows=${rows} columns=${columns} caption=${t("explain.events")} rowKey=${(each) => each.id} />`;
}

function Refused({ table }) {
  const rows = Object.entries(table).map(([reason, n]) => ({ reason, n }));
  const columns = [
    { key: "reason", label: t("explain.why"), cell: (each) => html`${refusalText(each.reason)} <code>${each.reason}</code>` },
    { key: "n", label: t("explain.times"), number: true, cell: (each) => count(each.n) },
  ];
  return html`<p>${t("explain.refusedTokensNote")}</p><${SimpleTable} rows=${rows} columns=${columns} caption=${t("explain.refusedTokens")} rowKey=${(each) => each.reason} empty=${t("explain.noneRefused")} />`;
}
