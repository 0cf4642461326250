// Changing one setting: what it would do is said before it is done.
import { api } from "../api.js";
import { Dialog, Field, ProblemBox, Select, toast } from "../form.js";
import { NONE } from "../format.js";
import { html, useSignal } from "../lib.js";
import { t } from "../words.js";

/** A value as text: lists one a line, nothing as a dash. */
export function written(value) {
  if (value === null || value === undefined || value.length === 0) return NONE;
  return Array.isArray(value) ? value.join("\n") : String(value);
}

/** What kind of value a setting has: that of its value, else of its default; of some nothing is known. */
function kindOf(setting) {
  for (const value of [setting.value, setting.default]) {
    if (Array.isArray(value)) return "list";
    if (value !== null && value !== undefined) return typeof value;
  }
  return "unknown";
}

function read(kind, text) {
  if (kind === "boolean") return text === "true";
  if (kind === "number") return Number(text);
  if (kind === "unknown") return text === "" ? null : Number.isFinite(Number(text)) ? Number(text) : text;
  if (kind === "list") return text.split("\n").map((line) => line.trim()).filter(Boolean);
  return text;
}

export function EditSetting({ setting, revision, again, close }) {
  const kind = kindOf(setting);
  const text = useSignal(setting.value === null ? "" : kind === "list" ? setting.value.join("\n") : String(setting.value));
  const problem = useSignal(null);
  const tried = useSignal(null);
  const busy = useSignal(false);

  async function send(value, dry) {
    busy.value = true;
    problem.value = tried.value = null;
    try {
      const options = { params: dry ? { dry_run: 1 } : {}, headers: { "if-match": `"${revision}"` } };
      const done = await api.patch("/config", { [setting.name]: value }, options);
      if (dry) {
        tried.value = done;
        return;
      }
      toast(t("settings.saved", { name: setting.name }));
      again();
      close();
    } catch (error) {
      problem.value = error;
    } finally {
      busy.value = false;
    }
  }
  const submit = (event) => {
    event.preventDefault();
    send(read(kind, text.value), false);
  };
  const field = { label: t("settings.value"), hint: setting.help, bind: text, required: kind === "number" };
  return html`<${Dialog} title=${setting.name} close=${close}>
    <form onSubmit=${submit}>
      <${ProblemBox} problem=${problem.value} />
      ${kind === "boolean"
        ? html`<${Select} ...${field} options=${[["true", t("settings.on")], ["false", t("settings.off")]]} />`
        : kind === "list"
          ? html`<${Field} ...${field} as="textarea" rows="4" />`
          : html`<${Field} ...${field} type=${kind === "number" ? "number" : "text"} step="any" />`}
      <p><small>${t("settings.default", { value: written(setting.default) })}</small></p>
      ${tried.value && html`<p role="status">${tried.value.changed.length ? t("settings.would", { names: tried.value.changed.join(", ") }) : t("settings.wouldNot")}</p>`}
      <footer>
        ${setting.source === "api" && html`<button type="button" class="secondary" disabled=${busy.value} onClick=${() => send(null, false)}>${t("settings.takeBack")}</button>`}
        <button type="button" class="secondary" disabled=${busy.value} onClick=${() => send(read(kind, text.value), true)}>${t("settings.try")}</button>
        <button type="submit" aria-busy=${busy.value ? "true" : null} disabled=${busy.value}>${t("settings.save")}</button>
      </footer>
    </form>
  </${Dialog}>`;
}
