"""What the dashboard does while its streams, or the node itself, are away."""

from __future__ import annotations

import asyncio

from playwright.async_api import Page, Route, expect

from tests.browser.conftest import Visit
from tests.browser.town import CENTRAL, Town
from tests.browser.visitor import settled


async def liveness(page: Page, word: str) -> None:
    await expect(page.locator(".liveness")).to_contain_text(word)


async def test_without_streams_it_asks_and_with_them_it_is_live_again(visit: Visit) -> None:
    visit.allow("ERR_FAILED")
    context = await visit.context()

    async def cut(route: Route) -> None:
        await route.abort()

    await context.route("**/api/v1/stream/*", cut)
    page = await context.new_page()
    async with page.expect_response("**/api/v1/node/stats"):
        await visit.visitor.log_in(page, visit.town.admin(), "ada")
    await liveness(page, "every 5 s")
    await context.unroute("**/api/v1/stream/*")
    await liveness(page, "live")


async def test_tabs_of_a_browser_share_their_streams(visit: Visit) -> None:
    page = await visit()
    asked: list[str] = []
    page.context.on("request", lambda request: asked.append(request.url) if "/stream/" in request.url else None)
    await liveness(page, "live")
    asked.clear()
    other = await page.context.new_page()
    await other.goto(visit.town.admin())
    await liveness(other, "live")
    assert asked == []
    # Whoever is left goes on.
    await page.close()
    async with asyncio.timeout(30):
        while not asked:
            await other.wait_for_timeout(50)
    await liveness(other, "live")


async def test_a_node_that_starts_again_is_found_again(visit: Visit, town: Town) -> None:
    visit.allow("no answer:", "ERR_", "502", "503")
    page = await visit("events", node=CENTRAL)
    await liveness(page, "live")
    town.nodes.kill(CENTRAL)
    await liveness(page, "no answer")
    await asyncio.to_thread(town.nodes.start, CENTRAL)
    await liveness(page, "live")
    await page.reload()
    await settled(page)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Events")
