// Why a connection ended, in words, and what to do about it. The keys are those of the node's CloseReason.
import { html } from "./lib.js";
import { t, words } from "./words.js";
import WORDS from "./words/reasons.js";

words(WORDS);

const KNOWN = (reason) => `reason.${reason}` in WORDS;

/** Why, in a few words. A reason that this page does not know is shown as it is. */
export const reasonText = (reason) => (KNOWN(reason) ? t(`reason.${reason}`) : reason);

/** What to do about it; empty where nothing has to be done. */
export const reasonAdvice = (reason) => (KNOWN(reason) ? t(`advice.${reason}`) : "");

/** Why, what the peer was told, and what to do. */
export const Reason = ({ reason, text }) => html`<div class="reason">
  <strong>${reasonText(reason)}</strong> <code>${reason}</code>
  ${text && html`<p>${t("reasons.told", { text })}</p>`}
  ${reasonAdvice(reason) && html`<p>${reasonAdvice(reason)}</p>`}
</div>`;
