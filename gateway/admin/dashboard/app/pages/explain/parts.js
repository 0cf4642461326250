// What the three questions have in common: sentences, and tags as lines of a text field.
import { Badge } from "../../form.js";
import { html } from "../../lib.js";
import { t } from "../../words.js";

/** A list of sentences: [tone, text]; the tone's word comes first, so that it is no matter of colour. */
export const Sentences = ({ all }) => html`<ul class="sentences">
  ${all.filter(Boolean).map(([tone, text], index) => html`<li key=${index}><${Badge} tone=${tone}>${t(`explain.tone.${tone}`)}</${Badge}> <span>${text}</span></li>`)}
</ul>`;

/** {key: value} of lines `key=value`. */
export function tagsOf(text) {
  const lines = (text ?? "").split(/[\n,]+/).map((line) => line.trim()).filter(Boolean);
  return Object.fromEntries(lines.map((line) => [line.split("=")[0], line.split("=").slice(1).join("=")]));
}

export const INTERACTIONS = ["requestResponse", "fireAndForget", "requestStream", "requestChannel"];
