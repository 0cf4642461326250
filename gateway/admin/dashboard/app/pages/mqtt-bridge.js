// One bridge: whether it works, what waits, what it was told to leave out; and stopping, starting, testing it.
import { api } from "../api.js";
import { ActionButton, Badge, Busy, Dialog, Facts, ProblemBox } from "../form.js";
import { count, duration, when } from "../format.js";
import { html, useSignal } from "../lib.js";
import { useLoaded } from "../loading.js";
import { may } from "../login.js";
import { link } from "../router.js";
import { SimpleTable } from "../table.js";
import { t } from "../words.js";
import { Mappings, Trial } from "./mqtt.js";

const LOOK_MS = 5_000;
const TONES = { connected: "ok", failed: "bad", waiting: "warn", connecting: "warn" };

export const State = ({ of }) => html`<${Badge} tone=${TONES[of.state] ?? "quiet"}>${t(`mqtt.state.${of.state}`)}</${Badge}> ${of.reason}`;

export function Bridge({ name }) {
  const path = `/mqtt/bridges/${encodeURIComponent(name)}`;
  const status = useLoaded((signal) => api.get(`${path}/status`, null, { signal }), [name], { every: LOOK_MS });
  const queue = useLoaded((signal) => api.get(`${path}/queue`, null, { signal }), [name], { every: LOOK_MS });
  const found = status.value.value;
  return html`
    <p><a href=${link("mqtt")}>${t("mqtt.title")}</a></p>
    <h1>${name}</h1>
    <${ProblemBox} problem=${status.problem.value} />
    ${!found && !status.problem.value && html`<${Busy} />`}
    ${found &&
    html`
      <p role="status"><${State} of=${found} /> ${found.retry_in_s !== null && t("mqtt.retry", { in: duration(found.retry_in_s) })}</p>
      <div class="bar">
        ${may("mqtt", "operate") && html`<${Doing} path=${path} of=${found} again=${status.reload} />`}
        ${may("policy") && html`<a href=${link("documents", ["Bridge", name])}>${t("mqtt.document")}</a>`}
      </div>
      <${Facts}
        rows=${[
          [t("mqtt.address"), html`<code>${found.address}</code>`],
          [t("mqtt.version"), found.version],
          [t("mqtt.client"), html`<code>${found.client_id}</code>`],
          [t("mqtt.service"), html`<code>${found.service}</code>`],
          [t("mqtt.since"), when(found.since)],
          [t("mqtt.session"), found.session_present === null ? undefined : t(found.session_present ? "mqtt.kept" : "mqtt.new")],
          [t("mqtt.age"), duration(found.last_ack_age_s)],
        ]}
      />
      <h2>${t("mqtt.queue")}</h2>
      <${ProblemBox} problem=${queue.problem.value} />
      ${queue.value.value && html`<${Queue} of=${queue.value.value} />`}
      <h2>${t("mqtt.counters")}</h2>
      <${Counters} of=${found.counters} />
      ${found.last_loops.length > 0 && html`<h2>${t("mqtt.loops")}</h2><${Loops} of=${found.last_loops} />`}
    `}
    <h2>${t("mqtt.test")}</h2>
    <${Trial} bridge=${name} />
    <h2>${t("mqtt.mappings")}</h2>
    <${Mappings} bridge=${name} />
  `;
}

function Doing({ path, of, again }) {
  const result = useSignal(null);
  const tell = (what) => async () => {
    await api.post(`${path}/${what}`);
    again();
  };
  const stopped = of.state === "stopped";
  return html`
    ${of.state !== "disabled" &&
    html`<${ActionButton} class="secondary" act=${tell(stopped ? "start" : "stop")}>${t(stopped ? "mqtt.start" : "mqtt.stop")}</${ActionButton}>
      ${!stopped && html`<${ActionButton} class="secondary" act=${tell("restart")}>${t("mqtt.restart")}</${ActionButton}>`}`}
    <${ActionButton} class="secondary" act=${async () => (result.value = await api.post(`${path}/test`))}>${t("mqtt.try")}</${ActionButton}>
    ${result.value && html`<${Tried} of=${result.value} close=${() => (result.value = null)} />`}
  `;
}

function Tried({ of, close }) {
  const said = (value) => (value === null ? undefined : String(value));
  return html`<${Dialog} title=${t("mqtt.try")} close=${close}>
    <p><${Badge} tone=${of.reachable ? "ok" : "bad"}>${t(of.reachable ? "mqtt.reachable" : "mqtt.unreachable")}</${Badge}> ${of.reason}</p>
    <${Facts}
      rows=${[
        [t("mqtt.address"), html`<code>${of.address}</code>`],
        [t("mqtt.tookTime"), duration(of.took_s)],
        [t("mqtt.maxQos"), said(of.maximum_qos)],
        [t("mqtt.retain"), said(of.retain_available)],
        [t("mqtt.receiveMaximum"), said(of.receive_maximum)],
        [t("mqtt.refusedFilters"), of.refused.length ? of.refused.join(", ") : undefined],
      ]}
    />
  </${Dialog}>`;
}

const Queue = ({ of }) => html`<${Facts}
  rows=${[
    [t("mqtt.queued"), count(of.queued)],
    [t("mqtt.inFlightIn"), count(of.in_flight_in)],
    [t("mqtt.inFlightOut"), `${count(of.in_flight_out)}${of.receive_maximum === null ? "" : ` / ${count(of.receive_maximum)}`}`],
    ...Object.entries(of.spools).map(([name, messages]) => [`${t("mqtt.spool")} ${name}`, count(messages)]),
  ]}
/>`;

/** What was counted since the node's start; tables by their parts. */
function Counters({ of }) {
  const rows = Object.entries(of).flatMap(([name, value]) =>
    typeof value === "object" ? Object.entries(value).map(([part, n]) => [t(`mqtt.counter.${name}`), part, n]) : [[t(`mqtt.counter.${name}`), "", value]],
  );
  const columns = [
    { key: "what", label: t("mqtt.what"), cell: ([what]) => what },
    { key: "part", label: t("mqtt.part"), cell: ([, part]) => part },
    { key: "n", label: t("mqtt.number"), number: true, cell: ([, , n]) => count(n) },
  ];
  return html`<${SimpleTable} rows=${rows} columns=${columns} caption=${t("mqtt.counters")} rowKey=${([what, part]) => what + part} />`;
}

function Loops({ of }) {
  const columns = [
    { key: "at", label: t("mqtt.at"), cell: (loop) => when(loop.at) },
    { key: "topic", label: t("mqtt.topic"), cell: (loop) => html`<code>${loop.topic}</code>` },
    { key: "reason", label: t("mqtt.why"), cell: (loop) => t(`mqtt.loop.${loop.reason}`) },
  ];
  return html`<${SimpleTable} rows=${[...of].reverse()} columns=${columns} caption=${t("mqtt.loops")} />`;
}
