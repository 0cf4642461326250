"""RSocket from a page of the dashboard, over the admin port: what goes through, who gets in, and when it ends."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from gateway.admin.console import MAX_EACH, PATH, TICKET_S, Consoles
from gateway.admin.problem import Problem
from gateway.control.plane import Caller
from gateway.control.roles import SCOPES, Role
from gateway.wire import frames
from tests.admin.api import Api, problem
from tests.http_head import upgrade
from tests.local_node import call, fnf, stream_request, until
from tests.rawclient import HandshakeRefused, RawClient, composite


class Page:
    """What a browser does: a ticket, a handshake with it, SETUP with the token."""

    def __init__(self, api: Api, http: httpx.AsyncClient | None = None) -> None:
        self.api = api
        self.http = http or api.http
        self.port = urlsplit(api.url).port or 0
        self.origin = f"http://127.0.0.1:{self.port}"

    async def ticket(self) -> dict[str, Any]:
        answer = await self.http.post("/api/v1/console/tickets", json={})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def connect(self, ticket: dict[str, Any], origin: str | None = None, **options: Any) -> RawClient:
        protocols = ", ".join(ticket["protocols"])
        headers = [("Origin", origin or self.origin)]
        client = await RawClient.connect_ws(self.port, ticket["path"], protocols, headers=headers, **options)
        self.api.local.clients.append(client)
        return client

    async def client(self, **options: Any) -> RawClient:
        ticket = await self.ticket()
        client = await self.connect(ticket, **options)
        client.setup(ticket["token"])
        await client.ready()
        return client

    async def refused(self, ticket: dict[str, Any], origin: str | None = None) -> int:
        with pytest.raises(HandshakeRefused) as refused:
            await self.connect(ticket, origin)
        assert b"application/problem+json" in refused.value.head.encode()
        return refused.value.status


async def test_all_five_interactions(api: Api) -> None:
    servant = await api.local.servant()
    page = await Page(api).client()
    assert await call(page, "echo.it", b"hello") == b"hello"
    page.send(fnf(page, "echo.note", b"noted"))
    await until(lambda: servant.got(frames.RequestFnf))

    number = page.next_stream_id()
    page.send(stream_request(number, "echo.items", b"10", 2))
    first = [await page.recv(), await page.recv()]
    assert [len(frame.data) for frame in first if isinstance(frame, frames.Payload)] == [10, 10]
    page.send(frames.RequestN(number, 1))
    assert isinstance(await page.recv(), frames.Payload)
    page.send(frames.Cancel(number))

    number = page.next_stream_id()
    page.send(frames.RequestChannel(number, composite("echo.both"), b"5", initial_n=1))
    assert isinstance(await page.recv(), frames.Payload)
    await until(lambda: servant.got(frames.RequestChannel))
    page.send(frames.Error(number, frames.ErrorCode.CANCELED, "enough"), frames.Cancel(number))

    page.send(frames.MetadataPush(composite("echo.push")))
    assert await call(page, "echo.it", b"still here") == b"still here"


async def test_it_is_who_has_logged_in_and_an_administrator(api: Api) -> None:
    async with await api.user(Role.PUBLISHER) as publisher:
        page = await Page(api, publisher).client()
        principal = api.local.connection(page).principal
        assert (principal.subject, principal.kind.value, principal.services) == ("console-publisher", "admin", ())
    rows = (await api.get("/audit?limit=5"))["data"]
    assert ("console.open", "publisher") in [(row["action"], row["actor_id"]) for row in rows]


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
async def test_who_may_not_send_gets_no_ticket(api: Api, role: Role) -> None:
    async with await api.user(role) as somebody:
        problem(await somebody.post("/api/v1/console/tickets", json={}), 403, "forbidden")


async def test_a_page_of_another_site_or_without_a_ticket_is_refused(api: Api) -> None:
    page = Page(api)
    ticket = await page.ticket()
    assert await page.refused(ticket, "https://evil.example") == 403
    assert await page.refused({**ticket, "protocols": ["rsocket"]}) == 401
    assert await page.refused({**ticket, "protocols": ["rsocket", "ticket.gt_0"]}) == 401
    assert await page.refused({**ticket, "protocols": ticket["protocols"][1:]}) == 400
    await page.connect(ticket)
    assert await page.refused(ticket) == 401
    problem(await api.http.get(f"/api/v1{PATH}"), 400, "bad-request")


async def test_only_the_token_of_the_ticket_comes_in(api: Api) -> None:
    page = Page(api)
    client = await page.connect(await page.ticket())
    client.setup(api.local.token("somebody-else"))
    await client.recv_close()
    await until(lambda: not [c for c in api.node.plane.connections.values() if c.kind == "client"])


@pytest.mark.parametrize("how", ["logout", "disabled", "demoted"])
async def test_it_ends_with_the_login(api: Api, how: str) -> None:
    async with await api.user(Role.PUBLISHER) as somebody:
        page = await Page(api, somebody).client()
        if how == "logout":
            assert (await somebody.post("/api/v1/auth/logout")).status_code == 204
        else:
            change = {"enabled": False} if how == "disabled" else {"role": "viewer"}
            await api.send("PATCH", "/users/publisher", json=change, headers={"if-match": "*"})
        while not isinstance(frame := await page.recv(), frames.Error):
            pass
        assert "login" in frame.text


async def test_too_many_of_one_user(api: Api) -> None:
    page = Page(api)
    clients = [await page.client() for _ in range(MAX_EACH)]
    refused = await api.http.post("/api/v1/console/tickets", json={})
    assert problem(refused, 429, "too-many-requests")
    async with await api.user(Role.ADMIN) as other:
        await Page(api, other).client()
    await clients[0].close()
    await until(lambda: len([c for c in api.node.plane.connections.values() if c.kind == "client"]) == MAX_EACH)
    await page.client()


async def test_who_goes_within_the_handshake_leaves_nothing(api: Api) -> None:
    assert api.node.admin is not None
    page, consoles = Page(api), api.node.admin.consoles
    for _ in range(MAX_EACH + 1):
        ticket = await page.ticket()
        _, writer = await asyncio.open_connection("127.0.0.1", page.port)
        protocols = f"Sec-WebSocket-Protocol: {', '.join(ticket['protocols'])}"
        host = f"127.0.0.1:{page.port}"
        writer.write(upgrade(protocols, f"Origin: {page.origin}", path=ticket["path"], host=host))
        writer.close()
        await until(lambda: not len(consoles))
    await page.client()
    assert len(consoles) == 1


async def test_a_page_that_does_not_read_costs_so_much_and_no_more(api: Api) -> None:
    """The outbox bounds what waits, credit what the service sends: as for any device."""
    await api.local.servant()
    page = await Page(api).client(receive_buffer=4096)
    page.send(stream_request(page.next_stream_id(), "echo.items", b"10000"))
    outbox = api.local.connection(page).outbox
    await until(lambda: outbox.blocked)
    sent = outbox.frames_sent
    await call(await api.local.client(), "echo.it", b"others go on")
    # A whole read of the service may come on top.
    assert outbox.size <= outbox.hard + 256 * 1024
    assert outbox.frames_sent - sent < 1000


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_ticket_ends() -> None:
    clock = Clock()
    caller = Caller("user", "anna", Role.ADMIN, frozenset(SCOPES))
    consoles = Consoles(None, lambda caller, secret: caller, clock)
    text = consoles.issue(caller, "", "console-anna")
    clock.now = TICKET_S
    with pytest.raises(Problem):
        consoles.redeem(text)
    late = [consoles.issue(caller, "", "console-anna") for _ in range(MAX_EACH)]
    with pytest.raises(Problem):
        consoles.issue(caller, "", "console-anna")
    clock.now += TICKET_S
    # Those that are over make room.
    assert consoles.redeem(consoles.issue(caller, "", "console-anna")).whose == "user:anna"
    with pytest.raises(Problem):
        consoles.redeem(late[0])
