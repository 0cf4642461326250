// How devices let themselves in: one-time tokens, and fleets of which the serial numbers are known.
import { api, raw } from "../api.js";
import { ActionButton, Badge, Copyable, Dialog, Facts, Field, Form, ProblemBox, Select, Tabs, confirmed, toast } from "../form.js";
import { ago, count, when } from "../format.js";
import { html, useSignal } from "../lib.js";
import { useLoaded } from "../loading.js";
import { may } from "../login.js";
import { list, pairs, pairsText } from "../pairs.js";
import { link, setQuery } from "../router.js";
import { PagedTable } from "../table.js";
import { t, words } from "../words.js";
import WORDS from "../words/enrollment.js";

words(WORDS);

export const title = () => t("enrollment.title");

export function Page({ query }) {
  const tab = query.tab === "fleets" ? "fleets" : "tokens";
  return html`
    <h1>${title()}</h1>
    <${Tabs} label=${t("enrollment.which")} chosen=${tab} choose=${(next) => setQuery({ tab: next })} options=${[["tokens", t("enrollment.tokens")], ["fleets", t("enrollment.fleets")]]} />
    ${tab === "tokens" ? html`<${Tokens} active=${query.active ?? "true"} />` : html`<${Fleets} />`}
  `;
}

const write = () => may("enrollment", "write");

function Tokens({ active }) {
  const making = useSignal(false);
  const made = useSignal(null);
  const version = useSignal(0);
  const again = () => {
    version.value += 1;
  };
  const revoke = (row) => async () => {
    if (!(await confirmed(t("enrollment.sureRevoke"), t("enrollment.revoke")))) return false;
    await api.delete(`/enrollments/${encodeURIComponent(row.id)}`);
    again();
    return true;
  };
  const columns = [
    { key: "id", label: t("enrollment.id"), sort: "id", cell: (row) => html`<code>${row.id}</code>` },
    { key: "state", label: t("enrollment.state"), cell: (row) => html`<${Standing} row=${row} />` },
    { key: "left", label: t("enrollment.left"), number: true, cell: (row) => t("enrollment.leftOf", { left: row.uses - row.used, uses: row.uses }) },
    { key: "for", label: t("enrollment.for"), cell: (row) => row.device_id ?? t("enrollment.anyone") },
    { key: "profile", label: t("enrollment.profile") },
    { key: "labels", label: t("enrollment.labels"), cell: (row) => pairsText(row.labels) },
    { key: "expires", label: t("enrollment.expires"), cell: (row) => html`<span title=${when(row.expires_at)}>${ago(row.expires_at)}</span>` },
    { key: "by", label: t("enrollment.by"), cell: (row) => row.created_by },
    { key: "act", label: t("enrollment.act"), cell: (row) => write() && !row.revoked_at && new Date(row.expires_at) > Date.now() && html`<${ActionButton} class="small secondary" act=${revoke(row)} done=${t("enrollment.revoked")}>${t("enrollment.revoke")}</${ActionButton}>` },
  ];
  return html`
    <p>${t("enrollment.tokensHint")}</p>
    <div class="bar">
      ${write() && html`<button type="button" onClick=${() => (making.value = true)}>${t("enrollment.make")}</button>`}
      <${Select} label=${t("enrollment.show")} value=${active} onChange=${(event) => setQuery({ active: event.currentTarget.value })} options=${[["true", t("enrollment.onlyActive")], ["all", t("enrollment.all")]]} />
    </div>
    <${PagedTable} path="/enrollments" params=${active === "true" ? { active: true } : {}} sort="-created_at" columns=${columns} caption=${t("enrollment.tokens")} rowKey=${(row) => row.id} version=${version.value} on=${["enrolment.", "device.enrolled"]} empty=${t("enrollment.noTokens")} />
    ${making.value && html`<${NewToken} close=${() => (making.value = false)} done=${(answer) => { making.value = false; made.value = answer; again(); }} />`}
    ${made.value && html`<${Dialog} title=${t("enrollment.made")} close=${() => (made.value = null)} wide><${Made} made=${made.value} /></${Dialog}>`}
  `;
}

function Standing({ row }) {
  if (row.revoked_at) return html`<${Badge} tone="bad">${t("enrollment.isRevoked")}</${Badge}>`;
  if (new Date(row.expires_at) < Date.now()) return html`<${Badge}>${t("enrollment.isOver")}</${Badge}>`;
  if (row.used >= row.uses) return html`<${Badge}>${t("enrollment.isUsed")}</${Badge}>`;
  return html`<${Badge} tone="ok">${t("enrollment.holds")}</${Badge}>`;
}

