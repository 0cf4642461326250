// The federation as a graph: what each node and link is worth, which of them are shown, and where they are drawn.
import { count, duration } from "./format.js";
import { t, words } from "./words.js";
import WORDS from "./words/topology.js";

words(WORDS);

/** So many nodes are drawn; of more nobody can read anything. */
export const MOST = 200;
const LATE_S = 10;
const SPACING = 95;
const RING = 75;

const BRIDGES = { connected: "ok", connecting: "warn", waiting: "bad", failed: "bad", stopped: "quiet", disabled: "quiet" };
const SHAPES = { central: "hexagon", edge: "round-rectangle", broker: "diamond" };

/**
 * `{nodes, links}` of what /topology, /mqtt/bridges and /devices/summary say. A node: {id, label, kind, place, tone, state,
 * version?, devices?, routes?, raw}; a link: {id, source, target, kind, tone, state, rate, unit, raw}. `before`: the answer before this one, of which
 * rates are made.
 */
export function graphOf(found, before) {
  const { topology, bridges, devices } = found;
  const unheard = new Set(topology.unheard.map((each) => each.node));
  const told = new Map();
  for (const link of topology.links) if (link.routes_in !== null) told.set(link.target, (told.get(link.target) ?? 0) + link.routes_in);
  const nodes = topology.nodes.map((node) => ({
    id: node.id,
    label: node.name,
    kind: node.role === "central" ? "central" : "edge",
    place: node.place,
    version: node.version ?? undefined,
    // Devices are never nodes of their own: so many are connected there. A node that stands alone tells nobody.
    devices: node.devices ?? (node.place === "itself" ? devices?.online : undefined),
    routes: told.get(node.id),
    raw: node,
    ...nodeState(node, topology, unheard),
  }));
  const seconds = before ? (new Date(topology.at) - new Date(before.topology.at)) / 1000 : 0;
  const links = topology.links.map((link) => {
    const id = linkId(link);
    const last = before?.topology.links.find((each) => linkId(each) === id && each.since === link.since);
    return {
      id,
      source: link.source,
      target: link.target,
      kind: link.kind,
      unit: "bytes",
      rate: link.reported ? null : perSecond(link.bytes_in + link.bytes_out, last && last.bytes_in + last.bytes_out, seconds),
      raw: link,
      ...linkState(link),
    };
  });
  for (const bridge of bridges) {
    const id = `broker ${bridge.name}`;
    const last = before?.bridges.find((each) => each.name === bridge.name);
    const state = t(`topology.bridge.${bridge.state}`);
    nodes.push({ id, label: bridge.address || bridge.name, kind: "broker", place: "broker", tone: BRIDGES[bridge.state], state, raw: bridge });
    links.push({
      id: `bridge ${bridge.name}`,
      source: topology.node,
      target: id,
      kind: "mqtt",
      unit: "messages",
      rate: perSecond(messages(bridge), last && messages(last), seconds),
      tone: BRIDGES[bridge.state],
      state,
      raw: bridge,
    });
  }
  return { nodes, links, own: topology.node };
}

const linkId = (link) => `${link.kind} ${link.source} ${link.target}`;
const messages = ({ counters }) => sum(counters.received) + sum(counters.published);
const sum = (table) => Object.values(table).reduce((total, each) => total + each, 0);
const perSecond = (now, then, seconds) => (then === undefined || seconds <= 0 ? null : Math.max(0, now - then) / seconds);

function nodeState(node, topology, unheard) {
  if (node.place === "itself" && topology.uplink_down_since) return { tone: "bad", state: t("topology.state.noUplink") };
  if (node.ahead) return { tone: "warn", state: t("topology.state.ahead") };
  if (node.place === "itself") {
    return { tone: "ok", state: t("topology.state.itself") };
  }
  if (unheard.has(node.id)) return { tone: "warn", state: t("topology.state.unheard") };
  if (node.place === "apart") return node.down_since ? { tone: "bad", state: t("topology.state.gone") } : { tone: "quiet", state: t("topology.state.apart") };
  if (node.place === "behind") return { tone: "ok", state: t("topology.state.behind") };
  if (node.place === "standby parent") return { tone: "quiet", state: t("topology.state.standby") };
  return { tone: "ok", state: t("topology.state.linked") };
}

