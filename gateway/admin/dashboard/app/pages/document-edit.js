// One document as text: what is wrong with it is said while one writes, with the line and what to do.
import { api } from "../api.js";
import { ActionButton, Badge, Busy, Facts, ProblemBox, confirmed, toast } from "../form.js";
import { when } from "../format.js";
import { html, useEffect, useId, useRef, useSignal } from "../lib.js";
import { useLoaded } from "../loading.js";
import { may } from "../login.js";
import { go, link } from "../router.js";
import { SimpleTable } from "../table.js";
import { t } from "../words.js";
import { Lines } from "../diff.js";

const CHECK_MS = 700;
const BEGINNINGS = {
  Access: "kind: Access\nname: \naction: DENY\nrules:\n  - from: [{kinds: [device]}]\n    to: [{services: [historian]}]\n",
  Bridge: "kind: Bridge\nname: \nmqtt: {address: \"mqtt://127.0.0.1:1883\"}\ntopics:\n  - {pattern: \"weather/#\", direction: in}\n",
  Service: "kind: Service\nname: \nroutes:\n  - timeout: 5s\n",
  Spool: "kind: Spool\nname: \nmatch: [{service: historian}]\nmaxBytes: 64MiB\n",
  Telemetry: "kind: Telemetry\nname: flows\nflowLog:\n  capacity: 4096\n  filter: 'verdict != \"FORWARDED\" || latency_ms > 500'\n",
};

const written = (document) => JSON.stringify({ kind: document.kind, name: document.name, ...document.body }, null, 2);
const path = (kind, name) => `/documents/${encodeURIComponent(kind)}/${encodeURIComponent(name)}`;

/** Reads the document; without a name it is a new one that begins with `text`. */
export function Editor({ kind, name, text }) {
  const stored = useLoaded((signal) => (name ? api.get(path(kind, name), null, { signal }) : null), [kind, name]);
  const found = stored.value.value;
  return html`
    <p><a href=${link("documents")}>${t("documents.title")}</a></p>
    <h1>${name ? `${kind} ${name}` : t("documents.addKind", { kind })}</h1>
    <${ProblemBox} problem=${stored.problem.value} />
    ${name && !found && !stored.problem.value && html`<${Busy} />`}
    ${found && html`<${Facts} rows=${[[t("documents.origin"), t(`documents.origin.${found.origin}`)], [t("documents.version"), found.version], [t("documents.updated"), when(found.updated_at)], [t("documents.by"), found.updated_by]]} />`}
    ${(found || !name) && html`<${Text} key=${found?.version} of=${found} began=${found ? written(found) : text || BEGINNINGS[kind] || `kind: ${kind}\nname: \n`} reload=${stored.reload} blank=${!found && !text} />`}
  `;
}

/** What the validator says of a text: {findings, outcome, problem}. Nothing is stored. */
async function judged(text, signal) {
  try {
    const said = await api.post("/documents:apply", { text }, { params: { dry_run: 1 }, signal });
    return { findings: said.warnings.map((each) => ({ ...each, warning: true })), applied: said.applied };
  } catch (error) {
    if (error.slug !== "invalid-document") throw error;
    return { findings: error.errors.map(({ detail, ...each }) => ({ text: detail, ...each })), applied: null };
  }
}

