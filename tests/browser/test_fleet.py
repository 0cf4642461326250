"""The fleet's pages do what people do with them: a device added until it is green, an offline one explained, edits that
meet, many devices at once, and who may only look."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Page, expect

from tests.browser.conftest import Visit
from tests.browser.town import Town
from tests.browser.visitor import findings


@asynccontextmanager
async def simulated(name: str, line: str) -> AsyncIterator[None]:
    """A thermostat with a credential as a person copied it."""
    command = [sys.executable, "-m", "gateway.cli", "simulate", "--as", name, "--url", line]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def added(page: Page, name: str) -> str:
    """Add a device by the page; gives the line of its credential."""
    await page.get_by_label("Name", exact=True).fill(name)
    await page.get_by_label("Profile").fill("lamp")
    await page.get_by_role("button", name="Register, and make a token").click()
    await expect(page.get_by_text("Waiting for the first connection")).to_be_visible()
    line = await page.locator(".given .copyable code").first.inner_text()
    await expect(page.get_by_role("img", name=f"QR code of the credential of {name}")).to_be_visible()
    return line


async def test_a_device_is_added_until_it_is_green(visit: Visit) -> None:
    """Without a reload; a refusal in between is shown with its reason, and what is offline says why."""
    page = await visit("add-device")
    line = await added(page, "new-lamp")
    await expect(page.get_by_text("is an address that only this machine can reach")).to_be_visible()
    assert await findings(page) == []
    wrong = line.replace("token=", "token=x")
    command = [sys.executable, "-m", "gateway.cli", "request", "--url", wrong, "gateway.time"]
    refused = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    assert await refused.wait() == 1
    await expect(page.get_by_text("Its token was refused").first).to_be_visible()
    async with simulated("new-lamp", line):
        await expect(page.get_by_text("new-lamp is connected.")).to_be_visible()
        await page.get_by_role("link", name="Look at it").click()
        await expect(page.get_by_text("last frame")).to_be_visible()
    await expect(page.locator(".standing").get_by_text("offline", exact=True)).to_be_visible()
    await expect(page.get_by_text("It closed the connection itself")).to_be_visible()


async def test_a_browser_is_the_device(visit: Visit) -> None:
    """The phone page opens with the credential, at the devices' own port, and the page beside turns green."""
    page = await visit("add-device")
    await added(page, "this-browser")
    async with page.context.expect_page() as opened:
        await page.get_by_role("button", name="Use this browser as the device").click()
    await expect(page.get_by_text("this-browser is connected.")).to_be_visible()
    await (await opened.value).close()


async def test_edits_that_meet(visit: Visit, town: Town) -> None:
    """Whoever saves second is shown what the first has changed, and nothing is lost."""
    visit.allow("412:")
    page = await visit("device/thermostat-50")
    await page.get_by_role("button", name="Edit").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Notes").fill("behind the door")
    async with town.api() as api:
        labels = {"floor": "9", "wing": "east"}
        await api.patch("/devices/thermostat-50", json={"labels": labels}, headers={"if-match": "*"})
        await dialog.get_by_role("button", name="Save").click()
        await expect(dialog.get_by_text("Somebody else has changed this")).to_be_visible()
        await expect(dialog.get_by_text("is now floor=9, wing=east")).to_be_visible()
        await dialog.get_by_role("button", name="Keep my changes").click()
        await dialog.get_by_role("button", name="Save").click()
        await expect(dialog).to_be_hidden()
        device = (await api.get("/devices/thermostat-50")).json()
    assert (device["labels"], device["notes"]) == (labels, "behind the door")


async def test_many_devices_at_once(visit: Visit, town: Town) -> None:
    """Imported after a look through, found by filters that stay in the address, chosen, disabled, deleted."""
    page = await visit("devices")
    await page.get_by_role("button", name="Import").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Rows").fill("id,profile\nbulk-1,bulky\nbulk-2,bulky\nno id,bulky\n")
    await dialog.get_by_role("button", name="Look through").click()
    await expect(dialog.get_by_text("2 devices would be registered. 1 row is not good")).to_be_visible()
    await dialog.get_by_role("button", name="Register 2").click()
    await expect(dialog.get_by_text("2 devices registered")).to_be_visible()
    await dialog.get_by_role("button", name="Close").click()
    await page.get_by_label("Profile").fill("bulky")
    await expect(page.get_by_text("2 rows", exact=True)).to_be_visible()
    assert page.url.endswith("#/devices?profile=bulky")
    await page.get_by_role("button", name="Choose all of this list").click()
    await expect(page.get_by_text("2 chosen")).to_be_visible()
    await page.get_by_role("button", name="Disable").click()
    await page.get_by_role("dialog").get_by_role("button", name="Disable").click()
    rows = page.get_by_role("table", name="Devices").get_by_role("row")
    await expect(rows.get_by_text("disabled")).to_have_count(2)
    for name in ("bulk-1", "bulk-2"):
        await page.get_by_label(f"Choose {name}").check()
    await page.get_by_role("button", name="Delete").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(page.get_by_text("No device is like this.")).to_be_visible()
    async with town.api() as api:
        assert (await api.get("/devices", params={"profile": "bulky"})).json()["data"] == []


async def test_who_may_only_look(visit: Visit) -> None:
    """Nothing is offered that would be refused."""
    page = await visit("device/thermostat-2", user="vera")
    await expect(page.get_by_text("last frame")).to_be_visible()
    assert await page.get_by_role("button", name="Edit").count() == 0
    assert await page.get_by_role("button", name="Delete").count() == 0
    assert await page.get_by_role("button", name="Log", exact=True).count() == 0
    assert await page.get_by_role("link", name="Add a device").count() == 0
