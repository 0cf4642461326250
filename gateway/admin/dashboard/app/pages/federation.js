// The other nodes: how the links to them are, what is to be done about them, and how new ones come in.
import { api } from "../api.js";
import { ActionButton, Badge, Busy, Facts, ProblemBox, Tabs, confirmed } from "../form.js";
import { ago, bytes, count, duration, when } from "../format.js";
import { html, useSignal } from "../lib.js";
import { useLoaded, useTicks } from "../loading.js";
import { may } from "../login.js";
import { go, link, setQuery } from "../router.js";
import { node } from "../shell.js";
import { PagedTable, SimpleTable } from "../table.js";
import { t, words } from "../words.js";
import WORDS from "../words/federation.js";
import { JoinTokens } from "./federation-tokens.js";

words(WORDS);

const LOOK_MS = 5_000;
const CHANGES = ["peer.", "link."];

export const title = () => t("federation.title");

export function Page({ parts, query }) {
  if (parts[0]) return html`<${Peer} key=${parts[0]} id=${parts[0]} />`;
  const tab = query.tab ?? "peers";
  const tabs = [["peers", t("federation.peers")], ["tokens", t("federation.tokens")], ...(may("policy") ? [["versions", t("federation.versions")]] : [])];
  return html`
    <h1>${title()}</h1>
    <${ThisNode} />
    <${Tabs} label=${title()} options=${tabs} chosen=${tab} choose=${(to) => setQuery({ tab: to })} />
    ${tab === "tokens" ? html`<${JoinTokens} />` : tab === "versions" ? html`<${Versions} />` : html`<${Peers} />`}
  `;
}

/** What can be done with this node: it goes on, but nobody new comes. */
function ThisNode() {
  const topology = useLoaded((signal) => api.get("/topology", null, { signal }), [], { on: CHANGES, every: 2 * LOOK_MS });
  const state = useLoaded((signal) => (may("monitoring") ? api.get("/node", null, { signal }) : null), [], { on: ["node."] });
  const found = topology.value.value;
  const self = state.value.value ?? node.value;
  if (!found) return html`<${ProblemBox} problem=${topology.problem.value} />`;
  const drain = async () => {
    if (!(await confirmed(t("federation.drainSure"), t("federation.drain")))) return false;
    await api.post("/node/drain");
    return state.reload();
  };
  const undrain = async () => {
    await api.post("/node/undrain");
    return state.reload();
  };
  const names = new Map(found.nodes.map((each) => [each.id, each.name]));
  return html`<section class="card" aria-labelledby="here">
    <header>
      <h2 id="here">${names.get(found.node)}</h2>
      ${self && may("system", "operate") &&
      (self.state === "draining"
        ? html`<${ActionButton} class="small" act=${undrain} done=${t("federation.undrained")}>${t("federation.undrain")}</${ActionButton}>`
        : html`<${ActionButton} class="small secondary" act=${drain} done=${t("federation.drained")}>${t("federation.drain")}</${ActionButton}>`)}
    </header>
    <${Facts}
      rows=${[
        [t("federation.state"), self ? html`<${Badge} tone=${self.state === "draining" ? "warn" : "ok"}>${t(`federation.node.${self.state}`)}</${Badge}>` : undefined],
        [t("federation.role"), t(`federation.role.${found.nodes.find((each) => each.id === found.node).role}`)],
        [t("federation.uplink"), found.uplink_down_since ? html`<${Badge} tone="bad">${t("federation.noUplink", { ago: ago(found.uplink_down_since) })}</${Badge}>` : undefined],
        [t("federation.table"), found.table ? html`<${Badge} tone=${found.table.fresh ? "ok" : "bad"}>${found.table.fresh ? t("federation.fresh") : found.table.why || t("federation.stale")}</${Badge}> ${t("federation.tableHas", found.table)}` : undefined],
        [t("federation.unheard"), found.unheard.length ? html`<${Badge} tone="warn">${found.unheard.map((each) => t("federation.unheardOf", { name: names.get(each.node) ?? each.node, ago: ago(each.since) })).join(", ")}</${Badge}>` : undefined],
      ]}
    />
  </section>`;
}

/** The link that says how a peer is: the one in use before one in reserve. */
const bestLink = (peer) => peer.links.find((each) => each.state === "active") ?? peer.links[0];

function peerState(peer) {
  if (peer.itself) return ["quiet", t("federation.itself")];
  const best = bestLink(peer);
  if (!best) return peer.down_since ? ["bad", t("federation.lost", { ago: ago(peer.down_since) })] : ["quiet", t("federation.notLinked")];
  if (best.lag_s > 10) return ["warn", t("federation.late", { time: duration(best.lag_s) })];
  if (!best.whole) return ["warn", t("federation.notWhole")];
  return best.state === "standby" ? ["quiet", t("federation.standby")] : ["ok", t("federation.linked")];
}

