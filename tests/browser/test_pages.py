"""Every page that the dashboard registers: readable, usable by keyboard, fitting, without an error, for everybody.

A page that is added to `app/pages.js` is tested by that alone. Pictures of each go to `.screenshots/`.
"""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Seats, Visit
from tests.browser.town import CENTRAL, Town
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
CONTRAST = "color-contrast"
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


def address(town: Town, of: Registered) -> str:
    """A page of one thing is looked at with something that is there, which its line of the registry may not know."""
    if of.path in town.numbers:
        return f"/{of.path}/{town.numbers[of.path]}"
    return of.address


async def one_heading(page: Page) -> str:
    heading = page.locator("h1:visible")
    await expect(heading).to_have_count(1)
    return await heading.inner_text()


@EACH
async def test_a_page_is_readable_and_fits(seats: Seats, town: Town, of: Registered) -> None:
    """At both widths and in both themes."""
    page = await seats("ada")
    await show(page, address(town, of))
    assert await one_heading(page)
    for width, height in (WIDE, NARROW):
        await page.set_viewport_size({"width": width, "height": height})
        for theme in THEMES:
            await page.emulate_media(color_scheme=theme)
            await settled(page)
            await page.screenshot(path=SCREENSHOTS / f"{of.path}-{width}-{theme}.png")
            # Colours are the same at either width, and take axe longest; in the dark they alone are other ones.
            if (width, height) == NARROW:
                assert theme == "dark" or await findings(page, but=CONTRAST) == []
            else:
                assert await findings(page, only=CONTRAST if theme == "dark" else "") == []
        assert await too_wide(page) == [], width
    assert await page.evaluate(GRAPHS_ALONE) == [], "each graph has a table beside it"


@EACH
async def test_a_page_is_used_by_keyboard_and_is_left_and_found_again(seats: Seats, town: Town, of: Registered) -> None:
    """Whatever can be clicked can be reached, and one sees where one is; the browser's own buttons do what they say."""
    page = await seats("ada")
    await show(page, "/account" if of.path == "overview" else "/overview")
    before = await one_heading(page)
    await show(page, address(town, of))
    heading, title = await one_heading(page), await page.title()
    assert heading != before
    await by_keyboard(page)
    await page.reload()
    await settled(page)
    assert await one_heading(page) == heading
    await expect(page).to_have_title(title)
    await page.go_back()
    await settled(page)
    assert await one_heading(page) == before


async def by_keyboard(page: Page) -> None:
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


async def test_who_may_do_less_is_offered_less(seats: Seats) -> None:
    """No page in the navigation is refused, and nothing that it asks."""
    page = await seats("vera")
    links = page.get_by_role("navigation").get_by_role("link")
    offered = {str(await link.get_attribute("href")) for link in await links.all()}
    assert "#/overview" in offered
    assert not {"#/users", "#/api-keys", "#/backups", "#/audit"} & offered
    for of in ALL:
        if f"#/{of.path}" in offered:
            await show(page, of.address)
            assert await one_heading(page)


async def test_a_central_node_shows_what_it_knows(seats: Seats) -> None:
    page = await seats("ada", CENTRAL)
    for of in ALL:
        if of.section in ("now", "mesh"):
            await show(page, of.address)
            assert await one_heading(page)


async def test_the_registry_is_read_as_the_browser_reads_it(visit: Visit) -> None:
    """So that no page is left out by how its line is written."""
    page = await visit()
    found = await page.evaluate("""async () => {
      const main = document.querySelector('script[type="module"]').src;
      const { PAGES } = await import(new URL("pages.js", main));
      return PAGES.map(({ path, section, sample = [] }) => [path, section, sample]);
    }""")
    assert found == [[of.path, of.section, of.sample] for of in ALL]
