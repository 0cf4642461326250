"""Credit on its way across connections, and who is made to wait for whom."""

from __future__ import annotations

import struct

import pytest

from gateway.policy.principal import Kind
from gateway.wire.frames import MAX_REQUEST_N, Cancel, FrameType, KeepAlive, Payload, RequestN
from tests.forwarding.plane_of import CARRIER_LOW, Peer, Site, complete, item, to_route, to_tags

BIG = bytes(60_000)
#: Eight of these in frames are a window.
LARGE = bytes(32 * 1024 - 6)


def request_n(stream_id: int, n: int) -> bytes:
    return struct.pack(">IHI", stream_id, FrameType.REQUEST_N << 10, n)


def asked(peer: Peer) -> int:
    """Credit that came since the last call."""
    return sum(getattr(frame, "initial_n", 0) or getattr(frame, "n", 0) for frame in peer.got())


def items(peer: Peer) -> int:
    """Items that came since the last call."""
    return sum(isinstance(frame, Payload) and frame.next for frame in peer.got())


def congest(site: Site, peer: Peer, size: int = 30) -> None:
    """Somebody else's torrent fills the outbox of a peer that does not read; until `peer.carrier.read()`."""
    peer.carrier.stall()
    subject = peer.connection.principal.subject
    other = site.connect("other")
    for _ in range(size):
        other.fire("", BIG, metadata=to_tags(sub=subject))
    assert peer.connection.outbox.congested


# REQUEST_N


@pytest.mark.parametrize("n", [0, 0x80000000, 0xFFFFFFFF])
@pytest.mark.parametrize("ask", ["stream", "channel", "respond"])
def test_credit_out_of_range_ends_its_stream(site: Site, ask: str, n: int) -> None:
    """P30, fault 26: ERROR[INVALID] on the stream; the connection lives."""
    caller, responder = site.connect(), site.service("feed")
    stream_id = getattr(caller, ask)("feed.x")
    responder.got()
    caller.send(request_n(stream_id, n))
    error = caller.one()
    assert (error.stream_id, error.code) == (stream_id, 0x204)
    assert responder.one() == Cancel(2)
    assert caller.open
    assert site.counters.refusals == {"zero_n": 1}


@pytest.mark.parametrize("n", [0, 0x80000000])
def test_credit_out_of_range_from_the_responder_of_a_channel(site: Site, n: int) -> None:
    """P30, fault 26: it gets ERROR[INVALID], too."""
    caller, responder = site.connect(), site.service("feed")
    stream_id = caller.channel("feed.x")
    responder.got()
    responder.send(request_n(2, n))
    told, error = responder.one(), caller.one()
    assert (told.stream_id, told.code) == (2, 0x204)
    assert (error.stream_id, error.code) == (stream_id, 0x204)


@pytest.mark.parametrize("n", [0, 0x80000000, 0xFFFFFFFF])
@pytest.mark.parametrize("kind", [FrameType.REQUEST_STREAM, FrameType.REQUEST_CHANNEL])
def test_initial_credit_out_of_range_refuses_the_request(site: Site, kind: FrameType, n: int) -> None:
    """P30, fault 26."""
    caller, responder = site.connect(), site.service("feed")
    metadata = to_route("feed.x")
    frame = struct.pack(">IHI", 1, kind << 10 | 0x100, n) + len(metadata).to_bytes(3, "big") + metadata
    caller.send(frame)
    error = caller.one()
    assert (error.stream_id, error.code) == (1, 0x204)
    assert responder.got() == []


@pytest.mark.parametrize("size", range(4))
def test_credit_that_is_cut_short_costs_the_connection(site: Site, size: int) -> None:
    caller = site.connect()
    site.service("feed")
    stream_id = caller.stream("feed.x")
    caller.send(request_n(stream_id, 5)[: 6 + size])
    assert caller.one().code == 0x101
    assert not caller.open


