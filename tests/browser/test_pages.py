"""Every page that the dashboard registers: readable, usable by keyboard, fitting, without an error, for everybody.

A page that is added to `app/pages.js` is tested by that alone. Pictures of each go to `.screenshots/`.
"""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Seats, Visit
from tests.browser.town import CENTRAL
from tests.browser.visitor import (
    HERE,
    NARROW,
    THEMES,
    WIDE,
    Registered,
    findings,
    registered,
    settled,
    show,
    too_wide,
)

ALL = registered()
EACH = pytest.mark.parametrize("of", ALL, ids=str)
SCREENSHOTS = HERE / ".screenshots"
#: How many steps of the Tab key are looked at on each page; what comes behind them is of the same kinds.
STEPS = 25
UNREACHABLE = """() => [...document.querySelectorAll(
    "main :is(a, button, input, select, textarea, summary, [role=button], [role=link], [role=tab], [onclick])")]
  .filter((each) => each.checkVisibility() && !each.disabled && each.tabIndex < 0 && each.type !== "hidden"
    && !each.closest("[role=tablist], [role=grid], [role=radiogroup]"))
  .map((each) => each.outerHTML.slice(0, 120))"""
# Of a field for a time Chromium marks the part that has the focus, which no script sees.
FOCUSED = """() => {
  const at = document.activeElement;
  if (!at || at === document.body) return null;
  const style = getComputedStyle(at);
  const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  const seen = outlined || style.boxShadow !== "none" || at.matches("[type=datetime-local], [type=date], [type=time]");
  return { seen, what: at.outerHTML.slice(0, 120) };
}"""
# A graph that is no figure of its own, as the topology, has its tables further down.
GRAPHS_ALONE = """() => [...document.querySelectorAll("main canvas")]
  .filter((each) => each.checkVisibility() && !(each.closest("figure") ?? each.closest("main")).querySelector("table"))
  .map((each) => each.parentElement.outerHTML.slice(0, 120))"""


async def one_heading(page: Page) -> str:
    heading = page.locator("h1:visible")
    await expect(heading).to_have_count(1)
    return await heading.inner_text()


@EACH
async def test_a_page_is_readable_and_fits(seats: Seats, of: Registered) -> None:
    """At both widths and in both themes."""
    page = await seats("ada")
    await show(page, of.address)
    assert await one_heading(page)
    for width, height in (WIDE, NARROW):
        await page.set_viewport_size({"width": width, "height": height})
        for theme in THEMES:
            await page.emulate_media(color_scheme=theme)
            await settled(page)
            picture = SCREENSHOTS / f"{of.path}-{width}-{theme}.png"
            await page.screenshot(path=picture)
            # In the dark the colours alone are other ones.
            rules = () if theme == "light" else ("color-contrast",)
            assert await findings(page, rules) == [], (width, theme)
        assert await too_wide(page) == [], width
    assert await page.evaluate(GRAPHS_ALONE) == [], "each graph has a table beside it"


@EACH
async def test_a_page_is_used_by_keyboard(seats: Seats, of: Registered) -> None:
    """Whatever can be clicked can be reached, and one sees where one is."""
    page = await seats("ada")
    await show(page, of.address)
    assert await page.evaluate(UNREACHABLE) == []
    await page.locator("h1").first.focus()
    seen = 0
    for _ in range(STEPS):
        await page.keyboard.press("Tab")
        at = await page.evaluate(FOCUSED)
        if at is None:
            break
        assert at["seen"], f"no sign of the focus: {at['what']}"
        seen += 1
    links = await page.locator("main :is(a, button, input, select, summary):visible:enabled").count()
    assert seen >= min(links, STEPS)


@EACH
async def test_a_page_stays_when_it_is_loaded_again_and_is_left_by_back(seats: Seats, of: Registered) -> None:
    page = await seats("ada")
    await show(page, "/account" if of.path == "overview" else "/overview")
    before = await one_heading(page)
    await show(page, of.address)
    heading, title = await one_heading(page), await page.title()
    assert heading != before
    await page.reload()
    await settled(page)
    assert (await one_heading(page), await page.title()) == (heading, title)
    await page.go_back()
    await settled(page)
    assert await one_heading(page) == before
    await page.go_forward()
    await settled(page)
    assert await one_heading(page) == heading


@pytest.mark.parametrize("who", ["vera", "olga"])
async def test_who_may_do_less_is_offered_less(seats: Seats, who: str) -> None:
    """No page in the navigation is refused, and nothing that it asks."""
    page = await seats(who)
    links = page.get_by_role("navigation").get_by_role("link")
    offered = {str(await link.get_attribute("href")) for link in await links.all()}
    assert "#/overview" in offered
    assert not {"#/users", "#/api-keys", "#/backups", "#/audit"} & offered
    for of in ALL:
        if f"#/{of.path}" in offered:
            await show(page, of.address)
            assert await one_heading(page)


async def test_a_central_node_has_the_same_pages(seats: Seats) -> None:
    page = await seats("ada", CENTRAL)
    for of in ALL:
        if of.address == f"/{of.path}":
            await show(page, of.address)
            assert await one_heading(page)


async def test_the_registry_is_read_as_the_browser_reads_it(visit: Visit) -> None:
    """So that no page is left out by how its line is written."""
    page = await visit()
    found = await page.evaluate("""async () => {
      const main = document.querySelector('script[type="module"]').src;
      const { PAGES } = await import(new URL("pages.js", main));
      return PAGES.map(({ path, scope, sample = "" }) => [path, scope, String(sample)]);
    }""")
    assert [(path, scope) for path, scope, _ in found] == [(of.path, of.scope) for of in ALL]
