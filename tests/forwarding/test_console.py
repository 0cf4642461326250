"""One request of somebody who is not connected."""

from __future__ import annotations

import pytest

from gateway.forwarding.console import MAX_ANSWER_BYTES, Console
from gateway.policy.principal import Kind, Principal
from gateway.wire.frames import Cancel, Error, FrameType, Payload, RequestFnf, RequestResponse, RequestStream
from gateway.wire.mimetypes import PRINCIPAL
from tests.forwarding.plane_of import Peer, Site, entries_of, item


class Asked:
    """A console of an administrator, and how often it said that it was over."""

    def __init__(self, site: Site, routes: tuple[str, ...] = ("*",)) -> None:
        self.site = site
        self.ends = 0
        principal = Principal("root", Kind.ADMIN, "", 0, site.clock.wall() + 60, (), routes)
        self.console = Console(site.plane, principal, self._ended)

    def _ended(self) -> None:
        self.ends += 1

    def ask(self, interaction: FrameType, route: str = "echo.it", data: bytes = b"?", items: int = 1) -> None:
        self.console.ask(interaction, route, {}, data, items)
        self.site.turn()


@pytest.fixture
def asked(site: Site) -> Asked:
    return Asked(site)


@pytest.fixture
def echo(site: Site) -> Peer:
    return site.service("echo")


def test_a_request_crosses_the_node_and_says_who_asks(site: Site, asked: Asked, echo: Peer) -> None:
    asked.ask(FrameType.REQUEST_RESPONSE, data=b"hello")
    request = echo.one()
    assert isinstance(request, RequestResponse)
    assert request.data == b"hello"
    assert b'"subject":"root","kind":"admin"' in dict(entries_of(request.metadata))[PRINCIPAL]
    echo.send(Payload(request.stream_id, None, b"there", next=True, complete=True))
    assert asked.console.items == [b"there"]
    assert (asked.console.over, asked.console.error, asked.ends) == (True, None, 1)


def test_a_refusal_is_an_answer(asked: Asked) -> None:
    asked.ask(FrameType.REQUEST_RESPONSE, "nobody.here")
    assert asked.console.error == (0x202, "no route to nobody.here")
    assert asked.ends == 1


def test_the_caller_s_permissions_hold(site: Site, echo: Peer) -> None:
    asked = Asked(site, routes=("other.*",))
    asked.ask(FrameType.REQUEST_RESPONSE)
    assert asked.console.error is not None
    assert "root may not call echo.it" in asked.console.error[1]


def test_an_error_of_the_responder(asked: Asked, echo: Peer) -> None:
    asked.ask(FrameType.REQUEST_RESPONSE)
    echo.send(Error(echo.one().stream_id, 0x201, "out of order"))
    assert asked.console.error == (0x201, "out of order")


def test_so_many_items_of_a_stream_are_taken(asked: Asked, echo: Peer) -> None:
    asked.ask(FrameType.REQUEST_STREAM, items=2)
    request = echo.one()
    assert isinstance(request, RequestStream)
    assert request.initial_n == 2
    echo.send(item(request.stream_id, b"1"), item(request.stream_id, b"2"))
    assert asked.console.items == [b"1", b"2"]
    assert asked.ends == 1
    assert echo.got() == [Cancel(request.stream_id)]


def test_fragments_are_put_together(asked: Asked, echo: Peer) -> None:
    asked.ask(FrameType.REQUEST_RESPONSE)
    number = echo.one().stream_id
    echo.send(item(number, b"a" * 64, follows=True), item(number, b"b", complete=True))
    assert asked.console.items == [b"a" * 64 + b"b"]


def test_fire_and_forget_is_over_at_once(asked: Asked, echo: Peer) -> None:
    asked.ask(FrameType.REQUEST_FNF)
    assert asked.ends == 1
    assert isinstance(echo.one(), RequestFnf)


def test_giving_up_cancels(asked: Asked, echo: Peer) -> None:
    asked.ask(FrameType.REQUEST_RESPONSE)
    number = echo.one().stream_id
    asked.console.give_up()
    asked.console.give_up()
    asked.site.turn()
    assert echo.one() == Cancel(number)
    assert asked.ends == 1
    assert asked.site.open_streams() == 0


def test_more_than_is_kept_ends_it(asked: Asked, echo: Peer) -> None:
    asked.ask(FrameType.REQUEST_STREAM, items=100)
    number = echo.one().stream_id
    for _ in range(5):
        echo.send(item(number, bytes(MAX_ANSWER_BYTES // 4)))
    assert asked.console.truncated
    assert len(asked.console.items) == 4
    assert asked.ends == 1


def test_it_leaves_nothing_behind(site: Site, asked: Asked, echo: Peer) -> None:
    asked.ask(FrameType.REQUEST_RESPONSE)
    asked.console.give_up()
    assert asked.console.number not in site.plane.connections
    assert not site.plane.register.closed
