// Registering many devices from a file: looked through first, then done.
import { api } from "../api.js";
import { Dialog, Field, ProblemBox, toast } from "../form.js";
import { html, useSignal } from "../lib.js";
import { SimpleTable } from "../table.js";
import { t } from "../words.js";

/** A dialog; its texts are those of the devices page. `done()` when devices have been registered. */
export function Import({ close, done }) {
  const text = useSignal("");
  const result = useSignal(null);
  const problem = useSignal(null);
  const busy = useSignal(false);
  async function send(dryRun) {
    busy.value = true;
    problem.value = null;
    const type = text.value.trimStart().startsWith("{") ? "application/x-ndjson" : "text/csv";
    try {
      const found = await api.post("/devices:bulk", text.value, { type, params: { dry_run: dryRun || undefined } });
      result.value = { ...found, dryRun };
      if (!dryRun) {
        toast(t("devices.imported", { n: found.created }));
        done();
        if (!found.failed) close();
      }
    } catch (error) {
      problem.value = error;
    } finally {
      busy.value = false;
    }
  }
  async function file(event) {
    const [given] = event.currentTarget.files;
    if (given) text.value = await given.text();
    result.value = null;
  }
  const found = result.value;
  const failures = [
    { key: "row", label: t("devices.row"), number: true },
    { key: "id", label: t("devices.name") },
    { key: "detail", label: t("devices.why") },
  ];
  return html`<${Dialog} title=${t("devices.import")} close=${close} wide>
    <${ProblemBox} problem=${problem.value} />
    <${Field} label=${t("devices.file")} type="file" accept=".csv,.jsonl,.ndjson,text/csv" onChange=${file} />
    <${Field} label=${t("devices.rows")} hint=${t("devices.rowsHint")} as="textarea" rows="6" value=${text.value} onInput=${(event) => ((text.value = event.currentTarget.value), (result.value = null))} />
    ${found && html`<p role="status">${t(found.dryRun ? "devices.wouldImport" : "devices.imported", { n: found.created })} ${found.failed > 0 && t("devices.notImported", { n: found.failed })}</p>`}
    ${found?.failures.length > 0 && html`<${SimpleTable} rows=${found.failures} columns=${failures} caption=${t("devices.failures")} rowKey=${(row) => row.row} />`}
    <footer>
      <button type="button" class="secondary" disabled=${busy.value || !text.value} onClick=${() => send(true)}>${t("devices.try")}</button>
      <button type="button" disabled=${busy.value || !found?.dryRun || !found.created} onClick=${() => send(false)}>${t("devices.doImport", { n: found?.dryRun ? found.created : 0 })}</button>
    </footer>
  </${Dialog}>`;
}
