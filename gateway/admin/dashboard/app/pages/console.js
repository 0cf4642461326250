// A request by hand: every interaction model, through the node as any client's, from a session of one's own.
import { api } from "../api.js";
import { connect } from "../../client/gateway-client.js";
import { Exchange } from "../exchange.js";
import { Badge, Empty, Field, Select, Switch } from "../form.js";
import { clock, duration } from "../format.js";
import { html, signal, useEffect, useSignal } from "../lib.js";
import { FORMATS, encoded, mistake } from "../payload.js";
import { SimpleTable } from "../table.js";
import { t, words } from "../words.js";
import WORDS from "../words/console.js";
import { Answer, Outcome } from "./console-answer.js";
import { Line, RouteField, TagsField } from "./console-fields.js";

words(WORDS);

export const title = () => t("console.title");

const MODELS = ["request", "fnf", "stream", "channel", "push"];
const HISTORY = 20;
const MOST_CREDIT = 128;

/** What was sent lately, newest first: gone with the tab. */
const history = signal([]);

/** The session of this page; the next request makes another when it has ended. */
let link = null;
const status = signal(null);

function session() {
  if (link && link.status.state !== "closed") return link;
  const made = connect(`${location.origin.replace(/^http/, "ws")}/api/v1/console/rsocket`, {
    // A ticket lets one socket in, so there is a new one for each.
    token: async () => {
      const { token, protocols } = await api.post("/console/tickets", {});
      return { token, protocols };
    },
    reconnect: false,
    resume: 0,
  });
  const tell = () => {
    if (link === made) status.value = made.status;
  };
  made.addEventListener("status", tell);
  link = made;
  tell();
  return made;
}

/** Tags as written, `key=value` with spaces or commas between; null where one is not. */
function tagsOf(text) {
  const pairs = text.split(/[\s,]+/).filter(Boolean).map((each) => each.split(/=(.*)/s));
  return pairs.every(([key, value]) => key && value !== undefined) ? Object.fromEntries(pairs.map(([key, value]) => [key, value])) : null;
}

/** Metadata as written, `type: text` a line; null where one is not. */
function metadataOf(text) {
  const lines = text.split("\n").filter((line) => line.trim()).map((line) => line.match(/^\s*([\w.+-]+\/[\w.+-]+):\s?(.*)$/));
  return lines.every(Boolean) ? lines.map(([, type, value]) => [type, value]) : null;
}

