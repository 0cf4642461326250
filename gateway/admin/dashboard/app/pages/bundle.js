// One bundle: what is in it, what another says in another way, and what can be done with it.
import { api } from "../api.js";
import { ActionButton, Busy, Facts, Field, ProblemBox, confirmed, toast } from "../form.js";
import { when } from "../format.js";
import { html, useSignal } from "../lib.js";
import { useLoaded } from "../loading.js";
import { may } from "../login.js";
import { go, link, setQuery } from "../router.js";
import { Lines } from "../diff.js";
import { t } from "../words.js";
import { StateBadge } from "./bundles.js";

const shown = (value) => (value === null ? "" : JSON.stringify(value, null, 2));

export function Bundle({ version, to }) {
  const bundle = useLoaded((signal) => api.get(`/bundles/${version}`, null, { signal }), [version], { on: ["bundle."] });
  const found = bundle.value.value;
  return html`
    <p><a href=${link("documents", [], { tab: "bundles" })}>${t("documents.tab.bundles")}</a></p>
    <h1>${t("documents.bundle", { n: version })}</h1>
    <${ProblemBox} problem=${bundle.problem.value} />
    ${!found && !bundle.problem.value && html`<${Busy} />`}
    ${found &&
    html`
      <p role="status"><${StateBadge} state=${found.state} /> ${found.reason}</p>
      <${Doing} of=${found} again=${bundle.reload} />
      <${Facts}
        rows=${[
          [t("documents.made"), `${when(found.made_at)} ${found.made_by}`],
          [t("documents.comment"), found.comment || undefined],
          [t("documents.labels"), found.labels.join(" ") || undefined],
          [t("documents.share"), `${found.percentage} %`],
          [t("documents.failures"), found.max_failures],
          [t("documents.tab.nodes"), Object.entries(found.nodes).map(([name, n]) => `${name}: ${n}`).join(", ")],
          [t("documents.digest"), html`<code>${found.digest}</code>`],
        ]}
      />
      <${Difference} of=${found} to=${to} />
      <h2>${t("documents.title")}</h2>
      ${Object.entries(found.bodies).map(([name, body]) => html`<details key=${name}><summary>${name}</summary><pre tabindex="0"><code>${shown(body)}</code></pre></details>`)}
    `}
  `;
}

function Doing({ of, again }) {
  const share = useSignal(String(of.percentage));
  const tell = (what, body) => async () => {
    const name = { n: of.version };
    if ((what === "abort" || what === "rollback") && !(await confirmed(what === "abort" ? t("documents.abortAsk", name) : t("documents.rollbackAsk", name)))) return;
    const done = await api.post(`/bundles/${of.version}/${what}`, body);
    if (what === "rollback") {
      toast(t("documents.published", { n: done.version }));
      go("documents", ["bundle", done.version]);
    } else again();
  };
  const spread = async () => {
    await api.patch(`/bundles/${of.version}`, { percentage: Number(share.value) }, { headers: { "if-match": `"${of.revision}"` } });
    again();
  };
  const [operates, writes] = [may("policy", "operate"), may("policy", "write")];
  return html`<div class="bar">
    ${operates && of.state === "running" && html`<${ActionButton} class="secondary" act=${tell("pause")}>${t("documents.pause")}</${ActionButton}>`}
    ${operates && of.state === "paused" && html`<${ActionButton} class="secondary" act=${tell("resume", { retry: true })}>${t("documents.resume")}</${ActionButton}>`}
    ${operates && of.state !== "aborted" && html`<${ActionButton} class="secondary" act=${tell("abort")}>${t("documents.abort")}</${ActionButton}>`}
    ${writes && html`<${ActionButton} class="secondary" act=${tell("rollback")}>${t("documents.rollback")}</${ActionButton}>`}
    ${writes && of.state === "running" && of.percentage < 100 &&
    html`<${Field} label=${t("documents.share")} type="number" min="0" max="100" bind=${share} /><${ActionButton} class="secondary" act=${spread}>${t("documents.spread")}</${ActionButton}>`}
  </div>`;
}

function Difference({ of, to }) {
  const difference = useLoaded((signal) => (to ? api.get(`/bundles/${of.version}/diff`, { to }, { signal }) : null), [of.version, to]);
  return html`
    <h2>${t("documents.compare")}</h2>
    <div class="bar"><${Field} label=${t("documents.version")} type="number" min="1" value=${to ?? ""} onInput=${(event) => setQuery({ to: event.currentTarget.value })} /></div>
    <${ProblemBox} problem=${difference.problem.value} />
    ${difference.value.value &&
    (difference.value.value.changes.length === 0
      ? html`<p>${t("documents.same")}</p>`
      : difference.value.value.changes.map((each) => html`<section key=${each.document}><h3>${each.document}</h3><${Lines} before=${shown(each.before)} after=${shown(each.after)} label=${each.document} /></section>`))}
  `;
}
