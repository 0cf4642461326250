// What becomes of requests, as they end: a look that stops by itself.
import { follow, save } from "../api.js";
import { Badge, Dialog, Empty, Facts, Field, ProblemBox, Switch } from "../form.js";
import { clock, count, duration, rate } from "../format.js";
import { html, useEffect, useRef, useSignal } from "../lib.js";
import { stats } from "../live.js";
import { place, setQuery } from "../router.js";
import { SimpleTable } from "../table.js";
import { t, words } from "../words.js";
import WORDS from "../words/tap.js";

words(WORDS);

export const title = () => t("tap.title");

const LASTS_S = 60;
const MOST = 1000;
const SHOWN = 200;
const DRAW_MS = 250;
const VERDICTS = ["FORWARDED", "DROPPED", "ERROR", "AUDIT", "QUEUED", "EXPIRED", "LOOP"];
const TONES = { FORWARDED: "ok", DROPPED: "bad", ERROR: "bad", LOST: "warn", EXPIRED: "warn", LOOP: "warn", AUDIT: "warn" };

/** The fields of the page as an expression of docs/flows.md. */
function expression({ device, route, verdicts, filter }) {
  const text = (value) => `"${value.replace(/["\\]/g, "")}"`;
  const parts = [];
  if (device) parts.push(`(source.id =~ ${text(device)} || destination.id =~ ${text(device)})`);
  if (route) parts.push(`(route =~ ${text(route)} || topic =~ ${text(route)})`);
  if (verdicts) parts.push(`verdict in [${verdicts.split(",").map(text).join(", ")}]`);
  if (filter) parts.push(`(${filter})`);
  return parts.join(" && ");
}

export function Page({ query }) {
  const records = useSignal([]);
  const lost = useSignal(0);
  const ended = useSignal("idle");
  const problem = useSignal(null);
  const paused = useSignal(false);
  const everything = useSignal(true);
  const began = useSignal(0);
  const shown = useSignal(null);
  const taken = useRef([]);
  const current = useRef(null);
  const running = ended.value === "running";

  useEffect(() => {
    const drawing = setInterval(() => {
      if (!paused.peek() && records.peek().length !== taken.current.length) records.value = [...taken.current];
    }, DRAW_MS);
    return () => {
      clearInterval(drawing);
      current.current?.abort();
    };
  }, []);

  function stop(why) {
    current.current?.abort();
    current.current = null;
    records.value = [...taken.current];
    if (ended.peek() === "running") ended.value = why;
  }

  async function start(event) {
    event.preventDefault();
    stop("stopped");
    const mine = new AbortController();
    current.current = mine;
    taken.current = [];
    records.value = [];
    lost.value = 0;
    problem.value = null;
    paused.value = false;
    ended.value = "running";
    began.value = performance.now();
    const take = (kind, record) => {
      if (kind !== "flow" || mine.signal.aborted) return;
      if (record.verdict === "LOST") lost.value += record.lost ?? 0;
      taken.current.push(record);
      if (taken.current.length >= MOST) stop("full");
    };
    try {
      // What the address says now: a field may have been left by the key that sends the form.
      const params = { filter: expression(place.peek().query), everything: everything.value, ttl: LASTS_S };
      await follow("/stream/flows", params, take, mine.signal);
      if (current.current === mine) stop("over");
    } catch (error) {
      if (mine.signal.aborted) return;
      problem.value = error;
      stop("stopped");
    }
  }

  const download = () => save(new Blob(taken.current.map((each) => `${JSON.stringify(each)}\n`), { type: "application/x-ndjson" }), "flows.jsonl");
  const set = (name) => (event) => setQuery({ [name]: event.currentTarget.value });
  return html`
    <h1>${title()}</h1>
    <p>${t("tap.what")}</p>
    <form onSubmit=${start} aria-label=${t("tap.filters")}>
      <div class="bar">
        <${Field} label=${t("tap.device")} type="search" placeholder="thermostat-*" value=${query.device ?? ""} onInput=${set("device")} />
        <${Field} label=${t("tap.route")} type="search" placeholder="telemetry.*" value=${query.route ?? ""} onInput=${set("route")} />
        <${Field} label=${t("tap.filter")} type="search" placeholder="latency_ms > 500" value=${query.filter ?? ""} onInput=${set("filter")} />
      </div>
      <${Verdicts} chosen=${query.verdicts ?? ""} />
      <div class="bar">
        <${Switch} label=${t("tap.everything")} bind=${everything} />
        <button type="submit">${t(running ? "tap.again" : "tap.start")}</button>
        ${running && html`<button type="button" class="secondary" onClick=${() => stop("stopped")}>${t("tap.stop")}</button>
          <button type="button" class="secondary" aria-pressed=${paused.value ? "true" : "false"} onClick=${() => (paused.value = !paused.value)}>${t(paused.value ? "tap.resume" : "tap.pause")}</button>`}
        ${records.value.length > 0 && html`<button type="button" class="secondary" onClick=${download}>${t("tap.download")}</button>`}
      </div>
    </form>
    <${ProblemBox} problem=${problem.value} />
    <${Standing} ended=${ended.value} paused=${paused.value} records=${records.value} lost=${lost.value} began=${began.value} />
    <${Table} records=${records.value} running=${running} show=${(record) => (shown.value = record)} />
    ${shown.value && html`<${One} record=${shown.value} close=${() => (shown.value = null)} />`}
  `;
}

