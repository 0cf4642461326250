// Firmware: images for boards, and the rollouts that offer them to devices.
import { api } from "../api.js";
import { ActionButton, Badge, Dialog, Field, Form, Tabs, confirmed, toast } from "../form.js";
import { ago, bytes, count, when } from "../format.js";
import { html, useSignal } from "../lib.js";
import { may } from "../login.js";
import { list, listText } from "../pairs.js";
import { go, link, setQuery } from "../router.js";
import { PagedTable } from "../table.js";
import { t, words } from "../words.js";
import WORDS from "../words/firmware.js";

words(WORDS);

export const title = () => t("firmware.title");

export function Page({ query }) {
  const tab = query.tab === "images" ? "images" : "rollouts";
  const starting = useSignal(null);
  return html`
    <h1>${title()}</h1>
    <${Tabs} label=${t("firmware.which")} chosen=${tab} choose=${(next) => setQuery({ tab: next })} options=${[["rollouts", t("firmware.rollouts")], ["images", t("firmware.images")]]} />
    ${tab === "images" ? html`<${Images} start=${(firmware) => (starting.value = firmware)} />` : html`<${Rollouts} />`}
    ${starting.value && html`<${Start} firmware=${starting.value} close=${() => (starting.value = null)} />`}
  `;
}

const write = () => may("devices", "write");

function Images({ start }) {
  const adding = useSignal(false);
  const version = useSignal(0);
  const again = () => {
    version.value += 1;
  };
  const remove = (row) => async () => {
    if (!(await confirmed(t("firmware.sureDelete", row), t("firmware.delete")))) return false;
    await api.delete(`/firmware/${encodeURIComponent(row.id)}`);
    again();
    return true;
  };
  const columns = [
    { key: "version", label: t("firmware.version"), cell: (row) => html`${row.version} ${row.damaged && html`<${Badge} tone="bad">${t("firmware.damaged")}</${Badge}> ${row.damaged}`}` },
    { key: "board", label: t("firmware.board") },
    { key: "size", label: t("firmware.size"), number: true, cell: (row) => bytes(row.size) },
    { key: "at", label: t("firmware.uploaded"), cell: (row) => html`<span title=${when(row.created_at)}>${ago(row.created_at)}</span>` },
    { key: "signed", label: t("firmware.signed"), cell: (row) => t(row.signature ? "firmware.yes" : "firmware.no") },
    { key: "notes", label: t("firmware.notes") },
    { key: "act", label: t("firmware.act"), cell: (row) => write() && html`<button type="button" class="small" onClick=${() => start(row)}>${t("firmware.rollOut")}</button> <${ActionButton} class="small secondary" act=${remove(row)} done=${t("firmware.deleted")}>${t("firmware.delete")}</${ActionButton}>` },
    { key: "sha", label: t("firmware.sha256"), cell: (row) => html`<code title=${row.sha256}>${row.sha256.slice(0, 12)}…</code>` },
  ];
  return html`
    ${write() && html`<div class="bar"><button type="button" onClick=${() => (adding.value = true)}>${t("firmware.upload")}</button></div>`}
    <${PagedTable} path="/firmware" sort="-created_at" columns=${columns} caption=${t("firmware.images")} rowKey=${(row) => row.id} version=${version.value} on=${["firmware."]} empty=${t("firmware.noImages")} />
    ${adding.value && html`<${Upload} close=${() => (adding.value = false)} done=${again} />`}
  `;
}

