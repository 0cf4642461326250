// Nodes, links and MQTT brokers as this node knows them: a drawing, the same as tables, and the figures of what is chosen.
import { api } from "../api.js";
import { Drawing, width } from "../drawing.js";
import { Badge, Busy, Empty, Field, ProblemBox, Select, Switch } from "../form.js";
import { bytes, count, duration, rate } from "../format.js";
import { html, useMemo, useRef, useSignal } from "../lib.js";
import { useLoaded } from "../loading.js";
import { may } from "../login.js";
import { MOST, filtered, graphOf, placed, shapeOf } from "../mesh.js";
import { setQuery } from "../router.js";
import { SimpleTable } from "../table.js";
import { t } from "../words.js";
import { Details } from "./topology-details.js";

const LOOK_MS = 5_000;

export const title = () => t("topology.title");

export function Page({ query }) {
  const before = useRef(null);
  const last = useRef(null);
  const loaded = useLoaded(read, [], { on: ["link.", "peer.", "bridge."], every: LOOK_MS });
  const found = loaded.value.value;
  if (found && found !== last.current) {
    // Two answers right after one another say nothing of a rate.
    if (!before.current || new Date(found.topology.at) - new Date(before.current.topology.at) > LOOK_MS * 0.8) before.current = last.current;
    last.current = found;
  }
  const graph = useMemo(() => found && graphOf(found, before.current), [found]);
  return html`
    <h1>${title()}</h1>
    <${ProblemBox} problem=${loaded.problem.value} />
    ${graph ? html`<${Mesh} graph=${graph} query=${query} table=${found.topology.table} />` : html`<${Busy} />`}
  `;
}

async function read(signal) {
  const [topology, bridges, devices] = await Promise.all([
    api.get("/topology", null, { signal }),
    may("mqtt") ? api.get("/mqtt/bridges", { limit: 100 }, { signal }) : { data: [] },
    may("devices") ? api.get("/devices/summary", null, { signal }) : undefined,
  ]);
  return { topology, bridges: bridges.data, devices };
}

function Mesh({ graph, query, table }) {
  const search = useSignal(query.q ?? "");
  const which = query.show ?? "near";
  const idle = query.idle === "1";
  const chosen = query.chosen ?? null;
  const choose = (id) => setQuery({ chosen: id === chosen ? null : id });
  const shown = filtered(graph, { which, q: search.value, idle });
  const arranged = [which, search.value, idle, ...shown.nodes.map((node) => node.id).sort()].join("\n");
  const places = useMemo(() => placed(shown.nodes, shown.links), [arranged]);
  const drawn = useMemo(() => {
    const where = new Map(places.map(({ id, x, y }) => [id, { x, y }]));
    return {
      nodes: shown.nodes.map((node) => ({ id: node.id, tone: node.tone, shape: shapeOf(node), label: nodeLabel(node), ...where.get(node.id) })),
      edges: shown.links.map(({ id, source, target, tone, unit, rate: value }) => ({ id, source, target, tone, width: width(value, unit) })),
    };
  }, [graph, places]);
  const item = graph.nodes.find((each) => each.id === chosen) ?? graph.links.find((each) => each.id === chosen);
  const names = new Map(graph.nodes.map((node) => [node.id, node.label]));
  return html`
    <div class="bar">
      <${Select} label=${t("topology.show")} value=${which} onChange=${(event) => setQuery({ show: event.currentTarget.value })} options=${["near", "trouble", "all"].map((each) => [each, t(`topology.show.${each}`)])} />
      <${Field} label=${t("topology.search")} type="search" bind=${search} />
      <${Switch} label=${t("topology.idle")} checked=${idle} onChange=${(on) => setQuery({ idle: on ? "1" : null })} />
    </div>
    ${table && html`<p>${t(table.fresh ? "topology.table" : "topology.tableStale", { nodes: count(table.nodes), edges: count(table.edges), devices: count(table.devices), why: table.why })}</p>`}
    ${shown.left > 0 && html`<p role="status">${t("topology.left", { most: MOST, n: count(shown.left) })}</p>`}
    ${shown.nodes.length
      ? html`<div class="beside">
          <${Drawing} nodes=${drawn.nodes} edges=${drawn.edges} label=${title()} arranged=${arranged} chosen=${chosen} choose=${choose} />
          ${item ? html`<${Details} key=${item.id} item=${item} names=${names} graph=${graph} close=${() => choose(chosen)} />` : html`<p class="card">${t("topology.pick")}</p>`}
        </div>
        <${Legend} />
        <h2>${t("topology.nodes")}</h2>
        <${Nodes} nodes=${shown.nodes} choose=${choose} chosen=${chosen} />
        <h2>${t("topology.links")}</h2>
        <${Links} links=${shown.links} names=${names} choose=${choose} chosen=${chosen} />`
      : html`<${Empty}>${t(which === "trouble" && !search.value ? "topology.noTrouble" : "topology.nothing")}</${Empty}>`}
  `;
}

