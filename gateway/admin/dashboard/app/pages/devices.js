// The devices: found by filters that can be kept, done something to by the dozen, imported and exported.
import { forAll, whole } from "../acting.js";
import { api, download, save } from "../api.js";
import { Badge, Dialog, Field, Select, confirmed, toast } from "../form.js";
import { NONE, ago, count, duration, when } from "../format.js";
import { html, useRef, useSignal, useState } from "../lib.js";
import { useLoaded } from "../loading.js";
import { may } from "../login.js";
import { pairsText } from "../pairs.js";
import { reasonText } from "../reasons.js";
import { link, setQuery } from "../router.js";
import { PagedTable } from "../table.js";
import { t, words } from "../words.js";
import WORDS from "../words/devices.js";
import { Import } from "./import.js";

words(WORDS);

const KEPT = "gateway.devices.filters";
const FILTERS = ["q", "state", "profile", "label", "group", "kind"];
const STATES = { online: { online: true }, offline: { online: false, enabled: true }, disabled: { enabled: false } };
const TYPED_MS = 300;
const MOST = 10_000;

export const title = () => t("devices.title");

/** Whether it is here, by its session alone: never by what was last heard. */
export function DeviceState({ device }) {
  if (!device.enabled) return html`<${Badge} tone="warn">${t("devices.disabled")}</${Badge}>`;
  if (device.online) return html`<${Badge} tone="ok">${t("devices.online")}</${Badge}>`;
  if (!device.last_seen_at && !device.closed) return html`<${Badge}>${t("devices.never")}</${Badge}>`;
  return html`<${Badge} tone="bad">${t("devices.offline")}</${Badge}>`;
}

export function Page({ query }) {
  const chosen = useSignal(new Set());
  const importing = useSignal(false);
  const version = useSignal(0);
  const summary = useLoaded((signal) => api.get("/devices/summary", null, { signal }), [version.value], { every: 5_000 });
  const { state, sort = "id", ...filters } = query;
  const params = { ...pick(filters), ...STATES[state] };
  const again = () => {
    version.value += 1;
  };
  const figures = summary.value.value;
  return html`
    <h1>${title()}</h1>
    ${figures && html`<p>${t("devices.summary", { online: count(figures.online), total: count(figures.total), disabled: count(figures.disabled), never: count(figures.never_seen) })}</p>`}
    <div class="bar">
      ${may("devices", "write") && html`<a role="button" href=${link("add-device")}>${t("devices.add")}</a>`}
      ${may("devices", "write") && html`<button type="button" class="secondary" onClick=${() => (importing.value = true)}>${t("devices.import")}</button>`}
      <button type="button" class="secondary" onClick=${() => download("/devices/export", { format: "csv" }, "devices.csv").catch(told)}>${t("devices.exportCsv")}</button>
      <button type="button" class="secondary" onClick=${() => download("/devices/export", { format: "jsonl" }, "devices.jsonl").catch(told)}>${t("devices.exportJsonl")}</button>
    </div>
    <${Filters} query=${query} />
    <${Bulk} chosen=${chosen} params=${params} again=${again} />
    <${PagedTable}
      path="/devices" params=${params} columns=${columns()} caption=${title()} rowKey=${(device) => device.id} select=${chosen}
      sort=${sort} onSort=${(next) => setQuery({ sort: next })} on=${["connection.", "device."]} version=${version.value}
      empty=${Object.keys(params).length ? t("devices.noneSuch") : t("devices.none")}
    />
    ${importing.value && html`<${Import} close=${() => (importing.value = false)} done=${again} />`}
  `;
}

const pick = (query) => Object.fromEntries(FILTERS.filter((name) => name !== "state" && query[name]).map((name) => [name, query[name]]));
const told = (error) => toast(error.message, "bad");

