// One's own account: what it may do, and its password.
import { Facts, toast } from "../form.js";
import { html } from "../lib.js";
import { me } from "../login.js";
import { t, words } from "../words.js";
import WORDS from "../words/account.js";
import { NewPassword } from "./login.js";

words(WORDS);

export const title = () => t("account.title");

export function Page() {
  const who = me.value;
  return html`
    <h1>${title()}</h1>
    <${Facts} rows=${[[t("account.name"), who.id], [t("account.role"), who.role], [t("account.scopes"), who.scopes.join(", ")]]} />
    ${who.type === "user" &&
    html`<section class="card" aria-labelledby="password">
      <h2 id="password">${t("login.change")}</h2>
      <${NewPassword} required=${false} done=${() => toast(t("account.changed"))} />
    </section>`}
  `;
}
