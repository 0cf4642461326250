"""What is forgiven, what is metered, and when it is enough: by itself, then across connections."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.errors import ConnectionFailed
from gateway.forwarding.strays import Strays
from gateway.policy.limits import profile_for
from gateway.policy.principal import Kind
from gateway.wire.frames import (
    COMPLETE,
    FOLLOWS,
    MAX_REQUEST_N,
    NEXT,
    Cancel,
    Error,
    Frame,
    Payload,
    RequestN,
    RequestResponse,
)
from tests.forwarding.plane_of import Site, complete, item, to_route

LIMITS = profile_for(Kind.DEVICE)


def spent(strays: Strays, now: float = 0.0) -> bool:
    """Whether the next meaningless frame is one too many."""
    try:
        strays.meter(6, LIMITS, now)
    except ConnectionFailed as error:
        return error.reason == "ignored_frames"
    return False


# The budget


def test_so_many_frames_in_a_window(site: Site) -> None:
    """Faults 22, 42, 43: 200 in 10 s: limit, and limit and one."""
    strays = Strays(0.0)
    assert not any(spent(strays) for _ in range(200))
    assert spent(strays)


def test_so_many_bytes_in_a_window() -> None:
    """Fault 42: 1 MiB in 10 s: limit, and limit and one."""
    strays = Strays(0.0)
    for _ in range(16):
        strays.meter(65_536, LIMITS, 0.0)
    with pytest.raises(ConnectionFailed, match="mean nothing") as caught:
        strays.meter(1, LIMITS, 0.0)
    assert caught.value.code == 0x101


def test_a_new_window_is_a_new_budget() -> None:
    strays = Strays(0.0)
    assert not any(spent(strays, 10.0) for _ in range(200))
    assert not any(spent(strays, 10.001) for _ in range(200))
    assert spent(strays, 20.0)


def test_without_a_limit_there_is_no_budget() -> None:
    strays = Strays(0.0)
    for _ in range(1000):
        strays.meter(1 << 20, replace(LIMITS, ignored_frames=0), 0.0)


# Excuses


def test_excused_frames_cost_nothing() -> None:
    strays = Strays(0.0)
    strays.excused = 50
    assert not any(spent(strays) for _ in range(250))
    assert spent(strays)


def test_excuses_are_bounded_by_what_can_be_under_way() -> None:
    strays = Strays(0.0)
    strays.excused = 1 << 40
    assert not spent(strays)
    assert strays.excused == (1 << 20) - 1


# Series of fragments


def test_the_rest_of_a_message_is_forgiven() -> None:
    """P41: however many fragments it is, up to its last."""
    strays = Strays(0.0)
    strays.drop_rest(1, LIMITS)
    for _ in range(1000):
        strays.payload(1, FOLLOWS, 64, LIMITS, 0.0)
    strays.payload(1, NEXT, 64, LIMITS, 0.0)
    assert not strays.forget(1)
    assert not any(spent(strays) for _ in range(200))


def test_complete_ends_a_message_whatever_follows_says() -> None:
    """P34."""
    strays = Strays(0.0)
    strays.drop_rest(1, LIMITS)
    strays.payload(1, FOLLOWS | COMPLETE, 64, LIMITS, 0.0)
    assert not strays.forget(1)


def test_a_message_without_end_is_metered_in_the_end() -> None:
    """Fault 34: more than the size of a message is not forgiven."""
    strays = Strays(0.0)
    strays.drop_rest(1, LIMITS)
    for _ in range(32):
        strays.payload(1, FOLLOWS, 65_536, LIMITS, 0.0)
    with pytest.raises(ConnectionFailed):
        strays.payload(1, FOLLOWS, 65_536, LIMITS, 0.0)


def test_a_last_fragment_beyond_the_size_is_metered() -> None:
    strays = Strays(0.0)
    strays.drop_rest(1, LIMITS)
    for _ in range(16):
        strays.payload(1, FOLLOWS, 65_536, LIMITS, 0.0)
    strays.payload(1, NEXT, 65_536, LIMITS, 0.0)
    assert not strays.forget(1)
    with pytest.raises(ConnectionFailed):
        strays.meter(1 << 20, LIMITS, 0.0)


def test_cancel_ends_a_message() -> None:
    """P41."""
    strays = Strays(0.0)
    assert not strays.forget(1)
    strays.drop_rest(1, LIMITS)
    assert strays.forget(1)
    assert not strays.forget(1)


def test_the_oldest_message_is_forgotten_first() -> None:
    """P42: 64 are remembered."""
    strays = Strays(0.0)
    for stream_id in range(1, 131, 2):
        strays.drop_rest(stream_id, LIMITS)
    assert not strays.forget(1)
    assert all(strays.forget(stream_id) for stream_id in range(3, 131, 2))


def test_an_excused_item_may_come_in_fragments() -> None:
    """One excuse is for the item, not for each of its fragments."""
    strays = Strays(0.0)
    strays.excused = 1
    for flags in (FOLLOWS, FOLLOWS, NEXT):
        strays.payload(1, flags, 64, LIMITS, 0.0)
    assert strays.excused == 0
    assert not any(spent(strays) for _ in range(200))
    assert spent(strays)


def test_strays_in_fragments_that_nothing_excuses_are_metered_one_by_one() -> None:
    strays = Strays(0.0)
    for _ in range(200):
        strays.payload(1, FOLLOWS, 64, LIMITS, 0.0)
    with pytest.raises(ConnectionFailed):
        strays.payload(1, FOLLOWS, 64, LIMITS, 0.0)


# Across connections: those who did nothing wrong


def endure(site: Site, *frames: Frame) -> None:
    """A device that sends these is not closed, and its budget is untouched."""
    device = next(peer for peer in site.peers if peer.connection.principal.kind is Kind.DEVICE)
    device.send(*frames)
    device.send(*[Payload(99, None, b"", next=True)] * 200)
    assert device.open, "its budget was touched"


def test_items_under_way_when_their_requester_cancels(site: Site) -> None:
    """P22: as many as it had credit for; here more than all that a budget allows."""
    caller, device = site.connect(), site.connect("d", Kind.DEVICE, serves=["flood"])
    streams = []
    for _ in range(10):
        streams.append(caller.stream("flood.x", MAX_REQUEST_N))
        device.got()
    caller.send(*[Cancel(stream_id) for stream_id in streams])
    endure(site, *[item(2 + 2 * (number % 10), b"x") for number in range(2560)])


def test_items_under_way_when_their_requester_goes(site: Site) -> None:
    """P22."""
    caller = site.connect()
    site.connect("d", Kind.DEVICE, serves=["flood"])
    for _ in range(10):
        caller.stream("flood.x", MAX_REQUEST_N)
    caller.vanish()
    endure(site, *[item(2 + 2 * (number % 10), b"x") for number in range(2560)])


def test_a_large_answer_under_way_when_its_requester_cancels(site: Site) -> None:
    """P41: a megabyte in fragments, none of which the responder could have held back."""
    caller, device = site.connect(), site.connect("d", Kind.DEVICE, serves=["big"])
    stream_id = caller.respond("big.x")
    device.send(item(2, bytes(60_000), follows=True))
    caller.send(Cancel(stream_id))
    endure(site, *[item(2, bytes(60_000), follows=True)] * 16, item(2, b"end", complete=True))


def test_a_large_item_that_begins_after_its_requester_canceled(site: Site) -> None:
    caller, device = site.connect(), site.connect("d", Kind.DEVICE, serves=["big"])
    stream_id = caller.stream("big.x", 3)
    device.got()
    caller.send(Cancel(stream_id))
    endure(site, *([item(2, bytes(60_000), follows=True)] * 10 + [item(2, b"end")]) * 3)


def test_credit_and_cancel_that_cross_the_end_of_a_stream(site: Site) -> None:
    """P22: a requester that asks for items one by one, on stream after stream."""
    device, service = site.connect("d", Kind.DEVICE), site.service("feed")
    for _ in range(5):
        stream_id = device.stream("feed.x", 100)
        responder_id = service.one().stream_id
        service.send(*[item(responder_id, b"x")] * 99, item(responder_id, b"x", complete=True))
        device.send(*[RequestN(stream_id, 1)] * 100, Cancel(stream_id))
    endure(site)


def test_cancels_that_cross_the_answers(site: Site) -> None:
    """P22: a device whose patience ends just as the answers come."""
    device, service = site.connect("d", Kind.DEVICE), site.service("echo")
    for _ in range(40):
        stream_id = device.respond("echo.x")
        service.send(item(service.one().stream_id, b"!", complete=True))
        device.send(Cancel(stream_id))
    endure(site)


def test_items_of_a_channel_under_way_when_its_responder_ends_it(site: Site) -> None:
    """P22, P33: by an error, by cancelling its input, and by going."""
    device, service = site.connect("d", Kind.DEVICE), site.service("sink")
    for end in ("error", "cancel", "vanish"):
        stream_id = device.channel("sink.x", 5)
        responder_id = service.one().stream_id
        service.send(RequestN(responder_id, MAX_REQUEST_N))
        if end == "error":
            service.send(Error(responder_id, 0x201, "full"))
        elif end == "cancel":
            service.send(Cancel(responder_id))
        else:
            service.vanish()
        device.send(*[item(stream_id, b"x")] * 256)
        device.send(item(stream_id, bytes(64), follows=True), item(stream_id, bytes(64), follows=True))
    endure(site)


def test_credit_of_a_responder_that_crosses_the_end_of_a_channel(site: Site) -> None:
    """P22."""
    caller, device = site.connect(), site.connect("d", Kind.DEVICE, serves=["sink"])
    for number in range(1, 6):
        stream_id = caller.channel("sink.x", 5)
        device.send(complete(2 * number))
        caller.send(complete(stream_id))
        device.send(*[RequestN(2 * number, 1)] * 100)
    endure(site)


def test_the_rest_of_a_request_that_was_refused(site: Site) -> None:
    """P41: its requester was under way with it."""
    device = site.connect("d", Kind.DEVICE)
    stream_id = device.respond("nobody", bytes(64), follows=True)
    assert device.one().code == 0x202
    endure(site, *[item(stream_id, bytes(60_000), follows=True)] * 16, item(stream_id, b"end"))


def test_the_rest_of_a_request_whose_responder_went(site: Site) -> None:
    """P41."""
    device, service = site.connect("d", Kind.DEVICE), site.service("echo")
    stream_id = device.respond("echo.x", bytes(64), follows=True)
    service.vanish()
    endure(site, *[item(stream_id, bytes(60_000), follows=True)] * 16, item(stream_id, b"end"))


def test_who_cancels_an_unfinished_request_sends_no_more_of_it(site: Site) -> None:
    """P41: nothing is remembered, so 64 others can be."""
    device, service = site.connect("d", Kind.DEVICE), site.service("echo")
    for _ in range(70):
        stream_id = device.respond("echo.x", bytes(64), follows=True)
        device.send(Cancel(stream_id))
    assert service.open
    assert not device.connection.strays.forget(1)
    assert not device.connection.strays.forget(139)


def test_cancel_of_a_request_that_was_refused_is_no_stray(site: Site) -> None:
    """P41."""
    device = site.connect("d", Kind.DEVICE)
    stream_id = device.respond("nobody", bytes(64), follows=True)
    device.send(Cancel(stream_id))
    assert site.counters.ignored_frames == 0


# Across connections: those who did


@pytest.mark.parametrize(
    "frame",
    [
        Payload(9, None, b"x", next=True),
        Payload(8, None, b"x", next=True),
        RequestN(9, 1),
        Cancel(9),
        Error(9, 0x201, "x"),
        RequestResponse(1, to_route("echo.x"), b"again"),
    ],
    ids=lambda frame: type(frame).__name__,
)
def test_a_flood_of_strays_ends(site: Site, frame: Frame) -> None:
    """P21, P22, faults 41 and 42: 1008, and the others go on."""
    site.service("echo")
    device = site.connect("d", Kind.DEVICE)
    device.send(RequestResponse(1, to_route("echo.x"), b"?"))
    device.send(*[frame] * 200)
    assert device.open
    device.send(frame)
    assert device.got()[-1].code == 0x101
    assert device.carrier.closed is not None
    assert device.carrier.closed[0] == 1008
    assert site.counters.refusals == {"ignored_frames": 1}


def test_a_responder_that_goes_on_after_cancel_is_stopped(site: Site) -> None:
    """Fault 42: what it had no credit for is metered."""
    caller, device = site.connect(), site.connect("d", Kind.DEVICE, serves=["flood"])
    stream_id = caller.stream("flood.x", 10)
    caller.send(Cancel(stream_id))
    with_credit = 1 + 10
    device.send(*[item(2, b"x")] * (with_credit + 200))
    assert device.open
    device.send(item(2, b"x"))
    assert not device.open
