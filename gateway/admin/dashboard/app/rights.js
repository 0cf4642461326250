// What a user or a key may do: a role says how much, scopes say of what. Both pages have the same fields.
import { api } from "./api.js";
import { Badge, Dialog, ProblemBox, Select } from "./form.js";
import { html, useSignal } from "./lib.js";
import { useLoaded } from "./loading.js";
import { t, words } from "./words.js";
import WORDS from "./words/rights.js";

words(WORDS);

/** Fields of role and scopes. `role`: a signal of its name; `scopes`: of a Set. `forKey`: without what is for people. */
export function Rights({ role, scopes, forKey = false }) {
  const known = useLoaded((signal) => api.get("/auth/scopes", null, { signal }));
  const all = known.value.value?.scopes.filter((scope) => !(forKey && scope.login_only)) ?? [];
  const roles = Object.keys(known.value.value?.roles ?? {}).sort();
  const tick = (name, on) => {
    const chosen = new Set(scopes.value);
    if (on) chosen.add(name);
    else chosen.delete(name);
    scopes.value = chosen;
  };
  return html`
    <${ProblemBox} problem=${known.problem.value} />
    <${Select} label=${t("rights.role")} bind=${role} options=${roles.map((each) => [each, each])} hint=${t(`rights.role.${role.value}`)} />
    <fieldset class="ticks">
      <legend>${t("rights.scopes")}</legend>
      <button type="button" class="small secondary" onClick=${() => (scopes.value = new Set(all.map((scope) => scope.name)))}>${t("rights.all")}</button>
      ${all.map(
        ({ name }) => html`<label key=${name}><input type="checkbox" checked=${scopes.value.has(name)} onChange=${(event) => tick(name, event.currentTarget.checked)} />${name}</label>`,
      )}
    </fieldset>
  `;
}

/** How rights are written in a table. */
export const Scopes = ({ of }) => (of.length ? of.join(", ") : html`<${Badge} tone="warn">${t("rights.none")}</${Badge}>`);

/** A dialog with rights and other fields. `save({role, scopes})` may reject with a Problem, which is shown. */
export function RightsDialog({ title, was, forKey, save, close, action, children }) {
  const role = useSignal(was?.role ?? "viewer");
  const scopes = useSignal(new Set(was?.scopes ?? ["monitoring"]));
  const problem = useSignal(null);
  const busy = useSignal(false);
  const submit = async (event) => {
    event.preventDefault();
    busy.value = true;
    try {
      await save({ role: role.value, scopes: [...scopes.value] });
    } catch (error) {
      problem.value = error;
    } finally {
      busy.value = false;
    }
  };
  return html`<${Dialog} title=${title} close=${close}>
    <form onSubmit=${submit}>
      <${ProblemBox} problem=${problem.value} />
      ${children}
      <${Rights} role=${role} scopes=${scopes} forKey=${forKey} />
      <footer>
        <button type="button" class="secondary" onClick=${close}>${t("form.cancel")}</button>
        <button type="submit" aria-busy=${busy.value ? "true" : null} disabled=${busy.value}>${action}</button>
      </footer>
    </form>
  </${Dialog}>`;
}