function Upload({ close, done }) {
  const [board, version, notes] = [useSignal(""), useSignal(""), useSignal("")];
  const file = useSignal(null);
  async function send() {
    const params = { board: board.value.trim(), version: version.value.trim(), notes: notes.value };
    await api.post("/firmware", file.value, { params, type: "application/octet-stream" });
    toast(t("firmware.isUploaded"));
    done();
    close();
  }
  return html`<${Dialog} title=${t("firmware.upload")} close=${close}>
    <${Form} send=${send} action=${t("firmware.upload")}>
      <${Field} label=${t("firmware.file")} type="file" required onChange=${(event) => (file.value = event.currentTarget.files[0])} />
      <${Field} label=${t("firmware.board")} hint=${t("firmware.boardHint")} required maxlength="64" pattern="[A-Za-z0-9][A-Za-z0-9._+\\-]*" bind=${board} />
      <${Field} label=${t("firmware.version")} required maxlength="64" pattern="[A-Za-z0-9][A-Za-z0-9._+\\-]*" bind=${version} />
      <${Field} label=${t("firmware.notes")} maxlength="4096" bind=${notes} />
    </${Form}>
  </${Dialog}>`;
}

function Start({ firmware, close }) {
  const [labels, groups, profile] = [useSignal(""), useSignal(""), useSignal("")];
  const percentage = useSignal("10");
  const failures = useSignal("3");
  const minutes = useSignal("10");
  async function send() {
    const made = await api.post("/rollouts", {
      firmware: firmware.id, labels: list(labels.value), groups: list(groups.value), profile: profile.value.trim(),
      percentage: Number(percentage.value), max_failures: Number(failures.value), confirm_s: Number(minutes.value) * 60,
    });
    go("rollout", [made.id]);
  }
  return html`<${Dialog} title=${t("firmware.start", firmware)} close=${close}>
    <${Form} send=${send} action=${t("firmware.rollOut")}>
      <${Field} label=${t("firmware.labels")} hint=${t("firmware.labelsHint")} bind=${labels} />
      <${Field} label=${t("firmware.groups")} hint=${t("firmware.groupsHint")} bind=${groups} />
      <${Field} label=${t("firmware.profile")} hint=${t("firmware.profileHint")} bind=${profile} />
      <${Field} label=${t("firmware.percentage")} hint=${t("firmware.percentageHint")} type="number" min="0.01" max="100" step="any" required bind=${percentage} />
      <${Field} label=${t("firmware.maxFailures")} hint=${t("firmware.maxFailuresHint")} type="number" min="0" max="1000000" required bind=${failures} />
      <${Field} label=${t("firmware.confirm")} type="number" min="1" max="10080" step="any" required bind=${minutes} />
    </${Form}>
  </${Dialog}>`;
}

export const PHASES = { running: "ok", paused: "warn", aborted: "bad" };

/** For whom a rollout is, in words. */
export const forWhom = (rollout) =>
  [rollout.profile && t("firmware.ofProfile", rollout), rollout.labels.length && listText(rollout.labels), rollout.groups.length && t("firmware.inGroups", { groups: listText(rollout.groups) })].filter(Boolean).join(", ") || t("firmware.everyone");

function Rollouts() {
  const columns = [
    { key: "version", label: t("firmware.version"), cell: (row) => html`<a href=${link("rollout", [row.id])}>${row.board} ${row.firmware_version}</a>` },
    { key: "state", label: t("firmware.state"), cell: (row) => html`<${Badge} tone=${PHASES[row.state]}>${t(`firmware.is.${row.state}`)}</${Badge}> ${row.reason}` },
    { key: "for", label: t("firmware.for"), cell: forWhom },
    { key: "percentage", label: t("firmware.percentage"), number: true, cell: (row) => `${row.percentage} %` },
    { key: "confirmed", label: t("firmware.step.confirmed"), number: true, cell: (row) => count(row.devices.confirmed) },
    { key: "failures", label: t("firmware.failures"), number: true, cell: (row) => t("firmware.ofMost", { n: row.failures - row.forgiven, most: row.max_failures }) },
    { key: "at", label: t("firmware.started"), cell: (row) => html`<span title=${when(row.created_at)}>${ago(row.created_at)}</span>` },
  ];
  return html`<p>${t("firmware.rolloutsHint")}</p>
    <${PagedTable} path="/rollouts" sort="-created_at" columns=${columns} caption=${t("firmware.rollouts")} rowKey=${(row) => row.id} on=${["rollout."]} empty=${t("firmware.noRollouts")} />`;
}
