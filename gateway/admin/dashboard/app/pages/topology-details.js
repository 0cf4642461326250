// What is known of the node, link or broker that was chosen in the topology; and how long a request takes to it.
import { api } from "../api.js";
import { ActionButton, Badge, Facts, Select } from "../form.js";
import { ago, bytes, count, duration, when } from "../format.js";
import { html, useSignal } from "../lib.js";
import { may } from "../login.js";
import { pageOf } from "../pages.js";
import { link as address } from "../router.js";
import { t } from "../words.js";
import { linkRate } from "./topology.js";

const PROBES = 20;

export function Details({ item, names, graph, close }) {
  const isLink = item.source !== undefined;
  const name = isLink ? t("topology.ends", { source: names.get(item.source), target: names.get(item.target) }) : item.label;
  return html`<section class="card" aria-labelledby="chosen" aria-live="polite">
    <header><h2 id="chosen">${name}</h2><button type="button" class="small secondary" onClick=${close}>${t("topology.close")}</button></header>
    <p><${Badge} tone=${item.tone}>${item.state}</${Badge}></p>
    <${Facts} rows=${isLink ? (item.kind === "mqtt" ? bridgeFacts(item.raw, item) : linkFacts(item)) : item.kind === "broker" ? bridgeFacts(item.raw) : nodeFacts(item, names)} />
    ${!isLink && item.kind !== "broker" && html`<${OfNode} node=${item} graph=${graph} />`}
    ${item.raw.address !== undefined && may("mqtt") && pageOf("mqtt") && html`<p><a href=${address("mqtt", [item.raw.name])}>${t("topology.toBridges")}</a></p>`}
  </section>`;
}

function nodeFacts({ raw, place, kind, version, devices, routes }, names) {
  return [
    [t("topology.kind"), t(`topology.kind.${kind}`)],
    [t("topology.place"), raw.via ? t("topology.via", { name: names.get(raw.via) ?? raw.via }) : t(`topology.place.${place}`)],
    [t("topology.version"), version ?? t("topology.unknown")],
    [t("topology.online"), devices === undefined ? undefined : count(devices)],
    [t("topology.told"), routes === undefined ? undefined : count(routes)],
    [t("topology.urls"), raw.urls.length ? raw.urls.join(", ") : undefined],
    [t("topology.down"), raw.down_since ? `${when(raw.down_since)} (${ago(raw.down_since)})` : undefined],
    [t("topology.why"), raw.why || undefined],
    [t("topology.id"), html`<code>${raw.id}</code>`],
  ];
}

function linkFacts(item) {
  const { raw } = item;
  if (raw.reported) return [[t("topology.kind"), t(`topology.link.kind.${item.kind}`)], [t("topology.known"), t("topology.reportedWhy")]];
  return [
    [t("topology.kind"), t(`topology.link.kind.${item.kind}`)],
    [t("topology.since"), raw.since ? `${when(raw.since)} (${ago(raw.since)})` : undefined],
    [t("topology.rtt"), raw.rtt_ms === null ? undefined : duration(raw.rtt_ms / 1000)],
    [t("topology.rate"), linkRate(item)],
    [t("topology.bytes"), t("topology.bothWays", { in: bytes(raw.bytes_in), out: bytes(raw.bytes_out) })],
    [t("topology.routes"), t("topology.bothWays", { in: count(raw.routes_in), out: count(raw.routes_out) })],
    [t("topology.lag"), t("topology.lagFor", { changes: count(raw.lag), time: duration(raw.lag_s) })],
  ];
}

function bridgeFacts(raw, item) {
  const { counters } = raw;
  const sum = (table) => Object.values(table).reduce((total, each) => total + each, 0);
  return [
    [t("topology.bridge"), raw.name],
    [t("topology.address"), raw.address || undefined],
    [t("topology.since"), raw.since ? `${when(raw.since)} (${ago(raw.since)})` : undefined],
    [t("topology.why"), raw.reason || undefined],
    [t("topology.rate"), item && linkRate(item)],
    [t("topology.received"), count(sum(counters.received))],
    [t("topology.published"), count(sum(counters.published))],
    [t("topology.queued"), count(raw.queued)],
    [t("topology.dropped"), count(sum(counters.dropped) + sum(counters.refused))],
    [t("topology.acknowledged"), raw.last_ack_age_s === null ? undefined : t("topology.before", { time: duration(raw.last_ack_age_s) })],
  ];
}

function OfNode({ node, graph }) {
  const members = graph.nodes.filter((each) => each.kind !== "broker" && each.id !== node.id);
  return html`
    ${node.place !== "itself" && html`<p><a href=${address("federation", [node.id])}>${t("topology.toPeer")}</a></p>`}
    ${members.length > 0 && may("federation", "operate") && html`<${Latency} node=${node} members=${members} own=${graph.own} />`}
  `;
}

/** Probes from a node to this one, over the links. */
function Latency({ node, members, own }) {
  const source = useSignal((members.find((each) => each.id === own) ?? members[0]).id);
  const answer = useSignal(null);
  const measure = async () => {
    answer.value = await api.post("/topology:latency", { source: source.value, target: node.id, count: PROBES });
  };
  const said = answer.value;
  return html`
    <h3>${t("topology.latency")}</h3>
    <div class="bar">
      <${Select} label=${t("topology.from")} bind=${source} options=${members.map((each) => [each.id, each.label])} />
      <${ActionButton} class="small" act=${measure}>${t("topology.measure")}</${ActionButton}>
    </div>
    <div role="status">${said &&
    (said.outcome === "ok"
      ? html`<${Facts}
          rows=${[
            [t("topology.least"), duration(said.min_ms / 1000)],
            ["p50", duration(said.p50_ms / 1000)],
            ["p99", duration(said.p99_ms / 1000)],
            [t("topology.mostMs"), duration(said.max_ms / 1000)],
            [t("topology.lost"), t("topology.lostOf", { lost: said.lost, count: said.count })],
            [t("topology.path"), said.path.join(" → ")],
          ]}
        />`
      : html`<p><${Badge} tone="bad">${t("topology.unreachable")}</${Badge}> ${said.error}</p>`)}</div>
  `;
}
