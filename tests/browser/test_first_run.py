"""As a new user does it: `make run`, the link that it prints, and a first device of one's own that turns green."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from playwright.async_api import expect

from bench.local_nats import free_ports
from tests.browser.conftest import Visit
from tests.browser.visitor import NARROW, settled


@pytest_asyncio.fixture(loop_scope="session")
async def link(tmp_path: Path) -> AsyncIterator[str]:
    """What `gateway demo` prints for the browser, in a directory that nobody has used before."""
    addresses = (f"127.0.0.1:{port}" for port in free_ports(4))
    listeners = ("LISTEN__WEBSOCKET", "LISTEN__TCP", "ADMIN__LISTEN", "TELEMETRY__LISTEN")
    ports = {f"GATEWAY__{name}": address for name, address in zip(listeners, addresses, strict=True)}
    demo = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", "demo", "--devices", "1", "--data", str(tmp_path / "data")),
        env={**os.environ, **ports},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert demo.stdout is not None
        async with asyncio.timeout(100):
            while "/#/login?code=" not in (line := (await demo.stdout.readline()).decode()):
                assert line, "it ended before it was up"
        yield line.strip()
    finally:
        demo.send_signal(signal.SIGINT)
        await demo.communicate()


async def test_from_the_first_run_to_a_green_device_without_a_terminal(link: str, visit: Visit) -> None:
    page = await (await visit.context()).new_page()
    await page.goto(link)
    await settled(page)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    await page.get_by_role("navigation").get_by_role("link", name="Add a device").click()
    await page.get_by_label("Name").fill("my-phone")
    await page.get_by_role("button", name="Register").click()
    await expect(page.get_by_text("Waiting for the first connection")).to_be_visible()
    address = await page.locator('a[href*="/phone/#"]').get_attribute("href")
    assert address is not None
    phone = await (await visit.context(size=NARROW)).new_page()
    await phone.goto(address)
    # Neither page was loaded again.
    await expect(page.get_by_text("my-phone is connected.")).to_be_visible()
    await expect(phone.locator("#joined")).to_be_visible()
    await page.get_by_role("link", name="Look at it").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("my-phone")
    await expect(page.locator("main").get_by_text("online", exact=True).first).to_be_visible()
