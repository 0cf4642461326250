// Where a request would go and why: what the node would decide now, with nothing sent.
import { api } from "../../api.js";
import { Badge, Busy, Field, ProblemBox, Select, Switch } from "../../form.js";
import { count, duration } from "../../format.js";
import { html, useSignal } from "../../lib.js";
import { useLoaded } from "../../loading.js";
import { may } from "../../login.js";
import { link, setQuery } from "../../router.js";
import { SimpleTable } from "../../table.js";
import { t } from "../../words.js";
import { INTERACTIONS, Sentences, tagsOf } from "./parts.js";

const FROM = ["client", "downlink", "peer", "uplink"];

export function Route({ query }) {
  const route = useSignal(query.route ?? "");
  const caller = useSignal(query.as ?? "");
  const tags = useSignal(query.tags ?? "");
  const interaction = useSignal(query.kind ?? "requestResponse");
  const from = useSignal(query.from ?? "client");
  const everybody = useSignal(query.all === "1");
  const ask = (event) => {
    event.preventDefault();
    setQuery({
      ask: "route",
      route: route.value,
      as: caller.value,
      tags: tags.value,
      kind: interaction.value === "requestResponse" ? null : interaction.value,
      from: from.value === "client" ? null : from.value,
      all: everybody.value ? "1" : null,
      asked: String(Number(query.asked ?? 0) + 1),
    });
  };
  return html`
    <form class="asking" onSubmit=${ask}>
      <div class="bar">
        <${Field} label=${t("explain.route")} hint=${t("explain.routeHint")} bind=${route} />
        <${Field} label=${t("explain.as")} hint=${t("explain.asHint")} bind=${caller} />
        <${Select} label=${t("explain.interaction")} bind=${interaction} options=${INTERACTIONS.map((each) => [each, t(`explain.interaction.${each}`)])} />
        <${Select} label=${t("explain.from")} bind=${from} options=${FROM.map((each) => [each, t(`explain.from.${each}`)])} />
      </div>
      <details open=${Boolean(tags.value)}>
        <summary>${t("explain.more")}</summary>
        <${Field} as="textarea" rows="2" label=${t("explain.tags")} hint=${t("explain.tagsHint")} bind=${tags} />
        <${Switch} label=${t("explain.multicast")} bind=${everybody} />
      </details>
      <button type="submit">${t("explain.go")}</button>
    </form>
    ${(query.route || query.tags) && html`<${Answer} query=${query} />`}
  `;
}

async function read(query, signal) {
  const tags = tagsOf(query.tags);
  const interaction = query.kind ?? "requestResponse";
  const question = { route: query.route ?? "", tags, caller: query.as || null, interaction, came_from: query.from ?? "client", multicast: query.all === "1", by_tags: !query.route };
  const found = await api.post("/routes:resolve", question, { signal });
  const asked = query.as && found.service && may("policy") && { subject: query.as, service: found.service, route: query.route, interaction, tags };
  return { found, policy: asked ? await api.post("/policy:check", asked, { signal }) : null };
}

function Answer({ query }) {
  const loaded = useLoaded((signal) => read(query, signal), [JSON.stringify(query)]);
  const { found, policy } = loaded.value.value ?? {};
  if (loaded.problem.value) return html`<${ProblemBox} problem=${loaded.problem.value} />`;
  if (!found) return html`<${Busy} />`;
  return html`<section aria-live="polite">
    <h2>${t("explain.answer")}</h2>
    <${Sentences} all=${sentences(found, policy)} />
    ${policy && !policy.allowed && html`<p><a href=${link("explain", [], { ask: "policy", as: query.as, service: found.service, route: query.route, act: query.kind })}>${t("explain.whyPolicy")}</a></p>`}
    <h2>${t("explain.candidates")}</h2>
    <${Candidates} found=${found} />
    ${found.more_candidates > 0 && html`<p>${t("explain.moreCandidates", { n: count(found.more_candidates) })}</p>`}
    ${found.unused.length > 0 && html`<h2>${t("explain.unused")}</h2><${Unused} rows=${found.unused} />`}
  </section>`;
}