/** What devices that come by it get. */
function useGiven() {
  const [profile, labels, routes] = [useSignal(""), useSignal(""), useSignal("")];
  return {
    fields: html`
      <${Field} label=${t("enrollment.profile")} bind=${profile} maxlength="255" />
      <${Field} label=${t("enrollment.labels")} hint=${t("enrollment.labelsHint")} bind=${labels} />
      <${Field} label=${t("enrollment.routes")} hint=${t("enrollment.routesHint")} bind=${routes} />
    `,
    body: () => ({ profile: profile.value.trim(), labels: pairs(labels.value), routes: list(routes.value) }),
  };
}

function NewToken({ close, done }) {
  const device = useSignal("");
  const uses = useSignal("1");
  const minutes = useSignal("15");
  const given = useGiven();
  const send = async () =>
    done(await api.post("/enrollments", { ...given.body(), device_id: device.value.trim() || null, uses: Number(uses.value), ttl_s: Number(minutes.value) * 60 }));
  return html`<${Dialog} title=${t("enrollment.make")} close=${close}>
    <${Form} send=${send} action=${t("enrollment.make")}>
      <${Field} label=${t("enrollment.device")} hint=${t("enrollment.deviceHint")} bind=${device} maxlength="64" autocapitalize="none" />
      <${Field} label=${t("enrollment.uses")} type="number" min="1" max="10000" required bind=${uses} />
      <${Field} label=${t("enrollment.minutes")} type="number" min="1" max="10080" required bind=${minutes} />
      ${given.fields}
    </${Form}>
  </${Dialog}>`;
}

function Made({ made }) {
  const drawn = useLoaded(async (signal) => (await raw("POST", `/enrollments/${encodeURIComponent(made.enrollment.id)}/qr.svg`, { body: { token: made.token }, signal })).text());
  return html`
    <p><strong>${t("enrollment.once")}</strong></p>
    <${Facts} rows=${[[t("enrollment.address"), html`<code>${made.url}</code>`], [t("enrollment.expires"), when(made.enrollment.expires_at)], [t("enrollment.uses"), count(made.enrollment.uses)]]} />
    <h3>${t("enrollment.line")}</h3>
    <${Copyable} text=${made.line} label=${t("enrollment.line")} />
    <${ProblemBox} problem=${drawn.problem.value} />
    ${drawn.value.value && html`<figure class="qr"><img src="data:image/svg+xml,${encodeURIComponent(drawn.value.value)}" alt=${t("enrollment.qr")} /><figcaption>${t("enrollment.scan")}</figcaption></figure>`}
  `;
}

function Fleets() {
  const making = useSignal(false);
  const made = useSignal(null);
  const shown = useSignal(null);
  const version = useSignal(0);
  const again = () => {
    version.value += 1;
  };
  const revoke = (row) => async () => {
    if (!(await confirmed(t("enrollment.sureRevokeFleet", { name: row.name }), t("enrollment.revoke")))) return false;
    await api.delete(`/fleets/${encodeURIComponent(row.id)}`, { headers: { "if-match": `"${row.version}"` } });
    again();
    return true;
  };
  const columns = [
    { key: "name", label: t("enrollment.name"), cell: (row) => html`<button type="button" class="link" onClick=${() => (shown.value = row)}>${row.name}</button>` },
    { key: "state", label: t("enrollment.state"), cell: (row) => html`<${FleetStanding} row=${row} />` },
    { key: "claimed", label: t("enrollment.claimed"), number: true, cell: (row) => t("enrollment.claimedOf", { claimed: row.claimed, serials: row.serials }) },
    { key: "profile", label: t("enrollment.profile") },
    { key: "labels", label: t("enrollment.labels"), cell: (row) => pairsText(row.labels) },
    { key: "expires", label: t("enrollment.expires"), cell: (row) => (row.expires_at ? html`<span title=${when(row.expires_at)}>${ago(row.expires_at)}</span>` : t("enrollment.never")) },
    { key: "act", label: t("enrollment.act"), cell: (row) => write() && !row.revoked_at && html`<${ActionButton} class="small secondary" act=${revoke(row)} done=${t("enrollment.revoked")}>${t("enrollment.revoke")}</${ActionButton}>` },
  ];
  return html`
    <p>${t("enrollment.fleetsHint")}</p>
    ${write() && html`<div class="bar"><button type="button" onClick=${() => (making.value = true)}>${t("enrollment.makeFleet")}</button></div>`}
    <${PagedTable} path="/fleets" columns=${columns} caption=${t("enrollment.fleets")} rowKey=${(row) => row.id} version=${version.value} on=${["fleet.", "device.enrolled"]} empty=${t("enrollment.noFleets")} />
    ${making.value && html`<${NewFleet} close=${() => (making.value = false)} done=${(answer) => { making.value = false; made.value = answer; again(); }} />`}
    ${made.value && html`<${Dialog} title=${made.value.fleet.name} close=${() => (made.value = null)}><p><strong>${t("enrollment.onceKey")}</strong></p><${Copyable} text=${made.value.key} label=${t("enrollment.key")} /></${Dialog}>`}
    ${shown.value && html`<${Serials} fleet=${shown.value} close=${() => (shown.value = null)} done=${again} />`}
  `;
}

