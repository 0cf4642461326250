// The tokens and keys of a device: a new one, a change of all of them, the end of one.
import { api } from "../../api.js";
import { ActionButton, Badge, Busy, Dialog, Field, ProblemBox, confirmed } from "../../form.js";
import { ago, when } from "../../format.js";
import { html, useSignal } from "../../lib.js";
import { useLoaded } from "../../loading.js";
import { may } from "../../login.js";
import { SimpleTable } from "../../table.js";
import { t } from "../../words.js";
import { Given } from "./given.js";

const HOUR_S = 3600;

export function Credentials({ device }) {
  const path = `/devices/${encodeURIComponent(device.id)}`;
  const found = useLoaded((signal) => api.get(`${path}/credentials`, { sort: "-issued_at", limit: 100 }, { signal }), [device.id], { on: ["credential.", "token.", "key."] });
  const asking = useSignal(null);
  const given = useSignal(null);
  const write = may("devices", "write");
  const revoke = (credential) => async () => {
    if (!(await confirmed(t("device.sureRevoke"), t("device.revoke")))) return false;
    await api.post(`/credentials/${encodeURIComponent(credential.id)}/revoke`, {});
    found.reload();
    return true;
  };
  const columns = [
    { key: "type", label: t("device.type") },
    { key: "state", label: t("device.state"), cell: (row) => html`<${Standing} credential=${row} />` },
    { key: "issued", label: t("device.issued"), cell: (row) => html`<span title=${when(row.issued_at)}>${ago(row.issued_at)}</span>` },
    { key: "expires", label: t("device.expires"), cell: (row) => html`<span title=${when(row.expires_at)}>${row.expires_at ? ago(row.expires_at) : t("device.noExpiry")}</span>` },
    { key: "id", label: t("device.tokenId"), cell: (row) => html`<code>${row.token_id || row.key_id || row.id}</code>` },
    { key: "act", label: t("device.act"), cell: (row) => may("devices", "operate") && !ended(row) && html`<${ActionButton} class="small secondary" act=${revoke(row)} done=${t("device.revoked")}>${t("device.revoke")}</${ActionButton}>` },
  ];
  return html`
    <h2>${t("device.tab.credentials")}</h2>
    ${write && html`<div class="bar">
      <button type="button" onClick=${() => (asking.value = "issue")}>${t("device.issue")}</button>
      <button type="button" class="secondary" onClick=${() => (asking.value = "rotate")}>${t("device.rotate")}</button>
    </div>`}
    <${ProblemBox} problem=${found.problem.value} />
    ${found.value.value ? html`<${SimpleTable} rows=${found.value.value.data} columns=${columns} caption=${t("device.tab.credentials")} rowKey=${(row) => row.id} empty=${t("device.noCredentials")} />` : !found.problem.value && html`<${Busy} />`}
    ${asking.value && html`<${Asking} path=${path} rotate=${asking.value === "rotate"} close=${() => (asking.value = null)} done=${(issued) => { asking.value = null; given.value = issued; found.reload(); }} />`}
    ${given.value && html`<${Dialog} title=${t("device.newToken")} close=${() => (given.value = null)} wide><${Given} id=${device.id} credential=${given.value} /></${Dialog}>`}
  `;
}

const ended = (row) => row.revoked_at || (row.expires_at && new Date(row.expires_at) < Date.now()) || (row.ends_at && new Date(row.ends_at) < Date.now());

function Standing({ credential }) {
  if (credential.revoked_at) return html`<${Badge} tone="bad">${t("device.isRevoked")}</${Badge}> ${credential.reason}`;
  if (ended(credential)) return html`<${Badge}>${t("device.isOver")}</${Badge}>`;
  if (credential.ends_at) return html`<${Badge} tone="warn">${t("device.isEnding", { ago: ago(credential.ends_at) })}</${Badge}>`;
  return html`<${Badge} tone="ok">${t("device.holds")}</${Badge}>`;
}

function Asking({ path, rotate, close, done }) {
  const hours = useSignal("24");
  const overlap = useSignal("5");
  const problem = useSignal(null);
  async function submit(event) {
    event.preventDefault();
    const ttl = { ttl_s: Number(hours.value) * HOUR_S };
    try {
      done(rotate ? await api.post(`${path}/rotate`, { ...ttl, overlap_s: Number(overlap.value) * 60 }) : await api.post(`${path}/credentials`, ttl));
    } catch (error) {
      problem.value = error;
    }
  }
  return html`<${Dialog} title=${rotate ? t("device.rotate") : t("device.issue")} close=${close}>
    <${ProblemBox} problem=${problem.value} />
    <p>${t(rotate ? "device.rotateHint" : "device.issueHint")}</p>
    <form onSubmit=${submit}>
      <${Field} label=${t("device.hours")} type="number" min="0.1" max="8784" step="any" required bind=${hours} />
      ${rotate && html`<${Field} label=${t("device.overlap")} type="number" min="0" max="10080" step="any" required bind=${overlap} />`}
      <footer><button type="submit">${rotate ? t("device.rotate") : t("device.issue")}</button></footer>
    </form>
  </${Dialog}>`;
}
