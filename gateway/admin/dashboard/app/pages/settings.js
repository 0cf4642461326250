// Every setting as it holds: its value, where that is from, and whether it can be changed here.
import { api } from "../api.js";
import { ActionButton, Badge, Busy, Empty, Field, ProblemBox, Select, Switch, Tabs, toast } from "../form.js";
import { html, useSignal } from "../lib.js";
import { useLoaded } from "../loading.js";
import { may } from "../login.js";
import { setQuery } from "../router.js";
import { SimpleTable } from "../table.js";
import { t, words } from "../words.js";
import WORDS from "../words/settings.js";
import { EditSetting, written } from "./setting-edit.js";
import { History } from "./settings-history.js";

words(WORDS);

export const title = () => t("settings.title");

const LOCK = html`<svg class="lock" viewBox="0 0 10 12" aria-hidden="true"><path fill="currentColor" d="M1 5h8v7H1zM2.5 5V3.5a2.5 2.5 0 0 1 5 0V5H6.2V3.6a1.2 1.2 0 0 0-2.4 0V5z" /></svg>`;
const LEVELS = ["debug", "info", "warning", "error"];

export function Page({ query }) {
  const config = useLoaded((signal) => api.get("/config", null, { signal }), [], { on: ["config.", "node.reloaded"] });
  const tab = query.tab ?? "values";
  return html`
    <h1>${title()}</h1>
    <${Tabs} label=${title()} options=${[["values", t("settings.values")], ["history", t("settings.history")]]} chosen=${tab} choose=${(value) => setQuery({ tab: value === "values" ? "" : value })} />
    <${ProblemBox} problem=${config.problem.value} />
    ${!config.value.value && !config.problem.value && html`<${Busy} />`}
    ${config.value.value && tab === "values" && html`<${Values} config=${config.value.value} query=${query} again=${config.reload} />`}
    ${config.value.value && tab === "history" && html`<${History} revision=${config.value.value.revision} again=${config.reload} />`}
  `;
}

function Values({ config, query, again }) {
  const editing = useSignal(null);
  const wanted = (query.q ?? "").toLowerCase();
  const shown = config.settings.filter(
    (each) => (!query.set || each.source !== "default") && `${each.name} ${each.help}`.toLowerCase().includes(wanted),
  );
  const groups = grouped(shown);
  return html`
    <div class="bar">
      <${Field} label=${t("settings.search")} type="search" value=${query.q ?? ""} onInput=${(event) => setQuery({ q: event.currentTarget.value })} />
      <${Switch} label=${t("settings.onlySet")} checked=${Boolean(query.set)} onChange=${(on) => setQuery({ set: on ? "1" : "" })} />
      ${may("system", "operate") && html`<${LogLevel} of=${config.settings.find((each) => each.name === "log.level")} again=${again} />`}
    </div>
    ${shown.length === 0 && html`<${Empty}>${t("settings.none")}</${Empty}>`}
    ${[...groups].map(([name, rows]) => html`<section key=${name}><h2>${name}</h2><${Group} name=${name} rows=${rows} edit=${(each) => (editing.value = each)} /></section>`)}
    ${editing.value && html`<${EditSetting} setting=${editing.value} revision=${config.revision} again=${again} close=${() => (editing.value = null)} />`}
  `;
}

const group = (setting) => setting.name.split(".")[0];

function grouped(settings) {
  const found = new Map();
  for (const each of settings) found.set(group(each), [...(found.get(group(each)) ?? []), each]);
  return found;
}

function Group({ name, rows, edit }) {
  const columns = [
    { key: "name", label: t("settings.name"), cell: (each) => html`<code>${each.name}</code><br /><small>${each.help}</small>` },
    { key: "value", label: t("settings.value"), cell: (each) => html`<code class="line">${written(each.value)}</code>` },
    { key: "source", label: t("settings.source"), cell: (each) => html`<${Source} of=${each} />` },
    { key: "change", label: t("settings.change"), cell: (each) => html`<${Change} of=${each} edit=${edit} />` },
  ];
  return html`<${SimpleTable} rows=${rows} columns=${columns} caption=${name} rowKey=${(each) => each.name} />`;
}

/** Where a value is from. The lock says that this page cannot change it; the words say why. */
function Source({ of: setting }) {
  const tone = setting.source === "default" ? "quiet" : setting.locked ? "warn" : "ok";
  return html`<${Badge} tone=${tone}>${setting.locked && LOCK}${t(`settings.source.${setting.source}`)}</${Badge}>
    ${setting.locked && html`<br /><small>${t("settings.locked")}</small>`}`;
}

function Change({ of: setting, edit }) {
  if (!setting.reloadable) return html`<small>${t("settings.restart")}</small>`;
  if (setting.locked || setting.secret || !may("config", "write")) return html`<small>${t("settings.reloadable")}</small>`;
  return html`<button type="button" class="small secondary" onClick=${() => edit(setting)} aria-label=${`${t("settings.edit")}: ${setting.name}`}>${t("settings.edit")}</button>`;
}

/** Operators may change this one, and no other. */
function LogLevel({ of: setting, again }) {
  const level = useSignal(setting.value);
  const set = async () => {
    await api.post("/node/log-level", { level: level.value });
    toast(t("settings.levelSet", { level: level.value }));
    again();
  };
  return html`
    <${Select} label=${t("settings.level")} bind=${level} options=${LEVELS.map((each) => [each, each])} disabled=${setting.locked} hint=${setting.locked ? t("settings.locked") : null} />
    ${level.value !== setting.value && html`<${ActionButton} act=${set}>${t("settings.setLevel")}</${ActionButton}>`}
  `;
}