function StateOf({ peer }) {
  const [tone, text] = peerState(peer);
  return html`<${Badge} tone=${tone}>${text}</${Badge}>`;
}

/** What a node runs; one that is away, or of before, tells nothing. */
function Release({ peer }) {
  if (peer.ahead) return html`<${Badge} tone="warn">${t("federation.ahead", { version: peer.version })}</${Badge}>`;
  return peer.version ?? t("federation.unknown");
}

function Peers() {
  const sort = useSignal("name");
  const ticks = useTicks(LOOK_MS);
  const columns = [
    { key: "name", label: t("federation.name"), sort: "name", cell: (peer) => html`<a href=${link("federation", [peer.id])}>${peer.name}</a>` },
    { key: "role", label: t("federation.role"), cell: (peer) => t(`federation.role.${peer.role}`) },
    { key: "version", label: t("federation.release"), cell: (peer) => html`<${Release} peer=${peer} />` },
    { key: "devices", label: t("federation.devices"), number: true, cell: (peer) => count(peer.devices) },
    { key: "state", label: t("federation.state"), cell: (peer) => html`<${StateOf} peer=${peer} />` },
    { key: "rtt", label: t("federation.rtt"), number: true, cell: (peer) => milliseconds(bestLink(peer)?.rtt_ms) },
    { key: "lag", label: t("federation.lag"), number: true, cell: (peer) => count(bestLink(peer)?.lag) },
    { key: "mismatches", label: t("federation.mismatches"), number: true, cell: (peer) => count(bestLink(peer)?.mismatches) },
    { key: "routes", label: t("federation.routes"), number: true, cell: (peer) => (bestLink(peer) ? t("federation.bothWays", { in: count(bestLink(peer).routes_in), out: count(bestLink(peer).routes_out) }) : count(null)) },
    { key: "bundle", label: t("federation.updated"), cell: (peer) => ago(peer.updated_at) },
  ];
  return html`<${PagedTable} path="/peers" columns=${columns} caption=${t("federation.peers")} rowKey=${(peer) => peer.id} sort=${sort.value} onSort=${(to) => (sort.value = to)} on=${CHANGES} version=${ticks} empty=${t("federation.alone")} />`;
}

/** Which bundle of documents each node should act by, and which it does. */
function Versions() {
  const version = (value) => (value ? t("federation.version", { n: value }) : t("federation.noBundle"));
  const columns = [
    { key: "name", label: t("federation.name"), cell: (each) => html`<a href=${link("federation", [each.node])}>${each.name}</a>` },
    { key: "role", label: t("federation.role"), cell: (each) => t(`federation.role.${each.role}`) },
    { key: "wanted", label: t("federation.wanted"), cell: (each) => version(each.wanted) },
    { key: "active", label: t("federation.active"), cell: (each) => html`<${Badge} tone=${each.active === each.wanted ? "ok" : "warn"}>${version(each.active)}</${Badge}>` },
    { key: "outcome", label: t("federation.outcome"), cell: (each) => each.outcome },
    { key: "reason", label: t("federation.why"), cell: (each) => each.reason },
  ];
  return html`<${PagedTable} path="/bundles/nodes" columns=${columns} caption=${t("federation.versions")} rowKey=${(each) => each.node} on=${["bundle."]} empty=${t("federation.noVersions")} />`;
}

const milliseconds = (value) => duration(value === undefined || value === null ? null : value / 1000);

function Peer({ id }) {
  const loaded = useLoaded((signal) => api.get(`/peers/${encodeURIComponent(id)}`, null, { signal }), [id], { on: CHANGES, every: LOOK_MS });
  const peer = loaded.value.value;
  return html`
    <p><a href=${link("federation")}>${t("federation.all")}</a></p>
    <h1>${peer?.name ?? t("federation.peer")}</h1>
    <${ProblemBox} problem=${loaded.problem.value} />
    ${peer ? html`<${Known} peer=${peer} reload=${loaded.reload} />` : !loaded.problem.value && html`<${Busy} />`}
  `;
}

