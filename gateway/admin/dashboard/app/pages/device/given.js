// A credential that was just made: shown once, as a line, as a QR code, and as a program for each platform.
import { api } from "../../api.js";
import { Busy, Copyable, Facts, ProblemBox, Tabs } from "../../form.js";
import { when } from "../../format.js";
import { html, useSignal } from "../../lib.js";
import { useLoaded } from "../../loading.js";
import { t, words } from "../../words.js";
import WORDS from "../../words/given.js";

words(WORDS);

/** The phone page with this credential: at the devices' own port, because a page may connect only where it came from. */
function phonePage(line) {
  const [url, fragment] = [line.slice(0, line.indexOf("#")), line.slice(line.indexOf("#"))];
  const found = /^ws(s?):\/\/([^/]+)/.exec(url);
  return found && `http${found[1]}://${found[2]}/phone/${fragment}`;
}

/** `credential`: what the API answered when it was issued. */
export function Given({ id, credential }) {
  const written = useLoaded((signal) => api.post(`/devices/${encodeURIComponent(id)}/snippets`, { token: credential.token }, { signal }), [credential.token]);
  const platform = useSignal("micropython");
  const found = written.value.value;
  if (!found) return written.problem.value ? html`<${ProblemBox} problem=${written.problem.value} /><${Copyable} text=${credential.token} label=${t("given.token")} />` : html`<${Busy} />`;
  const chosen = found.snippets.find((each) => each.platform === platform.value) ?? found.snippets[0];
  const phone = phonePage(found.line);
  return html`<div class="given">
    <p><strong>${t("given.once")}</strong></p>
    ${found.reach === "this-machine" && html`<p class="note warn" role="note">${t("given.local", { url: found.url })}</p>`}
    ${found.reach === "nobody" && html`<p class="note bad" role="alert">${t("given.nobody")} ${found.note}</p>`}
    <${Facts} rows=${[[t("given.address"), html`<code>${found.url}</code>`], [t("given.expires"), when(credential.expires_at)]]} />
    <h3>${t("given.line")}</h3>
    <${Copyable} text=${found.line} label=${t("given.line")} />
    <div class="grid2">
      ${found.qr_svg && html`<figure class="qr"><img src="data:image/svg+xml,${encodeURIComponent(found.qr_svg)}" alt=${t("given.qr", { id })} /><figcaption>${t("given.scan")}</figcaption></figure>`}
      <div>
        ${phone && html`<p><a role="button" class="secondary" href=${phone} target="_blank" rel="noopener">${t("given.browser")}</a></p><p><small>${t("given.browserHint")}</small></p>`}
      </div>
    </div>
    <h3>${t("given.programs")}</h3>
    <${Tabs} label=${t("given.programs")} chosen=${chosen.platform} choose=${(next) => (platform.value = next)} options=${found.snippets.map((each) => [each.platform, each.title])} />
    <${Copyable} text=${chosen.text} label=${chosen.title} multiline />
  </div>`;
}
