// Whether the node is well, and why not; what it does now and did in the last 15 minutes.
import { api } from "../api.js";
import { Chart } from "../chart.js";
import { Badge, Busy, Empty, ProblemBox } from "../form.js";
import { NONE, bytes, clock, count, duration, rate } from "../format.js";
import { html, useEffect, useSignal } from "../lib.js";
import { useLoaded } from "../loading.js";
import { onEvents, stats } from "../live.js";
import { may } from "../login.js";
import { link } from "../router.js";
import { node } from "../shell.js";
import { SimpleTable } from "../table.js";
import { t, words } from "../words.js";
import WORDS from "../words/overview.js";

words(WORDS);

const STEPS_PUT_AWAY = "gateway.steps";
const LOOK_MS = 5_000;
const EVENTS = 8;

export const title = () => t("overview.title");

export function Page() {
  const health = useLoaded((signal) => api.get("/health", null, { signal }), [], { every: LOOK_MS });
  const history = useHistory();
  const last = (column) => history.value?.[column]?.findLast((value) => value !== null);
  return html`
    <h1>${title()}</h1>
    <${ProblemBox} problem=${health.problem.value ?? history.problem} />
    <${Health} health=${health.value.value} />
    <${FirstSteps} devices=${health.value.value?.devices} />
    <${Figures} devices=${health.value.value?.devices} last=${last} />
    <h2>${t("overview.lately")}</h2>
    <${Strips} history=${history.value} />
    <h2>${t("overview.events")}</h2>
    <${Lately} />
  `;
}

function Health({ health }) {
  if (!health) return html`<${Busy} />`;
  const tone = { ok: "ok", degraded: "warn", down: "bad" }[health.state];
  const tones = { error: "bad", warning: "warn", info: "quiet" };
  return html`<section class="health ${tone}" aria-live="polite">
    <p class="state"><span class="light" aria-hidden="true"></span>${t(`overview.${health.state}`)}</p>
    ${health.reasons.length > 0 &&
    html`<ul aria-label=${t("overview.reasons")}>
      ${health.reasons.map(
        (reason) => html`<li key=${reason.slug + reason.text}>
          <${Badge} tone=${tones[reason.severity]}>${t(`overview.${reason.severity}`)}</${Badge}>
          <span>${reason.text}</span>
          ${reason.page && html`<a href="#${reason.page}" aria-label="${t("overview.show")}: ${reason.text}">${t("overview.show")}</a>`}
        </li>`,
      )}
    </ul>`}
  </section>`;
}

function Figures({ devices, last }) {
  const now = stats.value;
  const open = now && Object.values(now.connections.open).reduce((sum, each) => sum + each, 0);
  const [p50, p99] = [last("p50_s"), last("p99_s")];
  const tiles = [
    [t("overview.devices"), count(devices?.online), devices && t("overview.ofDevices", { total: count(devices.total) }), link("devices")],
    [t("overview.connections"), count(open), null, link("connections")],
    [t("overview.requests"), rate(now?.rates?.requests), now?.rates?.failed ? t("overview.failed", { rate: rate(now.rates.failed) }) : null],
    [t("overview.latency"), `${duration(p50)} / ${duration(p99)}`, p50 === undefined ? t("overview.noRequests") : null],
    [t("overview.streams"), count(now?.streams_open)],
    [t("overview.waiting"), count(last("spool_depth")), t("overview.messages", { n: last("spool_depth") ?? 0 })],
    [t("overview.memory"), bytes(now?.memory_bytes), now?.rates ? t("overview.cpu", { percent: Math.round(now.rates.cpu * 100) }) : null],
    [t("overview.version"), node.value?.version ?? NONE, now ? t("overview.uptime", { duration: duration(now.uptime_s) }) : null],
  ];
  return html`<ul class="tiles" aria-label=${t("overview.figures")}>
    ${tiles.map(
      ([label, value, more, to]) => html`<li key=${label}>
        <span class="label">${to ? html`<a href=${to}>${label}</a>` : label}</span>
        <strong>${value}</strong>
        <small>${more}</small>
      </li>`,
    )}
  </ul>`;
}

