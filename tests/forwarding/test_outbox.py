"""Bytes that wait to leave: one write a loop turn, marks, and what happens when nobody reads."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.forwarding.internal import NoCarrier
from gateway.forwarding.outbox import DROWNING, MAX_PAUSE_S, PATIENCE_S, Flusher, Outbox
from gateway.observe.metrics import Counters
from gateway.wire.frames import MAX_REQUEST_N, RequestN, encode
from tests.forwarding.plane_of import (
    CARRIER_HIGH,
    CARRIER_LOW,
    TCP,
    WEBSOCKET,
    Clock,
    RecordingCarrier,
    Site,
    item,
    unframed,
)

HIGH, HARD = 256 * 1024, 1024 * 1024
BIG = bytes(60_000)


class Bench:
    """One outbox, its carrier and its loop."""

    def __init__(self, prefixed: bool = WEBSOCKET, high: int = HIGH, hard: int = HARD) -> None:
        self.clock = Clock()
        self.turns: list[Callable[[], None]] = []
        self.carrier = RecordingCarrier(self.clock)
        self.counters = Counters()
        self.flusher = Flusher(self.turns.append)
        self.outbox = Outbox(self.carrier, self.flusher, self.counters, high, hard, prefixed=prefixed)
        self.carrier.outbox = self.outbox

    def turn(self) -> None:
        turns, self.turns[:] = self.turns[:], []
        for callback in turns:
            callback()


# Writing


@pytest.mark.parametrize("prefixed", [WEBSOCKET, TCP])
def test_many_frames_are_one_write(prefixed: bool) -> None:
    """DESIGN 3, step 6: at the end of the turn, in order, framed one by one."""
    bench = Bench(prefixed)
    frames = [encode(RequestN(number, number)) for number in range(1, 101)]
    for frame in frames:
        bench.outbox.put_frame(frame)
    assert bench.carrier.writes == []
    assert len(bench.turns) == 1
    bench.turn()
    assert len(bench.carrier.writes) == 1
    assert list(unframed(prefixed, bench.carrier.writes[0])) == frames
    assert (bench.counters.frames_out, bench.counters.bytes_out) == (100, len(bench.carrier.writes[0]))


def test_each_turn_is_a_write() -> None:
    bench = Bench()
    for _ in range(3):
        bench.outbox.put_frame(bytes(10))
        bench.turn()
    assert len(bench.carrier.writes) == 3
    bench.outbox.flush()
    assert len(bench.carrier.writes) == 3


def test_touched_outboxes_share_one_flush() -> None:
    """DESIGN 3, step 6."""
    bench = Bench()
    carriers = [RecordingCarrier(bench.clock) for _ in range(3)]
    outboxes = [Outbox(carrier, bench.flusher, bench.counters, HIGH, HARD) for carrier in carriers]
    for _ in range(4):
        for outbox in outboxes:
            outbox.put_frame(bytes(10))
    assert len(bench.turns) == 1
    bench.turn()
    assert [len(carrier.writes) for carrier in carriers] == [1] * 3
    assert bench.turns == []


def test_frames_are_cut_out_of_what_they_came_in() -> None:
    """What is put is a stream id and a part of somebody's buffer."""
    bench = Bench()
    bench.outbox.put(7, b"????____frame!!", 4, 13)
    bench.turn()
    assert list(unframed(WEBSOCKET, bench.carrier.writes[0])) == [b"\0\0\0\7____frame"]


def test_a_flush_that_fails_does_not_keep_others_from_theirs() -> None:
    """A bug is raised to whoever logs it, and costs nobody else."""
    bench = Bench()
    carrier = RecordingCarrier(bench.clock)
    after = Outbox(carrier, bench.flusher, bench.counters, HIGH, HARD)

    class Broken(NoCarrier):
        def write(self, data: bytes) -> int:
            raise ZeroDivisionError("a bug")

    Outbox(Broken(), bench.flusher, bench.counters, HIGH, HARD).put_frame(bytes(10))
    after.put_frame(bytes(10))
    with pytest.raises(ZeroDivisionError):
        bench.turn()
    bench.turn()
    assert len(carrier.writes) == 1


# A carrier that takes no more


