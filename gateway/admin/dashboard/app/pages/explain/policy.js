// Why a policy says yes or no: the document and the rule that decide, what each other rule says, what would allow it.
import { api } from "../../api.js";
import { Badge, Busy, Field, ProblemBox, Select } from "../../form.js";
import { html, useSignal } from "../../lib.js";
import { useLoaded } from "../../loading.js";
import { pageOf } from "../../pages.js";
import { link, setQuery } from "../../router.js";
import { SimpleTable } from "../../table.js";
import { t } from "../../words.js";
import { INTERACTIONS, Sentences } from "./parts.js";

const CALLS = [...INTERACTIONS, "register"];
const TOPICS = ["publish", "subscribe"];
const KINDS = ["", "device", "service", "user", "node", "admin"];

export function Policy({ query }) {
  const way = useSignal(query.topic ? "topic" : "call");
  const subject = useSignal(query.as ?? "");
  const kind = useSignal(query.who ?? "");
  const groups = useSignal(query.groups ?? "");
  const service = useSignal(query.service ?? "");
  const route = useSignal(query.route ?? "");
  const topic = useSignal(query.topic ?? "");
  const act = useSignal(query.act ?? (query.topic ? "publish" : "requestResponse"));
  const acts = way.value === "topic" ? TOPICS : CALLS;
  const ask = (event) => {
    event.preventDefault();
    const about = way.value === "topic" ? { topic: topic.value, service: null, route: null } : { topic: null, service: service.value, route: route.value };
    setQuery({ ask: "policy", as: subject.value, who: kind.value, groups: groups.value, act: acts.includes(act.value) ? act.value : acts[0], ...about });
  };
  return html`
    <form class="asking" onSubmit=${ask}>
      <div class="bar">
        <${Field} label=${t("explain.subject")} hint=${t("explain.subjectHint")} bind=${subject} required />
        <${Select} label=${t("explain.kind")} bind=${kind} options=${KINDS.map((each) => [each, each ? t(`explain.kind.${each}`) : t("explain.kindKnown")])} />
        <${Field} label=${t("explain.groups")} hint=${t("explain.groupsHint")} bind=${groups} />
      </div>
      <div class="bar">
        <${Select} label=${t("explain.way")} bind=${way} options=${[["call", t("explain.way.call")], ["topic", t("explain.way.topic")]]} />
        <${Select} label=${t("explain.act")} bind=${act} options=${acts.map((each) => [each, t(`explain.interaction.${each}`)])} />
        ${way.value === "topic"
          ? html`<${Field} label=${t("explain.topic")} bind=${topic} required />`
          : html`<${Field} label=${t("explain.service")} bind=${service} /><${Field} label=${t("explain.route")} bind=${route} />`}
      </div>
      <button type="submit">${t("explain.go")}</button>
    </form>
    ${query.as && (query.topic || query.service || query.route) && html`<${Answer} query=${query} />`}
  `;
}

function asked(query) {
  const groups = (query.groups ?? "").split(/[\s,]+/).filter(Boolean);
  const about = query.topic ? { topic: query.topic } : { service: query.service ?? "", route: query.route ?? "" };
  return { subject: query.as, kind: query.who || null, groups: groups.length ? groups : null, interaction: query.act || null, ...about };
}

async function read(query, signal) {
  const question = asked(query);
  const verdict = await api.post("/policy:check", question, { signal });
  const [document, draft] = await Promise.all([
    verdict.policy ? api.get(`/documents/Access/${encodeURIComponent(verdict.policy)}`, null, { signal }).catch(() => null) : null,
    verdict.allowed ? null : api.post("/policy:draft", { flows: [flow(question)] }, { signal }),
  ]);
  return { verdict, document, draft };
}

function flow({ subject, groups, interaction, service = "", route = "", topic = "" }) {
  return { subject, groups: groups ?? [], service, route, topic, interaction: interaction ?? (topic ? "publish" : "requestResponse") };
}

