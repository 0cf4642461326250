// From a name to a device that is green: register it, put its credential in, see it connect.
import { api } from "../api.js";
import { Badge, Busy, Field, Form } from "../form.js";
import { ago, clock, duration } from "../format.js";
import { html, useEffect, useSignal } from "../lib.js";
import { useLoaded } from "../loading.js";
import { may } from "../login.js";
import { list, pairs } from "../pairs.js";
import { reasonAdvice, reasonText } from "../reasons.js";
import { link } from "../router.js";
import { t, words } from "../words.js";
import WORDS from "../words/add-device.js";
import { Given } from "./device/given.js";

words(WORDS);

const HOUR_S = 3600;
const LONG_S = 20;
/** How often the time is said anew, which a screen reader reads out. */
const STEP_S = 10;
const LOOK_MS = 3_000;

export const title = () => t("add.title");

export function Page() {
  const made = useSignal(null);
  if (!may("devices", "write")) return html`<h1>${title()}</h1><p>${t("add.notAllowed")}</p>`;
  if (!made.value) return html`<h1>${title()}</h1><${Named} done=${(answer) => (made.value = answer)} />`;
  const { device, credential } = made.value;
  return html`
    <h1>${device.id}</h1>
    <${Waiting} id=${device.id} url=${credential.url} />
    <section class="card" aria-labelledby="given"><h2 id="given">${t("add.credential")}</h2><${Given} id=${device.id} credential=${credential} /></section>
    <p><button type="button" class="secondary" onClick=${() => (made.value = null)}>${t("add.another")}</button></p>
  `;
}

function Named({ done }) {
  const id = useSignal("");
  const profile = useSignal("");
  const labels = useSignal("");
  const routes = useSignal("");
  const hours = useSignal("24");
  async function send() {
    const body = { id: id.value.trim(), profile: profile.value.trim(), labels: pairs(labels.value), issue: { ttl_s: Number(hours.value) * HOUR_S } };
    if (routes.value.trim()) body.routes = list(routes.value);
    done(await api.post("/devices", body));
  }
  return html`<${Form} send=${send} action=${t("add.do")} class="card narrow">
    <${Field} label=${t("add.name")} hint=${t("add.nameHint")} bind=${id} required maxlength="64" pattern="[A-Za-z0-9_\\-]+" autocapitalize="none" autocomplete="off" autofocus />
    <${Field} label=${t("add.profile")} hint=${t("add.profileHint")} bind=${profile} maxlength="255" />
    <details>
      <summary>${t("add.more")}</summary>
      <${Field} label=${t("add.labels")} hint=${t("add.labelsHint")} bind=${labels} />
      <${Field} label=${t("add.routes")} hint=${t("add.routesHint")} bind=${routes} />
      <${Field} label=${t("add.hours")} hint=${t("add.hoursHint")} bind=${hours} type="number" min="0.1" max="8784" step="any" required />
    </details>
  </${Form}>`;
}

/** Turns green by itself; says what to look at when it takes long. */
function Waiting({ id, url }) {
  const began = useSignal(Date.now());
  const now = useSignal(Date.now());
  const device = useLoaded((signal) => api.get(`/devices/${encodeURIComponent(id)}`, null, { signal }), [id], { on: ["connection.", "route.joined"], every: LOOK_MS });
  const refused = useLoaded(
    async (signal) => {
      if (!may("connections")) return [];
      const page = await api.get("/connections", { state: "closed", limit: 50 }, { signal });
      // A node that was started anew or a clock that is off must not hide them: a minute is given.
      return page.data.filter((each) => (each.subject === id || !each.subject) && new Date(each.closed_at) > began.value - 60_000).slice(0, 5);
    },
    [id], { on: ["connection.closed"], every: LOOK_MS },
  );
  useEffect(() => {
    const timer = setInterval(() => (now.value = Date.now()), 1_000);
    return () => clearInterval(timer);
  }, []);
  const found = device.value.value;
  if (found?.online) {
    return html`<section class="waiting ok" role="status">
      <p><${Badge} tone="ok">${t("add.online")}</${Badge}> <strong>${t("add.connected", { id })}</strong></p>
      <p><a href=${link("device", [id])}>${t("add.look")}</a></p>
    </section>`;
  }
  const waited = Math.round((now.value - began.value) / 1000);
  const long = waited >= LONG_S;
  const attempts = refused.value.value ?? [];
  return html`<section class="waiting" aria-live="polite">
    <p><${Badge}>${t("add.offline")}</${Badge}> <strong>${t("add.waiting")}</strong></p>
    <${Busy} text=${waited < STEP_S ? t("add.turns") : t("add.waited", { duration: duration(waited - (waited % STEP_S)) })} />
    ${found?.closed && html`<p>${t("add.wasHere", { ago: ago(found.closed.at), why: reasonText(found.closed.reason) })}</p>`}
    ${attempts.length > 0 &&
    html`<p>${t("add.refused")}</p>
      <ul>${attempts.map((each) => html`<li key=${each.id}>${clock(each.closed_at)}, ${each.peer}: <strong>${reasonText(each.reason)}</strong> ${each.text && html`<q>${each.text}</q>`} <small>${reasonAdvice(each.reason)}</small></li>`)}</ul>`}
    ${long &&
    html`<p>${t("add.long")}</p>
      <ul>
        <li>${t("add.checkUrl")} <code>${url}</code></li>
        ${!attempts.length && html`<li>${t("add.checkNothing")}</li>`}
        <li>${t("add.checkTls")}</li>
        <li>${t("add.checkClock")}</li>
      </ul>`}
  </section>`;
}
