// What protects a service, process by process: breaker, instances that are passed over, limits and rates.
import { api } from "./api.js";
import { ActionButton, Badge, Empty, Facts, confirmed } from "./form.js";
import { count, duration } from "./format.js";
import { html } from "./lib.js";
import { may } from "./login.js";
import { SimpleTable } from "./table.js";
import { t, words } from "./words.js";
import WORDS from "./words/guards.js";

words(WORDS);

const BREAKERS = { closed: "ok", "half-open": "warn", open: "bad" };

/** How a service is protected now: [tone, words] for lists. */
export function guardState(processes) {
  if (!processes.length) return ["quiet", t("guards.none")];
  const breakers = processes.map((each) => each.breaker?.state).filter(Boolean);
  const ejected = processes.reduce((sum, each) => sum + each.ejected.length, 0);
  if (breakers.includes("open")) return ["bad", t("guards.open")];
  if (breakers.includes("half-open")) return ["warn", t("guards.halfOpen")];
  if (ejected) return ["warn", t("guards.ejected", { n: ejected })];
  return ["ok", t("guards.well")];
}

/** `processes` as GET /services/{name}/health has them; `reload()` after something was done. */
export function Guards({ name, processes, reload }) {
  if (!processes.length) return html`<${Empty}>${t("guards.noDocument")}</${Empty}>`;
  const path = `/services/${encodeURIComponent(name)}:reset`;
  const reset = async () => {
    if (!(await confirmed(t("guards.resetSure", { name }), t("guards.reset")))) return false;
    await api.post(path, {});
    return reload();
  };
  return html`
    ${may("routing", "operate") && html`<p><${ActionButton} class="small secondary" act=${reset} done=${t("guards.wasReset")}>${t("guards.reset")}</${ActionButton}></p>`}
    ${processes.map((each) => html`<${Guard} key=${each.worker} guard=${each} many=${processes.length > 1} path=${path} reload=${reload} />`)}
  `;
}

function Guard({ guard, many, path, reload }) {
  const { breaker, rate, adaptive } = guard;
  return html`<section class="card">
    ${many && html`<h3>${t("guards.process", { n: guard.worker })}</h3>`}
    <${Facts}
      rows=${[
        [t("guards.document"), html`<code>${guard.document}</code>`],
        [t("guards.breaker"), breaker ? html`<${Badge} tone=${BREAKERS[breaker.state]}>${t(`guards.breaker.${breaker.state}`)}</${Badge}> ${breakerText(breaker)}` : undefined],
        [t("guards.atOnce"), guard.limit ? t("guards.openOf", { open: count(guard.open), limit: count(guard.limit) }) : undefined],
        [t("guards.waiting"), guard.waiting ? count(guard.waiting) : undefined],
        [t("guards.rate"), rate ? rateText(rate) : undefined],
        [t("guards.adaptive"), adaptive ? t("guards.adaptiveText", { limit: count(adaptive.limit), latest: duration(adaptive.latest_latency_s), least: duration(adaptive.least_latency_s) }) : undefined],
        [t("guards.refused"), counted(guard.refused)],
        [t("guards.ejections"), counted(guard.ejections)],
        [t("guards.retries"), counted(guard.retries)],
        [t("guards.faults"), counted(guard.faults)],
      ]}
    />
    ${guard.ejected.length > 0 && html`<${Ejected} rows=${guard.ejected} path=${path} reload=${reload} />`}
  </section>`;
}

/** Counters by reason, or undefined where nothing was counted. */
function counted(table) {
  const rows = Object.entries(table);
  return rows.length ? rows.map(([reason, n]) => `${reason.replaceAll("_", " ")} ${count(n)}`).join(", ") : undefined;
}

function breakerText(breaker) {
  const lately = t("guards.lately", { failures: count(breaker.failures), requests: count(breaker.requests), times: count(breaker.opened) });
  return breaker.state === "open" ? `${t("guards.triesIn", { time: duration(breaker.tries_in_s) })}; ${lately}` : lately;
}

function rateText(rate) {
  const per = t(`guards.per.${rate.per}`);
  const least = rate.least_left_of === null ? "" : t("guards.leastLeft", { who: rate.least_left_of, left: count(rate.least_left) });
  return [per, t("guards.limited", { n: count(rate.limited) }), rate.dry_run ? t("guards.dryRun") : "", least].filter(Boolean).join("; ");
}

function Ejected({ rows, path, reload }) {
  const back = (row) => async () => {
    await api.post(path, { instance: row.instance });
    return reload();
  };
  const columns = [
    { key: "subject", label: t("guards.instance"), cell: (row) => row.subject ?? row.instance },
    { key: "cause", label: t("guards.cause"), cell: (row) => row.cause?.replaceAll("_", " ") ?? "" },
    { key: "back", label: t("guards.backIn"), number: true, cell: (row) => duration(row.back_in_s) },
    { key: "times", label: t("guards.times"), number: true, cell: (row) => count(row.times) },
    {
      key: "act",
      label: t("guards.action"),
      cell: (row) => may("routing", "operate") && html`<${ActionButton} class="small secondary" aria-label=${t("guards.backNowOf", { name: row.subject ?? row.instance })} act=${back(row)} done=${t("guards.isBack")}>${t("guards.backNow")}</${ActionButton}>`,
    },
  ];
  return html`<${SimpleTable} rows=${rows} columns=${columns} caption=${t("guards.out")} rowKey=${(row) => row.instance} />`;
}
