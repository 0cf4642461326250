"""The tool pages as people use them: a request of each kind, a setting and back, a document with a mistake, a user."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Locator, Page, expect

from gateway.client import Service
from gateway.control.identity import Identity
from tests.browser.conftest import Visit
from tests.browser.town import EDGE, Town
from tests.browser.visitor import show
from tests.local_node import until


class Lab:
    """A service of one's own at the edge. `left`: items of `count` for which there was credit; the next one waits."""

    def __init__(self) -> None:
        self.left = 0
        self.notes: list[bytes] = []
        self.ended = False


@asynccontextmanager
async def lab(town: Town) -> AsyncIterator[Lab]:
    identity = Identity.open(town.data())
    seen = Lab()

    def token() -> str:
        return identity.mint("lab", "service", ("lab",), ("*",), 900, time.time())

    service = Service(town.nodes.url(EDGE), token, name="lab")

    @service.request_response("echo")
    async def echo(data: bytes) -> bytes:
        return data

    @service.fire_and_forget("note")
    async def note(data: bytes) -> None:
        seen.notes.append(data)

    @service.stream("count")
    async def count(data: bytes) -> AsyncIterator[str]:
        try:
            for number in range(1000):
                yield str(number)
                seen.left += 1
        finally:
            seen.ended = True

    @service.channel("upper")
    async def upper(items: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for item in items:
            yield item.upper()

    async with service:
        yield seen


class Console:
    """What is on the page: the fields of the request, and the answer to the last one."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.answer = page.locator(".answer")
        self.items = page.locator(".items li")

    async def fill(self, model: str, route: str, data: str, form: str = "text") -> None:
        asked = self.page.get_by_role("form", name="Request")
        await asked.get_by_label("Interaction").select_option(model)
        await asked.get_by_label("Data is").select_option(form)
        if model != "push":
            await asked.get_by_label("Route").fill(route)
        await asked.locator("textarea").first.fill(data)

    async def send(self, button: str = "Send") -> None:
        await self.page.get_by_role("button", name=button, exact=True).click()

    def outcome(self, word: str) -> Locator:
        return self.answer.locator("header .badge", has_text=word)

    async def command(self) -> str:
        return await self.page.get_by_label("As a command", exact=True).locator("code").inner_text()


async def test_a_request_of_each_kind(visit: Visit, town: Town) -> None:
    async with lab(town) as seen:
        console = Console(await visit("console"))
        text = """it's "all" $HOME"""
        await console.fill("request", "lab.echo", text)
        await console.send()
        await expect(console.items).to_contain_text(text)
        await same_on_the_command_line(town, await console.command(), text)

        await console.fill("request", "lab.echo", '{"a": [1, 2]}', "cbor")
        await console.send()
        await expect(console.items).to_contain_text("6 B")

        await console.fill("fnf", "lab.note", "AAE=", "base64")
        await console.send()
        await until(lambda: seen.notes == [b"\0\1"])

        await console.fill("push", "", "hello")
        await console.send()
        await expect(console.outcome("done")).to_be_visible()

        await console.fill("request", "nobody.home", "")
        await console.send()
        await expect(console.answer.get_by_role("alert")).to_contain_text("REJECTED (0x202)")


async def test_a_stream_brings_what_was_granted_and_no_more(visit: Visit, town: Town) -> None:
    async with lab(town) as seen:
        console = Console(await visit("console"))
        await console.fill("stream", "lab.count", "")
        await console.page.get_by_label("Credit:").fill("3")
        await console.page.get_by_label("Grant more by itself").uncheck()
        await console.send("Open")
        await expect(console.items).to_have_count(3)
        await expect(console.answer).to_contain_text("0 outstanding")
        assert seen.left == 3
        await console.page.get_by_label("How many more").fill("4")
        await console.send("Grant 4 more")
        await expect(console.items).to_have_count(7)
        assert seen.left == 7
        assert (
            await console.command() == f"gateway stream lab.count --credit 3 --count 3 --url {await advertised(town)}"
        )
        await console.send("Cancel")
        await until(lambda: seen.ended)

        await console.fill("channel", "lab.upper", "one")
        await console.page.get_by_label("Grant more by itself").check()
        await console.send("Open")
        await expect(console.items.first).to_contain_text("ONE")
        await console.page.get_by_label("Next item").fill("two")
        await console.send("Send item")
        await expect(console.items.first).to_contain_text("TWO")
        await console.send("No more follow")
        await expect(console.outcome("done")).to_be_visible()
        assert (await console.command()).startswith("printf '%s\\n' one two | gateway channel lab.upper")


async def advertised(town: Town) -> str:
    async with town.api() as api:
        return str((await api.get("/node")).json()["advertised_url"])


async def same_on_the_command_line(town: Town, command: str, answer: str) -> None:
    """A command that the page shows does what the page did."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "GATEWAY_DATA": str(town.data())}
    process = await asyncio.create_subprocess_shell(
        command.replace(await advertised(town), town.nodes.url(EDGE)), stdout=asyncio.subprocess.PIPE, env=environment
    )
    out, _ = await process.communicate()
    assert (process.returncode, out.decode()) == (0, f"{answer}\n")


async def test_a_setting_is_changed_and_put_back(visit: Visit) -> None:
    page = await visit()
    await show(page, "/settings?q=limits.setup_timeout_s")
    row = page.get_by_role("row", name="limits.setup_timeout_s")
    await expect(row).to_contain_text("9")
    await row.get_by_role("button", name="Change").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Value").fill("8")
    await dialog.get_by_role("button", name="Try").click()
    await expect(dialog.get_by_role("status")).to_contain_text("limits.setup_timeout_s")
    await expect(row).to_contain_text("9")
    await dialog.get_by_role("button", name="Save").click()
    await expect(row.get_by_role("cell").nth(1)).to_have_text("8")
    await page.get_by_role("button", name="History").click()
    latest = page.get_by_role("row").nth(1)
    await expect(latest).to_contain_text("ada")
    await page.get_by_role("row").nth(2).get_by_role("button", name="Show").click()
    await expect(page.get_by_role("dialog").locator("ins")).to_contain_text("setup_timeout_s = 8")
    await page.keyboard.press("Escape")
    await page.get_by_role("row").nth(2).get_by_role("button", name="Go back to it").click()
    await page.get_by_role("dialog").get_by_role("button", name="Go back to it").click()
    await expect(latest).to_contain_text("rollback")
    await page.get_by_role("button", name="Values").click()
    await expect(row.get_by_role("cell").nth(1)).to_have_text("9")


async def test_a_document_with_a_mistake(visit: Visit, town: Town) -> None:
    visit.allow("422: POST")
    page = await visit("documents/new?kind=Service")
    text = page.get_by_label("Text, in YAML or JSON")
    await text.fill("kind: Service\nname: lab\nroutes:\n  - patience: 5s\n")
    await expect(page.get_by_role("status").get_by_text("cannot be applied")).to_be_visible()
    await page.get_by_role("button", name="line 4").click()
    assert await page.evaluate("document.activeElement.selectionStart") == len("kind: Service\nname: lab\nroutes:\n")
    await expect(page.get_by_role("button", name="Apply")).to_be_disabled()
    await text.fill("kind: Service\nname: lab\nroutes:\n  - timeout: 5s\n")
    await page.get_by_role("button", name="Apply").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Service lab")
    async with town.api() as api:
        assert (await api.get("/documents/Service/lab")).json()["body"]["routes"] == [{"timeout": "5s"}]
    await page.get_by_role("button", name="Delete").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Documents")


async def test_what_a_message_of_a_topic_becomes(visit: Visit) -> None:
    page = await visit("mqtt")
    trial = page.get_by_role("form", name="What would become of a message")
    await trial.get_by_label("Topic", exact=True).fill("weather/today")
    await trial.get_by_label("Payload").fill("sun")
    await trial.get_by_role("button", name="Look").click()
    await expect(trial.get_by_role("heading", name="plant taken")).to_be_visible()
    await expect(trial.locator("dl")).to_contain_text("sun (goes on as it is)")


async def test_a_user_is_made_and_may_log_in(visit: Visit, town: Town) -> None:
    page = await visit("users")
    await page.get_by_role("button", name="Add a user").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Name").fill("nina")
    await dialog.get_by_label("Role").select_option("viewer")
    await dialog.get_by_role("button", name="Add").click()
    password = await page.get_by_role("dialog", name="Password of nina").locator("code").inner_text()
    async with town.api() as api:
        tokens = await api.post("/auth/login", json={"name": "nina", "password": password})
        assert tokens.json()["user"]["scopes"] == ["monitoring"]
    await page.keyboard.press("Escape")
    row = page.get_by_role("row", name="nina")
    await row.get_by_role("button", name="Remove").click()
    await page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    await expect(row).to_have_count(0)


async def test_who_only_reads_is_offered_nothing_else(visit: Visit) -> None:
    page = await visit(user="vera")
    await show(page, "/settings")
    await expect(page.get_by_role("cell", name="default").first).to_be_visible()
    await expect(page.get_by_role("button", name="Change")).to_have_count(0)
    pages = page.get_by_role("navigation", name="Pages").get_by_role("link")
    assert not {"Console", "Users", "API keys", "Audit", "Backups"} & set(await pages.all_inner_texts())
