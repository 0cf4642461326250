// Who has changed what: a chain that shows when a line was changed or taken out.
import { api, download } from "../api.js";
import { Changes } from "../diff.js";
import { ActionButton, Badge, Copyable, Dialog, Facts, Field, Select } from "../form.js";
import { when } from "../format.js";
import { html, useSignal } from "../lib.js";
import { setQuery } from "../router.js";
import { PagedTable } from "../table.js";
import { t, words } from "../words.js";
import WORDS from "../words/audit.js";

words(WORDS);

export const title = () => t("audit.title");

/** Kinds of events that come with a line of the audit; not those of connections, of which there are many. */
const CHANGES = ["api_key.", "backup.", "bundle.", "config.", "device.created", "device.updated", "document.", "session.", "user."];

export function Page({ query }) {
  const shown = useSignal(null);
  const verified = useSignal(null);
  const moment = (text) => (text && !Number.isNaN(Date.parse(text)) ? new Date(text).toISOString() : undefined);
  const { q, actor, action, object, outcome } = query;
  const filters = { actor, action, object, outcome, since: moment(query.since), until: moment(query.until) };
  const set = (name) => (event) => setQuery({ [name]: event.currentTarget.value });
  const columns = [
    { key: "at", label: t("audit.time"), cell: (entry) => when(entry.at) },
    { key: "actor", label: t("audit.actor"), cell: (entry) => `${entry.actor_id} (${entry.actor_type})` },
    { key: "action", label: t("audit.action"), cell: (entry) => html`<button type="button" class="plain" onClick=${() => (shown.value = entry)}><code>${entry.action}</code></button>` },
    { key: "object", label: t("audit.object") },
    { key: "outcome", label: t("audit.outcome"), cell: (entry) => html`<${Badge} tone=${entry.outcome === "ok" ? "ok" : "bad"}>${entry.outcome}</${Badge}> ${entry.reason}` },
    { key: "ip", label: t("audit.from") },
  ];
  return html`
    <h1>${title()}</h1>
    <div class="bar">
      <${Field} label=${t("audit.search")} type="search" value=${q ?? ""} onInput=${set("q")} />
      <${Field} label=${t("audit.actor")} type="search" value=${actor ?? ""} onInput=${set("actor")} />
      <${Field} label=${t("audit.action")} placeholder="device." type="search" value=${action ?? ""} onInput=${set("action")} />
      <${Field} label=${t("audit.object")} type="search" value=${object ?? ""} onInput=${set("object")} />
      <${Select} label=${t("audit.outcome")} value=${outcome ?? ""} onChange=${set("outcome")} options=${[["", t("audit.any")], ["ok", "ok"], ["refused", "refused"]]} />
      <${Field} label=${t("audit.since")} type="datetime-local" value=${query.since ?? ""} onInput=${set("since")} />
      <${Field} label=${t("audit.until")} type="datetime-local" value=${query.until ?? ""} onInput=${set("until")} />
    </div>
    <div class="bar">
      <${ActionButton} class="secondary" act=${() => download("/audit/export", { ...filters, format: "csv" }, "audit.csv")}>${t("audit.csv")}</${ActionButton}>
      <${ActionButton} class="secondary" act=${() => download("/audit/export", { ...filters, format: "jsonl" }, "audit.jsonl")}>${t("audit.jsonl")}</${ActionButton}>
      <${ActionButton} class="secondary" act=${async () => (verified.value = await api.post("/audit/verify"))}>${t("audit.verify")}</${ActionButton}>
    </div>
    ${verified.value && html`<${Verified} of=${verified.value} />`}
    <${PagedTable}
      path="/audit" params=${{ q, ...filters }} sort=${query.sort ?? "-id"} columns=${columns} caption=${title()} rowKey=${(entry) => entry.id} on=${CHANGES} empty=${t("audit.empty")}
    />
    ${shown.value && html`<${One} entry=${shown.value} close=${() => (shown.value = null)} />`}
  `;
}

function Verified({ of }) {
  return html`<section class="card" role="status">
    <p><${Badge} tone=${of.ok ? "ok" : "bad"}>${t(of.ok ? "audit.whole" : "audit.broken")}</${Badge}> ${of.ok ? t("audit.entries", { n: of.entries }) : t("audit.brokenAt", { n: of.broken_at, why: of.why })}</p>
    <p>${t("audit.head")}</p>
    <${Copyable} text=${of.head} label=${t("audit.digest")} />
  </section>`;
}

function One({ entry, close }) {
  return html`<${Dialog} title=${entry.action} wide close=${close}>
    <${Facts}
      rows=${[
        [t("audit.time"), when(entry.at)],
        [t("audit.actor"), `${entry.actor_id} (${entry.actor_type})`],
        [t("audit.from"), entry.ip || undefined],
        [t("audit.object"), entry.object],
        [t("audit.outcome"), entry.reason ? `${entry.outcome}: ${entry.reason}` : entry.outcome],
        [t("audit.request"), entry.request_id || undefined],
        [t("audit.number"), entry.id],
      ]}
    />
    <h3>${t("diff.changes")}</h3>
    <${Changes} of=${entry.diff} />
  </${Dialog}>`;
}
