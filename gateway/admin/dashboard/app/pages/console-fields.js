// Fields of the console that know what the node serves, and the same request as a command.
import { api } from "../api.js";
import { command } from "../command.js";
import { Copyable, Field } from "../form.js";
import { html, useSignal } from "../lib.js";
import { useLoaded } from "../loading.js";
import { may } from "../login.js";
import { node } from "../shell.js";
import { t } from "../words.js";

const OFFERED = 50;

/** A route, completed from the services of the node: `service.` and then what the service serves. */
export function RouteField({ bind }) {
  const asked = useSignal(bind.peek());
  const found = useLoaded(
    (signal) => (may("routing") ? api.get("/services", { q: asked.value.split(".")[0], limit: OFFERED }, { signal }) : null),
    [asked.value.split(".")[0]],
  );
  const input = (event) => {
    bind.value = event.currentTarget.value;
    asked.value = event.currentTarget.value;
  };
  return html`<div class="field wide">
    <label for="route">${t("console.route")}</label>
    <input id="route" list="services" required autocomplete="off" autocapitalize="none" spellcheck="false" placeholder="service.method" value=${bind.value} onInput=${input} />
    <datalist id="services">${found.value.value?.data.map(({ name }) => html`<option key=${name} value="${name}."></option>`)}</datalist>
  </div>`;
}

/** Tags that choose who answers, completed from the routes of the service. */
export function TagsField({ bind, route, problem }) {
  const service = route.split(".")[0];
  const found = useLoaded(
    (signal) => (may("routing") && service ? api.get("/routes", { service, limit: OFFERED }, { signal }) : null),
    [service],
  );
  const tags = new Set();
  for (const row of found.value.value?.data ?? []) {
    if (row.subject) tags.add(`sub=${row.subject}`);
    for (const [key, value] of Object.entries(row.tags)) tags.add(`${key}=${value}`);
  }
  return html`
    <${Field} label=${t("console.tags")} bind=${bind} list="tags" placeholder="zone=eu sub=kitchen" autocomplete="off" autocapitalize="none" hint=${problem || null} aria-invalid=${problem ? "true" : null} />
    <datalist id="tags">${[...tags].slice(0, OFFERED).map((each) => html`<option key=${each} value=${each}></option>`)}</datalist>
  `;
}

/** What was sent, as a command for a shell. */
export function Line({ entry, tags }) {
  const { model, route, data, credit, refill, timeout, exchange } = entry;
  // Followed so that the items of a channel appear in the command as they leave.
  const sent = exchange.feed && exchange.sent.value >= 0 ? exchange.feed.past : null;
  const text = command({ model, route, tags, timeout, credit, count: refill ? 0 : credit, url: node.value?.advertised_url, data: sent ?? data });
  return html`<section class="card" aria-labelledby="command">
    <h2 id="command">${t("console.command")}</h2>
    ${text ? html`<${Copyable} multiline text=${text} label=${t("console.command")} />` : html`<p>${t(model === "push" ? "console.noPush" : "console.noCommand")}</p>`}
    ${text && html`<small>${t("console.commandHint")}${entry.metadata.trim() ? ` ${t("console.noMetadata")}` : ""}</small>`}
  </section>`;
}