function sentences(found, policy) {
  const chosen = found.candidates.find((each) => each.route === found.chosen);
  const ok = found.verdict === "ok" && !(policy && !policy.allowed);
  return [
    [ok ? "ok" : "bad", verdict(found, chosen, policy)],
    ["quiet", t("explain.askedAs", { caller: found.caller, kind: found.caller_kind })],
    found.service ? ["quiet", t("explain.matched", { service: found.service, address: found.address })] : found.verdict === "no_route" && ["quiet", t("explain.notMatched", { address: found.address })],
    policy && [policy.allowed ? "ok" : "bad", t("explain.policySays", { text: policy.text })],
    found.candidates.length > 1 && ["quiet", t("explain.chosenBy", { n: found.candidates.length, method: t(`explain.method.${found.method}`) })],
    ...governed(found.governed),
    found.spools.length > 0 && [found.verdict === "no_route" ? "warn" : "quiet", t(found.verdict === "no_route" ? "explain.waits" : "explain.wouldWait", { spool: found.spools[0] })],
  ];
}

function verdict(found, chosen, policy) {
  if (policy && !policy.allowed && found.verdict === "ok") return t("explain.deniedByPolicy", { policy: policy.policy });
  if (found.verdict !== "ok") return t(`explain.verdict.${found.verdict}`, { reason: found.reason });
  if (!chosen) return found.reason;
  return t(chosen.link === "local" ? "explain.goesHere" : "explain.goesOver", { subject: chosen.subject, node: chosen.node, link: t(`explain.link.${chosen.link}`) });
}

function governed(found) {
  if (!found) return [["quiet", t("explain.noDocument")]];
  const parts = found.to.filter((each) => each.subset || each.weight !== 100);
  return [
    ["quiet", found.rule ? t("explain.rule", { document: found.document, rule: found.rule }) : t("explain.noRule", { document: found.document })],
    parts.length > 0 && ["quiet", t("explain.parts", { parts: parts.map((each) => t("explain.part", { weight: each.weight, subset: each.subset || t("explain.whole") })).join(", ") })],
    found.timeout_s !== null && ["quiet", t("explain.timeout", { time: duration(found.timeout_s) })],
    found.attempts > 0 && ["quiet", t("explain.attempts", { n: found.attempts })],
    found.breaker && found.breaker !== "closed" && ["warn", t(found.breaker === "open" ? "explain.breakerOpen" : "explain.breakerHalf")],
    found.faults && ["warn", t("explain.faults")],
  ];
}

const where = (each) => (each.link === "local" ? t("explain.here") : t("explain.nodeOver", { node: each.node, link: t(`explain.link.${each.link}`) }));

function Candidates({ found }) {
  const columns = [
    {
      key: "chosen",
      label: t("explain.now"),
      cell: (each) =>
        each.route === found.chosen ? html`<${Badge} tone="ok">${t("explain.taken")}</${Badge}>` : each.why ? html`<${Badge} tone=${each.permitted ? "quiet" : "bad"}>${t("explain.notTaken")}</${Badge}>` : t("explain.could"),
    },
    { key: "subject", label: t("explain.servedBy") },
    { key: "service", label: t("explain.service"), cell: (each) => each.service && html`<a href=${link("routes", [each.service])}>${each.service}</a>` },
    { key: "node", label: t("explain.at"), cell: where },
    { key: "pending", label: t("explain.pending"), number: true, cell: (each) => count(each.pending) },
    { key: "why", label: t("explain.why"), cell: (each) => each.why },
  ];
  return html`<${SimpleTable} rows=${found.candidates} columns=${columns} caption=${t("explain.candidates")} rowKey=${(each) => each.route} empty=${t("explain.noCandidates")} />`;
}

function Unused({ rows }) {
  const columns = [
    { key: "node", label: t("explain.at"), cell: where },
    { key: "service", label: t("explain.service") },
    { key: "subject", label: t("explain.servedBy") },
    { key: "why", label: t("explain.why") },
  ];
  return html`<${SimpleTable} rows=${rows} columns=${columns} caption=${t("explain.unused")} />`;
}
