// What configuration a device is to have, what it says it has, and how that came about.
import { api } from "../../api.js";
import { ActionButton, Badge, Busy, Dialog, Facts, Field, ProblemBox, confirmed, toast } from "../../form.js";
import { ago, when } from "../../format.js";
import { html, useSignal } from "../../lib.js";
import { useLoaded } from "../../loading.js";
import { may } from "../../login.js";
import { SimpleTable } from "../../table.js";
import { t } from "../../words.js";

const TONES = { applied: "ok", rejected: "bad", pending: "warn", none: "quiet" };
const pretty = (document) => JSON.stringify(document, null, 2);

export function Configuration({ device }) {
  const path = `/devices/${encodeURIComponent(device.id)}/config`;
  const target = `device:${device.id}`;
  const found = useLoaded((signal) => api.get(path, null, { signal }), [device.id], { on: ["device_config."], every: 5_000 });
  // Of a target that has no document now nothing is told.
  const standing = found.value.value?.config?.target === target;
  const history = useLoaded(
    async (signal) => (standing ? api.get(`/device-configs/${encodeURIComponent(target)}/history`, { limit: 50 }, { signal }) : { data: [] }),
    [device.id, standing], { on: ["device_config."] },
  );
  const editing = useSignal(null);
  const now = found.value.value;
  if (!now) return found.problem.value ? html`<${ProblemBox} problem=${found.problem.value} />` : html`<${Busy} />`;
  const { config, status } = now;
  const own = config?.target === target ? config.version : 0;
  const write = may("devices", "write");
  const again = () => Promise.all([found.reload(), history.reload()]);
  const rollBack = (version) => async () => {
    if (!(await confirmed(t("device.sureRollBack", { version }), t("device.rollBack")))) return false;
    await api.post(`/device-configs/${encodeURIComponent(target)}/rollback`, { version }, { headers: { "if-match": `"${own}"` } });
    await again();
    return true;
  };
  async function withdraw() {
    if (!(await confirmed(t("device.sureWithdraw"), t("device.withdraw")))) return false;
    await api.delete(path, { headers: { "if-match": `"${own}"` } });
    await again();
    return true;
  }
  const columns = [
    { key: "version", label: t("device.version"), number: true },
    { key: "at", label: t("device.changed"), cell: (row) => html`<span title=${when(row.at)}>${ago(row.at)}</span>` },
    { key: "by", label: t("device.by") },
    { key: "comment", label: t("device.comment") },
    { key: "document", label: t("device.document"), cell: (row) => html`<code>${JSON.stringify(row.document)}</code>` },
    { key: "act", label: t("device.act"), cell: (row) => write && row.version !== own && html`<${ActionButton} class="small secondary" act=${rollBack(row.version)} done=${t("device.saved")}>${t("device.rollBack")}</${ActionButton}>` },
  ];
  return html`
    <h2>${t("device.tab.configuration")}</h2>
    <${ProblemBox} problem=${found.problem.value} />
    <${Facts} rows=${[
      [t("device.state"), html`<${Badge} tone=${TONES[status.state]}>${t(`device.config.${status.state}`)}</${Badge}> ${status.reason}`],
      [t("device.desired"), status.desired ?? t("device.none")],
      [t("device.reported"), status.reported === null ? t("device.none") : html`${status.reported}, <span title=${when(status.at)}>${ago(status.at)}</span>`],
      [t("device.lastApplied"), status.applied === null ? t("device.none") : html`${status.applied}, <span title=${when(status.applied_at)}>${ago(status.applied_at)}</span>`],
      [t("device.target"), config ? html`<code>${config.target}</code>` : t("device.none")],
    ]} />
    ${config && html`<pre tabindex="0" aria-label=${t("device.document")}><code>${pretty(config.document)}</code></pre>`}
    ${write && html`<div class="bar">
      <button type="button" onClick=${() => (editing.value = { text: pretty(config?.document ?? {}), own })}>${own ? t("device.editConfig") : t("device.ownConfig")}</button>
      ${own > 0 && html`<${ActionButton} class="secondary" act=${withdraw} done=${t("device.saved")}>${t("device.withdraw")}</${ActionButton}>`}
    </div>`}
    <h3>${t("device.configHistory")}</h3>
    ${history.value.value && html`<${SimpleTable} rows=${history.value.value.data} columns=${columns} caption=${t("device.configHistory")} rowKey=${(row) => row.version} empty=${t("device.noHistory")} />`}
    ${editing.value && html`<${Editor} path=${path} start=${editing.value} close=${() => (editing.value = null)} done=${again} />`}
  `;
}

function Editor({ path, start, close, done }) {
  const text = useSignal(start.text);
  const comment = useSignal("");
  const problem = useSignal(null);
  const own = useSignal(start.own);
  async function submit(event) {
    event.preventDefault();
    let document;
    try {
      document = JSON.parse(text.value);
    } catch (error) {
      problem.value = { status: 422, title: t("device.noJson"), detail: error.message };
      return;
    }
    try {
      await api.put(path, { document, comment: comment.value }, { headers: { "if-match": `"${own.value}"` } });
      toast(t("device.saved"));
      await done();
      close();
    } catch (error) {
      problem.value = error;
    }
  }
  async function theirs() {
    const raw = await api.get(path);
    own.value = raw.config?.target.startsWith("device:") ? raw.config.version : 0;
    text.value = pretty(raw.config?.document ?? {});
    problem.value = null;
  }
  const conflict = problem.value?.status === 412;
  return html`<${Dialog} title=${t("device.tab.configuration")} close=${close} wide>
    ${conflict ? html`<div class="problem" role="alert"><strong>${t("device.conflict")}</strong><p><button type="button" class="small" onClick=${theirs}>${t("device.takeTheirs")}</button></p></div>` : html`<${ProblemBox} problem=${problem.value} />`}
    <form onSubmit=${submit}>
      <${Field} label=${t("device.document")} hint=${t("device.documentHint")} as="textarea" rows="14" spellcheck="false" bind=${text} />
      <${Field} label=${t("device.comment")} maxlength="4096" bind=${comment} />
      <footer><button type="button" class="secondary" onClick=${close}>${t("device.cancel")}</button><button type="submit" disabled=${conflict}>${t("device.save")}</button></footer>
    </form>
  </${Dialog}>`;
}
