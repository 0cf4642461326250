"""/phone/ in Chromium as on a phone: a scanned code, readings both ways, commands, and a network that goes away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import segno

from gateway.client import Request, Service, connect
from gateway.control.audit import Actor
from gateway.control.enrolments import NewEnrolment
from tests.browser.conftest import CHROMIUM
from tests.browser.visitor import findings
from tests.conftest import StartNode
from tests.local_node import LocalNode, until
from tests.relay import Relay

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = pytest.mark.xdist_group("browser")

WAIT_MS = 30_000
NARROW = {"width": 360, "height": 740}


def video_of(line: str, path: Path) -> None:
    """A film for the fake camera: the code of `line`, in one grey picture (YUV4MPEG2)."""
    width, height = 640, 480
    rows = [list(row) for row in segno.make(line, error="l").matrix_iter(scale=4, border=4)]
    assert len(rows) <= height
    top, left = (height - len(rows)) // 2, (width - len(rows)) // 2
    luma = bytearray(b"\xc0" * (width * height))
    for y, row in enumerate(rows, top):
        luma[y * width + left : y * width + left + len(row)] = bytes(0x10 if dark else 0xEB for dark in row)
    picture = b"FRAME\n" + bytes(luma) + b"\x80" * (width * height // 2)
    path.write_bytes(f"YUV4MPEG2 W{width} H{height} F10:1 Ip A1:1 C420jpeg\n".encode() + picture * 2)


class Phone:
    """A page, and what its console complained of, the policy of its headers included."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.troubles: list[str] = []
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("console", lambda said: said.type == "error" and self.troubles.append(said.text))

    async def text(self, id: str) -> str:
        return await self.page.inner_text(f"#{id}")

    async def number(self, id: str) -> int:
        return int(await self.text(id))

    async def state(self, state: str) -> None:
        await self.page.wait_for_selector(f"#status[data-state={state}]")

    async def until_text(self, id: str, text: str) -> None:
        await self.until("([id, text]) => document.getElementById(id).textContent.includes(text)", [id, text])

    async def until(self, condition: str, about: object) -> None:
        await self.page.wait_for_function(condition, arg=about)


class Telemetry:
    """Who hears what is posted: the number of each, in the order in which they came."""

    def __init__(self, url: str, token: str) -> None:
        self.numbers: list[int] = []
        self.service = Service(url, token, name="telemetry")

        @self.service.request_response("readings")
        async def readings(data: bytes, request: Request) -> None:
            assert request.caller is not None
            assert request.caller.subject == "phone"
            self.numbers.append(json.loads(data)["number"])


@pytest.fixture
async def local(start_node: StartNode) -> LocalNode:
    return await start_node()


@pytest.fixture
async def relay(local: LocalNode) -> AsyncIterator[Relay]:
    async with Relay(local.node.websocket_port) as relay:
        yield relay


@pytest.fixture
def film(tmp_path: Path, local: LocalNode, relay: Relay) -> Path:
    path = tmp_path / "film.y4m"
    video_of(credential(local, relay), path)
    return path


def credential(local: LocalNode, relay: Relay, token: str = "") -> str:
    token = token or local.token("phone", "device", ("phone",), ("*",))
    return f"ws://127.0.0.1:{relay.port}/rsocket#device=phone&token={token}"


@pytest.fixture
async def phone(film: Path) -> AsyncIterator[Phone]:
    arguments = (
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
    )
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(arguments))
        shape = {**playwright.devices["Pixel 5"], "viewport": NARROW}
        context = await browser.new_context(**shape, permissions=["camera"])
        yield Phone(await context.new_page())
        await browser.close()


def address(relay: Relay) -> str:
    """On the devices' port, so that the page may connect to it."""
    return f"http://127.0.0.1:{relay.port}/phone/"


async def away(phone: Phone, relay: Relay, seconds: float) -> None:
    """Airplane mode, and what was on the line is gone."""
    await phone.page.context.set_offline(True)
    relay.tear()
    await phone.state("waiting")
    before = await phone.number("waiting")
    await phone.page.wait_for_timeout(seconds * 1000)
    await phone.until("(least) => Number(waiting.textContent) >= least", before + 5)
    relay.mend()
    await phone.page.context.set_offline(False)
    await phone.state("online")


