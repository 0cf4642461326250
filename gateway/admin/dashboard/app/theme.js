// Dark or light: as the system says, until somebody chooses. Charts ask here for their colours.
import { signal } from "./lib.js";

const KEPT = "gateway.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

/** "system", "dark" or "light": what was chosen. */
export const choice = signal(localStorage.getItem(KEPT) ?? "system");
/** "dark" or "light": what is shown. */
export const theme = signal("light");

export function choose(chosen) {
  choice.value = chosen;
  if (chosen === "system") localStorage.removeItem(KEPT);
  else localStorage.setItem(KEPT, chosen);
  show();
}

function show() {
  theme.value = choice.value === "system" ? (system.matches ? "dark" : "light") : choice.value;
  document.documentElement.dataset.theme = theme.value;
}

system.addEventListener("change", show);
show();

/** The value of a CSS variable of the page. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
