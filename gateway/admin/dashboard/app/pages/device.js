// One device: whether it is here and what shows that, what it may do, and all that can be done to it.
import { api } from "../api.js";
import { ActionButton, Badge, Busy, Facts, ProblemBox, Tabs, confirmed, toast } from "../form.js";
import { ago, duration, when } from "../format.js";
import { html, useSignal } from "../lib.js";
import { useLoaded } from "../loading.js";
import { may } from "../login.js";
import { listText, pairsText } from "../pairs.js";
import { Reason } from "../reasons.js";
import { go, link, setQuery } from "../router.js";
import { SimpleTable } from "../table.js";
import { t, words } from "../words.js";
import WORDS from "../words/device.js";
import { Configuration } from "./device/configuration.js";
import { Credentials } from "./device/credentials.js";
import { Edit } from "./device/edit.js";
import { Events, Log, Messages, Rollouts } from "./device/history.js";
import { Sessions } from "./device/sessions.js";
import { DeviceState } from "./devices.js";

words(WORDS);

export const title = () => t("device.title");

export function Page({ parts, query }) {
  const [id] = parts;
  if (!id) return html`<h1>${title()}</h1><p><a href=${link("devices")}>${t("device.choose")}</a></p>`;
  return html`<${Device} key=${id} id=${id} tab=${query.tab ?? "state"} />`;
}

/** The path of a device in the API. */
export const pathOf = (id) => `/devices/${encodeURIComponent(id)}`;

const TABS = [
  ["state", "devices", State],
  ["sessions", "connections", Sessions],
  ["events", "monitoring", Events],
  ["credentials", "devices", Credentials],
  ["configuration", "devices", Configuration],
  ["log", "devices", Log, "operate"],
  ["firmware", "devices", Rollouts],
  ["messages", "monitoring", Messages],
];

function Device({ id, tab }) {
  const device = useLoaded((signal) => api.get(pathOf(id), null, { signal }), [id], { on: ["connection.", "device.", "route."], every: 5_000 });
  const found = device.value.value;
  const tabs = TABS.filter(([, scope, , action]) => may(scope, action));
  const [, , Shown] = tabs.find(([name]) => name === tab) ?? tabs[0];
  if (device.problem.value && (!found || device.problem.value.status === 404)) {
    return html`<h1>${id}</h1><${ProblemBox} problem=${device.problem.value} /><p><a href=${link("devices")}>${t("device.choose")}</a></p>`;
  }
  return html`
    <p class="crumbs"><a href=${link("devices")}>${t("device.all")}</a></p>
    <h1>${id}</h1>
    <${ProblemBox} problem=${device.problem.value} />
    ${found ? html`<${Standing} device=${found} /><${Actions} device=${found} reload=${device.reload} />` : html`<${Busy} />`}
    <${Tabs} label=${t("device.parts")} chosen=${tab} choose=${(next) => setQuery({ tab: next })} options=${tabs.map(([name]) => [name, t(`device.tab.${name}`)])} />
    ${found && html`<${Shown} key=${tab} device=${found} reload=${device.reload} />`}
  `;
}

/** Whether it is here, and what shows it. */
function Standing({ device }) {
  const sessions = useLoaded(
    (signal) => (may("connections") && device.online ? api.get(`${pathOf(device.id)}/sessions`, { limit: 20 }, { signal }) : null),
    [device.online], { every: 2_000 },
  );
  const open = sessions.value.value?.data.filter((each) => each.state === "open" || each.state === "draining") ?? [];
  return html`<div class="standing ${device.online ? "ok" : "bad"}" aria-live="polite">
    <p><${DeviceState} device=${device} />
      ${device.online && open.map((each) => html` <span key=${each.id}>${t("device.evidence", { ago: each.idle_s < 1 ? t("device.second") : duration(Math.round(each.idle_s)), peer: each.peer, since: ago(each.opened_at) })}</span>`)}
      ${device.online && !open.length && device.node && html` <span>${t("device.at", { node: device.node })}</span>`}
      ${!device.online && device.last_seen_at && html` <span title=${when(device.last_seen_at)}>${t("device.lastSeen", { ago: ago(device.last_seen_at) })}</span>`}
      ${!device.online && !device.last_seen_at && !device.closed && html` <span>${t("device.neverSeen")}</span>`}
    </p>
    ${!device.enabled && html`<p>${t("device.isDisabled")}</p>`}
    ${!device.online && device.closed && html`<p>${t("device.ended", { ago: ago(device.closed.at) })}</p><${Reason} reason=${device.closed.reason} text=${device.closed.text} />`}
    ${!device.online && html`<p><a href=${link("explain", [], { ask: "offline", device: device.id })}>${t("device.explain")}</a></p>`}
    ${!device.online && !device.closed && device.last_seen_at && html`<p>${t("device.notKnown")}</p>`}
  </div>`;
}

