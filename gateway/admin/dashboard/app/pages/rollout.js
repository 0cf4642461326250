// One rollout: how far its devices are, and what can be done about it.
import { api } from "../api.js";
import { ActionButton, Badge, Busy, Dialog, Facts, Field, Form, ProblemBox, Select, Switch, confirmed, toast } from "../form.js";
import { ago, bytes, count, duration, when } from "../format.js";
import { html, useSignal } from "../lib.js";
import { useLoaded } from "../loading.js";
import { may } from "../login.js";
import { link, setQuery } from "../router.js";
import { PagedTable } from "../table.js";
import { t } from "../words.js";
import { PHASES, forWhom } from "./firmware.js";

const STEPS = ["offered", "downloading", "verified", "trial", "confirmed", "rolled_back", "failed"];
const TONES = { confirmed: "ok", rolled_back: "bad", failed: "bad", downloading: "warn", verified: "warn", trial: "warn" };

export const title = () => t("firmware.rollout");

export function Page({ parts, query }) {
  const [id] = parts;
  if (!id) return html`<h1>${title()}</h1><p><a href=${link("firmware")}>${t("firmware.rollouts")}</a></p>`;
  return html`<${Rollout} key=${id} id=${id} step=${query.step} />`;
}

function Rollout({ id, step }) {
  const path = `/rollouts/${encodeURIComponent(id)}`;
  const found = useLoaded((signal) => api.get(path, { count: true }, { signal }), [id], { on: ["rollout."], every: 5_000 });
  const rollout = found.value.value;
  if (!rollout) return html`<h1>${title()}</h1>${found.problem.value ? html`<${ProblemBox} problem=${found.problem.value} />` : html`<${Busy} />`}`;
  const offered = STEPS.reduce((sum, each) => sum + rollout.devices[each], 0);
  const columns = [
    { key: "device", label: t("firmware.device"), sort: "id", cell: (row) => html`<a href=${link("device", [row.device_id])}>${row.device_id}</a>` },
    { key: "state", label: t("firmware.state"), cell: (row) => html`<${Badge} tone=${TONES[row.state]}>${t(`firmware.step.${row.state}`)}</${Badge}> ${row.reason}` },
    { key: "received", label: t("firmware.received"), number: true, cell: (row) => bytes(row.received) },
    { key: "at", label: t("firmware.changed"), cell: (row) => html`<span title=${when(row.updated_at)}>${ago(row.updated_at)}</span>` },
  ];
  return html`
    <p class="crumbs"><a href=${link("firmware")}>${t("firmware.rollouts")}</a></p>
    <h1>${rollout.board} ${rollout.firmware_version}</h1>
    <${ProblemBox} problem=${found.problem.value} />
    <${Facts} rows=${[
      [t("firmware.state"), html`<${Badge} tone=${PHASES[rollout.state]}>${t(`firmware.is.${rollout.state}`)}</${Badge}> ${rollout.reason}`],
      [t("firmware.for"), forWhom(rollout)],
      [t("firmware.percentage"), `${rollout.percentage} %`],
      [t("firmware.failures"), t("firmware.ofMost", { n: rollout.failures - rollout.forgiven, most: rollout.max_failures })],
      [t("firmware.within"), duration(rollout.confirm_s)],
      [t("firmware.started"), html`<span title=${when(rollout.created_at)}>${ago(rollout.created_at)}</span>`],
    ]} />
    <${Actions} path=${path} rollout=${rollout} reload=${found.reload} />
    <h2>${t("firmware.progress")}</h2>
    <p><progress aria-label=${t("firmware.progress")} max=${Math.max(1, rollout.reached ?? offered)} value=${rollout.devices.confirmed}></progress></p>
    <p>${t("firmware.sofar", { confirmed: count(rollout.devices.confirmed), offered: count(offered), reached: count(rollout.reached) })}</p>
    <ul class="tiles">${STEPS.map((each) => html`<li key=${each}><span class="label">${t(`firmware.step.${each}`)}</span><strong>${count(rollout.devices[each])}</strong></li>`)}</ul>
    <h2>${t("firmware.devices")}</h2>
    <div class="bar"><${Select} label=${t("firmware.state")} value=${step ?? ""} onChange=${(event) => setQuery({ step: event.currentTarget.value })} options=${[["", t("firmware.any")], ...STEPS.map((each) => [each, t(`firmware.step.${each}`)])]} /></div>
    <${PagedTable} path="${path}/devices" params=${{ state: step }} sort="id" columns=${columns} caption=${t("firmware.devices")} rowKey=${(row) => row.device_id} on=${["rollout."]} version=${rollout.updated_at + offered} empty=${t("firmware.noDevices")} />
  `;
}

function Actions({ path, rollout, reload }) {
  const changing = useSignal(false);
  const retry = useSignal(false);
  const act = (verb, body, question, action) => async () => {
    if (question && !(await confirmed(question, action))) return false;
    await api.post(`${path}/${verb}`, body);
    reload();
    return true;
  };
  const { state } = rollout;
  if (state === "aborted") return null;
  return html`<div class="bar">
    ${may("devices", "operate") && state === "running" && html`<${ActionButton} class="small" act=${act("pause", {})} done=${t("firmware.is.paused")}>${t("firmware.pause")}</${ActionButton}>`}
    ${may("devices", "operate") && state === "paused" && html`<${ActionButton} class="small" act=${act("resume", { retry: retry.value })} done=${t("firmware.is.running")}>${t("firmware.resume")}</${ActionButton}><${Switch} label=${t("firmware.retry")} bind=${retry} />`}
    ${may("devices", "write") && html`<button type="button" class="small secondary" onClick=${() => (changing.value = true)}>${t("firmware.change")}</button>`}
    ${may("devices", "operate") && html`<${ActionButton} class="small danger" act=${act("abort", {}, t("firmware.sureAbort"), t("firmware.abort"))} done=${t("firmware.is.aborted")}>${t("firmware.abort")}</${ActionButton}>`}
    ${changing.value && html`<${Change} path=${path} rollout=${rollout} close=${() => (changing.value = false)} done=${reload} />`}
  </div>`;
}

function Change({ path, rollout, close, done }) {
  const base = useSignal(rollout);
  const percentage = useSignal(String(rollout.percentage));
  const failures = useSignal(String(rollout.max_failures));
  async function send() {
    try {
      await api.patch(path, { percentage: Number(percentage.value), max_failures: Number(failures.value) }, { headers: { "if-match": `"${base.value.version}"` } });
      toast(t("firmware.saved"));
      done();
      close();
    } catch (error) {
      // Who saves again has seen that somebody else was first, and what it is now.
      if (error.status === 412) base.value = await api.get(path).catch(() => base.value);
      throw error;
    }
  }
  return html`<${Dialog} title=${t("firmware.change")} close=${close}>
    ${base.value !== rollout && html`<p>${t("firmware.nowIs", { percentage: base.value.percentage, most: base.value.max_failures })}</p>`}
    <${Form} send=${send} action=${t("firmware.save")}>
      <${Field} label=${t("firmware.percentage")} hint=${t("firmware.percentageHint")} type="number" min="0.01" max="100" step="any" required bind=${percentage} />
      <${Field} label=${t("firmware.maxFailures")} type="number" min="0" max="1000000" required bind=${failures} />
    </${Form}>
  </${Dialog}>`;
}