function Strips({ history }) {
  if (!history) return html`<${Busy} />`;
  if (history.at.length < 2) return html`<${Empty}>${t("overview.noHistory")}</${Empty}>`;
  const sum = (...columns) => history.at.map((_, index) => columns.reduce((total, column) => total + (history[column][index] ?? 0), 0));
  const strips = [
    [t("overview.requestsChart"), rate, [[t("overview.allSeries"), history.requests_s], [t("overview.failedSeries"), sum("failed_s", "refused_s"), 4]]],
    [t("overview.latencyChart"), duration, [["p50", history.p50_s], ["p99", history.p99_s, 3]]],
    [t("overview.devicesChart"), count, [[t("overview.devicesSeries"), history.devices_online], [t("overview.connectionsSeries"), history.connections]]],
    [t("overview.bytesChart"), (value) => `${bytes(value)}/s`, [[t("overview.received"), history.bytes_in_s], [t("overview.sent"), history.bytes_out_s]]],
  ];
  return html`<div class="charts">
    ${strips.map(
      ([name, format, series]) => html`<${Chart}
        key=${name}
        title=${name}
        times=${history.at}
        format=${format}
        series=${series.map(([label, values, tone]) => ({ label, values, tone }))}
      />`,
    )}
  </div>`;
}

/** The history of the node: all of it once, then what is new, every step. */
function useHistory() {
  const value = useSignal(null);
  const problem = useSignal(null);
  useEffect(() => {
    const ending = new AbortController();
    const read = async () => {
      const had = value.peek();
      try {
        const fresh = await api.get("/node/history", { since: had?.at.at(-1) }, { signal: ending.signal });
        problem.value = null;
        if (!had) value.value = fresh;
        else if (fresh.at.length) value.value = joined(had, fresh);
      } catch (error) {
        if (!ending.signal.aborted) problem.value = error;
      }
    };
    read();
    const timer = setInterval(() => document.hidden || read(), LOOK_MS);
    return () => {
      clearInterval(timer);
      ending.abort();
    };
  }, []);
  return { value: value.value, problem: problem.value };
}

function joined(had, fresh) {
  // The node has started anew: its clock goes on, its figures do not.
  const most = 900 / fresh.step_s;
  const made = { ...fresh };
  for (const [name, column] of Object.entries(fresh)) {
    if (Array.isArray(column)) made[name] = had[name].concat(column).slice(-most);
  }
  return made;
}

function Lately() {
  const events = useSignal([]);
  useEffect(() => {
    const take = (found) => (events.value = [...found, ...events.peek()].slice(0, EVENTS));
    api.get("/events", { limit: EVENTS }).then((page) => take(page.data), () => {});
    return onEvents("", (fresh) => take([...fresh].reverse()));
  }, []);
  const columns = [
    { key: "at", label: t("overview.time"), cell: (event) => clock(event.at) },
    { key: "kind", label: t("overview.kind"), cell: (event) => html`<code>${event.kind}</code>` },
    { key: "subject", label: t("overview.subject") },
  ];
  return html`<${SimpleTable} rows=${events.value} columns=${columns} caption=${t("overview.events")} rowKey=${(event) => event.id} empty=${t("overview.noEvents")} />`;
}

/** What a new node still needs: a list to come back to, never in the way. */
function FirstSteps({ devices }) {
  const away = useSignal(localStorage.getItem(STEPS_PUT_AWAY) === "yes");
  const backups = useLoaded((signal) => (may("backup") ? api.get("/backups", { limit: 1 }, { signal }) : null));
  const url = node.value?.advertised_url;
  if (!url || !devices) return null;
  const put = (hide) => {
    localStorage.setItem(STEPS_PUT_AWAY, hide ? "yes" : "no");
    away.value = hide;
  };
  const reachable = !/^\w+:\/\/(localhost|127\.|\[::1\])/.test(url);
  const steps = [
    [reachable, t(reachable ? "overview.stepUrl" : "overview.stepUrlLocal", { url }), link("settings", [], { q: "advertised" })],
    [devices.total > 0, t("overview.stepDevice"), link("add-device")],
    [devices.online > 0, t("overview.stepOnline"), link("devices")],
    ...(may("backup") ? [[backups.value.value?.data.length > 0, t("overview.stepBackup"), link("backups")]] : []),
  ];
  if (away.value || steps.every(([done]) => done)) {
    return away.value && html`<p><button type="button" class="small secondary" onClick=${() => put(false)}>${t("overview.stepsShow")}</button></p>`;
  }
  return html`<section class="card steps" aria-labelledby="steps">
    <header><h2 id="steps">${t("overview.steps")}</h2><button type="button" class="small secondary" onClick=${() => put(true)}>${t("overview.stepsHide")}</button></header>
    <ol>${steps.map(([done, text, to]) => html`<li key=${text} class=${done ? "done" : ""}><span aria-hidden="true">${done ? "✓" : "○"}</span> <a href=${to}>${text}</a></li>`)}</ol>
  </section>`;
}
