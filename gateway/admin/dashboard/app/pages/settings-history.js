// The changes of settings that were made here, what each was, and the way back.
import { api } from "../api.js";
import { Lines } from "../diff.js";
import { ActionButton, Dialog, ProblemBox, confirmed, toast } from "../form.js";
import { when } from "../format.js";
import { html, useSignal } from "../lib.js";
import { useLoaded } from "../loading.js";
import { may } from "../login.js";
import { PagedTable } from "../table.js";
import { t } from "../words.js";

export function History({ revision, again }) {
  const shown = useSignal(null);
  const back = async (to) => {
    if (!(await confirmed(t("settings.backAsk", { n: to }), t("settings.back")))) return;
    const done = await api.post(`/config/rollback/${to}`, undefined, { headers: { "if-match": `"${revision}"` } });
    toast(t("settings.backDone", { names: done.changed.join(", ") || "–" }));
    again();
  };
  const columns = [
    { key: "revision", label: t("settings.revision"), number: true },
    { key: "at", label: t("settings.at"), cell: (each) => when(each.at) },
    { key: "by", label: t("settings.by") },
    { key: "comment", label: t("settings.comment") },
    {
      key: "do",
      label: t("settings.change"),
      cell: (each) => html`<span class="actions" role="group" aria-label=${`${t("settings.revision")} ${each.revision}`}>
        <button type="button" class="small secondary" onClick=${() => (shown.value = each.revision)}>${t("settings.show")}</button>
        ${each.revision !== revision && may("config", "write") && html`<${ActionButton} class="small secondary" act=${() => back(each.revision)}>${t("settings.back")}</${ActionButton}>`}
      </span>`,
    },
  ];
  return html`
    <p>${t("settings.historyWhat")}</p>
    <${PagedTable} path="/config/history" columns=${columns} caption=${t("settings.history")} rowKey=${(each) => each.revision} version=${revision} empty=${t("settings.noHistory")} />
    ${shown.value && html`<${Revision} number=${shown.value} latest=${revision} close=${() => (shown.value = null)} />`}
  `;
}

function Revision({ number, latest, close }) {
  const texts = useLoaded(
    (signal) => Promise.all([number, latest].map((each) => api.get(`/config/history/${each}`, null, { signal }))),
    [number, latest],
  );
  const [then, now] = texts.value.value ?? [];
  return html`<${Dialog} title=${`${t("settings.revision")} ${number}`} wide close=${close}>
    <${ProblemBox} problem=${texts.problem.value} />
    ${then && number === latest && html`<pre tabindex="0"><code>${then.text}</code></pre>`}
    ${then && number !== latest && html`<p>${t("settings.sinceThen")}</p><${Lines} before=${then.text} after=${now.text} label=${t("settings.sinceThen")} />`}
  </${Dialog}>`;
}
