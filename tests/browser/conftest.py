"""One town and one Chromium for all tests in a browser, which run in one process, and in one event loop.

Where tools/install-peers had to leave something out they are not collected, which the end of the run says; with CI=true
they are, and fail.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.browser.town import EDGE, PASSWORD, Town
from tests.browser.visitor import WIDE, Visitor, Watch, settled
from tests.interop.peers import left_out

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Page

HERE = Path(__file__).parent
NEEDED = ("chromium", "playwright-1.65.2", "axe-core-4.14.1")
CHROMIUM = "/usr/bin/chromium"

_missing = {name: why for name, why in left_out().items() if name in NEEDED}
# What they import is not there.
collect_ignore_glob = ["test_*.py"] if _missing and os.environ.get("CI") != "true" else []


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.xdist_group("browser"))
            # Chromium beside a compiler on two cores takes its time.
            item.add_marker(pytest.mark.timeout(400))
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if collect_ignore_glob:
        why = ", ".join(f"{name}: {reason}" for name, reason in _missing.items())
        terminalreporter.write_sep("!", f"the tests in a browser did not run: {why}", red=True)


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    town = Town(tmp_path_factory.mktemp("town"))
    try:
        await town.start()
        yield town
    finally:
        town.end()


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def visitor() -> AsyncIterator[Visitor]:
    from playwright.async_api import async_playwright, expect

    expect.set_options(timeout=30_000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            # Root has no sandbox, and a container little shared memory.
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-extensions"],
        )
        yield Visitor(browser, PASSWORD)
        await browser.close()


class Visit:
    """`await visit("devices")`: a page of the dashboard for somebody who is logged in. `context` is its browser's."""

    def __init__(self, town: Town, visitor: Visitor) -> None:
        self.town = town
        self.visitor = visitor
        self.watch = Watch()
        self.contexts: list[BrowserContext] = []

    def allow(self, *parts: str) -> None:
        """Troubles that have one of these in their text are what the test is about."""
        self.watch.allow(*parts)

    async def context(self, *, theme: str = "light", size: tuple[int, int] = WIDE, **more: Any) -> BrowserContext:
        context: BrowserContext = await self.visitor.context(self.watch, theme=theme, size=size, **more)
        self.contexts.append(context)
        return context

    async def stranger(self, node: str = EDGE, **more: Any) -> Page:
        """A page on which nobody is logged in, at the login."""
        page = await (await self.context(**more)).new_page()
        await page.goto(self.town.admin(node))
        await settled(page)
        return page

    async def __call__(self, address: str = "overview", *, user: str = "ada", node: str = EDGE, **more: Any) -> Page:
        page = await (await self.context(**more)).new_page()
        await self.visitor.log_in(page, f"{self.town.admin(node)}/#/{address.lstrip('/')}", user)
        await settled(page)
        return page

    async def end(self) -> None:
        for context in self.contexts:
            await context.close()


class Seats:
    """`await seats("vera", CENTRAL)`: a page of that person, the same one for all tests that go through many pages."""

    def __init__(self, town: Town, visitor: Visitor) -> None:
        self.town = town
        self.visitor = visitor
        self.watch = Watch()
        self._pages: dict[tuple[str, str], Page] = {}

    async def __call__(self, user: str, node: str = EDGE) -> Page:
        if (user, node) not in self._pages:
            page = await (await self.visitor.context(self.watch)).new_page()
            await self.visitor.log_in(page, self.town.admin(node), user)
            await settled(page)
            self._pages[user, node] = page
        page = self._pages[user, node]
        # Not over whatever is where somebody last clicked.
        await page.mouse.move(0, 0)
        await page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
        await page.emulate_media(color_scheme="light")
        return page

    async def end(self) -> None:
        for page in self._pages.values():
            await page.context.close()


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def all_seats(town: Town, visitor: Visitor) -> AsyncIterator[Seats]:
    seats = Seats(town, visitor)
    yield seats
    await seats.end()


@pytest_asyncio.fixture(loop_scope="session")
async def seats(all_seats: Seats) -> AsyncIterator[Seats]:
    yield all_seats
    troubles = all_seats.watch.left()
    all_seats.watch.troubles.clear()
    assert troubles == []


@pytest_asyncio.fixture(loop_scope="session")
async def visit(town: Town, visitor: Visitor) -> AsyncIterator[Visit]:
    visit = Visit(town, visitor)
    yield visit
    await visit.end()
    assert visit.watch.left() == []