function nodeLabel(node) {
  if (node.devices !== undefined) return `${node.label}\n${t("topology.devices", { n: node.devices })}`;
  return node.routes === undefined ? node.label : `${node.label}\n${t("topology.nRoutes", { n: node.routes })}`;
}

const Legend = () => html`<p class="legend"><small>${t("topology.legend")}</small></p>`;

function Nodes({ nodes, choose, chosen }) {
  const columns = [
    { key: "label", label: t("topology.name"), cell: (node) => html`<${Chooser} id=${node.id} chosen=${chosen} choose=${choose}>${node.label}</${Chooser}>` },
    { key: "kind", label: t("topology.kind"), cell: (node) => t(`topology.kind.${node.kind}`) },
    { key: "place", label: t("topology.place"), cell: (node) => t(`topology.place.${node.place}`) },
    { key: "state", label: t("topology.state"), cell: (node) => html`<${Badge} tone=${node.tone}>${node.state}</${Badge}>` },
    { key: "version", label: t("topology.version"), cell: (node) => node.version ?? (node.kind === "broker" ? "" : t("topology.unknown")) },
    { key: "devices", label: t("topology.online"), number: true, cell: (node) => count(node.devices) },
    { key: "routes", label: t("topology.told"), number: true, cell: (node) => count(node.routes) },
  ];
  return html`<${SimpleTable} rows=${nodes} columns=${columns} caption=${t("topology.nodes")} rowKey=${(node) => node.id} />`;
}

function Links({ links, names, choose, chosen }) {
  const columns = [
    {
      key: "ends",
      label: t("topology.between"),
      cell: (link) => html`<${Chooser} id=${link.id} chosen=${chosen} choose=${choose}>${t("topology.ends", { source: names.get(link.source), target: names.get(link.target) })}</${Chooser}>`,
    },
    { key: "kind", label: t("topology.kind"), cell: (link) => t(`topology.link.kind.${link.kind}`) },
    { key: "state", label: t("topology.state"), cell: (link) => html`<${Badge} tone=${link.tone}>${link.state}</${Badge}>` },
    { key: "rate", label: t("topology.rate"), number: true, cell: linkRate },
    { key: "rtt", label: t("topology.rtt"), number: true, cell: (link) => duration(link.raw.rtt_ms === undefined || link.raw.rtt_ms === null ? null : link.raw.rtt_ms / 1000) },
    { key: "lag", label: t("topology.lag"), number: true, cell: (link) => count(link.raw.lag) },
  ];
  return html`<${SimpleTable} rows=${links} columns=${columns} caption=${t("topology.links")} rowKey=${(link) => link.id} empty=${t("topology.noLinks")} />`;
}

export const linkRate = (link) => (link.unit === "bytes" && link.rate !== null ? `${bytes(link.rate)}/s` : rate(link.rate));

const Chooser = ({ id, chosen, choose, children }) => html`<button type="button" class="link" aria-pressed=${id === chosen ? "true" : "false"} onClick=${() => choose(id)}>${children}</button>`;
