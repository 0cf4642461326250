// What the listeners show of themselves, until when, and what a phone or a program must trust for it.
import { api, save } from "../api.js";
import { ActionButton, Badge, Copyable, Facts, ProblemBox, Busy, confirmed } from "../form.js";
import { when } from "../format.js";
import { html } from "../lib.js";
import { useLoaded } from "../loading.js";
import { may } from "../login.js";
import { t, words } from "../words.js";
import WORDS from "../words/certificates.js";

words(WORDS);

export const title = () => t("certificates.title");

/** From so many days on it is time: the node renews its own before. */
const SOON_DAYS = 14;
const LONG_DAYS = 3650;

export function Page() {
  const list = useLoaded((signal) => api.get("/certificates", null, { signal }), [], { on: ["certificate."] });
  const renew = async () => {
    if (!(await confirmed(t("certificates.renewAsk"), t("certificates.renew")))) return false;
    await api.post("/certificates/renew");
    list.reload();
    return true;
  };
  const found = list.value.value?.data;
  return html`
    <h1>${title()}</h1>
    <${ProblemBox} problem=${list.problem.value} />
    ${!found && !list.problem.value && html`<${Busy} />`}
    ${found?.map((each) => html`<${Certificate} key=${each.name} of=${each} renew=${each.name === "listener" && may("system", "write") ? renew : null} />`)}
    <${Trust} />
  `;
}

function Certificate({ of, renew }) {
  const tone = of.days_left <= 0 ? "bad" : of.days_left < SOON_DAYS ? "warn" : "ok";
  const state = of.days_left > LONG_DAYS ? t("certificates.long") : of.days_left <= 0 ? t("certificates.over") : t("certificates.left", { n: Math.floor(of.days_left) });
  return html`<section class="card" aria-labelledby="certificate-${of.name}">
    <header>
      <h2 id="certificate-${of.name}">${t(`certificates.${of.name}`)}</h2>
      <${Badge} tone=${tone}>${state}</${Badge}>
    </header>
    <${Facts}
      rows=${[
        [t("certificates.subject"), of.subject],
        [t("certificates.issuer"), of.issuer],
        [t("certificates.names"), of.names.length ? of.names.join(", ") : undefined],
        [t("certificates.from"), when(of.not_before)],
        [t("certificates.until"), when(of.not_after)],
        [t("certificates.serial"), html`<code>${of.serial}</code>`],
      ]}
    />
    <${Copyable} text=${of.fingerprint_sha256} label=${t("certificates.fingerprint")} />
    ${renew && of.issued_here && html`<${ActionButton} act=${renew} done=${t("certificates.renewed")}>${t("certificates.renew")}</${ActionButton}>`}
    ${of.name === "listener" && !of.issued_here && html`<p>${t("certificates.elsewhere")}</p>`}
  </section>`;
}

function Trust() {
  // Open to everybody, and no part of /api/v1: a phone gets it from the same address.
  const take = async () => {
    const answer = await fetch("/ca.pem");
    if (!answer.ok) throw new Error(t("certificates.noAuthority"));
    save(new Blob([await answer.text()], { type: "application/x-pem-file" }), "gateway-ca.pem");
  };
  return html`<section class="card" aria-labelledby="trust">
    <h2 id="trust">${t("certificates.trust")}</h2>
    <p>${t("certificates.trustWhy")}</p>
    <p><${ActionButton} act=${take}>${t("certificates.download")}</${ActionButton}></p>
    <h3>${t("certificates.android")}</h3>
    <p>${t("certificates.androidHow")}</p>
    <h3>${t("certificates.ios")}</h3>
    <p>${t("certificates.iosHow")}</p>
    <h3>${t("certificates.desktop")}</h3>
    <p>${t("certificates.desktopHow")}</p>
    <h3>${t("certificates.shell")}</h3>
    <${Copyable} multiline text=${`curl -k -o gateway-ca.pem ${location.origin}/ca.pem\nopenssl x509 -in gateway-ca.pem -noout -fingerprint -sha256`} label=${t("certificates.shell")} />
    <p>${t("certificates.compare")}</p>
  </section>`;
}
