// Nodes and edges as a drawing. Where things are is worked out by who calls: the same things are always at the same
// place, and new figures move nothing. It is for who can see and point; the tables beside it say the same.
import { html, useEffect, useLayoutEffect, useRef, useSignal } from "./lib.js";
import { Busy, ProblemBox } from "./form.js";
import { colour, theme } from "./theme.js";
import { t, words } from "./words.js";
import WORDS from "./words/drawing.js";

words(WORDS);

const TONES = { ok: "--ok", warn: "--warn", bad: "--bad", quiet: "--quiet" };
const DASHES = { ok: "solid", warn: "dashed", bad: "dotted", quiet: "solid" };
const THINNEST = 1.5;
const THICKEST = 9;

/** What crosses an edge a second where it is drawn as thick as any. */
const BUSIEST = { bytes: 1e6, messages: 1e4, requests: 1e4 };

/** How thick an edge is drawn: by the power of ten of what crosses it a second, so the same rate always looks the same. */
export function width(rate, unit) {
  const share = Math.min(1, Math.log1p(rate || 0) / Math.log1p(BUSIEST[unit]));
  return Math.round((THINNEST + (THICKEST - THINNEST) * share) * 10) / 10;
}

/**
 * `nodes`: [{id, label, tone, shape, x, y}]; `edges`: [{id, source, target, width, tone, label?, arrow?}]; both with
 * `tone` ok, warn, bad or quiet, and `dash` where a line says more. `label`: what the drawing is. `arranged`: places are
 * taken over, and all of it is brought into view, when this changes. `chosen`: an id; `choose(id)`: somebody has pointed.
 */
export function Drawing({ nodes, edges, label, arranged, chosen, choose }) {
  const box = useRef();
  const drawn = useRef(null);
  const choosing = useRef(choose);
  choosing.current = choose;
  const ready = useSignal(false);
  const problem = useSignal(null);

  useLayoutEffect(() => {
    let gone = false;
    // It would put a style sheet into the page, which the page's policy refuses, unless an element of this id is there;
    // app.css has the one rule that it needs.
    if (!document.getElementById(SHEET)) document.head.append(Object.assign(document.createElement("meta"), { id: SHEET }));
    import("../vendor/cytoscape.js").then(
      ({ default: cytoscape }) => {
        if (gone) return;
        drawn.current = cytoscape({ container: box.current, minZoom: 0.05, maxZoom: 3, userZoomingEnabled: false, boxSelectionEnabled: false, autoungrabify: true });
        drawn.current.on("tap", "node, edge", (event) => choosing.current(event.target.id()));
        ready.value = true;
      },
      (error) => (problem.value = error),
    );
    const watching = new ResizeObserver(() => {
      drawn.current?.resize();
      drawn.current?.fit(undefined, 24);
    });
    watching.observe(box.current);
    return () => {
      gone = true;
      watching.disconnect();
      drawn.current?.destroy();
      drawn.current = null;
    };
  }, []);

  useEffect(() => {
    if (ready.value) drawn.current.style(sheet());
  }, [ready.value, theme.value]);

  const before = useRef(null);
  useEffect(() => {
    if (!ready.value) return;
    const anew = before.current !== arranged;
    before.current = arranged;
    put(drawn.current, nodes, edges, anew);
  }, [ready.value, nodes, edges, arranged]);

  useEffect(() => {
    if (!ready.value) return;
    drawn.current.elements().unselect();
    if (chosen) drawn.current.getElementById(chosen).select();
  }, [ready.value, chosen, nodes]);

  const zoom = (factor) => drawn.current?.zoom({ level: drawn.current.zoom() * factor, renderedPosition: { x: box.current.clientWidth / 2, y: box.current.clientHeight / 2 } });
  return html`<div class="drawing">
    <${ProblemBox} problem=${problem.value} />
    ${!ready.value && !problem.value && html`<${Busy} />`}
    <div class="drawing-tools">
      <button type="button" class="small secondary" aria-label=${t("drawing.in")} onClick=${() => zoom(1.3)}>+</button>
      <button type="button" class="small secondary" aria-label=${t("drawing.out")} onClick=${() => zoom(1 / 1.3)}>−</button>
      <button type="button" class="small secondary" onClick=${() => drawn.current?.fit(undefined, 24)}>${t("drawing.fit")}</button>
    </div>
    <div class="drawing-box" ref=${box} role="img" aria-label=${t("drawing.described", { label, nodes: nodes.length, edges: edges.length })}></div>
  </div>`;
}

const SHEET = "__________cytoscape_stylesheet";

/** Make the drawing show these: what is there already stays where it is. */
function put(drawing, nodes, edges, anew) {
  const wanted = new Set([...nodes, ...edges].map((each) => each.id));
  let changed = anew;
  drawing.batch(() => {
    drawing.elements().forEach((each) => {
      if (!wanted.has(each.id())) each.remove();
    });
    for (const { x, y, ...data } of nodes) {
      const found = drawing.getElementById(data.id);
      if (found.empty()) {
        drawing.add({ group: "nodes", data, position: { x, y } });
        changed = true;
      } else {
        found.data(data);
        if (anew) found.position({ x, y });
      }
    }
    for (const edge of edges) {
      const data = { label: "", dash: DASHES[edge.tone], arrow: "none", ...edge };
      const found = drawing.getElementById(edge.id);
      if (found.empty()) drawing.add({ group: "edges", data });
      else found.data(data);
    }
  });
  if (changed) drawing.fit(undefined, 24);
}

function sheet() {
  const text = colour("--pico-color");
  const tones = Object.fromEntries(Object.entries(TONES).map(([tone, name]) => [tone, [colour(name), colour(`${name}-back`)]]));
  return [
    {
      selector: "node",
      style: {
        label: "data(label)",
        shape: "data(shape)",
        color: text,
        "font-size": 11,
        "text-valign": "bottom",
        "text-margin-y": 4,
        "text-wrap": "wrap",
        "text-max-width": 130,
        "text-background-color": colour("--pico-background-color"),
        "text-background-opacity": 0.85,
        width: 34,
        height: 34,
        "border-width": 3,
      },
    },
    {
      selector: "edge",
      style: {
        width: "data(width)",
        "line-style": "data(dash)",
        "curve-style": "bezier",
        "target-arrow-shape": "data(arrow)",
        label: "data(label)",
        color: text,
        "font-size": 9,
        "text-background-color": colour("--pico-background-color"),
        "text-background-opacity": 0.85,
        "text-background-padding": 2,
      },
    },
    ...Object.entries(tones).flatMap(([tone, [strong, weak]]) => [
      { selector: `node[tone = "${tone}"]`, style: { "background-color": weak, "border-color": strong, "border-style": DASHES[tone] } },
      { selector: `edge[tone = "${tone}"]`, style: { "line-color": strong, "target-arrow-color": strong } },
    ]),
    { selector: "node:selected", style: { "border-width": 6, "font-weight": "bold" } },
    { selector: "edge:selected", style: { "line-color": colour("--pico-primary"), "target-arrow-color": colour("--pico-primary") } },
  ];
}