def test_credit_where_there_is_none_is_ignored(site: Site) -> None:
    """P22: request/response has one answer; the requester of a stream sends no items."""
    caller, responder = site.connect(), site.service("feed")
    first, second = caller.respond("feed.x"), caller.stream("feed.x")
    responder.got()
    caller.send(RequestN(first, 5))
    responder.send(RequestN(4, 5))
    assert caller.got() == responder.got() == []
    assert site.counters.ignored_frames == 2
    assert second in caller.connection.requesting


def test_credit_goes_through_as_it_came(site: Site) -> None:
    """P31: byte for byte, whatever a sender put behind it."""
    caller, responder = site.connect(), site.service("feed")
    stream_id = caller.stream("feed.x", 1)
    responder.got()
    caller.send(request_n(stream_id, 7) + b"\xff\xff")
    assert responder.raw() == [request_n(2, 7) + b"\xff\xff"]


def test_more_items_than_were_requested(site: Site) -> None:
    """P31, fault 30: the excess ends the stream, and is not passed on."""
    caller, responder = site.connect(), site.service("feed")
    stream_id = caller.stream("feed.x", 2)
    responder.got()
    responder.send(item(2, b"1"), item(2, b"2"), item(2, b"3"))
    first, second, error = caller.got()
    assert (first, second) == (item(stream_id, b"1"), item(stream_id, b"2"))
    assert (error.stream_id, error.code) == (stream_id, 0x204)  # type: ignore[union-attr]
    assert responder.one() == Cancel(2)
    assert site.counters.refusals == {"credit_exceeded": 1}


@pytest.mark.parametrize("asked_for", [0, 1])
def test_more_items_of_a_channel_than_were_requested(site: Site, asked_for: int) -> None:
    """P32, fault 30: the first one rides on REQUEST_CHANNEL, every other needs the responder's REQUEST_N."""
    caller, responder = site.connect(), site.service("feed")
    stream_id = caller.channel("feed.x")
    responder.got()
    if asked_for:
        responder.send(RequestN(2, 1))
        caller.got()
        caller.send(item(stream_id, b"1"))
        assert responder.one() == item(2, b"1")
    caller.send(item(stream_id, b"one too many"))
    error = caller.one()
    assert (error.stream_id, error.code) == (stream_id, 0x204)
    assert responder.one() == Cancel(2)
    assert caller.open


def test_completion_costs_no_credit(site: Site) -> None:
    caller, responder = site.connect(), site.service("feed")
    stream_id = caller.stream("feed.x", 1)
    responder.got()
    responder.send(item(2, b"1"), complete(2))
    assert caller.got() == [item(stream_id, b"1"), complete(stream_id)]


def test_a_last_item_costs_credit(site: Site) -> None:
    caller, responder = site.connect(), site.service("feed")
    caller.stream("feed.x", 1)
    responder.got()
    responder.send(item(2, b"1"), item(2, b"2", complete=True))
    assert caller.got()[-1].code == 0x204  # type: ignore[union-attr]


def test_an_item_in_fragments_costs_one(site: Site) -> None:
    """P30, both ways."""
    caller, responder = site.connect(), site.service("feed")
    stream_id = caller.channel("feed.x", 1)
    responder.send(RequestN(2, 1))
    responder.got()
    caller.got()
    fragments = [bytes(64)] * 5
    responder.send(*[item(2, data, follows=True) for data in fragments], item(2, b"end"))
    assert len(caller.got()) == 6
    caller.send(*[item(stream_id, data, follows=True) for data in fragments], item(stream_id, b"end"))
    assert len(responder.got()) == 6
    responder.send(item(2, bytes(64), follows=True), item(2, b"too many"))
    assert caller.got()[-1].code == 0x204  # type: ignore[union-attr]


# The window


def test_a_grant_within_the_window_passes_untouched(site: Site) -> None:
    """P31."""
    caller, responder = site.connect(), site.service("feed")
    stream_id = caller.stream("feed.x", 200)
    assert responder.one().initial_n == 200
    caller.send(RequestN(stream_id, 56))
    assert responder.got() == [RequestN(2, 56)]


