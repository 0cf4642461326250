// Documents of a federation: its bundles, how each node stands, what this node was given.
import { api } from "../api.js";
import { ActionButton, Badge, Dialog, Field, ProblemBox, toast } from "../form.js";
import { ago, when } from "../format.js";
import { html, useSignal } from "../lib.js";
import { may } from "../login.js";
import { link } from "../router.js";
import { PagedTable } from "../table.js";
import { t } from "../words.js";

const STATE_TONES = { running: "ok", active: "ok", paused: "warn", pending: "warn", rejected: "bad", aborted: "bad", rolled_back: "bad" };

export const StateBadge = ({ state }) => html`<${Badge} tone=${STATE_TONES[state] ?? "quiet"}>${state}</${Badge}>`;

const pairs = (table) => Object.entries(table).map(([name, n]) => `${name}: ${n}`).join(", ");

export function Bundles() {
  const version = useSignal(0);
  const publishing = useSignal(false);
  const columns = [
    { key: "version", label: t("documents.version"), cell: (each) => html`<a href=${link("documents", ["bundle", each.version])}>${each.version}</a>` },
    { key: "state", label: t("documents.state"), cell: (each) => html`<${StateBadge} state=${each.state} /> ${each.reason}` },
    { key: "share", label: t("documents.share"), number: true, cell: (each) => `${each.percentage} %` },
    { key: "nodes", label: t("documents.tab.nodes"), cell: (each) => pairs(each.nodes) },
    { key: "documents", label: t("documents.title"), number: true, cell: (each) => each.documents.length },
    { key: "comment", label: t("documents.comment") },
    { key: "made", label: t("documents.made"), cell: (each) => html`<span title=${when(each.made_at)}>${ago(each.made_at)}</span> ${each.made_by}` },
  ];
  return html`
    <p>${t("documents.bundlesWhat")}</p>
    ${may("policy", "write") && html`<div class="bar"><button type="button" onClick=${() => (publishing.value = true)}>${t("documents.publish")}</button></div>`}
    <${PagedTable} path="/bundles" columns=${columns} caption=${t("documents.tab.bundles")} rowKey=${(each) => each.version} on=${["bundle."]} version=${version.value} empty=${t("documents.noBundles")} />
    ${publishing.value && html`<${Publish} close=${() => (publishing.value = false)} again=${() => (version.value += 1)} />`}
  `;
}

function Publish({ close, again }) {
  const text = useSignal("");
  const comment = useSignal("");
  const labels = useSignal("");
  const share = useSignal("100");
  const failures = useSignal("0");
  const problem = useSignal(null);
  const said = useSignal(null);
  const send = async (dry) => {
    problem.value = said.value = null;
    try {
      const body = { texts: [text.value], comment: comment.value, labels: labels.value.split(/[\s,]+/).filter(Boolean), percentage: Number(share.value), max_failures: Number(failures.value) };
      const made = await api.post("/bundles", body, { params: dry ? { dry_run: 1 } : {} });
      if (dry) {
        said.value = made;
        return;
      }
      toast(t("documents.published", { n: made.bundle.version }));
      again();
      close();
    } catch (error) {
      problem.value = error;
    }
  };
  const submit = (event) => {
    event.preventDefault();
    send(false);
  };
  return html`<${Dialog} title=${t("documents.publish")} wide close=${close}>
    <form onSubmit=${submit}>
      <p>${t("documents.publishWhat")}</p>
      <${Field} as="textarea" rows="10" label=${t("documents.text")} bind=${text} required spellcheck="false" />
      <div class="bar">
        <${Field} label=${t("documents.comment")} bind=${comment} />
        <${Field} label=${t("documents.labels")} placeholder="site=7" bind=${labels} />
        <${Field} label=${t("documents.share")} type="number" min="0" max="100" step="any" bind=${share} required />
        <${Field} label=${t("documents.failures")} type="number" min="0" bind=${failures} required />
      </div>
      <${ProblemBox} problem=${problem.value} />
      ${said.value && html`<p role="status">${t("documents.wouldPublish", { names: said.value.bundle.documents.join(", ") })} ${said.value.warnings.map((each) => each.text).join(" ")}</p>`}
      <footer>
        <${ActionButton} class="secondary" act=${() => send(true)}>${t("documents.try")}</${ActionButton}>
        <button type="submit">${t("documents.publish")}</button>
      </footer>
    </form>
  </${Dialog}>`;
}

export function Nodes() {
  const columns = [
    { key: "name", label: t("documents.node"), cell: (each) => each.name || each.node },
    { key: "role", label: t("documents.role") },
    { key: "wanted", label: t("documents.wanted"), number: true, cell: (each) => each.wanted || "–" },
    { key: "active", label: t("documents.active"), number: true, cell: (each) => each.active || "–" },
    { key: "outcome", label: t("documents.state"), cell: (each) => html`<${StateBadge} state=${each.outcome} /> ${each.reason}` },
    { key: "labels", label: t("documents.labels"), cell: (each) => Object.entries(each.labels).map(([key, value]) => `${key}=${value}`).join(" ") },
    { key: "at", label: t("documents.said"), cell: (each) => ago(each.at) },
  ];
  return html`<p>${t("documents.nodesWhat")}</p>
    <${PagedTable} path="/bundles/nodes" columns=${columns} caption=${t("documents.tab.nodes")} rowKey=${(each) => each.node} on=${["bundle."]} empty=${t("documents.noNodes")} />`;
}

export function Held() {
  const columns = [
    { key: "version", label: t("documents.version"), number: true },
    { key: "state", label: t("documents.state"), cell: (each) => html`<${StateBadge} state=${each.state} /> ${each.trial ? t("documents.trial") : ""} ${each.reason}` },
    { key: "documents", label: t("documents.title"), cell: (each) => each.documents.join(", ") },
    { key: "at", label: t("documents.updated"), cell: (each) => when(each.at) },
  ];
  return html`<p>${t("documents.heldWhat")}</p>
    <${PagedTable} path="/bundles/held" columns=${columns} caption=${t("documents.tab.held")} rowKey=${(each) => each.version} on=${["bundle."]} empty=${t("documents.noHeld")} />`;
}
