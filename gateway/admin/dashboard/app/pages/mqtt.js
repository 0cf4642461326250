// Bridges to MQTT brokers: how each is, which topic is which route, and what a message would become.
import { api } from "../api.js";
import { Badge, Facts, Field, ProblemBox, Switch } from "../form.js";
import { count, duration } from "../format.js";
import { html, useSignal } from "../lib.js";
import { may } from "../login.js";
import { link, setQuery } from "../router.js";
import { PagedTable, SimpleTable } from "../table.js";
import { t, words } from "../words.js";
import WORDS from "../words/mqtt.js";
import { Bridge, State } from "./mqtt-bridge.js";

words(WORDS);

export const title = () => t("mqtt.title");

export function Page({ parts, query }) {
  if (parts.length) return html`<${Bridge} name=${parts[0]} />`;
  const version = useSignal(0);
  const columns = [
    { key: "name", label: t("mqtt.name"), sort: "name", cell: (each) => html`<a href=${link("mqtt", [each.name])}>${each.name}</a>` },
    { key: "state", label: t("mqtt.state"), sort: "state", cell: (each) => html`<${State} of=${each} />` },
    { key: "address", label: t("mqtt.address"), cell: (each) => html`<code>${each.address}</code>` },
    { key: "age", label: t("mqtt.age"), number: true, sort: "age", cell: (each) => duration(each.last_ack_age_s) },
    { key: "queued", label: t("mqtt.queued"), number: true, cell: (each) => count(each.queued) },
    { key: "received", label: t("mqtt.received"), number: true, cell: (each) => count(total(each.counters.received)) },
    { key: "published", label: t("mqtt.published"), number: true, cell: (each) => count(total(each.counters.published)) },
    { key: "dropped", label: t("mqtt.dropped"), number: true, cell: (each) => count(total(each.counters.dropped)) },
  ];
  return html`
    <h1>${title()}</h1>
    ${may("policy", "write") && html`<div class="bar"><a href=${link("documents", ["new"], { kind: "Bridge" })}>${t("mqtt.add")}</a></div>`}
    <${PagedTable}
      path="/mqtt/bridges" params=${{ q: query.q }} sort=${query.sort ?? "name"} onSort=${(sort) => setQuery({ sort })} columns=${columns} caption=${title()}
      rowKey=${(each) => each.name} on=${["bridge.", "document."]} version=${version.value} empty=${t("mqtt.empty")}
    />
    <h2>${t("mqtt.test")}</h2>
    <${Trial} />
    <h2>${t("mqtt.mappings")}</h2>
    <${Mappings} />
  `;
}

export const total = (table) => Object.values(table).reduce((sum, each) => sum + each, 0);

/** Which topic is which route. `bridge`: of one alone. */
export function Mappings({ bridge }) {
  const sort = useSignal("id");
  const wanted = useSignal("");
  const columns = [
    ...(bridge ? [] : [{ key: "bridge", label: t("mqtt.bridge"), cell: (rule) => html`<a href=${link("mqtt", [rule.bridge])}>${rule.bridge}</a>` }]),
    { key: "direction", label: t("mqtt.direction"), cell: (rule) => t(`mqtt.direction.${rule.direction}`) },
    { key: "topic", label: t("mqtt.topic"), sort: "topic", cell: (rule) => html`<code>${rule.topic}</code>` },
    { key: "route", label: t("mqtt.route"), sort: "route", cell: (rule) => html`<code>${rule.route}</code>` },
    { key: "qos", label: t("mqtt.qos"), number: true },
    { key: "spool", label: t("mqtt.spool"), cell: (rule) => rule.spool ?? "" },
    { key: "matched", label: t("mqtt.matched"), number: true, sort: "matched", cell: (rule) => count(rule.matched) },
    { key: "forwarded", label: t("mqtt.forwarded"), number: true, cell: (rule) => count(rule.forwarded) },
    { key: "refused", label: t("mqtt.refused"), number: true, cell: (rule) => count(rule.refused) },
  ];
  return html`
    <div class="bar"><${Field} label=${t("mqtt.search")} type="search" bind=${wanted} /></div>
    <${PagedTable}
      path="/mqtt/mappings" params=${{ bridge, q: wanted.value }} sort=${sort.value} onSort=${(to) => (sort.value = to)} columns=${columns} caption=${t("mqtt.mappings")}
      rowKey=${(rule) => rule.id} on=${["document."]} empty=${t("mqtt.noMappings")}
    />
  `;
}