const columns = () => [
  { key: "id", label: t("devices.name"), sort: "id", cell: (device) => html`<a href=${link("device", [device.id])}>${device.id}</a>` },
  { key: "state", label: t("devices.state"), cell: (device) => html`<${DeviceState} device=${device} /> ${why(device)}` },
  { key: "profile", label: t("devices.profile"), sort: "profile" },
  { key: "seen", label: t("devices.seen"), sort: "last_seen_at", cell: (device) => seen(device) },
  { key: "rtt", label: t("devices.rtt"), number: true, cell: (device) => (device.rtt_ms === null ? NONE : duration(device.rtt_ms / 1000)) },
  { key: "firmware", label: t("devices.firmware"), sort: "firmware" },
  { key: "labels", label: t("devices.labels"), cell: (device) => html`<span title=${pairsText(device.labels)}>${pairsText(device.labels)}</span>` },
  { key: "node", label: t("devices.node") },
  { key: "kind", label: t("devices.kind") },
];

function why({ online, closed }) {
  if (online || !closed) return null;
  return html`<span title=${closed.text}>${reasonText(closed.reason)}, ${ago(closed.at)}</span>`;
}

function seen({ online, last_seen_at: at }) {
  if (online) return t("devices.now");
  return html`<span title=${when(at)}>${ago(at)}</span>`;
}

function Filters({ query }) {
  const timer = useRef(null);
  const kept = useSignal(JSON.parse(localStorage.getItem(KEPT) ?? "[]"));
  const naming = useSignal(false);
  // Where there is room, and where one of them is set.
  const [more] = useState(() => matchMedia("(min-width: 50rem)").matches || FILTERS.slice(2).some((name) => query[name]));
  const typed = (name) => ({
    value: query[name] ?? "",
    onInput: (event) => {
      const value = event.currentTarget.value.trim();
      clearTimeout(timer.current);
      timer.current = setTimeout(() => setQuery({ [name]: value }), TYPED_MS);
    },
  });
  const keep = (all) => {
    kept.value = all;
    localStorage.setItem(KEPT, JSON.stringify(all));
  };
  const filters = Object.fromEntries(FILTERS.map((name) => [name, query[name] ?? ""]));
  const is = kept.value.find((each) => FILTERS.every((name) => (each.filters[name] ?? "") === filters[name]));
  const any = Object.values(filters).some(Boolean);
  return html`
    <form class="bar" aria-label=${t("devices.filters")} onSubmit=${(event) => event.preventDefault()}>
      <${Field} label=${t("devices.search")} type="search" maxlength="128" ...${typed("q")} />
      <${Select} label=${t("devices.state")} value=${query.state ?? ""} onChange=${(event) => setQuery({ state: event.currentTarget.value })}
        options=${[["", t("devices.any")], ["online", t("devices.online")], ["offline", t("devices.offline")], ["disabled", t("devices.disabled")]]} />
      <details class="more" open=${more}>
        <summary>${t("devices.more")}</summary>
        <div class="bar">
          <${Field} label=${t("devices.profile")} ...${typed("profile")} />
          <${Field} label=${t("devices.label")} placeholder="floor=1" ...${typed("label")} />
          <${Field} label=${t("devices.group")} ...${typed("group")} />
          <${Select} label=${t("devices.kind")} value=${query.kind ?? ""} onChange=${(event) => setQuery({ kind: event.currentTarget.value })}
        options=${[["", t("devices.any")], ["device", t("devices.kindDevice")], ["service", t("devices.kindService")], ["user", t("devices.kindUser")]]} />
        </div>
      </details>
      ${any && html`<button type="button" class="secondary" onClick=${() => setQuery(Object.fromEntries(FILTERS.map((name) => [name, ""])))}>${t("devices.clear")}</button>`}
      ${any && !is && html`<button type="button" class="secondary" onClick=${() => (naming.value = true)}>${t("devices.keep")}</button>`}
    </form>
    ${kept.value.length > 0 &&
    html`<p class="bar">
      ${t("devices.kept")}
      ${kept.value.map((each) => html`<button key=${each.name} type="button" class="small secondary" aria-pressed=${each === is ? "true" : "false"} onClick=${() => setQuery(each.filters)}>${each.name}</button>`)}
      ${is && html`<button type="button" class="small secondary" onClick=${() => keep(kept.value.filter((each) => each !== is))}>${t("devices.forget", { name: is.name })}</button>`}
    </p>`}
    ${naming.value && html`<${Naming} close=${() => (naming.value = false)} keep=${(name) => keep([...kept.value.filter((each) => each.name !== name), { name, filters }])} />`}
  `;
}