function Verdicts({ chosen }) {
  const names = chosen ? chosen.split(",") : [];
  const tick = (name, on) => setQuery({ verdicts: VERDICTS.filter((each) => (each === name ? on : names.includes(each))).join(",") });
  return html`<fieldset class="ticks">
    <legend>${t("tap.verdicts")}</legend>
    ${VERDICTS.map((each) => html`<label key=${each}><input type="checkbox" checked=${names.includes(each)} onChange=${(event) => tick(each, event.currentTarget.checked)} />${each}</label>`)}
  </fieldset>`;
}

/** How it stands: what was seen of what there was. */
function Standing({ ended, paused, records, lost, began }) {
  if (ended === "idle") return null;
  const seconds = records.length ? (performance.now() - began) / 1000 : 0;
  const all = stats.value?.rates?.requests;
  return html`<p role="status">
    <${Badge} tone=${ended === "running" ? "ok" : "quiet"}>${t(`tap.state.${paused && ended === "running" ? "paused" : ended}`)}</${Badge}>${" "}
    ${t("tap.seen", { n: count(records.length) })}
    ${ended === "running" && records.length > 0 && all > 0 && ` ${t("tap.rates", { seen: rate(records.length / seconds), all: rate(all) })}`}
    ${lost > 0 && html` <${Badge} tone="warn">${t("tap.lost", { n: count(lost) })}</${Badge}>`}
  </p>`;
}

const party = (end) => end?.id || end?.service || "";

function Table({ records, running, show }) {
  if (!records.length) return running ? html`<${Empty}>${t("tap.waits")}</${Empty}>` : null;
  const columns = [
    { key: "time", label: t("tap.time"), cell: (record) => html`<button type="button" class="plain" onClick=${() => show(record)}>${clock(record.time)}</button>` },
    { key: "verdict", label: t("tap.verdict"), cell: (record) => html`<${Badge} tone=${TONES[record.verdict] ?? "quiet"}>${record.verdict}</${Badge}> ${record.verdict === "LOST" ? count(record.lost) : record.reason}` },
    { key: "from", label: t("tap.from"), cell: (record) => party(record.source) },
    { key: "to", label: t("tap.to"), cell: (record) => record.destination?.service || party(record.destination) },
    { key: "route", label: t("tap.route"), cell: (record) => html`<code>${record.route || record.topic || ""}</code>` },
    { key: "interaction", label: t("tap.interaction"), cell: (record) => record.interaction },
    { key: "latency", label: t("tap.latency"), number: true, cell: (record) => duration(record.latency_ns === null || record.latency_ns === undefined ? null : record.latency_ns / 1e9) },
  ];
  return html`
    <${SimpleTable} rows=${records.slice(-SHOWN).reverse()} columns=${columns} caption=${title()} rowKey=${(record) => record.number} />
    ${records.length > SHOWN && html`<p class="foot">${t("tap.shown", { n: SHOWN })}</p>`}
  `;
}

function One({ record, close }) {
  const rows = [];
  const add = (name, value) => {
    if (value && typeof value === "object" && !Array.isArray(value)) for (const [key, each] of Object.entries(value)) add(`${name}.${key}`, each);
    else rows.push([name, value === null || value === "" ? undefined : Array.isArray(value) ? value.join(", ") || undefined : String(value)]);
  };
  for (const [name, value] of Object.entries(record)) add(name, value);
  return html`<${Dialog} title=${record.verdict} wide close=${close}><${Facts} rows=${rows} /></${Dialog}>`;
}
