"""Somebody who looks at the dashboard, and what goes wrong meanwhile: nothing may.

A page in Chromium reports what its console says, exceptions that nobody caught, requests that fail or are refused, and
what its policy of content forbids. `Watch.troubles` has them; the fixture `visit` fails a test that ends with any.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Response

HERE = Path(__file__).parent
AXE = HERE / "node_modules" / "axe-core" / "axe.min.js"
PAGES = HERE.parents[1] / "gateway" / "admin" / "dashboard" / "app" / "pages.js"
WIDE, NARROW = (1440, 900), (360, 740)
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
#: Tests share two cores with others.
PATIENCE_MS = 30_000
#: The rules that say whether people can use a page; what only could be better is no finding.
SERIOUS = ("serious", "critical")
_ONE = re.compile(r"""\{ path: "(?P<path>[^"]+)", section: (?:"(?P<section>[^"]+)"|null),(?P<more>.*)\}""")
_SAMPLE = re.compile(r"""sample: (\[[^\]]*\])""")
_WATCHING = """
addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI, sample }) => {
  console.error(`policy of content: ${violatedDirective} forbids ${blockedURI || "inline"} ${sample}`);
});
// Colours on their way from one to another can be read by nobody.
const still = new CSSStyleSheet();
still.replaceSync("*, ::before, ::after { transition: none !important; animation: none !important; }");
addEventListener("DOMContentLoaded", () => { document.adoptedStyleSheets = [...document.adoptedStyleSheets, still]; });
window.asking = 0;
const fetches = window.fetch;
window.fetch = (...about) => {
  const streams = String(about[0]?.url ?? about[0]).includes("/stream/");
  if (streams) return fetches(...about);
  window.asking++;
  return fetches(...about).finally(() => setTimeout(() => window.asking--));
};
"""
_SETTLED = """() => {
  const busy = document.querySelector('main [aria-busy="true"], #app > .starting');
  return Boolean(document.querySelector("h1")) && !busy && window.asking === 0;
}"""


@dataclass(frozen=True)
class Registered:
    """A page of the dashboard, as `pages.js` has it. `address` is what follows the `#`."""

    path: str
    section: str | None
    sample: list[str]

    @property
    def address(self) -> str:
        return "/".join(("", self.path, *self.sample))

    def __str__(self) -> str:
        return self.path


def registered() -> list[Registered]:
    """All pages, in the order of the navigation."""
    found = []
    for match in map(_ONE.search, PAGES.read_text().splitlines()):
        if match:
            sample = _SAMPLE.search(match["more"])
            found.append(Registered(match["path"], match["section"], json.loads(sample[1]) if sample else []))
    return found


class Watch:
    """`troubles`: what has gone wrong on any page of a context. What `allow` names, by a part of its text, may."""

    def __init__(self) -> None:
        self.troubles: list[str] = []
        self._allowed: list[str] = []

    def allow(self, *parts: str) -> None:
        self._allowed.extend(parts)

    def on(self, context: BrowserContext) -> None:
        context.on("console", self._said)
        context.on("weberror", lambda error: self._note(f"exception: {error.error}"))
        context.on("requestfailed", self._failed)
        context.on("response", self._answered)

    def left(self) -> list[str]:
        return [each for each in self.troubles if not any(part in each for part in self._allowed)]

    def _note(self, text: str) -> None:
        self.troubles.append(text)

    def _said(self, message: ConsoleMessage) -> None:
        # What Chromium says of an answer is noted with the answer.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self._note(f"console: {message.text}")

    def _failed(self, request: Request) -> None:
        # Whoever leaves a page gives up what it asks.
        if request.failure != "net::ERR_ABORTED":
            self._note(f"no answer: {request.method} {request.url}: {request.failure}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self._note(f"{response.status}: {response.request.method} {response.url}")


class Visitor:
    """One Chromium and who sits at it. A page is of somebody who is logged in at a node."""

    def __init__(self, browser: Browser, password: str) -> None:
        self.browser = browser
        self._password = password
        #: What a browser keeps of a login, by node and user: logging in by hand takes a second each.
        self._kept: dict[tuple[str, str], Any] = {}

    async def context(self, watch: Watch, *, theme: Any = "light", size: tuple[int, int] = WIDE, **more: Any) -> Any:
        """A browser of its own: nothing is shared with another but the process."""
        context = await self.browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme=theme,
            reduced_motion="reduce",
            locale="en-GB",
            timezone_id="UTC",
            **more,
        )
        context.set_default_timeout(PATIENCE_MS)
        await context.add_init_script(_WATCHING)
        watch.on(context)
        return context

    async def log_in(self, page: Page, url: str, user: str) -> None:
        """By the page, as people do."""
        await page.goto(url)
        await page.get_by_label("Name").fill(user)
        await page.get_by_label("Password").fill(self._password)
        await page.get_by_role("button", name="Log in").click()
        await page.locator("#navigation").wait_for(state="attached")


async def show(page: Page, address: str) -> None:
    """Go to a page of the dashboard as its links do, and wait until it is there."""
    await page.evaluate("(address) => { location.hash = address; }", f"#{address}")
    await settled(page)


async def settled(page: Page) -> None:
    """Until a page is drawn and nothing is asked any more."""
    await page.wait_for_function(_SETTLED)
    # What was answered last is drawn with the next frame.
    await page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    await page.wait_for_function(_SETTLED)


async def too_wide(page: Page) -> list[str]:
    """What is wider than the window, where the document scrolls sideways."""
    found: list[str] = await page.evaluate(
        """() => {
          const room = document.documentElement.clientWidth;
          if (document.documentElement.scrollWidth <= room) return [];
          return [...document.querySelectorAll("body *")]
            .filter((each) => each.getBoundingClientRect().right > room + 0.5)
            .map((each) => `${each.tagName.toLowerCase()}.${each.className} ${each.textContent.trim().slice(0, 30)}`)
            .slice(0, 8);
        }"""
    )
    return found


async def findings(page: Page, *, only: str = "", but: str = "") -> list[str]:
    """What axe finds, serious or critical: by all its rules, by one alone, or by all but one."""
    if not await page.evaluate("() => 'axe' in window"):
        # From the driver, which the policy of content of the page does not meet.
        await page.evaluate(AXE.read_text())
    options: dict[str, Any] = {"resultTypes": ["violations"], "rules": {but: {"enabled": False}} if but else {}}
    if only:
        options["runOnly"] = {"type": "rule", "values": [only]}
    violations = await page.evaluate(
        "async (options) => (await axe.run(document, options)).violations.map(({ id, impact, nodes }) => "
        "({ id, impact, nodes: nodes.slice(0, 3).map((node) => node.html.slice(0, 160)) }))",
        options,
    )
    return [f"{each['id']}: {each['nodes']}" for each in violations if each["impact"] in SERIOUS]
