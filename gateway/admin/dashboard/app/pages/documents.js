// What is declared beyond settings: documents of this node, and bundles of them for all nodes.
import { api } from "../api.js";
import { ActionButton, Badge, Field, ProblemBox, Select, Tabs, toast } from "../form.js";
import { ago, when } from "../format.js";
import { html, signal, useSignal } from "../lib.js";
import { may } from "../login.js";
import { pageOf } from "../pages.js";
import { go, link, setQuery } from "../router.js";
import { PagedTable } from "../table.js";
import { t, words } from "../words.js";
import WORDS from "../words/documents.js";
import { Bundles, Held, Nodes } from "./bundles.js";
import { Bundle } from "./bundle.js";
import { Editor } from "./document-edit.js";

words(WORDS);

export const title = () => t("documents.title");

const KINDS = ["Access", "Bridge", "Service", "Spool", "Telemetry"];

/** A text that the editor of a new document is to begin with. */
export const drafted = signal("");

export function Page({ parts, query }) {
  if (parts[0] === "new") return html`<${Editor} kind=${query.kind ?? "Service"} text=${drafted.value} />`;
  if (parts[0] === "bundle") return html`<${Bundle} version=${Number(parts[1])} to=${query.to} />`;
  if (parts.length === 2) return html`<${Editor} key=${parts.join("/")} kind=${parts[0]} name=${parts[1]} />`;
  const tab = query.tab ?? "documents";
  return html`
    <h1>${title()}</h1>
    <${Tabs} label=${title()} options=${["documents", "bundles", "nodes", "held"].map((each) => [each, t(`documents.tab.${each}`)])} chosen=${tab} choose=${(to) => setQuery({ tab: to === "documents" ? "" : to })} />
    ${tab === "documents" && html`<${Documents} query=${query} />`}
    ${tab === "bundles" && html`<${Bundles} />`}
    ${tab === "nodes" && html`<${Nodes} />`}
    ${tab === "held" && html`<${Held} />`}
  `;
}

function Documents({ query }) {
  const problem = useSignal(null);
  const columns = [
    { key: "kind", label: t("documents.kind") },
    { key: "name", label: t("documents.name"), cell: (each) => html`<a href=${link("documents", [each.kind, each.name])}>${each.name}</a>` },
    { key: "origin", label: t("documents.origin"), cell: (each) => html`<${Origin} of=${each} />` },
    { key: "updated", label: t("documents.updated"), cell: (each) => html`<span title=${when(each.updated_at)}>${ago(each.updated_at)}</span>` },
    { key: "by", label: t("documents.by"), cell: (each) => each.updated_by },
    { key: "version", label: t("documents.version"), number: true },
  ];
  const draft = async () => {
    problem.value = null;
    const found = await api.get("/policy:draft").catch((error) => (problem.value = error));
    if (problem.value) return;
    if (!found.documents.length) {
      toast(t("documents.noFlows"), "bad");
      return;
    }
    drafted.value = found.documents.map((each) => JSON.stringify(each, null, 2)).join("\n---\n");
    toast(t("documents.drafted", { n: found.flows }));
    go("documents", ["new"], { kind: "Access" });
  };
  const kind = query.new ?? "Service";
  return html`
    <div class="bar">
      <${Select} label=${t("documents.kind")} value=${query.kind ?? ""} onChange=${(event) => setQuery({ kind: event.currentTarget.value })} options=${[["", t("documents.all")], ...KINDS.map((each) => [each, each])]} />
      <${Field} label=${t("documents.search")} type="search" value=${query.q ?? ""} onInput=${(event) => setQuery({ q: event.currentTarget.value })} />
    </div>
    <${PagedTable}
      path="/documents" params=${{ kind: query.kind, q: query.q }} columns=${columns} caption=${title()} rowKey=${(each) => `${each.kind}/${each.name}`}
      on=${["document.", "bundle."]} empty=${t("documents.empty")}
    />
    <${ProblemBox} problem=${problem.value} />
    <div class="bar">
      ${may("policy", "write") &&
      html`<${Select} label=${t("documents.newKind")} value=${kind} onChange=${(event) => setQuery({ new: event.currentTarget.value })} options=${KINDS.map((each) => [each, each])} />
        <a href=${link("documents", ["new"], { kind })} onClick=${() => (drafted.value = "")}>${t("documents.add")}</a>`}
      ${pageOf("explain") && html`<a href=${link("explain", [], { ask: "policy" })}>${t("documents.check")}</a>`}
      ${may("policy", "write") && html`<${ActionButton} class="secondary" act=${draft}>${t("documents.draft")}</${ActionButton}>`}
    </div>
    <p><small>${t("documents.draftHint")}</small></p>
  `;
}

export const Origin = ({ of }) => html`<${Badge} tone=${of.origin === "bundle" ? "ok" : "quiet"}>${t(`documents.origin.${of.origin}`)}</${Badge}>
  ${of.shadows && html` <${Badge} tone="warn">${t("documents.shadows")}</${Badge}>`}`;
