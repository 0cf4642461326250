// What was changed: by name, or line by line.
import { html } from "./lib.js";
import { t, words } from "./words.js";
import WORDS from "./words/diff.js";

words(WORDS);

/** Longest texts that are compared; beyond it both are shown whole. */
const MOST_LINES = 1500;

const written = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

/** Changes by name: {name: [old, new]}, as the audit has them; anything else is shown as it is. */
export function Changes({ of }) {
  const rows = Object.entries(of ?? {});
  if (!rows.length) return html`<p>${t("diff.none")}</p>`;
  const pair = (value) => Array.isArray(value) && value.length === 2;
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${t("diff.changes")}>
    <table>
      <caption class="unseen">${t("diff.changes")}</caption>
      <thead><tr><th scope="col">${t("diff.name")}</th><th scope="col">${t("diff.before")}</th><th scope="col">${t("diff.after")}</th></tr></thead>
      <tbody>
        ${rows.map(
          ([name, value]) => html`<tr key=${name}>
            <th scope="row"><code>${name}</code></th>
            <td>${pair(value) && value[0] !== null && html`<del class="line">${written(value[0])}</del>`}</td>
            <td>${pair(value) ? value[1] !== null && html`<ins class="line">${written(value[1])}</ins>` : html`<span class="line">${written(value)}</span>`}</td>
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

/** Two texts, line by line. `label` names the difference. */
export function Lines({ before, after, label }) {
  const lines = compared(before.split("\n"), after.split("\n"));
  const marks = { "+": "ins", "-": "del", " ": "span" };
  return html`<pre class="lines" tabindex="0" role="region" aria-label=${label}><code>${lines.map(
    ([mark, line], index) => html`<${marks[mark]} key=${index}>${mark} ${line}${"\n"}</${marks[mark]}>`,
  )}</code></pre>`;
}

/** [mark, line] of both texts in order: "-" of the first alone, "+" of the second alone, " " of both. */
function compared(first, second) {
  let start = 0;
  while (start < first.length && start < second.length && first[start] === second[start]) start += 1;
  let end = 0;
  while (end < first.length - start && end < second.length - start && first.at(-1 - end) === second.at(-1 - end)) end += 1;
  const [a, b] = [first.slice(start, first.length - end), second.slice(start, second.length - end)];
  const middle =
    Math.max(a.length, b.length) > MOST_LINES
      ? [...a.map((line) => ["-", line]), ...b.map((line) => ["+", line])]
      : longestCommon(a, b);
  const same = (line) => [" ", line];
  return [...first.slice(0, start).map(same), ...middle, ...first.slice(first.length - end).map(same)];
}

function longestCommon(a, b) {
  const width = b.length + 1;
  const lengths = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      lengths[i * width + j] =
        a[i] === b[j] ? lengths[(i + 1) * width + j + 1] + 1 : Math.max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
    }
  }
  const found = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      found.push([" ", a[i]]);
      i += 1;
      j += 1;
    } else if (j >= b.length || (i < a.length && lengths[(i + 1) * width + j] >= lengths[i * width + j + 1])) {
      found.push(["-", a[i]]);
      i += 1;
    } else {
      found.push(["+", b[j]]);
      j += 1;
    }
  }
  return found;
}