/** `blank`: nobody has written any of it yet, so nobody is told what it lacks. */
function Text({ of: stored, began, reload, blank }) {
  const text = useSignal(began);
  const verdict = useSignal(null);
  const problem = useSignal(null);
  const area = useRef();
  const id = useId();
  const writes = may("policy", "write") && stored?.origin !== "bundle";

  useEffect(() => {
    if (!writes || (blank && text.value === began)) return undefined;
    const asking = new AbortController();
    const timer = setTimeout(async () => {
      try {
        verdict.value = await judged(text.value, asking.signal);
        problem.value = null;
      } catch (error) {
        if (!asking.signal.aborted) problem.value = error;
      }
    }, CHECK_MS);
    return () => {
      clearTimeout(timer);
      asking.abort();
    };
  }, [text.value]);

  async function apply() {
    // Whoever changed it meanwhile is not overwritten unseen.
    if (stored) {
      const now = await api.get(path(stored.kind, stored.name));
      if (now.version !== stored.version) throw new Error(t("documents.changed", { by: now.updated_by }));
    }
    const done = await api.post("/documents:apply", { text: text.value });
    toast(done.applied.map((each) => `${each.document.kind} ${each.document.name}: ${t(`documents.outcome.${each.outcome}`)}`).join(", "));
    const [first] = done.applied;
    if (!stored || first.document.name !== stored.name || first.document.kind !== stored.kind) go("documents", [first.document.kind, first.document.name]);
    else reload();
  }
  async function remove() {
    if (!(await confirmed(t("documents.removeAsk", { name: `${stored.kind} ${stored.name}` }), t("documents.remove")))) return;
    await api.delete(path(stored.kind, stored.name), { headers: { "if-match": `"${stored.version}"` } });
    go("documents");
  }
  const jump = (line) => {
    const lines = area.current.value.split("\n");
    const from = lines.slice(0, line - 1).reduce((sum, each) => sum + each.length + 1, 0);
    area.current.focus();
    area.current.setSelectionRange(from, from + (lines[line - 1]?.length ?? 0));
    area.current.scrollTop = (line - 3) * (area.current.scrollHeight / lines.length);
  };
  if (!writes) {
    return html`${stored?.origin === "bundle" && html`<p>${t("documents.inBundle")}</p>`}<pre tabindex="0"><code>${began}</code></pre>`;
  }
  const findings = verdict.value?.findings ?? [];
  const wrong = findings.some((each) => !each.warning);
  return html`
    <div class="field">
      <label for=${id}>${t("documents.text")}</label>
      <textarea id=${id} ref=${area} rows=${Math.min(28, Math.max(10, began.split("\n").length + 2))} spellcheck="false" aria-describedby="${id}-said" aria-invalid=${wrong ? "true" : null}
        value=${text.value} onInput=${(event) => (text.value = event.currentTarget.value)}></textarea>
    </div>
    <${ProblemBox} problem=${problem.value} />
    <div id="${id}-said" role="status"><${Verdict} of=${verdict.value} jump=${jump} /></div>
    <div class="bar">
      <${ActionButton} act=${apply} disabled=${wrong || !verdict.value || (stored && text.value === began)}>${t("documents.apply")}</${ActionButton}>
      ${stored && html`<${ActionButton} class="secondary" act=${remove}>${t("documents.remove")}</${ActionButton}>`}
    </div>
    ${stored && text.value !== began && html`<h2>${t("documents.difference")}</h2><${Lines} before=${began} after=${text.value} label=${t("documents.difference")} />`}
  `;
}

/** Findings of the validator. `jump(line)`: shows that line of the text. */
export function Verdict({ of, jump }) {
  if (!of) return null;
  const worst = of.findings.some((each) => !each.warning) ? "wrong" : of.findings.length ? "warned" : "good";
  const columns = [
    { key: "line", label: t("documents.line"), cell: (each) => (each.line ? html`<button type="button" class="plain" onClick=${() => jump(each.line)}>${t("documents.lineAt", { n: each.line })}</button>` : "") },
    { key: "code", label: t("documents.code"), cell: (each) => html`<${Badge} tone=${each.warning ? "warn" : "bad"}>${t(each.warning ? "documents.warning" : "documents.error")}</${Badge}> <code>${each.code ?? ""}</code>` },
    { key: "text", label: t("documents.what"), cell: (each) => html`${each.text}${each.pointer && html`<br /><small><code>${each.pointer}</code></small>`}` },
    { key: "fix", label: t("documents.fix") },
  ];
  return html`
    <p><${Badge} tone=${{ wrong: "bad", warned: "warn", good: "ok" }[worst]}>${t(`documents.verdict.${worst}`)}</${Badge}></p>
    ${of.findings.length > 0 && html`<${SimpleTable} rows=${of.findings} columns=${columns} caption=${t("documents.findings")} />`}
  `;
}