function Answer({ query }) {
  const loaded = useLoaded((signal) => read(query, signal), [JSON.stringify(query)], { on: ["document."] });
  const { verdict, document, draft } = loaded.value.value ?? {};
  if (loaded.problem.value) return html`<${ProblemBox} problem=${loaded.problem.value} />`;
  if (!verdict) return html`<${Busy} />`;
  const rule = document?.body.rules?.[verdict.rule];
  return html`<section aria-live="polite">
    <h2>${t("explain.answer")}</h2>
    <${Sentences} all=${sentences(query, verdict)} />
    ${document &&
    html`<h2>${t("explain.decided", { policy: verdict.policy })}</h2>
      <${Lines} body=${document.body} marked=${verdict.rule} />
      ${rule && html`<p><small>${t("explain.decidedRule", { n: verdict.rule })}</small></p>`}
      ${pageOf("documents") && html`<p><a href=${link("documents", ["Access", verdict.policy])}>${t("explain.toDocument")}</a></p>`}`}
    ${draft?.documents.length > 0 &&
    html`<h2>${t("explain.wouldAllow")}</h2>
      ${verdict.granted === false && html`<p>${t("explain.wouldAllowGrant")}</p>`}
      ${verdict.policy && verdict.rule >= 0 && html`<p>${t("explain.wouldAllowDeny", { policy: verdict.policy, n: verdict.rule })}</p>`}
      ${verdict.policy && verdict.rule < 0 && html`<p>${t("explain.wouldAllowDraft", { policy: verdict.policy })}</p><pre tabindex="0" aria-label=${t("explain.draft")}><code>${draft.documents.map((each) => JSON.stringify(each, null, 2)).join("\n---\n")}</code></pre>`}`}
    <h2>${t("explain.steps")}</h2>
    <${Steps} steps=${verdict.steps} />
  </section>`;
}

function sentences(query, verdict) {
  return [
    [verdict.allowed ? "ok" : "bad", t(verdict.allowed ? "explain.isAllowed" : "explain.isDenied", { subject: query.as })],
    ["quiet", t("explain.because", { text: verdict.text })],
    verdict.granted === true && ["ok", t("explain.granted")],
    verdict.granted === false && ["bad", t("explain.notGranted")],
    verdict.granted === null && !query.topic && ["quiet", t("explain.grantUnknown")],
    verdict.dry_run_denied && ["warn", t("explain.dryRun", { policy: verdict.dry_run_denied })],
    verdict.audits.length > 0 && ["quiet", t("explain.audits", { policies: verdict.audits.join(", ") })],
  ];
}

/** A document as it was written, line by line, with the rule that decided marked. */
function Lines({ body, marked }) {
  const { rules = [], ...rest } = body;
  const head = Object.entries(rest).map(([key, value]) => `${key}: ${JSON.stringify(value)}`);
  return html`<pre tabindex="0" aria-label=${t("explain.document")}><code>${head.join("\n")}${"\nrules:\n"}${rules.map(
    (rule, index) => html`<span key=${index} class=${index === marked ? "marked" : ""}>${index === marked ? html`<mark>${`- ${JSON.stringify(rule)}`}</mark> ${t("explain.thisOne")}` : `- ${JSON.stringify(rule)}`}${"\n"}</span>`,
  )}</code></pre>`;
}

function Steps({ steps }) {
  const columns = [
    { key: "policy", label: t("explain.policy"), cell: (each) => html`<code>Access/${each.policy}</code>` },
    { key: "action", label: t("explain.action"), cell: (each) => (each.dry_run ? t("explain.onlyCounted", { action: each.action }) : each.action) },
    { key: "rule", label: t("explain.ruleNumber"), cell: (each) => (each.rule < 0 ? t("explain.wholeDocument") : each.rule) },
    { key: "fits", label: t("explain.fits"), cell: (each) => html`<${Badge} tone=${each.fits ? (each.action === "DENY" ? "bad" : "ok") : "quiet"}>${t(each.fits ? "explain.yes" : "explain.no")}</${Badge}>` },
    { key: "why", label: t("explain.why"), cell: (each) => each.why },
  ];
  return html`<${SimpleTable} rows=${steps} columns=${columns} caption=${t("explain.steps")} empty=${t("explain.noSteps")} />`;
}