def test_a_larger_grant_follows_in_instalments(site: Site) -> None:
    """Fault 27: the producer cannot tell it from a consumer that asks in instalments."""
    caller, responder = site.connect(), site.service("feed")
    caller.stream("feed.x", 1000)
    assert responder.one().initial_n == 256
    sent, left = 0, 256
    while left:
        responder.send(*[item(2, b"x")] * left)
        sent += left
        left = asked(responder)
    assert sent == 1000
    assert items(caller) == 1000


def test_the_largest_grant_twice_keeps_flowing(site: Site) -> None:
    """P30, fault 25."""
    caller, responder = site.connect(), site.service("feed")
    stream_id = caller.stream("feed.x", MAX_REQUEST_N)
    caller.send(RequestN(stream_id, MAX_REQUEST_N))
    left = asked(responder)
    for _ in range(5000):
        assert left > 0
        responder.send(item(2, b"x"))
        left += asked(responder) - 1
    assert items(caller) == 5000
    assert caller.open
    assert responder.open


def test_tiny_grants_are_merged_when_they_wait(site: Site) -> None:
    """Fault 28."""
    caller, responder = site.connect(), site.service("feed")
    stream_id = caller.stream("feed.x", 256)
    responder.got()
    caller.send(*[RequestN(stream_id, 1)] * 1000)
    assert responder.got() == []
    responder.send(*[item(2, b"x")] * 128)
    assert responder.got() == [RequestN(2, 128)]


def test_the_credit_of_a_channels_responder_has_a_window_too(site: Site) -> None:
    """P32, fault 27."""
    caller, responder = site.connect(), site.service("feed")
    stream_id = caller.channel("feed.x")
    responder.got()
    responder.send(RequestN(2, 400))
    assert caller.got() == [RequestN(stream_id, 256)]
    caller.send(*[item(stream_id, b"x")] * 128)
    assert caller.got() == [RequestN(stream_id, 128)]
    caller.send(*[item(stream_id, b"x")] * 128)
    assert caller.got() == [RequestN(stream_id, 16)]


def test_large_items_are_under_way_in_small_numbers(site: Site) -> None:
    """Fault 27: 256 KiB of them, whatever their number was at first."""
    caller, responder = site.connect(), site.service("feed")
    caller.stream("feed.x", MAX_REQUEST_N)
    left = asked(responder)
    while left > 5:
        responder.send(item(2, LARGE))
        left -= 1
        assert asked(responder) == 0
    responder.send(item(2, LARGE))
    assert asked(responder) == 4


def test_large_items_of_a_channels_requester_are_under_way_in_small_numbers(site: Site) -> None:
    caller, responder = site.connect(), site.service("feed")
    stream_id = caller.channel("feed.x")
    responder.send(RequestN(2, MAX_REQUEST_N))
    left = asked(caller)
    while left > 5:
        caller.send(item(stream_id, LARGE))
        left -= 1
        assert asked(caller) == 0
    caller.send(item(stream_id, LARGE))
    assert asked(caller) == 4


# Congestion


def test_a_congested_consumer_gets_no_credit_until_it_has_drained_to_half(site: Site) -> None:
    """Fault 27."""
    caller, responder = site.connect("slow"), site.service("feed")
    stream_id = caller.stream("feed.x", 5)
    responder.got()
    congest(site, caller)
    caller.send(RequestN(stream_id, 7))
    assert responder.got() == []
    outbox = caller.connection.outbox
    caller.carrier.read(caller.carrier.waiting - CARRIER_LOW - 1)
    site.turn()
    assert responder.got() == []
    assert outbox.blocked
    caller.carrier.read()
    site.turn()
    assert responder.got() == [RequestN(2, 7)]
    assert not outbox.blocked