async def lives_a_day(phone: Phone, relay: Relay, local: LocalNode, offline_s: float) -> None:
    url = f"ws://127.0.0.1:{local.node.websocket_port}/rsocket"
    telemetry = Telemetry(url, local.token("telemetry"))
    thermostat = Service(url, local.token("thermostat-1"), name="thermostat-1")

    @thermostat.stream("readings")
    async def readings(data: bytes) -> AsyncIterator[str]:
        for number in range(1_000_000):
            yield json.dumps({"temperature": 20 + number / 100})
            await asyncio.sleep(0.05)

    @thermostat.request_response("set_target")
    async def set_target(data: bytes, request: Request) -> str:
        assert request.caller is not None
        return f"{data.decode()} from {request.caller.subject}"

    page = phone.page
    async with telemetry.service, thermostat, connect(url, local.token("building")) as building:
        await page.goto(address(relay))
        await page.click("#scan")
        await phone.state("online")
        await phone.until_text("reason", "as phone at edge-1")

        # Live readings of another, and what happens to them on the way, is below.
        await page.click("#follow")
        await phone.until_text("readings", '{"temperature": 20.05}')

        # A command that it sends, and one that it gets.
        await page.click("#sending button")
        await phone.until_text("answer", "Answer: 21.5 from phone")
        assert await building.request("phone.set_target", "23.5") == b"23.5"
        await phone.until_text("commands", "set_target 23.5 from building")
        assert await page.input_value("#temperature") == "23.5"
        with pytest.raises(Exception, match="not within 5 and 30"):
            await building.request("phone.set_target", "99")
        async for reading in building.stream("phone.readings", "", n=2):
            assert json.loads(reading)["temperature"] == 23.5
            break

        # Posts, through airplane mode.
        await page.fill("#every", "0.1")
        await page.click("#post")
        await until(lambda: len(telemetry.numbers) >= 5)
        await away(phone, relay, offline_s)
        seen = await phone.text("readings")
        await phone.until("(seen) => readings.innerText !== seen", seen)
        await page.click("#post")
        await phone.until("(none) => waiting.textContent === none", "0")
        measured = await phone.number("measured")
        assert telemetry.numbers == list(range(1, measured + 1))
        assert (await phone.number("acknowledged"), await phone.number("dropped")) == (measured, 0)
        assert await findings(page) == []
        await page.click("#follow")


async def test_a_phone_scans_lives_and_loses_nothing(phone: Phone, relay: Relay, local: LocalNode) -> None:
    await lives_a_day(phone, relay, local, offline_s=5)


@pytest.mark.soak
async def test_thirty_seconds_of_airplane_mode(phone: Phone, relay: Relay, local: LocalNode) -> None:
    await lives_a_day(phone, relay, local, offline_s=30)


async def test_what_a_person_pastes_and_what_comes_of_it(phone: Phone, relay: Relay, local: LocalNode) -> None:
    """Nonsense; a token that holds no more; an enrolment; then without a network, and forgotten."""
    page = phone.page
    assert local.node.control is not None
    _, enrolment = await local.node.control.enrolments.create(
        NewEnrolment(services=["{sub}", "{sub}.*"]), by=Actor("user", "alice")
    )
    await page.goto(address(relay))
    await page.fill("#line", "https://example.org/")
    await page.click("#paste button")
    await phone.until_text("trouble", "neither token= nor enroll=")
    assert await findings(page) == []
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    await page.fill("#line", credential(local, relay, "garbage"))
    await page.click("#paste button")
    await phone.state("waiting")
    await phone.until_text("reason", "REJECTED_SETUP: ")
    await page.click("#forget")
    await phone.until_text("reason", "no credential")

    # In the address of a page of elsewhere, as the dashboard's link has it: on to the gateway's own, and out of it.
    line = f"ws://127.0.0.1:{relay.port}/rsocket#enroll={enrolment}"
    await page.goto("about:blank")
    await page.goto(f"http://127.0.0.1:{local.node.websocket_port}/phone/#{line}")
    await page.wait_for_url(address(relay))
    await phone.state("online")
    assert [trouble for trouble in phone.troubles if "403" not in trouble] == []
    phone.troubles.clear()
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    kept = json.loads(str(await page.evaluate("localStorage['gateway.credential']")))
    assert kept["secret"]
    assert kept["token"] != enrolment

    # The page itself comes from the phone where there is no network.
    await page.evaluate("navigator.serviceWorker.ready.then(() => 1)")
    await page.context.set_offline(True)
    relay.tear()
    assert phone.troubles == []
    await page.reload()
    await phone.state("waiting")
    await phone.until_text("reason", "offline")
    phone.troubles.clear()
    relay.mend()
    await page.context.set_offline(False)
    await phone.state("online")

    await page.click("#forget")
    await phone.until_text("reason", "no credential")
    assert await page.evaluate("localStorage.length") == 0
    assert await page.is_visible("#join")
