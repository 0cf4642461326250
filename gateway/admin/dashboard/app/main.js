// The start: take up a kept login, then show pages to who is logged in and the login to who is not.
import { html, render } from "./lib.js";
import { me, resume } from "./login.js";
import { go, place } from "./router.js";
import { Shell } from "./shell.js";
import "./theme.js";

resume().finally(() => {
  // A link that logs in, in a browser where somebody is logged in already.
  if (me.value && place.value.page === "login") go("overview");
  const root = document.getElementById("app");
  root.replaceChildren();
  render(html`<${Shell} />`, root);
});
