// Whether this node is well by its own account, what it is made of, and what it can be told to do.
import { api, download, raw, save } from "../api.js";
import { ActionButton, Badge, Busy, Copyable, Empty, Facts, ProblemBox, Switch, confirmed } from "../form.js";
import { ago, duration, when } from "../format.js";
import { html, useSignal } from "../lib.js";
import { useLoaded } from "../loading.js";
import { may } from "../login.js";
import { link } from "../router.js";
import { SimpleTable } from "../table.js";
import { t, words } from "../words.js";
import WORDS from "../words/diagnostics.js";

words(WORDS);

export const title = () => t("diagnostics.title");

const LOOK_MS = 5_000;

export function Page() {
  const node = useLoaded((signal) => api.get("/node", null, { signal }), [], { every: LOOK_MS, on: ["node."] });
  const features = useLoaded((signal) => api.get("/node/features", null, { signal }));
  const found = node.value.value;
  return html`
    <h1>${title()}</h1>
    <${ProblemBox} problem=${node.problem.value} />
    ${!found && !node.problem.value && html`<${Busy} />`}
    ${found &&
    html`
      <h2>${t("diagnostics.checks")}</h2>
      <${Checks} of=${found.checks} />
      <h2>${t("diagnostics.alarms")}</h2>
      <${Alarms} of=${found.alarms} />
      <h2>${t("diagnostics.node")}</h2>
      <${Itself} of=${found} />
      ${found.workers.length > 0 && html`<h2>${t("diagnostics.workers")}</h2><${Workers} of=${found.workers} />`}
      ${may("system", "operate") && html`<h2>${t("diagnostics.do")}</h2><${Doing} of=${found} again=${node.reload} />`}
    `}
    ${features.value.value && html`<h2>${t("diagnostics.features")}</h2><p class="chips">${features.value.value.features.map((each) => html`<${Badge} key=${each}>${each}</${Badge}> `)}</p>`}
    <h2>${t("diagnostics.support")}</h2>
    ${may("system", "write") && html`<${Bundle} />`}
    <p>${t("diagnostics.supportWhat")}</p>
    <${Copyable} text="gateway support-bundle" label=${t("diagnostics.support")} />
    <h2>${t("diagnostics.api")}</h2>
    <p>${t("diagnostics.apiWhat")}</p>
    <div class="bar">
      <${ActionButton} class="secondary" act=${() => download("/reference.md", null, "reference.md")}>${t("diagnostics.reference")}</${ActionButton}>
      <${ActionButton} class="secondary" act=${() => download("/openapi.json", null, "openapi.json")}>${t("diagnostics.openapi")}</${ActionButton}>
      <a href=${link("settings", [], { q: "limits." })}>${t("diagnostics.limits")}</a>
    </div>
  `;
}

function Checks({ of }) {
  const columns = [
    { key: "name", label: t("diagnostics.check"), cell: ([name]) => name },
    { key: "state", label: t("diagnostics.state"), cell: ([, said]) => html`<${Badge} tone=${said === "ok" ? "ok" : "bad"}>${said === "ok" ? t("diagnostics.ok") : t("diagnostics.wrong")}</${Badge}> ${said === "ok" ? "" : said}` },
  ];
  return html`<${SimpleTable} rows=${Object.entries(of)} columns=${columns} caption=${t("diagnostics.checks")} rowKey=${([name]) => name} />`;
}

function Alarms({ of }) {
  if (!of.length) return html`<${Empty}>${t("diagnostics.noAlarms")}</${Empty}>`;
  const columns = [
    { key: "slug", label: t("diagnostics.alarm"), cell: (each) => html`<code>${each.slug}</code>` },
    { key: "text", label: t("diagnostics.text") },
    { key: "since", label: t("diagnostics.since"), cell: (each) => html`<span title=${when(each.since)}>${ago(each.since)}</span>` },
  ];
  return html`<${SimpleTable} rows=${of} columns=${columns} caption=${t("diagnostics.alarms")} rowKey=${(each) => each.slug} />`;
}

function Itself({ of }) {
  return html`<${Facts}
    rows=${[
      [t("diagnostics.name"), of.name],
      [t("diagnostics.id"), html`<code>${of.id}</code>`],
      [t("diagnostics.state"), html`<${Badge} tone=${of.state === "ready" ? "ok" : "warn"}>${t(`diagnostics.${of.state}`)}</${Badge}>`],
      [t("diagnostics.version"), of.version],
      ["Python", of.python],
      [t("diagnostics.loop"), of.loop],
      [t("diagnostics.hotPath"), of.hot_path],
      [t("diagnostics.pid"), of.pid],
      [t("diagnostics.started"), `${when(of.started_at)} (${duration(of.uptime_s)})`],
      [t("diagnostics.told"), html`<code>${of.advertised_url}</code>`],
      ...Object.entries(of.addresses).map(([name, address]) => [t("diagnostics.listens", { name }), html`<code>${address}</code>`]),
    ]}
  />`;
}

function Workers({ of }) {
  const columns = [
    { key: "index", label: t("diagnostics.process"), number: true },
    { key: "state", label: t("diagnostics.state"), cell: (each) => html`<${Badge} tone=${each.state === "ready" ? "ok" : "warn"}>${each.state}</${Badge}>` },
    { key: "pid", label: t("diagnostics.pid"), number: true },
    { key: "connections", label: t("diagnostics.connections"), number: true },
    { key: "restarts", label: t("diagnostics.restarts"), number: true },
    { key: "started", label: t("diagnostics.started"), cell: (each) => when(each.started_at) },
  ];
  return html`<${SimpleTable} rows=${of} columns=${columns} caption=${t("diagnostics.workers")} rowKey=${(each) => each.index} />`;
}

function Doing({ of, again }) {
  const reload = async () => {
    const done = await api.post("/node/reload");
    again();
    return done;
  };
  const told = ({ changed, restart_needed: later }) => {
    if (later.length) return t("diagnostics.reloadedLater", { names: later.join(", ") });
    return changed.length ? t("diagnostics.reloaded", { names: changed.join(", ") }) : t("diagnostics.reloadedNothing");
  };
  const drain = async () => {
    if (!(await confirmed(t("diagnostics.drainAsk"), t("diagnostics.drain")))) return;
    await api.post("/node/drain");
    again();
  };
  const undrain = async () => {
    await api.post("/node/undrain");
    again();
  };
  return html`<div class="bar">
    <${ActionButton} class="secondary" act=${reload} done=${told}>${t("diagnostics.reload")}</${ActionButton}>
    ${of.state === "draining"
      ? html`<${ActionButton} act=${undrain}>${t("diagnostics.undrain")}</${ActionButton}>`
      : html`<${ActionButton} class="secondary" act=${drain}>${t("diagnostics.drain")}</${ActionButton}>`}
  </div>`;
}

/** One file for those who help: without secrets in any case, without names and addresses unless they are asked for. */
function Bundle() {
  const named = useSignal(false);
  const make = async () => {
    const answer = await raw("POST", "/support-bundle", { params: { redact: !named.value } });
    save(await answer.blob(), "support-bundle.tar.gz");
  };
  return html`<div class="bar">
    <${ActionButton} class="secondary" act=${make} done=${t("diagnostics.supportMade")}>${t("diagnostics.supportMake")}</${ActionButton}>
    <${Switch} label=${t("diagnostics.supportNamed")} bind=${named} />
  </div>`;
}
