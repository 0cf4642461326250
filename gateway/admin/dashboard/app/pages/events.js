// What happens at the node, newest first, as it happens.
import { Dialog, Facts, Field, Switch } from "../form.js";
import { clock, when } from "../format.js";
import { html, useSignal } from "../lib.js";
import { setQuery } from "../router.js";
import { PagedTable } from "../table.js";
import { t, words } from "../words.js";
import WORDS from "../words/events.js";

words(WORDS);

export const title = () => t("events.title");

const KINDS = ["connection.", "device.", "session.", "route.", "link.", "document.", "bundle.", "bridge.", "config.", "rollout.", "spool.", "user.", "api_key.", "backup.", "certificate.", "node."];

export function Page({ query }) {
  const live = useSignal(true);
  const shown = useSignal(null);
  const columns = [
    { key: "at", label: t("events.time"), cell: (event) => html`<time datetime=${event.at} title=${when(event.at)}>${clock(event.at)}</time>` },
    { key: "kind", label: t("events.kind"), cell: (event) => html`<button type="button" class="plain" onClick=${() => (shown.value = event)}><code>${event.kind}</code></button>` },
    { key: "subject", label: t("events.subject") },
    { key: "data", label: t("events.more"), cell: (event) => brief(event.data) },
  ];
  return html`
    <h1>${title()}</h1>
    <div class="bar">
      <${Field} label=${t("events.kind")} type="search" placeholder="connection." list="event-kinds" value=${query.kind ?? ""} onInput=${(event) => setQuery({ kind: event.currentTarget.value })} />
      <datalist id="event-kinds">${KINDS.map((kind) => html`<option key=${kind} value=${kind}></option>`)}</datalist>
      <${Field} label=${t("events.subject")} type="search" value=${query.subject ?? ""} onInput=${(event) => setQuery({ subject: event.currentTarget.value })} />
      <${Switch} label=${t("events.live")} bind=${live} />
    </div>
    <${PagedTable}
      key=${live.value} path="/events" params=${{ kind: query.kind, subject: query.subject }} columns=${columns} caption=${title()}
      rowKey=${(event) => event.id} on=${live.value ? [query.kind ?? ""] : []} empty=${t("events.empty")}
    />
    <p class="foot">${t("events.kept")}</p>
    ${shown.value && html`<${One} event=${shown.value} close=${() => (shown.value = null)} />`}
  `;
}

const written = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));
const brief = (data) => Object.entries(data).map(([name, value]) => `${name}: ${written(value)}`).join(", ");

function One({ event, close }) {
  return html`<${Dialog} title=${event.kind} close=${close}>
    <${Facts}
      rows=${[
        [t("events.time"), when(event.at)],
        [t("events.subject"), event.subject || undefined],
        [t("events.number"), event.id],
        ...Object.entries(event.data).map(([name, value]) => [name, written(value)]),
      ]}
    />
  </${Dialog}>`;
}
