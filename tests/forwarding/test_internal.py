"""Connections without a socket: frames are delivered at the end of the loop turn, and nothing can close them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.forwarding.internal import InternalConnection, NoCarrier
from gateway.routing.route import Route
from gateway.wire import brokering
from gateway.wire.brokering import RouteSetup
from gateway.wire.frames import MAX_FRAME_BYTES, Cancel, Frame, RequestResponse, decode, encode
from tests.forwarding.plane_of import Site, item, stamp, to_route


class Inner(InternalConnection):
    """Keeps what it gets; breaks on demand."""

    def __init__(self, site: Site) -> None:
        super().__init__(site.plane, "inner")
        self.frames: list[Frame] = []
        self.breaks = False
        self.route = Route(b"an inner route..", "inner", self, subject="inner")
        site.plane.table.add(self.route)

    def deliver(self, frame: bytes) -> None:
        if self.breaks:
            self.breaks = False
            raise ZeroDivisionError("a bug")
        self.frames.append(decode(frame))


@pytest.fixture
def inner(site: Site) -> Iterator[Inner]:
    connection = Inner(site)
    yield connection
    site.plane.table.remove(connection.route)
    for peer in site.peers:
        peer.vanish()
    del site.plane.connections[connection.number]


def test_requests_come_in_and_answers_go_out(site: Site, inner: Inner) -> None:
    caller = site.connect()
    stream_id = caller.respond("inner.x", b"a")
    (request,) = inner.frames
    assert isinstance(request, RequestResponse)
    assert (request.stream_id, request.data) == (2, b"a")
    assert encode(request).count(stamp()[1]) == 1
    inner.send(encode(item(2, b"b", complete=True)))
    site.turn()
    assert caller.one() == item(stream_id, b"b", complete=True)


def test_frames_are_delivered_at_the_end_of_the_turn_in_order(site: Site, inner: Inner) -> None:
    caller = site.connect()
    for number in range(5):
        caller.fire("inner.x", b"%d" % number, turn=False)
    assert inner.frames == []
    site.turn()
    assert [frame.data for frame in inner.frames] == [b"%d" % number for number in range(5)]  # type: ignore[union-attr]


def test_a_request_that_its_stamp_makes_too_large_is_delivered_in_two(site: Site, inner: Inner) -> None:
    """P43."""
    caller = site.connect()
    metadata = to_route("inner.x")
    caller.fire("", bytes(MAX_FRAME_BYTES - 9 - len(metadata)), metadata=metadata)
    first, rest = inner.frames
    assert len(encode(first)) == MAX_FRAME_BYTES
    assert first.follows  # type: ignore[union-attr]
    assert not rest.follows  # type: ignore[union-attr]


def test_what_it_sends_too_late_is_no_offence(site: Site, inner: Inner) -> None:
    """P22: the budget for meaningless frames is for strangers."""
    for stream_id in range(1, 2000):
        inner.send(encode(item(stream_id, b"late")))
        inner.send(encode(Cancel(stream_id)))
    assert not inner.closed
    assert site.counters.ignored_frames == 0


def test_a_bug_costs_one_frame_and_not_those_behind_it(site: Site, inner: Inner) -> None:
    """Nor what others share the turn with it."""
    caller, other, echo = site.connect(), site.connect(), site.service("echo")
    caller.fire("inner.x", b"1", turn=False)
    caller.fire("inner.x", b"2", turn=False)
    other.fire("echo.x", b"3", turn=False)
    inner.breaks = True
    with pytest.raises(ZeroDivisionError):
        site.turn()
    site.turn()
    assert [frame.data for frame in inner.frames] == [b"2"]  # type: ignore[union-attr]
    assert echo.one().data == b"3"


def test_nobody_can_take_over_its_route(site: Site, inner: Inner) -> None:
    """Not even who may register the same name."""
    peer = site.connect("inner")
    registration = brokering.encode(RouteSetup(inner.route.route_id, "inner"))
    peer.respond("gateway.register", registration)
    assert peer.one().code == 0x202
    assert not inner.closed


def test_it_has_no_deadlines_and_does_not_drain(site: Site, inner: Inner) -> None:
    site.wait(1e6)
    site.plane.drain()
    site.wait(1e6)
    assert not inner.closed


def test_it_does_not_deliver_by_itself(site: Site) -> None:
    connection = InternalConnection(site.plane, "abstract")
    with pytest.raises(NotImplementedError):
        connection.deliver(b"")
    del site.plane.connections[connection.number]


def test_the_carrier_of_nothing() -> None:
    carrier = NoCarrier()
    carrier.write(b"x")
    carrier.pause_reading()
    carrier.resume_reading()
    carrier.allow(1)
    carrier.close(1000, "")
    carrier.abort()
    assert carrier.buffered() == 0
