// What is around every page: name of the node, navigation, whether the figures are live, who is logged in.
import { api } from "./api.js";
import { ago } from "./format.js";
import { Badge, Busy, Overlays, ProblemBox } from "./form.js";
import { html, signal, useEffect, useErrorBoundary, useRef, useSignal } from "./lib.js";
import { liveness, start, stats, stop } from "./live.js";
import { logOut, may, me } from "./login.js";
import { LoginPage, PasswordPage } from "./pages/login.js";
import { PAGES, SECTIONS, pageOf } from "./pages.js";
import { link, place } from "./router.js";
import { choice, choose } from "./theme.js";
import { t, words } from "./words.js";
import SHELL from "./words/shell.js";

words(SHELL);

/** What /node said last: its name, version, addresses, alarms. */
export const node = signal(null);

export function Shell() {
  if (me.value === undefined) return html`<${Busy} />`;
  if (me.value === null) return html`<${LoginPage} /><${Overlays} />`;
  if (me.value.must_change_password) return html`<${PasswordPage} /><${Overlays} />`;
  return html`<${Frame} />`;
}

function Frame() {
  const open = useSignal(false);
  useEffect(() => {
    if (!may("monitoring")) return undefined;
    start();
    const read = () => api.get("/node").then((found) => (node.value = found), () => {});
    read();
    const timer = setInterval(read, 30_000);
    return () => {
      clearInterval(timer);
      stop();
    };
  }, []);
  useEffect(() => {
    open.value = false;
  }, [place.value.page]);
  return html`
    <a class="skip" href="#main" onClick=${(event) => (event.preventDefault(), document.querySelector("main h1")?.focus())}>${t("shell.skip")}</a>
    <header class="top">
      <button type="button" class="menu secondary" aria-expanded=${open.value ? "true" : "false"} aria-controls="navigation" onClick=${() => (open.value = !open.value)}>${t("shell.menu")}</button>
      <a class="brand" href=${link("overview")}>${node.value?.name ?? t("shell.product")}</a>
      <${Liveness} />
      <${Person} />
    </header>
    <div class="columns">
      <nav id="navigation" class=${open.value ? "open" : ""} aria-label=${t("shell.navigation")}><${Navigation} /></nav>
      <main><${Shown} key=${place.value.page} /></main>
    </div>
    <${Overlays} />
  `;
}

function Navigation() {
  const here = place.value.page;
  return SECTIONS.map((section) => {
    const pages = PAGES.filter((page) => page.section === section && may(page.scope, page.action));
    return (
      pages.length > 0 &&
      html`<section key=${section}>
        <h2 id="section-${section}">${t(`section.${section}`)}</h2>
        <ul aria-labelledby="section-${section}">
          ${pages.map(({ path }) => html`<li key=${path}><a href=${link(path)} aria-current=${path === here ? "page" : null}>${t(`page.${path}`)}</a></li>`)}
        </ul>
      </section>`
    );
  });
}

function Liveness() {
  const state = liveness.value;
  const tone = { live: "ok", polling: "warn", off: "bad" }[state];
  return html`<span class="liveness" role="status" title=${t(`shell.${state}Hint`)}>
    <${Badge} tone=${tone}>${t(`shell.${state}`)}</${Badge}>
    ${state === "off" && stats.value && html`<small>${t("shell.lastSeen", { ago: ago(stats.value.at) })}</small>`}
  </span>`;
}

function Person() {
  return html`<details class="person">
    <summary>${me.value.id}</summary>
    <div>
      <p>${t("shell.role", { role: me.value.role })}</p>
      <p><a href=${link("account")}>${t("shell.account")}</a></p>
      <label for="theme">${t("shell.theme")}</label>
      <select id="theme" value=${choice.value} onChange=${(event) => choose(event.currentTarget.value)}>
        ${["system", "light", "dark"].map((each) => html`<option key=${each} value=${each} selected=${each === choice.value}>${t(`shell.${each}`)}</option>`)}
      </select>
      <button type="button" class="secondary" onClick=${logOut}>${t("shell.logOut")}</button>
    </div>
  </details>`;
}

/** The page of the address: its module is loaded when it is first shown. */
function Shown() {
  const { page: path, parts, query } = place.value;
  const page = pageOf(path);
  const module = useSignal(null);
  const problem = useSignal(null);
  const [broken, again] = useErrorBoundary((error) => console.error(error));
  const focus = useRef(null);
  useEffect(() => {
    page?.load().then(
      (found) => (module.value = found),
      (error) => (problem.value = error),
    );
  }, []);
  const shown = module.value;
  const name = node.value?.name ?? t("shell.product");
  useEffect(() => {
    if (shown) document.title = `${shown.title()} · ${name}`;
  }, [shown, name]);
  useEffect(() => {
    if (!shown) return;
    // Whoever came by the keyboard or listens starts at the page, not at the navigation; the first page is left alone.
    const heading = focus.current?.querySelector("h1");
    if (heading) heading.tabIndex = -1;
    if (moved) heading?.focus({ preventScroll: true });
    moved = true;
    scrollTo(0, 0);
  }, [shown]);
  if (!page) return html`<h1 tabindex="-1">${t("shell.noPage")}</h1><p><a href=${link("overview")}>${t("page.overview")}</a></p>`;
  if (!may(page.scope, page.action)) return html`<h1 tabindex="-1">${t("shell.notAllowed")}</h1><p>${t("shell.needsScope", { scope: page.scope })}</p>`;
  if (problem.value) {
    // The node was upgraded while this page was open: its modules have other addresses now.
    return html`<h1 tabindex="-1">${t("shell.changed")}</h1><p><button type="button" onClick=${() => location.reload()}>${t("shell.reload")}</button></p>`;
  }
  if (broken) return html`<h1 tabindex="-1">${t("shell.broken")}</h1><${ProblemBox} problem=${{ title: broken.message }} /><button type="button" onClick=${again}>${t("shell.again")}</button>`;
  if (!shown) return html`<${Busy} />`;
  return html`<div ref=${focus}><${shown.Page} parts=${parts} query=${query} /></div>`;
}

let moved = false;