def test_a_blocked_carrier_is_not_written_to() -> None:
    bench = Bench()
    bench.carrier.stall()
    bench.outbox.put_frame(bytes(CARRIER_HIGH))
    bench.turn()
    assert bench.outbox.blocked
    for number in range(5):
        bench.outbox.put_frame(bytes(1000 + number))
        bench.turn()
    assert len(bench.carrier.writes) == 1
    bench.carrier.read()
    assert not bench.outbox.blocked
    assert [len(frame) for frame in unframed(WEBSOCKET, bench.carrier.writes[1])] == [1000, 1001, 1002, 1003, 1004]


def test_the_size_is_what_waits_here_and_in_the_carrier() -> None:
    bench = Bench()
    bench.outbox.put_frame(bytes(100))
    assert bench.outbox.size == 100
    bench.turn()
    assert bench.outbox.size == 0
    bench.carrier.stall()
    bench.outbox.put_frame(bytes(CARRIER_HIGH))
    bench.turn()
    in_carrier = bench.carrier.waiting
    bench.outbox.put_frame(bytes(5000))
    assert bench.outbox.size == in_carrier + 5000
    bench.carrier.read(in_carrier - CARRIER_LOW)
    assert bench.outbox.size == bench.carrier.waiting == CARRIER_LOW + 5000 + 4


def test_congested_above_the_high_mark_of_a_blocked_carrier() -> None:
    """Fault 27: at the mark, and one above."""
    bench = Bench()
    bench.outbox.put_frame(bytes(HIGH + 1))
    assert not bench.outbox.congested, "a loop turn's worth is no congestion"
    bench.turn()
    bench.carrier.stall()
    bench.outbox.put_frame(bytes(CARRIER_HIGH))
    bench.turn()
    bench.outbox.put_frame(bytes(HIGH - bench.outbox.size))
    assert not bench.outbox.congested
    bench.outbox.put_frame(bytes(6))
    assert bench.outbox.congested


def test_discard_drops_what_waits() -> None:
    bench = Bench()
    bench.carrier.stall()
    bench.outbox.put_frame(bytes(CARRIER_HIGH))
    bench.turn()
    bench.outbox.put_frame(bytes(1000))
    bench.outbox.discard()
    assert (bench.outbox.size, bench.outbox.waiting) == (0, 0)


def test_how_long_a_carrier_has_taken_nothing() -> None:
    """Faults 14 and 32: any byte that it takes is progress."""
    bench = Bench()
    now = bench.clock.now
    assert bench.outbox.stuck_for(now + 100) == 0
    bench.carrier.stall()
    bench.outbox.put_frame(bytes(CARRIER_HIGH + 1))
    bench.turn()
    assert bench.outbox.stuck_for(now + 7) == 7
    bench.carrier.read(1)
    assert bench.outbox.stuck_for(now + 9) == 0
    assert bench.outbox.stuck_for(now + 12) == 3
    bench.carrier.read()
    assert bench.outbox.stuck_for(now + 100) == 0


# Those who wait for it


def test_feeders_go_on_at_half_the_high_mark(site: Site) -> None:
    caller, sink = site.connect(), site.service("sink")
    outbox = sink.connection.outbox
    sink.carrier.stall()
    while not caller.carrier.paused:
        caller.fire("sink.x", BIG)
    assert outbox.feeders == {caller.connection}
    # The carrier takes what waited, which is more than its own mark: it is blocked again at once.
    sink.carrier.read(sink.carrier.waiting)
    assert outbox.blocked
    assert caller.carrier.paused
    sink.carrier.read(sink.carrier.waiting - CARRIER_LOW - 1)
    assert caller.carrier.paused
    sink.carrier.read()
    site.turn()
    assert not caller.carrier.paused
    assert outbox.feeders is None


def test_a_carrier_that_took_everything_unblocked_relieves_its_feeders(site_with: Callable[..., Site]) -> None:
    """However small the high mark is: nobody would call back."""
    site = site_with(high_water_bytes=1000, hard_water_bytes=2000)
    caller, sink = site.connect(), site.service("sink")
    sink.carrier.stall()
    for _ in range(4):
        caller.fire("sink.x", bytes(900), turn=False)
    assert caller.carrier.paused
    site.turn()
    assert not sink.connection.outbox.blocked
    assert sink.connection.outbox.size > 1000
    assert not caller.carrier.paused


def test_what_does_not_last_a_turn_pauses_and_resumes(site: Site) -> None:
    caller = site.connect()
    site.service("sink")
    while not caller.carrier.paused:
        caller.fire("sink.x", BIG, turn=False)
    site.turn()
    assert caller.carrier.pauses == ["pause", "resume"]


