// Getting in: with name and password, or with the one-time code of a link. Then a password of one's own.
import { api } from "../api.js";
import { Field, Form, ProblemBox } from "../form.js";
import { html, useEffect, useSignal } from "../lib.js";
import { logIn, me, whoIsIt } from "../login.js";
import { place } from "../router.js";
import { t } from "../words.js";

export function LoginPage() {
  const name = useSignal("");
  const password = useSignal("");
  const problem = useSignal(null);
  const busy = useSignal(false);
  const code = useSignal(place.peek().query.code ?? "");

  async function enter(credentials) {
    busy.value = true;
    problem.value = null;
    try {
      problem.value = await logIn(credentials);
    } catch (error) {
      problem.value = { status: 0, detail: error.message };
    } finally {
      busy.value = false;
    }
  }
  useEffect(() => {
    document.title = t("login.title");
    if (!code.value) return;
    // The code works once; it does not stay in the address or in the history.
    history.replaceState(null, "", "#/overview");
    const given = code.value;
    enter({ code: given }).then(() => {
      code.value = "";
      if (!problem.value) dispatchEvent(new HashChangeEvent("hashchange"));
      else if (problem.value.status === 401) problem.value = { status: 401, title: t("login.codeUsed") };
    });
  }, []);

  function submit(event) {
    event.preventDefault();
    enter({ name: name.value, password: password.value });
  }
  return html`<main class="entry">
    <h1>${t("login.title")}</h1>
    <${ProblemBox} problem=${problem.value} />
    ${code.value
      ? html`<p aria-busy="true">${t("login.code")}</p>`
      : html`<form onSubmit=${submit}>
          <${Field} label=${t("login.name")} bind=${name} name="username" autocomplete="username" autocapitalize="none" required autofocus />
          <${Field} label=${t("login.password")} bind=${password} type="password" name="password" autocomplete="current-password" required />
          <button type="submit" aria-busy=${busy.value ? "true" : null} disabled=${busy.value}>${t("login.enter")}</button>
          <small>${t("login.where")}</small>
        </form>`}
  </main>`;
}

/** The first password was printed in a log: nothing else can be done before there is another. */
export function PasswordPage() {
  return html`<main class="entry">
    <h1>${t("login.change")}</h1>
    <p>${t("login.changeWhy")}</p>
    <${NewPassword} />
  </main>`;
}

/** A new password for who is logged in. Who came by a link need not know the one so far. */
export function NewPassword({ required = true, done = () => {} }) {
  const before = useSignal("");
  const after = useSignal("");
  async function send() {
    await api.post("/auth/password", { old_password: before.value || undefined, new_password: after.value });
    before.value = after.value = "";
    await whoIsIt();
    done();
  }
  return html`<${Form} send=${send} action=${t("login.save")}>
    <input type="text" name="username" autocomplete="username" value=${me.value.id} readonly hidden />
    <${Field} label=${t("login.old")} hint=${required ? null : t("login.oldHint")} bind=${before} type="password" autocomplete="current-password" required=${required} />
    <${Field} label=${t("login.new")} hint=${t("login.newHint")} bind=${after} type="password" autocomplete="new-password" minlength="10" required />
  </${Form}>`;
}