function FleetStanding({ row }) {
  if (row.revoked_at) return html`<${Badge} tone="bad">${t("enrollment.isRevoked")}</${Badge}>`;
  if (row.expires_at && new Date(row.expires_at) < Date.now()) return html`<${Badge}>${t("enrollment.isOver")}</${Badge}>`;
  return html`<${Badge} tone="ok">${t("enrollment.holds")}</${Badge}>`;
}

function NewFleet({ close, done }) {
  const name = useSignal("");
  const serials = useSignal("");
  const given = useGiven();
  const send = async () => done(await api.post("/fleets", { ...given.body(), name: name.value.trim(), serials: list(serials.value) }));
  return html`<${Dialog} title=${t("enrollment.makeFleet")} close=${close}>
    <${Form} send=${send} action=${t("enrollment.makeFleet")}>
      <${Field} label=${t("enrollment.name")} bind=${name} required maxlength="64" />
      <${Field} label=${t("enrollment.serials")} hint=${t("enrollment.serialsHint")} as="textarea" rows="4" bind=${serials} />
      ${given.fields}
    </${Form}>
  </${Dialog}>`;
}

function Serials({ fleet, close, done }) {
  const more = useSignal("");
  const problem = useSignal(null);
  const version = useSignal(0);
  const path = `/fleets/${encodeURIComponent(fleet.id)}/serials`;
  async function add(event) {
    event.preventDefault();
    try {
      await api.post(path, { serials: list(more.value) });
      more.value = "";
      problem.value = null;
      toast(t("enrollment.added"));
      version.value += 1;
      done();
    } catch (error) {
      problem.value = error;
    }
  }
  const release = (row) => async () => {
    if (!(await confirmed(t("enrollment.sureRelease", { serial: row.serial }), t("enrollment.release")))) return false;
    await api.post(`${path}/${encodeURIComponent(row.serial)}/release`, {});
    version.value += 1;
    done();
    return true;
  };
  const columns = [
    { key: "serial", label: t("enrollment.serial") },
    { key: "device", label: t("enrollment.device"), cell: (row) => (row.device_id ? html`<a href=${link("device", [row.device_id])}>${row.device_id}</a>` : t("enrollment.unclaimed")) },
    { key: "at", label: t("enrollment.claimedAt"), cell: (row) => html`<span title=${when(row.claimed_at)}>${ago(row.claimed_at)}</span>` },
    { key: "act", label: t("enrollment.act"), cell: (row) => write() && row.claimed_at && html`<${ActionButton} class="small secondary" act=${release(row)} done=${t("enrollment.released")}>${t("enrollment.release")}</${ActionButton}>` },
  ];
  return html`<${Dialog} title=${fleet.name} close=${close} wide>
    <${ProblemBox} problem=${problem.value} />
    <${PagedTable} path=${path} columns=${columns} caption=${t("enrollment.serials")} rowKey=${(row) => row.serial} version=${version.value} empty=${t("enrollment.noSerials")} />
    ${write() && !fleet.revoked_at && html`<form onSubmit=${add}>
      <${Field} label=${t("enrollment.moreSerials")} hint=${t("enrollment.serialsHint")} as="textarea" rows="3" required bind=${more} />
      <footer><button type="submit">${t("enrollment.add")}</button></footer>
    </form>`}
  </${Dialog}>`;
}
