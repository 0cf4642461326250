"""A caller that waits only so long: what is taken off at a node, and what is not sent on any more."""

from __future__ import annotations

import pytest

from gateway.forwarding.awaiting import Request
from gateway.forwarding.deadline import aged, aged_frame, left_s
from gateway.wire.frames import (
    METADATA,
    Error,
    FrameType,
    RequestFnf,
    RequestResponse,
    RequestStream,
    encode,
    fragment,
)
from gateway.wire.metadata import encode_composite
from gateway.wire.mimetypes import DEADLINE, ROUTING, ZIPKIN
from tests.forwarding.plane_of import Peer, Site, entries_of, item, to_route

TRACE = (ZIPKIN, b"\x00")


def due(left_ms: int) -> tuple[str, bytes]:
    return DEADLINE, left_ms.to_bytes(4, "big")


def left_of(metadata: bytes | None) -> int:
    (content,) = [content for mime, content in entries_of(metadata) if mime == DEADLINE]
    return int.from_bytes(content, "big")


@pytest.fixture
def caller(site: Site) -> Peer:
    return site.connect()


def test_it_goes_along_to_who_serves_it_here(site: Site, caller: Peer) -> None:
    echo = site.service("echo")
    for left_ms in (5000, 1, 0xFFFFFFFF):
        caller.respond("", metadata=to_route("echo.it", entries=[due(left_ms), TRACE]))
        assert left_of(echo.one().metadata) == left_ms


def test_what_has_nothing_left_goes_nowhere(site: Site, caller: Peer) -> None:
    echo = site.service("echo")
    number = caller.respond("", metadata=to_route("echo.it", entries=[due(0)]))
    assert caller.one() == Error(number, 0x203, "deadline exceeded before it came here")
    caller.fire("", metadata=to_route("echo.it", entries=[due(0)]))
    caller.stream("", metadata=to_route("nobody.home", entries=[due(0)]))
    assert caller.one().text.startswith("deadline exceeded")
    assert echo.got() == []
    assert site.counters.refusals == {"deadline_exceeded": 3}


@pytest.mark.parametrize("entries", [[(DEADLINE, b"")], [(DEADLINE, b"123")], [(DEADLINE, bytes(5))], [due(9), due(9)]])
def test_one_that_cannot_be_read(site: Site, caller: Peer, entries: list[tuple[str, bytes]]) -> None:
    echo = site.service("echo")
    caller.respond("", metadata=to_route("echo.it", entries=entries))
    error = caller.one()
    assert (error.code, error.text) == (0x204, "a request has one deadline, of 32 bits")
    assert site.counters.refusals == {"deadline_malformed": 1}
    assert echo.got() == []


def test_a_request_without_one_is_answered_by_the_cache(site: Site, caller: Peer) -> None:
    """What has a deadline shares the decision of what has none, and leaves the shortest way to that one."""
    echo = site.service("echo")
    caller.respond("echo.it")
    caller.respond("", metadata=to_route("echo.it", entries=[due(900)]))
    caller.respond("echo.it")
    assert [len(entries_of(frame.metadata)) for frame in echo.got()] == [2, 3, 2]
    assert len(caller.connection.decisions) == 1
    assert caller.connection.latest_metadata == to_route("echo.it")


def test_the_time_that_it_came_in_pieces_is_taken_off(site: Site, caller: Peer) -> None:
    echo = site.service("echo")
    metadata = to_route("echo.it", entries=[due(1000), ("x/y", bytes(64))])
    for number, wait_s in ((1, 0.25), (3, 1.5)):
        first, *rest = fragment(RequestResponse(number, metadata, b"!"), 64)
        caller.send(first)
        site.wait(wait_s)
        caller.send(*rest)
        if number == 1:
            asked = echo.one()
            assert left_of(asked.metadata) == 750
            echo.send(item(asked.stream_id, complete=True))
            assert caller.one().stream_id == 1
    assert caller.one().text == "deadline exceeded before it came here"
    assert echo.got() == []


def test_age() -> None:
    metadata = encode_composite([(ROUTING, b"\1x"), due(1000), TRACE])
    framed = b"??" + metadata + b"?"
    assert aged(framed, 2, len(framed) - 1, 0.2501) == framed.replace(due(1000)[1], due(749)[1])
    assert aged(metadata, 0, len(metadata), 5) == encode_composite([(ROUTING, b"\1x"), due(0), TRACE])
    assert aged(metadata[:-1], 0, len(metadata) - 1, 0.5) == metadata[:-1].replace(due(1000)[1], due(500)[1])
    without = encode_composite([(ROUTING, b"\1x"), TRACE])
    assert aged(without, 0, len(without), 5) is without


@pytest.mark.parametrize("kind", [RequestResponse, RequestFnf, RequestStream])
def test_the_age_of_a_frame(kind: type) -> None:
    more = {"initial_n": 3} if kind is RequestStream else {}
    metadata = encode_composite([due(1000)])
    frame = encode(kind(7, metadata, due(1000)[0].encode(), **more))
    assert aged_frame(frame, 0.5) == encode(kind(7, encode_composite([due(500)]), due(1000)[0].encode(), **more))
    assert left_s(frame) == 1.0
    # The name is in its data only.
    plain = encode(kind(7, encode_composite([TRACE]), due(1000)[0].encode(), **more))
    assert aged_frame(plain, 0.5) is plain
    assert left_s(plain) == float("inf")
    assert left_s(encode(kind(7, None, b"", **more))) == float("inf")


def test_a_request_that_is_kept_has_it_as_it_came() -> None:
    metadata = encode_composite([due(40)])
    head = int(FrameType.REQUEST_RESPONSE) << 10 | METADATA
    frame = Request(int(FrameType.REQUEST_RESPONSE), head, 0, metadata, b"!").frame(9, 0)
    assert left_s(frame) == 0.04
