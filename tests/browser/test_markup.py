"""What devices are called is written, never run: names come from whoever registers them."""

from __future__ import annotations

from tests.browser.conftest import Seats
from tests.browser.town import MARKUP
from tests.browser.visitor import show


async def test_markup_is_text_wherever_it_shows(seats: Seats) -> None:
    page = await seats("ada")
    shown = 0
    for address in ("/device/spare", "/devices", "/api-keys"):
        await show(page, address)
        shown += MARKUP in await page.locator("main").inner_text()
        assert await page.evaluate("() => window.ran ?? null") is None, address
        assert await page.locator("main img[src=x]").count() == 0, address
    assert shown >= 2
