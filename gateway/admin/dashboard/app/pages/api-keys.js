// Keys for programs. The secret is shown when it is made, and never again.
import { api } from "../api.js";
import { ActionButton, Badge, Copyable, Dialog, Field, confirmed, toast } from "../form.js";
import { ago, when } from "../format.js";
import { html, useSignal } from "../lib.js";
import { may } from "../login.js";
import { RightsDialog, Scopes } from "../rights.js";
import { setQuery } from "../router.js";
import { PagedTable } from "../table.js";
import { t, words } from "../words.js";
import WORDS from "../words/api-keys.js";

words(WORDS);

export const title = () => t("keys.title");

/** How long the old secret of a key that is changed goes on, in seconds. */
const OVERLAP_S = 3600;
const at = (key) => ({ headers: { "if-match": `"${key.version}"` } });
const path = (key) => `/api-keys/${encodeURIComponent(key.id)}`;

export function Page({ query }) {
  const editing = useSignal(null);
  const made = useSignal(null);
  const version = useSignal(0);
  const again = () => (version.value += 1);
  const writes = may("api_keys", "write");
  const columns = [
    { key: "name", label: t("keys.name") },
    { key: "id", label: t("keys.id"), cell: (key) => html`<code>${key.id}</code>` },
    { key: "role", label: t("keys.role") },
    { key: "scopes", label: t("keys.scopes"), cell: (key) => html`<${Scopes} of=${key.scopes} />` },
    { key: "state", label: t("keys.state"), cell: (key) => html`<${State} of=${key} />` },
    { key: "used", label: t("keys.used"), cell: (key) => (key.last_used_at ? ago(key.last_used_at) : t("keys.never")) },
    { key: "by", label: t("keys.by"), cell: (key) => key.created_by },
    ...(writes ? [{ key: "do", label: t("keys.actions"), cell: (key) => html`<${Actions} of=${key} edit=${() => (editing.value = key)} made=${made} again=${again} />` }] : []),
  ];
  return html`
    <h1>${title()}</h1>
    <div class="bar">
      <${Field} label=${t("keys.search")} type="search" value=${query.q ?? ""} onInput=${(event) => setQuery({ q: event.currentTarget.value })} />
      ${writes && html`<button type="button" onClick=${() => (editing.value = {})}>${t("keys.add")}</button>`}
    </div>
    <${PagedTable} path="/api-keys" params=${{ q: query.q }} columns=${columns} caption=${title()} rowKey=${(key) => key.id} on=${["api_key."]} version=${version.value} empty=${t("keys.empty")} />
    ${editing.value && html`<${Edit} of=${editing.value} close=${() => (editing.value = null)} made=${made} again=${again} />`}
    ${made.value && html`<${Dialog} title=${t("keys.secretOf", { name: made.value.api_key.name })} close=${() => (made.value = null)}>
      <p>${t("keys.once")}</p>
      <${Copyable} text=${made.value.secret} label=${t("keys.secret")} />
      <p>${t("keys.how")}</p>
      <${Copyable} multiline text=${`curl -H 'Authorization: Bearer ${made.value.secret}' ${location.origin}/api/v1/node`} label=${t("keys.example")} />
    </${Dialog}>`}
  `;
}

function State({ of: key }) {
  if (!key.enabled) return html`<${Badge} tone="bad">${t("keys.disabled")}</${Badge}>`;
  if (!key.expires_at) return html`<${Badge} tone="ok">${t("keys.enabled")}</${Badge}>`;
  const over = new Date(key.expires_at) < new Date();
  return html`<${Badge} tone=${over ? "bad" : "ok"}>${t(over ? "keys.over" : "keys.until", { when: when(key.expires_at) })}</${Badge}>`;
}

function Actions({ of: key, edit, made, again }) {
  const toggle = async () => {
    await api.patch(path(key), { enabled: !key.enabled }, at(key));
    again();
  };
  const rotate = async () => {
    if (!(await confirmed(t("keys.rotateAsk", { name: key.name }), t("keys.rotate")))) return;
    made.value = await api.post(`${path(key)}/rotate`, { overlap_s: OVERLAP_S });
    again();
  };
  const remove = async () => {
    if (!(await confirmed(t("keys.removeAsk", { name: key.name }), t("keys.remove")))) return;
    await api.delete(path(key), at(key));
    toast(t("keys.removed", { name: key.name }));
    again();
  };
  return html`<span class="actions" role="group" aria-label=${key.name}>
    <button type="button" class="small secondary" onClick=${edit}>${t("keys.edit")}</button>
    <${ActionButton} class="small secondary" act=${rotate}>${t("keys.rotate")}</${ActionButton}>
    <${ActionButton} class="small secondary" act=${toggle}>${t(key.enabled ? "keys.disable" : "keys.enable")}</${ActionButton}>
    <${ActionButton} class="small secondary" act=${remove}>${t("keys.remove")}</${ActionButton}>
  </span>`;
}

function Edit({ of: key, close, made, again }) {
  const known = Boolean(key.id);
  const name = useSignal(key.name ?? "");
  const expires = useSignal("");
  const save = async (rights) => {
    if (known) await api.patch(path(key), { name: name.value, ...rights }, at(key));
    else {
      const expires_at = expires.value ? new Date(`${expires.value}T23:59:59`).toISOString() : null;
      made.value = await api.post("/api-keys", { name: name.value, expires_at, ...rights });
    }
    again();
    close();
  };
  return html`<${RightsDialog} title=${known ? key.name : t("keys.add")} was=${known ? key : null} forKey save=${save} close=${close} action=${t(known ? "keys.save" : "keys.make")}>
    <${Field} label=${t("keys.name")} hint=${t("keys.nameHint")} bind=${name} required maxlength="64" autocomplete="off" />
    ${!known && html`<${Field} label=${t("keys.expires")} hint=${t("keys.expiresHint")} bind=${expires} type="date" />`}
  </${RightsDialog}>`;
}
