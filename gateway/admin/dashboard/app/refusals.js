// Why the node refused something, in words, by the reason that its counters have.
import { t, words } from "./words.js";
import WORDS from "./words/refusals.js";

words(WORDS);

/** In words; a reason that has none here is shown as it is, readably. */
export const refusalText = (reason) => (`refusal.${reason}` in WORDS ? t(`refusal.${reason}`) : reason.replaceAll("_", " "));