function Known({ peer, reload }) {
  return html`
    <${Facts}
      rows=${[
        [t("federation.state"), html`<${StateOf} peer=${peer} />`],
        [t("federation.role"), t(`federation.role.${peer.role}`)],
        [t("federation.release"), html`<${Release} peer=${peer} />`],
        [t("federation.devices"), count(peer.devices)],
        [t("federation.urls"), peer.urls.join(", ") || undefined],
        [t("federation.mayServe"), peer.services.join(", ") || t("federation.none")],
        [t("federation.mayCall"), peer.routes.join(", ") || t("federation.none")],
        [t("federation.down"), peer.down_since ? `${when(peer.down_since)} (${ago(peer.down_since)})` : undefined],
        [t("federation.why"), peer.why || undefined],
        [t("federation.id"), html`<code>${peer.id}</code>`],
      ]}
    />
    ${!peer.itself && html`<${Actions} peer=${peer} reload=${reload} />`}
    ${!peer.itself &&
    html`<h2>${t("federation.links")}</h2>
      ${peer.links.map((each, index) => html`<${LinkCard} key=${index} link=${each} />`)}
      ${peer.links.length === 0 && html`<p>${t("federation.noLink")}</p>`}
      <h2>${t("federation.sync")}</h2>
      <${Sync} links=${peer.links} />`}
  `;
}

function Actions({ peer, reload }) {
  const path = `/peers/${encodeURIComponent(peer.id)}`;
  const name = peer.name;
  const reconnect = async () => {
    if (!(await confirmed(t("federation.reconnectSure", { name }), t("federation.reconnect")))) return false;
    const { links } = await api.post(`${path}/reconnect`);
    await reload();
    return links;
  };
  const move = async () => {
    if (!(await confirmed(t("federation.moveSure", { name }), t("federation.move")))) return false;
    await api.post(`${path}/move`);
    return reload();
  };
  const remove = async () => {
    if (!(await confirmed(t("federation.removeSure", { name }), t("federation.remove")))) return false;
    await api.delete(path);
    go("federation");
    return true;
  };
  return html`<p class="bar">
    ${may("federation", "operate") && peer.links.length > 0 &&
    html`<${ActionButton} class="secondary" act=${reconnect} done=${(links) => t("federation.reconnected", { n: links })}>${t("federation.reconnect")}</${ActionButton}>
      <${ActionButton} class="secondary" act=${move} done=${t("federation.moved")}>${t("federation.move")}</${ActionButton}>`}
    ${may("federation", "write") && html`<${ActionButton} class="secondary" act=${remove} done=${t("federation.removed", { name })}>${t("federation.remove")}</${ActionButton}>`}
  </p>`;
}

const LinkCard = ({ link: each }) => html`<section class="card">
  <${Facts}
    rows=${[
      [t("federation.kind"), t(`federation.kind.${each.kind}`)],
      [t("federation.state"), html`<${Badge} tone=${each.state === "active" ? "ok" : "quiet"}>${t(`federation.link.${each.state}`)}</${Badge}>`],
      [t("federation.dialled"), t(each.dialled ? "federation.dialledHere" : "federation.dialledThere")],
      [t("federation.address"), each.address],
      [t("federation.since"), each.since ? `${when(each.since)} (${ago(each.since)})` : undefined],
      [t("federation.rtt"), milliseconds(each.rtt_ms)],
      [t("federation.bytes"), t("federation.bothWays", { in: bytes(each.bytes_in), out: bytes(each.bytes_out) })],
      [t("federation.pending"), count(each.pending)],
      [t("federation.refused"), count(each.refused)],
      [t("federation.interests"), count(each.interests)],
      [t("federation.mayServe"), each.services.join(", ") || t("federation.none")],
      [t("federation.mayCall"), each.routes.join(", ") || t("federation.none")],
    ]}
  />
</section>`;

function Sync({ links }) {
  const columns = [
    { key: "kind", label: t("federation.kind"), cell: (each) => t(`federation.kind.${each.kind}`) },
    { key: "whole", label: t("federation.whole"), cell: (each) => html`<${Badge} tone=${each.whole ? "ok" : "warn"}>${t(each.whole ? "federation.yes" : "federation.notYet")}</${Badge}>` },
    { key: "lag", label: t("federation.lag"), number: true, cell: (each) => t("federation.lagFor", { changes: count(each.lag), time: duration(each.lag_s) }) },
    { key: "routes", label: t("federation.routes"), number: true, cell: (each) => t("federation.bothWays", { in: count(each.routes_in), out: count(each.routes_out) }) },
    { key: "items", label: t("federation.items"), number: true, cell: (each) => t("federation.bothWays", { in: count(each.items_in), out: count(each.items_out) }) },
    { key: "restarts", label: t("federation.restarts"), number: true, cell: (each) => count(each.restarts) },
    { key: "mismatches", label: t("federation.mismatches"), number: true, cell: (each) => count(each.mismatches) },
  ];
  return html`<${SimpleTable} rows=${links} columns=${columns} caption=${t("federation.sync")} empty=${t("federation.noLink")} />`;
}
