// The small parts that pages are made of: fields, dialogs, notes of what went wrong, things to copy.
import { Problem } from "./api.js";
import { html, signal, useEffect, useId, useRef, useSignal } from "./lib.js";
import { t } from "./words.js";

/** A labelled input. `hint` is read with it; `bind`: a signal of its value; the rest goes to the element. */
export function Field({ label, hint, bind, as = "input", children, ...rest }) {
  const id = useId();
  const given = bind ? { value: bind.value, onInput: (event) => (bind.value = event.currentTarget.value) } : {};
  const props = { id, "aria-describedby": hint ? `${id}-hint` : undefined, ...given, ...rest };
  return html`<div class="field">
    <label for=${id}>${label}</label>
    ${as === "textarea" ? html`<textarea ...${props}></textarea>` : as === "select" ? html`<select ...${props}>${children}</select>` : html`<input ...${props} />`}
    ${hint && html`<small id="${id}-hint">${hint}</small>`}
  </div>`;
}

/** One of several: `options` are [value, text] pairs. */
export function Select({ options, bind, value, ...rest }) {
  const chosen = bind ? bind.value : value;
  const change = bind ? { onChange: (event) => (bind.value = event.currentTarget.value) } : {};
  return html`<${Field} as="select" value=${chosen} ...${change} ...${rest}>
    ${options.map(([each, text]) => html`<option key=${each} value=${each} selected=${each === chosen}>${text}</option>`)}
  </${Field}>`;
}

/** On or off. `bind`: a signal of it. */
export function Switch({ label, bind, onChange, ...rest }) {
  const change = (event) => (onChange ? onChange(event.currentTarget.checked) : (bind.value = event.currentTarget.checked));
  return html`<label class="switch">
    <input type="checkbox" role="switch" checked=${bind?.value} onChange=${change} ...${rest} />${label}
  </label>`;
}

/** A modal dialog; `close()` is called when it is dismissed. Focus goes in and comes back (HTML dialog). */
export function Dialog({ title, close, children, wide }) {
  const ref = useRef();
  const id = useId();
  useEffect(() => {
    const before = document.activeElement;
    ref.current.showModal();
    return () => before?.focus?.();
  }, []);
  return html`<dialog ref=${ref} aria-labelledby=${id} onCancel=${(event) => (event.preventDefault(), close())}>
    <article class=${wide ? "wide" : ""}>
      <header><h2 id=${id}>${title}</h2><button type="button" class="close" aria-label=${t("form.close")} onClick=${close}>✕</button></header>
      ${children}
    </article>
  </dialog>`;
}

const question = signal(null);

/** Ask before something that cannot be undone; resolves to whether to go on. `action`: the word on the button. */
export function confirmed(text, action = t("form.confirm")) {
  return new Promise((resolve) => {
    question.value = { text, action, resolve };
  });
}

const notes = signal([]);
let noted = 0;

/** Say something for a few seconds, to a screen reader, too. */
export function toast(text, tone = "ok") {
  const note = { id: (noted += 1), text, tone };
  notes.value = [...notes.value.slice(-3), note];
  setTimeout(() => (notes.value = notes.value.filter((each) => each !== note)), 6_000);
}

/** Where questions and notes appear: once, in the shell. */
export function Overlays() {
  const asked = question.value;
  const answer = (yes) => {
    question.value = null;
    asked.resolve(yes);
  };
  return html`
    ${asked &&
    html`<${Dialog} title=${t("form.sure")} close=${() => answer(false)}>
      <p>${asked.text}</p>
      <footer>
        <button type="button" class="secondary" onClick=${() => answer(false)}>${t("form.cancel")}</button>
        <button type="button" onClick=${() => answer(true)}>${asked.action}</button>
      </footer>
    </${Dialog}>`}
    <div class="toasts" role="status">${notes.value.map((note) => html`<p key=${note.id} class=${note.tone}>${note.text}</p>`)}</div>
  `;
}