function Actions({ device, reload }) {
  const path = pathOf(device.id);
  const run = (question, action, act) => async () => {
    if (question && !(await confirmed(question, action))) return false;
    await act();
    reload();
    return true;
  };
  const operate = may("devices", "operate");
  const done = t("device.done");
  const name = { id: device.id };
  async function remove() {
    if (!(await confirmed(t("device.sureDelete", name), t("device.delete")))) return false;
    await api.delete(path, { headers: { "if-match": "*" } });
    toast(t("device.deleted", name));
    go("devices");
    return false;
  }
  return html`<div class="bar">
    ${operate && device.online && html`<${ActionButton} class="small secondary" done=${done} act=${run(t("device.sureKick", name), t("device.kick"), () => api.post(`${path}/kick`))}>${t("device.kick")}</${ActionButton}>`}
    ${operate && device.enabled && html`<${ActionButton} class="small secondary" done=${done} act=${run(t("device.sureDisable", name), t("device.disable"), () => api.post(`${path}/disable`))}>${t("device.disable")}</${ActionButton}>`}
    ${operate && !device.enabled && html`<${ActionButton} class="small" done=${done} act=${run("", "", () => api.post(`${path}/enable`))}>${t("device.enable")}</${ActionButton}>`}
    ${may("devices", "write") && html`<${ActionButton} class="small danger" act=${remove}>${t("device.delete")}</${ActionButton}>`}
  </div>`;
}

/** What it is, what it may do, and what it serves now. */
function State({ device, reload }) {
  const editing = useSignal(false);
  const routes = useLoaded((signal) => (may("routing") ? api.get("/routes", { subject: device.id }, { signal }) : null), [device.id], { on: ["route."] });
  const columns = [
    { key: "service", label: t("device.service"), cell: (route) => route.service || t("device.bySubject") },
    { key: "tags", label: t("device.tags"), cell: (route) => pairsText(route.tags) },
    { key: "pending", label: t("device.pending"), number: true },
    { key: "connection", label: t("device.connection"), cell: (route) => (may("connections") ? html`<a href=${link("connection", [route.connection])}>${route.connection}</a>` : route.connection) },
  ];
  return html`
    <section aria-labelledby="identity">
      <header class="bar"><h2 id="identity">${t("device.identity")}</h2>
        ${may("devices", "write") && html`<button type="button" class="small secondary" onClick=${() => (editing.value = true)}>${t("device.edit")}</button>`}
      </header>
      <${Facts} rows=${[
        [t("device.profile"), device.profile || t("device.none")],
        [t("device.kind"), device.kind],
        [t("device.labels"), Object.keys(device.labels).length ? Object.entries(device.labels).map(([key, value]) => html`<${Badge} key=${key}>${pairsText({ [key]: value })}</${Badge}> `) : t("device.none")],
        [t("device.groups"), listText(device.groups) || t("device.none")],
        [t("device.firmware"), device.firmware || t("device.none")],
        [t("device.created"), when(device.created_at)],
        [t("device.changed"), when(device.updated_at)],
        [t("device.notes"), device.notes || t("device.none")],
      ]} />
    </section>
    <section aria-labelledby="allowed">
      <h2 id="allowed">${t("device.allowed")}</h2>
      <${Facts} rows=${[
        [t("device.services"), html`<code>${listText(device.services) || t("device.none")}</code>`],
        [t("device.routes"), html`<code>${listText(device.routes) || t("device.none")}</code>`],
      ]} />
    </section>
    ${may("routing") &&
    html`<section aria-labelledby="serves">
      <h2 id="serves">${t("device.serves")}</h2>
      <${ProblemBox} problem=${routes.problem.value} />
      ${routes.value.value && html`<${SimpleTable} rows=${routes.value.value.data} columns=${columns} caption=${t("device.serves")} rowKey=${(route) => route.id} empty=${t("device.servesNothing")} />`}
    </section>`}
    ${editing.value && html`<${Edit} device=${device} close=${() => (editing.value = false)} done=${reload} />`}
  `;
}
