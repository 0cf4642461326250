// Who may log in, and what each may do.
import { api } from "../api.js";
import { ActionButton, Badge, Copyable, Dialog, Field, confirmed, toast } from "../form.js";
import { ago } from "../format.js";
import { html, useSignal } from "../lib.js";
import { may, me } from "../login.js";
import { RightsDialog, Scopes } from "../rights.js";
import { setQuery } from "../router.js";
import { PagedTable } from "../table.js";
import { t, words } from "../words.js";
import WORDS from "../words/users.js";

words(WORDS);

export const title = () => t("users.title");

const at = (user) => ({ headers: { "if-match": `"${user.version}"` } });
const path = (user) => `/users/${encodeURIComponent(user.name)}`;

export function Page({ query }) {
  const editing = useSignal(null);
  const given = useSignal(null);
  const version = useSignal(0);
  const again = () => (version.value += 1);
  const writes = may("users", "write");
  const columns = [
    { key: "name", label: t("users.name"), sort: "name" },
    { key: "role", label: t("users.role") },
    { key: "scopes", label: t("users.scopes"), cell: (user) => html`<${Scopes} of=${user.scopes} />` },
    { key: "state", label: t("users.state"), cell: (user) => html`<${State} user=${user} />` },
    { key: "login", label: t("users.lastLogin"), cell: (user) => (user.last_login_at ? ago(user.last_login_at) : t("users.never")) },
    ...(writes ? [{ key: "do", label: t("users.actions"), cell: (user) => html`<${Actions} user=${user} edit=${() => (editing.value = user)} given=${given} again=${again} />` }] : []),
  ];
  return html`
    <h1>${title()}</h1>
    <div class="bar">
      <${Field} label=${t("users.search")} type="search" value=${query.q ?? ""} onInput=${(event) => setQuery({ q: event.currentTarget.value })} />
      ${writes && html`<button type="button" onClick=${() => (editing.value = {})}>${t("users.add")}</button>`}
    </div>
    <${PagedTable}
      path="/users" params=${{ q: query.q }} sort=${query.sort ?? "name"} onSort=${(sort) => setQuery({ sort })}
      columns=${columns} caption=${title()} rowKey=${(user) => user.name} on=${["user."]} version=${version.value}
    />
    ${editing.value && html`<${Edit} user=${editing.value} close=${() => (editing.value = null)} given=${given} again=${again} />`}
    ${given.value && html`<${Dialog} title=${t("users.passwordOf", { name: given.value.name })} close=${() => (given.value = null)}>
      <p>${t("users.once")}</p>
      <${Copyable} text=${given.value.password} label=${t("users.password")} />
    </${Dialog}>`}
  `;
}

function State({ user }) {
  if (!user.enabled) return html`<${Badge} tone="bad">${t("users.disabled")}</${Badge}>`;
  if (user.must_change_password) return html`<${Badge} tone="warn">${t("users.mustChange")}</${Badge}>`;
  return html`<${Badge} tone="ok">${t("users.enabled")}</${Badge}>`;
}

function Actions({ user, edit, given, again }) {
  const toggle = async () => {
    await api.patch(path(user), { enabled: !user.enabled }, at(user));
    again();
  };
  const reset = async () => {
    if (!(await confirmed(t("users.resetAsk", { name: user.name }), t("users.reset")))) return;
    const { password } = await api.post(`${path(user)}/password`, {});
    given.value = { name: user.name, password };
    again();
  };
  const remove = async () => {
    if (!(await confirmed(t("users.removeAsk", { name: user.name }), t("users.remove")))) return;
    await api.delete(path(user), at(user));
    toast(t("users.removed", { name: user.name }));
    again();
  };
  const itself = user.name === me.value.id;
  return html`<span class="actions" role="group" aria-label=${user.name}>
    <button type="button" class="small secondary" onClick=${edit}>${t("users.edit")}</button>
    <${ActionButton} class="small secondary" act=${reset}>${t("users.reset")}</${ActionButton}>
    ${!itself && html`<${ActionButton} class="small secondary" act=${toggle}>${t(user.enabled ? "users.disable" : "users.enable")}</${ActionButton}>`}
    ${!itself && html`<${ActionButton} class="small secondary" act=${remove}>${t("users.remove")}</${ActionButton}>`}
  </span>`;
}

function Edit({ user, close, given, again }) {
  const name = useSignal("");
  const password = useSignal("");
  const known = Boolean(user.name);
  const save = async (rights) => {
    if (known) await api.patch(path(user), rights, at(user));
    else {
      const made = await api.post("/users", { name: name.value, password: password.value || null, ...rights });
      if (made.password) given.value = { name: made.user.name, password: made.password };
      toast(t("users.made", { name: made.user.name }));
    }
    again();
    close();
  };
  return html`<${RightsDialog} title=${known ? user.name : t("users.add")} was=${known ? user : null} save=${save} close=${close} action=${t(known ? "users.save" : "users.make")}>
    ${!known &&
    html`<${Field} label=${t("users.name")} bind=${name} required maxlength="64" autocapitalize="none" autocomplete="off" />
      <${Field} label=${t("users.password")} hint=${t("users.passwordHint")} bind=${password} type="password" minlength="10" autocomplete="new-password" />`}
  </${RightsDialog}>`;
}