export function Page({ query }) {
  const model = useSignal(MODELS.includes(query.model) ? query.model : "request");
  const route = useSignal(query.route ?? "");
  const tags = useSignal(query.tags ?? "");
  const format = useSignal("json");
  const text = useSignal("");
  const metadata = useSignal("");
  const credit = useSignal(8);
  const refill = useSignal(true);
  const timeout = useSignal("10");
  const running = useSignal(null);
  const problem = useSignal("");
  useEffect(
    () => () => {
      running.peek()?.exchange.cancel();
      link?.close();
      link = null;
      status.value = null;
    },
    [],
  );

  const streams = model.value === "stream" || model.value === "channel";
  const pushes = model.value === "push";
  const wrong = {
    text: mistake(format.value, text.value),
    tags: tagsOf(tags.value) ? "" : t("console.tagsWrong"),
    metadata: metadataOf(metadata.value) ? "" : t("console.metadataWrong"),
  };

  async function send(event) {
    event.preventDefault();
    problem.value = Object.values(wrong).find(Boolean) ?? "";
    if (problem.value) return;
    running.value?.exchange.cancel();
    const asked = {
      model: model.value, route: route.value.trim(), tags: tags.value, format: format.value, text: text.value, metadata: metadata.value,
      credit: Number(credit.value), refill: refill.value, timeout: Number(timeout.value),
    };
    const data = await encoded(asked.format, asked.text);
    const exchange = new Exchange(asked.model, { window: asked.credit, refill: asked.refill });
    const entry = { ...asked, data, exchange };
    running.value = entry;
    history.value = [entry, ...history.value].slice(0, HISTORY);
    const entries = metadataOf(asked.metadata);
    const options = { tags: tagsOf(asked.tags), timeout: asked.timeout * 1000 };
    exchange.run(session(), asked.route, data, entries.length ? { ...options, metadata: entries } : options);
  }

  function again(entry) {
    for (const [name, to] of Object.entries({ model, route, tags, format, text, metadata, credit, refill })) to.value = entry[name];
    timeout.value = String(entry.timeout);
    document.querySelector("main h1")?.focus();
  }

  return html`
    <h1>${title()}</h1>
    <p class="status"><${Session} /> ${t("console.what")}</p>
    <form class="card" onSubmit=${send} aria-label=${t("console.asked")}>
      <div class="bar">
        <${Select} label=${t("console.model")} bind=${model} options=${MODELS.map((each) => [each, t(`console.model.${each}`)])} />
        ${!pushes && html`<${RouteField} bind=${route} /><${TagsField} bind=${tags} route=${route.value} problem=${wrong.tags} />`}
        <${Select} label=${t("console.format")} bind=${format} options=${FORMATS.map((each) => [each, t(`console.format.${each}`)])} />
        ${model.value === "request" && html`<${Field} label=${t("console.timeout")} bind=${timeout} type="number" min="0.1" max="300" step="any" required />`}
      </div>
      <${Field}
        as="textarea" rows="5" label=${t(pushes ? "console.push" : model.value === "channel" ? "console.first" : "console.data")} bind=${text} spellcheck="false"
        aria-invalid=${wrong.text ? "true" : null} hint=${wrong.text || null}
      />
      ${streams && html`<${Credit} credit=${credit} refill=${refill} />`}
      ${!pushes &&
      html`<details>
        <summary>${t("console.metadata")}</summary>
        <${Field} as="textarea" rows="2" label=${t("console.metadataLabel")} hint=${wrong.metadata || t("console.metadataHint")} bind=${metadata} spellcheck="false" aria-invalid=${wrong.metadata ? "true" : null} />
      </details>`}
      ${problem.value && html`<p class="problem" role="alert">${problem.value}</p>`}
      <div class="bar"><button type="submit">${t(streams ? "console.open" : "console.send")}</button></div>
    </form>
    ${running.value && html`<${Answer} key=${running.value.exchange.at} entry=${running.value} /><${Line} entry=${running.value} tags=${tagsOf(running.value.tags)} />`}
    <h2>${t("console.history")}</h2>
    <${History} again=${again} />
  `;
}

function Session() {
  const now = status.value;
  if (!now) return html`<${Badge}>${t("console.none")}</${Badge}>`;
  const tone = { online: "ok", closed: "quiet" }[now.state] ?? "warn";
  return html`<span role="status"><${Badge} tone=${tone}>${t(`console.state.${now.state}`)}</${Badge} > ${now.state === "closed" && now.reason}</span>`;
}

/** How many items may be on their way: granted at a time, and whether more are granted by themselves. */
function Credit({ credit, refill }) {
  return html`<div class="bar credit">
    <${Field} label=${t("console.credit", { n: credit.value })} type="range" min="1" max=${MOST_CREDIT} bind=${credit} />
    <${Switch} label=${t("console.refill")} bind=${refill} />
    <small>${t(refill.value ? "console.refillHint" : "console.byHandHint")}</small>
  </div>`;
}

function History({ again }) {
  if (!history.value.length) return html`<${Empty}>${t("console.noHistory")}</${Empty}>`;
  const columns = [
    { key: "at", label: t("console.at"), cell: ({ exchange }) => clock(exchange.at) },
    { key: "model", label: t("console.model"), cell: ({ model }) => t(`console.model.${model}`) },
    { key: "route", label: t("console.route"), cell: ({ route }) => html`<code>${route}</code>` },
    { key: "state", label: t("console.outcome"), cell: ({ exchange }) => html`<${Outcome} of=${exchange} />` },
    { key: "took", label: t("console.took"), number: true, cell: ({ exchange }) => duration(exchange.took.value) },
    { key: "do", label: t("console.again"), cell: (entry) => html`<button type="button" class="small secondary" onClick=${() => again(entry)} aria-label=${`${t("console.again")}: ${entry.route}`}>${t("console.again")}</button>` },
  ];
  return html`<${SimpleTable} rows=${history.value} columns=${columns} caption=${t("console.history")} rowKey=${({ exchange }) => exchange.at} />`;
}
