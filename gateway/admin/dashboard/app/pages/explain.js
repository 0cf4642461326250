// Three questions, answered in sentences: where would a request go, why is a device offline, why did a policy say no.
import { Tabs } from "../form.js";
import { html } from "../lib.js";
import { may } from "../login.js";
import { setQuery } from "../router.js";
import { t, words } from "../words.js";
import WORDS from "../words/explain.js";
import { Offline } from "./explain/offline.js";
import { Policy } from "./explain/policy.js";
import { Route } from "./explain/route.js";

words(WORDS);

const QUESTIONS = [
  ["route", "routing", Route],
  ["offline", "devices", Offline],
  ["policy", "policy", Policy],
];

export const title = () => t("explain.title");

export function Page({ query }) {
  const allowed = QUESTIONS.filter(([, scope]) => may(scope));
  const [asked, , Question] = allowed.find(([name]) => name === query.ask) ?? allowed[0] ?? [];
  return html`
    <h1>${title()}</h1>
    <${Tabs} label=${t("explain.questions")} chosen=${asked} choose=${(ask) => setQuery({ ask })} options=${allowed.map(([name]) => [name, t(`explain.ask.${name}`)])} />
    ${Question ? html`<${Question} key=${asked} query=${query} />` : html`<p>${t("explain.noRights")}</p>`}
  `;
}