/** What a Problem says: title, what to do, which field. Nothing where there is none. */
export function ProblemBox({ problem }) {
  if (!problem) return null;
  const known = problem instanceof Problem ? problem : new Problem(problem.status ?? 0, problem);
  const title = known.slug === "network" ? t("form.unreachable") : known.title || t("form.failed");
  return html`<div class="problem" role="alert">
    <strong>${title}</strong>
    ${known.detail && known.detail !== title && html`<p>${known.detail}</p>`}
    ${known.errors.length > 0 &&
    html`<ul>${known.errors.map((each) => html`<li key=${each.pointer + each.detail}><code>${each.pointer}</code> ${each.detail}${each.fix ? html` – ${each.fix}` : ""}</li>`)}</ul>`}
    ${known.traceId && html`<small>${t("form.trace", { id: known.traceId })}</small>`}
  </div>`;
}

/** Text with a button that copies it. `multiline` for programs. */
export function Copyable({ text, label, multiline = false }) {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      toast(t("form.copied"));
    } catch {
      // Only a secure context has a clipboard; the text can be selected.
      toast(t("form.notCopied"), "bad");
    }
  };
  return html`<div class=${multiline ? "copyable block" : "copyable"}>
    ${multiline ? html`<pre tabindex="0" aria-label=${label}><code>${text}</code></pre>` : html`<code>${text}</code>`}
    <button type="button" class="small secondary" onClick=${copy} aria-label=${label ? `${t("form.copy")}: ${label}` : null}>${t("form.copy")}</button>
  </div>`;
}

/** A state in a word: `tone` is ok, warn, bad or quiet. The word says it; the colour repeats it. */
export const Badge = ({ tone = "quiet", children }) => html`<span class="badge ${tone}">${children}</span>`;

/** What is shown while something loads. */
export const Busy = ({ text = t("form.loading") }) => html`<p class="busy" aria-busy="true" role="status">${text}</p>`;

/** What is shown where there is nothing, with what to do about it. */
export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;

/** Key and value pairs: `rows` are [label, value]; those whose value is undefined are left out. */
export const Facts = ({ rows }) => html`<dl class="facts">
  ${rows.filter(([, value]) => value !== undefined).map(([label, value]) => html`<div key=${label}><dt>${label}</dt><dd>${value}</dd></div>`)}
</dl>`;

/** Buttons of which one is chosen; `chosen` and `choose(value)`; `options` are [value, text]. */
export const Tabs = ({ label, options, chosen, choose }) => html`<nav class="tabs" aria-label=${label}>
  ${options.map(([value, text]) => html`<button key=${value} type="button" aria-current=${value === chosen ? "true" : null} onClick=${() => choose(value)}>${text}</button>`)}
</nav>`;

/** A form with its fields as children. `send()` does what it is for; what that rejects with is shown above the fields,
 * and meanwhile it is not sent again. `action`: the word on its button. The rest goes to the element. */
export function Form({ send, action, children, ...rest }) {
  const problem = useSignal(null);
  const busy = useSignal(false);
  async function submit(event) {
    event.preventDefault();
    if (busy.value) return;
    busy.value = true;
    problem.value = null;
    try {
      await send();
    } catch (error) {
      problem.value = error;
    } finally {
      busy.value = false;
    }
  }
  return html`<form onSubmit=${submit} ...${rest}>
    <${ProblemBox} problem=${problem.value} />
    ${children}
    <footer><button type="submit" aria-busy=${busy.value ? "true" : null} disabled=${busy.value}>${action}</button></footer>
  </form>`;
}

/** A button that does something that may fail: busy meanwhile, and a note of how it went. `done`: the note. */
export function ActionButton({ act, done, children, ...rest }) {
  const busy = useSignal(false);
  const run = async () => {
    busy.value = true;
    try {
      const result = await act();
      if (done && result !== false) toast(typeof done === "function" ? done(result) : done);
    } catch (error) {
      toast(error.message, "bad");
    } finally {
      busy.value = false;
    }
  };
  return html`<button type="button" aria-busy=${busy.value ? "true" : null} disabled=${busy.value} onClick=${run} ...${rest}>${children}</button>`;
}
