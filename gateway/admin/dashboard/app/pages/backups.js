// Copies of database, keys and settings, made while the node runs.
import { api, download } from "../api.js";
import { ActionButton, Badge, Copyable, Dialog, confirmed } from "../form.js";
import { ago, bytes, when } from "../format.js";
import { html, useSignal } from "../lib.js";
import { may } from "../login.js";
import { PagedTable } from "../table.js";
import { t, words } from "../words.js";
import WORDS from "../words/backups.js";

words(WORDS);

export const title = () => t("backups.title");

const path = (backup) => `/backups/${encodeURIComponent(backup.id)}`;

export function Page() {
  const version = useSignal(0);
  const checked = useSignal(null);
  const again = () => (version.value += 1);
  const writes = may("backup", "write");
  const make = async () => {
    const made = await api.post("/backups");
    again();
    return made;
  };
  const columns = [
    { key: "id", label: t("backups.name"), cell: (backup) => html`<code>${backup.id}</code>` },
    { key: "created", label: t("backups.made"), cell: (backup) => html`<span title=${when(backup.created_at)}>${ago(backup.created_at)}</span>` },
    { key: "bytes", label: t("backups.size"), number: true, cell: (backup) => bytes(backup.bytes) },
    { key: "do", label: t("backups.actions"), cell: (backup) => html`<${Actions} of=${backup} checked=${checked} again=${again} />` },
  ];
  return html`
    <h1>${title()}</h1>
    <p>${t("backups.what")}</p>
    ${writes && html`<div class="bar"><${ActionButton} act=${make} done=${(made) => t("backups.done", { name: made.id })}>${t("backups.make")}</${ActionButton}></div>`}
    <${PagedTable} path="/backups" columns=${columns} caption=${title()} rowKey=${(backup) => backup.id} on=${["backup."]} version=${version.value} empty=${t("backups.empty")} />
    <p>${t("backups.restore")}</p>
    <${Copyable} text="gateway backup restore FILE --data DIRECTORY" label=${t("backups.restoreCommand")} />
    ${checked.value && html`<${Check} of=${checked.value} close=${() => (checked.value = null)} />`}
  `;
}

function Actions({ of: backup, checked, again }) {
  const verify = async () => {
    checked.value = { backup, result: await api.post(`${path(backup)}/verify`) };
  };
  const remove = async () => {
    if (!(await confirmed(t("backups.removeAsk", { name: backup.id }), t("backups.remove")))) return;
    await api.delete(path(backup));
    again();
  };
  return html`<span class="actions" role="group" aria-label=${backup.id}>
    <${ActionButton} class="small secondary" act=${verify}>${t("backups.verify")}</${ActionButton}>
    ${may("backup", "write") &&
    html`<${ActionButton} class="small secondary" act=${() => download(`${path(backup)}/download`, null, backup.id)}>${t("backups.download")}</${ActionButton}>
      <${ActionButton} class="small secondary" act=${remove}>${t("backups.remove")}</${ActionButton}>`}
  </span>`;
}

function Check({ of: { backup, result }, close }) {
  return html`<${Dialog} title=${backup.id} close=${close}>
    <p><${Badge} tone=${result.ok ? "ok" : "bad"}>${t(result.ok ? "backups.whole" : "backups.damaged")}</${Badge}> ${result.why}</p>
    <h3>${t("backups.holds")}</h3>
    <ul>${result.entries.map((entry) => html`<li key=${entry}><code>${entry}</code></li>`)}</ul>
    <p>${t("backups.digest")}</p>
    <${Copyable} text=${backup.sha256} label="SHA-256" />
  </${Dialog}>`;
}