/** What a message of a topic would become, by each bridge. Nothing is sent. */
export function Trial({ bridge }) {
  const topic = useSignal("");
  const data = useSignal("");
  const answer = useSignal(false);
  const found = useSignal(null);
  const problem = useSignal(null);
  const ask = async (event) => {
    event.preventDefault();
    try {
      const asked = { topic: topic.value, bridge: bridge ?? null, answer: answer.value };
      found.value = { rows: (await api.post("/mqtt/mappings:test", asked)).data, data: data.value, answer: answer.value };
      problem.value = null;
    } catch (error) {
      found.value = null;
      problem.value = error;
    }
  };
  return html`<form class="card" onSubmit=${ask} aria-label=${t("mqtt.test")}>
    <div class="bar">
      <${Field} label=${t("mqtt.topic")} bind=${topic} required autocomplete="off" placeholder="plant/kitchen/readings" />
      <${Field} label=${t("mqtt.payload")} bind=${data} autocomplete="off" />
      <${Switch} label=${t("mqtt.answer")} bind=${answer} />
      <button type="submit">${t("mqtt.ask")}</button>
    </div>
    <${ProblemBox} problem=${problem.value} />
    <div aria-live="polite">${found.value?.rows.map((row) => html`<${Becomes} key=${row.bridge} of=${row} data=${found.value.data} answer=${found.value.answer} />`)}
    ${found.value && !found.value.rows.length && html`<p>${t("mqtt.noBridge")}</p>`}</div>
  </form>`;
}

function Becomes({ of, data, answer }) {
  const pairs = (tags) => Object.entries(tags).map(([key, value]) => `${key}=${value}`).join(" ") || undefined;
  const columns = [
    { key: "rule", label: t("mqtt.rule"), cell: (step) => html`<code>${step.rule}</code>` },
    { key: "direction", label: t("mqtt.direction"), cell: (step) => t(`mqtt.direction.${step.direction}`) },
    { key: "took", label: t("mqtt.took"), cell: (step) => html`<${Badge} tone=${step.took ? "ok" : "quiet"}>${t(step.took ? "mqtt.takes" : "mqtt.leaves")}</${Badge}>` },
    { key: "why", label: t("mqtt.why") },
  ];
  return html`<section>
    <h3>${of.bridge} <${Badge} tone=${of.rule ? "ok" : "warn"}>${of.rule ? t("mqtt.becomes") : t("mqtt.notTaken")}</${Badge}></h3>
    ${of.rule &&
    html`<${Facts}
      rows=${[
        [t("mqtt.route"), html`<code>${of.route}</code>`],
        [t("mqtt.tags"), pairs(of.tags)],
        [t("mqtt.selecting"), pairs(of.selecting)],
        [t("mqtt.spool"), of.spool ?? undefined],
        [t("mqtt.rule"), html`<code>${of.rule}</code>`],
        [t("mqtt.payload"), html`<code>${data || "–"}</code> ${t("mqtt.asItIs")}`],
        [t("mqtt.back"), answer ? t("mqtt.answered") : t("mqtt.unanswered")],
      ]}
    />`}
    <${SimpleTable} rows=${of.steps} columns=${columns} caption=${t("mqtt.steps", { name: of.bridge })} rowKey=${(step) => step.rule + step.direction} empty=${t("mqtt.noRules")} />
  </section>`;
}