def test_held_credit_is_not_passed_on_while_its_consumer_is_congested(site: Site) -> None:
    """Items go on, credit does not."""
    caller, responder = site.connect("slow"), site.service("feed")
    caller.stream("feed.x", MAX_REQUEST_N)
    responder.got()
    congest(site, caller)
    responder.send(*[item(2, b"x")] * 200)
    assert responder.got() == []
    caller.carrier.read()
    site.turn()
    assert asked(responder) == 200


def test_the_responder_of_a_channel_is_a_consumer_too(site: Site) -> None:
    caller, responder = site.connect(), site.service("feed", "slow")
    stream_id = caller.channel("feed.x")
    responder.got()
    congest(site, responder)
    responder.send(RequestN(2, 7))
    assert caller.got() == []
    responder.carrier.read()
    site.turn()
    assert caller.got() == [RequestN(stream_id, 7)]


def test_a_stream_that_ended_while_its_credit_was_held_gets_none(site: Site) -> None:
    """What waited for a stream does not follow it."""
    caller, responder = site.connect("slow"), site.service("feed")
    stream_id = caller.stream("feed.x", 5)
    responder.got()
    congest(site, caller)
    caller.send(RequestN(stream_id, 7), Cancel(stream_id))
    assert responder.got() == [Cancel(2)]
    caller.carrier.read()
    site.turn()
    assert responder.got() == []


def test_a_consumer_that_goes_while_credit_is_held_leaves_no_credit_behind(site: Site) -> None:
    caller, responder = site.connect("slow"), site.service("feed")
    stream_id = caller.stream("feed.x", 5)
    responder.got()
    congest(site, caller)
    caller.send(RequestN(stream_id, 7))
    caller.vanish()
    assert responder.got() == [Cancel(2)]


def test_a_slow_consumer_stalls_only_its_own_streams(site: Site) -> None:
    """Another consumer of the same responder goes on, and the responder is read from all the time."""
    slow, fast, responder = site.connect("slow"), site.connect("fast"), site.service("feed")
    slow.stream("feed.x", MAX_REQUEST_N)
    slow_credit = asked(responder)
    fast.stream("feed.x", MAX_REQUEST_N)
    fast_credit = asked(responder)
    slow.carrier.stall()
    slow_sent = fast_sent = 0
    for _ in range(3000):
        if slow_credit:
            responder.send(item(2, bytes(4000)))
            slow_sent, slow_credit = slow_sent + 1, slow_credit - 1
        if fast_credit:
            responder.send(item(4, b"x"))
            fast_sent, fast_credit = fast_sent + 1, fast_credit - 1
        for frame in responder.got():
            assert isinstance(frame, RequestN)
            if frame.stream_id == 2:
                slow_credit += frame.n
            else:
                fast_credit += frame.n
        assert not responder.carrier.paused
    assert slow_sent < 400
    assert fast_sent == 3000
    assert slow.connection.outbox.size < slow.connection.outbox.hard
    slow.carrier.read()
    site.turn()
    assert asked(responder) > 0


# Where there is no credit


def test_who_feeds_a_full_outbox_is_paused_until_it_has_drained(site: Site) -> None:
    """Fault 14."""
    caller, sink = site.connect(), site.service("sink")
    sink.carrier.stall()
    while not caller.carrier.paused:
        assert sink.connection.outbox.size <= sink.connection.outbox.hard
        caller.fire("sink.x", BIG)
    assert sink.connection.outbox.size > sink.connection.outbox.hard
    caller.fire("sink.x", BIG)
    assert caller.carrier.pauses == ["pause"]
    sink.carrier.read()
    site.turn()
    assert caller.carrier.pauses == ["pause", "resume"]


def test_pauses_are_counted(site: Site) -> None:
    """A source that feeds two full outboxes goes on when both have drained."""
    caller = site.connect()
    sinks = [site.service("sink-1"), site.service("sink-2")]
    for number, sink in enumerate(sinks, 1):
        sink.carrier.stall()
        while sink.connection.outbox.size <= sink.connection.outbox.hard:
            caller.fire(f"sink-{number}.x", BIG)
    assert caller.carrier.paused
    sinks[0].carrier.read()
    site.turn()
    assert caller.carrier.paused
    sinks[1].carrier.read()
    site.turn()
    assert not caller.carrier.paused
    assert caller.carrier.pauses == ["pause", "resume"]