function Naming({ close, keep }) {
  const name = useSignal("");
  const submit = (event) => {
    event.preventDefault();
    keep(name.value.trim());
    close();
  };
  return html`<${Dialog} title=${t("devices.keep")} close=${close}>
    <form onSubmit=${submit}>
      <${Field} label=${t("devices.keepAs")} hint=${t("devices.keepHint")} bind=${name} required maxlength="40" pattern=".*\\S.*" autofocus />
      <footer><button type="submit">${t("devices.keep")}</button></footer>
    </form>
  </${Dialog}>`;
}

/** What can be done to those that are chosen. */
function Bulk({ chosen, params, again }) {
  const busy = useSignal("");
  const ids = [...chosen.value];
  const n = ids.length;
  async function choose() {
    const rows = await whole((cursor) => api.get("/devices", { ...params, limit: 1000, cursor }), MOST).catch(told);
    if (rows) chosen.value = new Set(rows.map((device) => device.id));
  }
  async function act(label, each, question) {
    if (question && !(await confirmed(question, label))) return;
    const { done, failed } = await forAll(ids, each, (so) => (busy.value = t("devices.progress", { done: so, n })));
    busy.value = "";
    toast(t("devices.done", { done, n }), failed.length ? "bad" : "ok");
    if (failed.length) toast(`${failed[0][0]}: ${failed[0][1].message}`, "bad");
    chosen.value = new Set(failed.map(([id]) => id));
    again();
  }
  async function exported() {
    const rows = [];
    await forAll(ids, async (id) => rows.push(await api.get(path(id))), (so) => (busy.value = t("devices.progress", { done: so, n })));
    busy.value = "";
    rows.sort((a, b) => (a.id < b.id ? -1 : 1));
    save(new Blob([csv(rows)], { type: "text/csv" }), "devices.csv");
  }
  if (!n) return html`<p class="foot"><button type="button" class="small secondary" onClick=${choose}>${t("devices.chooseAll")}</button></p>`;
  const operate = may("devices", "operate");
  return html`<section class="bar" aria-label=${t("devices.bulk")}>
    <strong role="status">${busy.value || t("devices.chosen", { n })}</strong>
    <button type="button" class="small secondary" onClick=${() => (chosen.value = new Set())}>${t("devices.chooseNone")}</button>
    <button type="button" class="small secondary" onClick=${exported}>${t("devices.exportChosen")}</button>
    ${operate && html`<button type="button" class="small" onClick=${() => act(t("devices.enable"), (id) => api.post(`${path(id)}/enable`))}>${t("devices.enable")}</button>`}
    ${operate && html`<button type="button" class="small" onClick=${() => act(t("devices.disable"), (id) => api.post(`${path(id)}/disable`), t("devices.sureDisable", { n }))}>${t("devices.disable")}</button>`}
    ${operate && html`<button type="button" class="small" onClick=${() => act(t("devices.kick"), (id) => api.post(`${path(id)}/kick`), t("devices.sureKick", { n }))}>${t("devices.kick")}</button>`}
    ${may("devices", "write") && html`<button type="button" class="small danger" onClick=${() => act(t("devices.delete"), (id) => api.delete(path(id), { headers: { "if-match": "*" } }), t("devices.sureDelete", { n }))}>${t("devices.delete")}</button>`}
  </section>`;
}

const path = (id) => `/devices/${encodeURIComponent(id)}`;

/** As the import takes it. What a spreadsheet would take for a formula is told to it as text. */
function csv(rows) {
  const cell = (value) => {
    const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const line = (device) => [
    device.id, device.kind, device.profile, Object.entries(device.labels).map(([key, value]) => `${key}=${value}`).join(";"),
    ...["groups", "services", "routes"].map((name) => device[name].join(";")), device.firmware, device.notes, String(device.enabled),
  ];
  const names = ["id", "kind", "profile", "labels", "groups", "services", "routes", "firmware", "notes", "enabled"];
  return [names, ...rows.map(line)].map((cells) => cells.map(cell).join(",")).join("\r\n") + "\r\n";
}
