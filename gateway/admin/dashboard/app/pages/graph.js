// Who calls whom: rate, errors and latency of each pair, as a table first; then as a drawing.
import { api } from "../api.js";
import { Drawing, width } from "../drawing.js";
import { Busy, Empty, Field, ProblemBox, Select, Switch } from "../form.js";
import { count, duration, rate } from "../format.js";
import { html, useMemo, useSignal } from "../lib.js";
import { useLoaded } from "../loading.js";
import { link, setQuery } from "../router.js";
import { SimpleTable } from "../table.js";
import { t, words } from "../words.js";
import ROUTES from "../words/routes.js";
import WORDS from "../words/graph.js";
import { Errors, toneOf } from "./service.js";

words(WORDS);
words(ROUTES);

const LOOK_MS = 10_000;
const WINDOWS = ["10", "60", "300"];
/** So many are drawn; so many are in the table. */
const MOST_DRAWN = 100;
const MOST_LISTED = 500;

export const title = () => t("graph.title");

export function Page({ query }) {
  const window = WINDOWS.includes(query.window) ? query.window : "60";
  const search = useSignal(query.q ?? "");
  const own = query.own === "1";
  const loaded = useLoaded((signal) => api.get("/graph", { window }, { signal }), [window], { every: LOOK_MS });
  const graph = loaded.value.value;
  return html`
    <h1>${title()}</h1>
    <div class="bar">
      <${Select} label=${t("graph.window")} value=${window} onChange=${(event) => setQuery({ window: event.currentTarget.value })} options=${WINDOWS.map((each) => [each, duration(Number(each))])} />
      <${Field} label=${t("graph.find")} type="search" bind=${search} />
      <${Switch} label=${t("graph.own")} checked=${own} onChange=${(on) => setQuery({ own: on ? "1" : null })} />
    </div>
    <${ProblemBox} problem=${loaded.problem.value} />
    ${graph ? html`<${Calls} graph=${graph} q=${search.value.trim().toLowerCase()} own=${own} />` : html`<${Busy} />`}
  `;
}

/** The node's own services, which say how it does and what was enrolled: no traffic of anybody's. */
const isOwn = (edge) => edge.service === "gateway" || /^gateway[./]/.test(edge.service);
const idOf = (edge) => `${edge.source} > ${edge.service} > ${edge.node}`;

function Calls({ graph, q, own }) {
  const edges = graph.edges
    .filter((edge) => (own || !isOwn(edge)) && (!q || edge.source.toLowerCase().includes(q) || edge.service.toLowerCase().includes(q)))
    .sort((a, b) => b.rate - a.rate || (idOf(a) < idOf(b) ? -1 : 1));
  const drawn = edges.slice(0, MOST_DRAWN);
  const arranged = drawn.map(idOf).sort().join("\n");
  const places = useMemo(() => placed(drawn), [arranged]);
  const shown = useMemo(
    () => ({
      nodes: places,
      edges: drawn.map((edge) => ({
        id: idOf(edge),
        source: `from ${edge.source}`,
        target: places.find((each) => each.id === `from ${edge.service}`) ? `from ${edge.service}` : `to ${edge.service}`,
        width: width(edge.rate, "requests"),
        tone: toneOf(edge.error_share),
        arrow: "triangle",
      })),
    }),
    [graph, places],
  );
  const columns = [
    { key: "source", label: t("graph.source"), cell: (edge) => edge.source || t("graph.unknown") },
    { key: "service", label: t("graph.service"), cell: (edge) => (edge.service && !edge.service.startsWith("(") ? html`<a href=${link("routes", [edge.service])}>${edge.service}</a>` : edge.service || t("graph.unnamed")) },
    { key: "node", label: t("graph.over"), cell: (edge) => edge.node || t("graph.here") },
    { key: "rate", label: t("graph.rate"), number: true, cell: (edge) => rate(edge.rate) },
    { key: "errors", label: t("graph.errors"), number: true, cell: (edge) => html`<${Errors} share=${edge.error_share} />` },
    { key: "p50", label: "p50", number: true, cell: (edge) => duration(edge.p50_s) },
    { key: "p99", label: "p99", number: true, cell: (edge) => duration(edge.p99_s) },
    { key: "requests", label: t("graph.requests"), number: true, cell: (edge) => count(edge.requests) },
  ];
  if (!edges.length) return html`<${Empty}>${t("graph.nothing")}</${Empty}>`;
  return html`
    <p><small>${t("graph.looked", { time: duration(graph.seconds), node: graph.node })}</small></p>
    <${SimpleTable} rows=${edges.slice(0, MOST_LISTED)} columns=${columns} caption=${title()} rowKey=${idOf} />
    ${edges.length > MOST_LISTED && html`<p role="status">${t("graph.listed", { most: MOST_LISTED, n: count(edges.length) })}</p>`}
    <h2>${t("graph.drawing")}</h2>
    ${edges.length > MOST_DRAWN && html`<p role="status">${t("graph.drawn", { most: MOST_DRAWN, n: count(edges.length) })}</p>`}
    <${Drawing} nodes=${shown.nodes} edges=${shown.edges} label=${title()} arranged=${arranged} choose=${() => {}} />
    <p class="legend"><small>${t("graph.legend")}</small></p>
  `;
}

/** Callers on the left, those that are called on the right, those that do both between them. */
function placed(edges) {
  const callers = new Set(edges.map((edge) => edge.source));
  const called = new Set(edges.map((edge) => edge.service));
  const columns = [[...callers].filter((name) => !called.has(name)), [...callers].filter((name) => called.has(name)), [...called].filter((name) => !callers.has(name))].map((names) => names.sort());
  const tallest = Math.max(...columns.map((names) => names.length));
  return columns.flatMap((names, column) =>
    names.map((name, row) => ({
      id: `${column === 2 ? "to" : "from"} ${name}`,
      label: name || (column === 2 ? t("graph.unnamed") : t("graph.unknown")),
      shape: column === 0 ? "ellipse" : "round-rectangle",
      tone: "quiet",
      x: column * 230 + (column === 1 ? (row % 2) * 60 : 0),
      y: Math.round(((row + 0.5) * tallest * 80) / names.length),
    })),
  );
}