@pytest.mark.parametrize("how", ["respond", "stream", "channel"])
def test_answers_in_fragments_pause_their_responder(site: Site, how: str) -> None:
    """A message is as large as it is; there is no credit for its parts."""
    caller, responder = site.connect(), site.service("big")
    getattr(caller, how)("big.x")
    responder.got()
    caller.carrier.stall()
    while not responder.carrier.paused:
        responder.send(item(2, BIG, follows=True))
    caller.carrier.read()
    site.turn()
    assert not responder.carrier.paused
    assert caller.connection.outbox.size == 0


def test_requests_in_fragments_pause_their_requester(site: Site) -> None:
    caller, responder = site.connect(), site.service("big")
    stream_id = caller.respond("big.x", BIG, follows=True)
    responder.carrier.stall()
    while not caller.carrier.paused:
        caller.send(item(stream_id, BIG, follows=True))
    responder.vanish()
    assert not caller.carrier.paused


def test_a_feeder_that_goes_is_not_resumed(site: Site) -> None:
    caller, sink = site.connect(), site.service("sink")
    sink.carrier.stall()
    while not caller.carrier.paused:
        caller.fire("sink.x", BIG)
    caller.vanish()
    assert not sink.connection.outbox.feeders
    assert caller.carrier.pauses == ["pause", "resume"], "it is read on, and what it sends is dropped"
    sink.carrier.read()
    site.turn()
    assert caller.carrier.pauses == ["pause", "resume"]


def test_who_does_not_read_its_answers_gets_to_ask_no_more(site: Site) -> None:
    """Fault 29: its requests are not read while its outbox is above the soft limit."""
    device, echo = site.connect("d", Kind.DEVICE), site.service("echo")
    device.carrier.stall()
    for _ in range(5):
        device.respond("echo.x")
        echo.send(item(echo.one().stream_id, BIG, complete=True))
    assert device.connection.outbox.congested
    assert not echo.carrier.paused
    assert not device.carrier.paused
    device.respond("echo.x")
    assert device.carrier.paused
    assert echo.one()
    device.carrier.read()
    site.turn()
    assert not device.carrier.paused


def test_who_does_not_read_gets_no_new_stream(site: Site) -> None:
    """Fault 29: counted as refused; REJECTED, so it may try again."""
    caller, responder = site.connect("slow"), site.service("feed")
    congest(site, caller)
    for ask in (caller.stream, caller.channel):
        ask("feed.x")
    assert responder.got() == []
    assert caller.carrier.paused
    caller.carrier.read()
    site.turn()
    assert [frame.code for frame in caller.got() if hasattr(frame, "code")] == [0x202] * 2
    stats = site.metrics.services["feed"]
    assert (stats.requests, stats.refused) == (2, 2)


@pytest.mark.parametrize("what", ["refusals", "keepalives"])
def test_who_does_not_read_refusals_or_keepalives_is_paused(site: Site, what: str) -> None:
    """Faults 29 and 31: whatever it is that a peer makes the node say."""
    caller = site.connect("slow")
    congest(site, caller)
    assert not caller.carrier.paused
    if what == "refusals":
        caller.respond("nobody")
    else:
        caller.send(KeepAlive(True))
    assert caller.carrier.paused


def test_a_paused_connection_does_not_expire(site: Site) -> None:
    """P12, fault 33: who is not read from cannot be heard."""
    caller, sink = site.connect("slow", lifetime_ms=5_000), site.service("sink")
    congest(site, caller)
    caller.respond("nobody")
    assert caller.carrier.paused
    for _ in range(9):
        site.wait(1)
        caller.carrier.read(1000)
    assert caller.open
    assert sink.open
