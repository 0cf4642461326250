// What came of a request of the console: items, credit, the error in words; for a channel what one sends.
import { Badge, Field, Select } from "../form.js";
import { bytes, count, duration } from "../format.js";
import { html, useSignal } from "../lib.js";
import { KEPT } from "../exchange.js";
import { FORMATS, decoded, encoded, mistake, withCbor } from "../payload.js";
import { t } from "../words.js";

const VIEWS = ["auto", "text", "hex", "base64", "cbor"];

export function Answer({ entry }) {
  const { exchange } = entry;
  const as = useSignal(entry.format === "cbor" ? "cbor" : "auto");
  const running = exchange.running;
  const streams = exchange.model === "stream" || exchange.model === "channel";
  const show = async (event) => {
    const chosen = event.currentTarget.value;
    if (chosen === "cbor") await withCbor();
    as.value = chosen;
  };
  return html`<section class="card answer" aria-labelledby="answer">
    <header>
      <h2 id="answer">${t("console.answer")}</h2>
      <span role="status"><${Outcome} of=${exchange} /> ${exchange.took.value !== null && duration(exchange.took.value)}</span>
      ${running && html`<button type="button" class="small secondary" onClick=${() => exchange.cancel()}>${t("console.cancel")}</button>`}
    </header>
    <${Failure} error=${exchange.error.value} />
    ${streams && html`<${Granted} exchange=${exchange} />`}
    ${exchange.feed && running && html`<${Sending} entry=${entry} />`}
    ${exchange.state.value === "done" && exchange.model === "fnf" && html`<p>${t("console.fnfDone")}</p>`}
    ${exchange.state.value === "done" && exchange.model === "push" && html`<p>${t("console.pushDone")}</p>`}
    ${exchange.items.value.length > 0 &&
    html`<div class="bar"><${Select} label=${t("console.as")} value=${as.value} onChange=${show} options=${VIEWS.map((each) => [each, t(`console.as.${each}`)])} /></div>
      <${Items} exchange=${exchange} as=${as.value} />`}
  </section>`;
}

/** How a request stands, in a word. */
export function Outcome({ of }) {
  const state = of.state.value;
  const tone = { done: "ok", failed: "bad", canceled: "quiet" }[state] ?? "warn";
  return html`<${Badge} tone=${tone}>${t(`console.outcome.${state}`)}</${Badge}> ${state === "failed" && of.error.value?.name}`;
}

/** Why it failed: code and text as they came, and what they mean. */
function Failure({ error }) {
  if (!error) return null;
  const known = ["REJECTED", "CANCELED", "INVALID", "APPLICATION_ERROR", "TIMEOUT", "LOST", "UNREACHABLE", "CONNECTION_ERROR", "REJECTED_SETUP"];
  const meant = known.includes(error.name) ? t(`console.error.${error.name}`) : "";
  return html`<div class="problem" role="alert">
    <strong>${error.name}${error.code ? ` (0x${error.code.toString(16)})` : ""}</strong>
    ${error.text !== "" && html`<p>${error.text ?? error.message}</p>`}
    ${meant && html`<p>${meant}</p>`}
  </div>`;
}

function Granted({ exchange }) {
  const more = useSignal(String(exchange.window));
  const [granted, received] = [exchange.granted.value, exchange.received.value];
  const grant = (event) => {
    event.preventDefault();
    exchange.grant(Math.max(1, Math.floor(Number(more.value))));
  };
  return html`<div class="bar granted">
    <p role="status" aria-live="off">${t("console.figures", { received: count(received), granted: count(granted), size: bytes(exchange.bytes.value) })}
      <${Badge} tone=${granted > received ? "ok" : "warn"}>${t("console.outstanding", { n: granted - received })}</${Badge}></p>
    ${exchange.running &&
    html`<form class="bar" onSubmit=${grant}>
      <${Field} label=${t("console.more")} type="number" min="1" max="100000" required bind=${more} />
      <button type="submit" class="secondary">${t("console.grant", { n: more.value })}</button>
    </form>`}
  </div>`;
}

/** What goes out over a channel, an item at a time. */
function Sending({ entry }) {
  const { exchange } = entry;
  const format = useSignal(entry.format);
  const text = useSignal(entry.text);
  const wrong = mistake(format.value, text.value);
  const send = async (event) => {
    event.preventDefault();
    if (!wrong) exchange.send(await encoded(format.value, text.value));
  };
  return html`<form class="sending" onSubmit=${send} aria-label=${t("console.sending")}>
    <div class="bar">
      <${Select} label=${t("console.format")} bind=${format} options=${FORMATS.map((each) => [each, t(`console.format.${each}`)])} />
      <${Field} as="textarea" rows="2" label=${t("console.item")} bind=${text} hint=${wrong || null} aria-invalid=${wrong ? "true" : null} spellcheck="false" />
      <button type="submit">${t("console.sendItem")}</button>
      <button type="button" class="secondary" onClick=${() => exchange.complete()}>${t("console.complete")}</button>
    </div>
    <p role="status">${t("console.sent", { n: exchange.sent.value })} <${Badge} tone=${exchange.wanted.value ? "ok" : "quiet"}>${t(exchange.wanted.value ? "console.wanted" : "console.unwanted")}</${Badge}></p>
  </form>`;
}

function Items({ exchange, as }) {
  const items = exchange.items.value;
  return html`<div class="items" tabindex="0" role="region" aria-label=${t("console.items")}>
    ${exchange.received.value > KEPT && html`<p class="foot">${t("console.kept", { n: KEPT })}</p>`}
    <ol>
      ${items.toReversed().map(
        (item) => html`<li key=${item.number} value=${item.number}>
          <small>${t("console.itemAt", { n: item.number, after: duration(item.after), size: bytes(item.data.length) })}</small>
          <pre><code>${decoded(item.data, as)}</code></pre>
        </li>`,
      )}
    </ol>
  </div>`;
}