# Slow consumers


def stuffed(site: Site) -> tuple[Site, RecordingCarrier, RecordingCarrier]:
    """A caller that is paused for a sink that does not read."""
    caller, sink = site.connect(), site.service("sink")
    sink.carrier.stall()
    while not caller.carrier.paused:
        caller.fire("sink.x", BIG)
    return site, caller.carrier, sink.carrier


def test_a_consumer_that_takes_nothing_stops_others_for_a_moment(site: Site) -> None:
    """Then it is given up for slow, and they go on."""
    site, feeder, _ = stuffed(site)
    site.wait(PATIENCE_S)
    assert feeder.paused
    site.wait(0.01)
    assert not feeder.paused


def test_a_consumer_that_takes_too_little_stops_others_for_a_little_longer(site: Site) -> None:
    site, feeder, carrier = stuffed(site)
    for _ in range(8):
        carrier.read(1)
        site.wait(MAX_PAUSE_S / 8)
    assert feeder.paused
    carrier.read(1)
    site.wait(0.01)
    assert not feeder.paused


def test_a_slow_consumer_stops_nobody_again_until_it_has_drained(site: Site) -> None:
    """Requests to it are refused meanwhile: REJECTED, so that others may be asked."""
    site, feeder, carrier = stuffed(site)
    site.wait(PATIENCE_S + 0.01)
    sink = next(peer for peer in site.peers if peer.carrier is carrier)
    caller = next(peer for peer in site.peers if peer.carrier is feeder)
    assert sink.connection.outbox.slow
    caller.respond("sink.x", BIG)
    assert caller.one().code == 0x202
    assert feeder.pauses == ["pause", "resume"]
    carrier.read()
    site.turn()
    assert not sink.connection.outbox.slow
    sink.got()
    caller.respond("sink.x", BIG)
    assert sink.got()


def test_a_slow_consumer_drowns_in_what_is_owed_to_it(site_with: Callable[..., Site]) -> None:
    """Fault 14: at 16 times its hard mark it is closed."""
    site = site_with(high_water_bytes=64 * 1024, hard_water_bytes=128 * 1024)
    caller, big = site.connect("slow"), site.service("big")
    caller.respond("big.x")
    big.got()
    caller.carrier.stall()
    while not big.carrier.paused:
        big.send(item(2, BIG, follows=True))
    site.wait(PATIENCE_S + 0.01)
    while caller.connection.outbox.size <= caller.connection.outbox.hard * DROWNING:
        assert caller.open
        big.send(item(2, BIG, follows=True))
    site.wait(0.01)
    assert caller.carrier.closed is not None
    assert caller.carrier.closed[0] == 4408
    assert caller.carrier.aborted
    assert site.counters.closes == {"write_timeout": 1}


def test_its_own_peer_is_not_read_from_however_long_it_takes(site: Site) -> None:
    """Who asks faster than it reads waits for itself."""
    caller, echo = site.connect("slow"), site.service("echo")
    caller.carrier.stall()
    for _ in range(20):
        caller.respond("echo.x")
        echo.send(item(echo.one().stream_id, BIG, complete=True))
    assert caller.carrier.paused
    for _ in range(8):
        site.wait(1)
        caller.carrier.read(1)
    assert caller.carrier.paused
    caller.carrier.read()
    site.turn()
    assert not caller.carrier.paused


def test_a_peer_that_reads_nothing_is_closed_at_its_deadline(site: Site) -> None:
    """Fault 14: 10 s without a byte."""
    caller, feed = site.connect("slow"), site.service("feed")
    caller.stream("feed.x", MAX_REQUEST_N)
    caller.carrier.stall()
    for _ in range(2):
        feed.send(item(2, BIG))
    site.wait(10)
    assert caller.open
    site.wait(0.01)
    assert caller.carrier.closed is not None
    assert caller.carrier.closed[0] == 4408
    assert caller.carrier.aborted


def test_a_peer_that_reads_a_little_now_and_then_is_not_closed(site: Site) -> None:
    """Fault 32: progress is what counts."""
    caller, feed = site.connect("slow"), site.service("feed")
    caller.stream("feed.x", MAX_REQUEST_N)
    caller.carrier.stall()
    for _ in range(2):
        feed.send(item(2, BIG))
    for _ in range(8):
        site.wait(9)
        caller.carrier.read(1)
    assert caller.open