function linkState(link) {
  if (link.reported) return { tone: "quiet", state: t("topology.link.reported") };
  if (link.state === "standby") return { tone: "quiet", state: t("topology.link.standby") };
  if (link.lag > 0 && link.lag_s > LATE_S) return { tone: "warn", state: t("topology.link.late", { changes: count(link.lag), time: duration(link.lag_s) }) };
  return { tone: "ok", state: t("topology.link.active") };
}

/** Those that a filter leaves: `which` is near, trouble or all; `q` a part of a name; `idle`: standby links, too.
 * Gives {nodes, links, left}: at most MOST nodes, and how many were left out. */
export function filtered({ nodes, links, own }, { which, q, idle }) {
  const wanted = idle ? links : links.filter((link) => !isIdle(link));
  const text = q.trim().toLowerCase();
  const bad = (each) => each.tone === "warn" || each.tone === "bad";
  let kept;
  if (text) kept = nodes.filter((node) => node.label.toLowerCase().includes(text) || node.id.includes(text));
  else if (which === "all") kept = nodes;
  else if (which === "trouble") {
    const ends = new Set(wanted.filter(bad).flatMap((link) => [link.source, link.target]));
    kept = nodes.filter((node) => bad(node) || ends.has(node.id));
  } else {
    const ends = new Set(wanted.filter((link) => link.source === own || link.target === own).flatMap((link) => [link.source, link.target]));
    kept = nodes.filter((node) => node.id === own || ends.has(node.id) || (bad(node) && node.place !== "behind"));
  }
  // Trouble is never what is left out, nor is this node.
  const order = [...kept].sort((a, b) => weight(a, own) - weight(b, own));
  const shown = order.slice(0, MOST);
  const names = new Set(shown.map((node) => node.id));
  return { nodes: shown, links: wanted.filter((link) => names.has(link.source) && names.has(link.target)), left: kept.length - shown.length };
}

/** Links that carry no request: kept open, or told by others. */
const isIdle = (link) => link.raw.state === "standby" && link.kind !== "mqtt";

const weight = (node, own) => (node.id === own ? 0 : node.tone === "bad" ? 1 : node.tone === "warn" ? 2 : node.kind === "central" ? 3 : 4);

/** Where nodes are: central ones in the middle, edges around them near the one that they are linked to, brokers beside
 * the node that is bridged to them. The same nodes are always at the same places. */
export function placed(nodes, links) {
  const byName = (a, b) => (a.label < b.label ? -1 : a.label > b.label ? 1 : a.id < b.id ? -1 : 1);
  const angles = new Map();
  const places = new Map();
  const centrals = nodes.filter((node) => node.kind === "central").sort(byName);
  const inner = centrals.length > 1 ? Math.max(90, (centrals.length * SPACING) / (2 * Math.PI)) : 0;
  centrals.forEach((node, index) => put(node, inner, (2 * Math.PI * index) / centrals.length - Math.PI / 2));
  const edges = nodes.filter((node) => node.kind === "edge").sort(byName);
  const toward = new Map(edges.map((node) => [node.id, nearest(node)]));
  edges.sort((a, b) => toward.get(a.id) - toward.get(b.id) || byName(a, b));
  const rings = Math.max(1, Math.ceil(edges.length / 24));
  const first = centrals.length ? inner + 150 : edges.length > 1 ? 150 : 0;
  const outer = Math.max(first, ((edges.length / rings) * SPACING) / (2 * Math.PI));
  edges.forEach((node, index) => put(node, outer + (index % rings) * RING, (2 * Math.PI * index) / edges.length));
  const brokers = nodes.filter((node) => node.kind === "broker").sort(byName);
  brokers.forEach((node, index) => {
    const link = links.find((each) => each.target === node.id);
    const angle = (angles.get(link?.source) ?? 0) + (index - (brokers.length - 1) / 2) * 0.35;
    put(node, outer + rings * RING + 90, angle);
  });
  return nodes.map((node) => ({ ...node, ...places.get(node.id) }));

  function put(node, radius, angle) {
    angles.set(node.id, angle);
    places.set(node.id, { x: Math.round(radius * Math.cos(angle)), y: Math.round(radius * Math.sin(angle)) });
  }
  function nearest(node) {
    const link = links.find((each) => (each.source === node.id && angles.has(each.target)) || (each.target === node.id && angles.has(each.source)));
    return link ? angles.get(link.source === node.id ? link.target : link.source) : 9;
  }
}

export const shapeOf = (node) => SHAPES[node.kind];
