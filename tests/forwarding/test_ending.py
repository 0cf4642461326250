"""The end of a stream: both hops go, the outcome is counted once, the other side is told in its own terms."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.forwarding.credit import WINDOW
from gateway.forwarding.ending import CANCELED, FAILED, OK, break_stream, end_all, finish, requester_done
from gateway.forwarding.stream import REQUESTER_DONE, RESPONDER_DONE, Stream
from gateway.wire.frames import Cancel, Error, Frame
from tests.forwarding.plane_of import Peer, Site


@pytest.fixture
def caller(site: Site) -> Peer:
    return site.connect()


@pytest.fixture
def echo(site: Site) -> Peer:
    return site.service("echo")


def opened(caller: Peer, echo: Peer, ask: str) -> Stream:
    """A stream between the two, with nothing unread."""
    stream_id = getattr(caller, ask)("echo.x", **({"follows": True, "data": bytes(64)} if ask == "fire" else {}))
    echo.got()
    stream: Stream = caller.connection.requesting[stream_id]
    return stream


@pytest.mark.parametrize(
    ("outcome", "counted"),
    [(OK, (1, 0, 0)), (FAILED, (0, 1, 0)), (CANCELED, (0, 0, 1))],
)
@pytest.mark.parametrize("ask", ["respond", "fire", "stream", "channel"])
def test_finish(site: Site, caller: Peer, echo: Peer, ask: str, outcome: int, counted: tuple[int, int, int]) -> None:
    stream = opened(caller, echo, ask)
    site.clock.now += 0.5
    site.plane.wake()
    finish(stream, outcome)
    assert not caller.connection.requesting
    assert not echo.connection.serving
    assert echo.connection.pending == 0
    assert site.open_streams() == 0
    stats = site.metrics.services["echo"]
    assert (stats.ok, stats.failed, stats.canceled) == counted
    assert stats.count == counted[0], "only what went well says how long it takes"
    assert stats.sum_seconds == 0.5 * counted[0]
    site.turn()
    assert caller.got() == echo.got() == [], "telling is its caller's"


def test_finish_happens_once(caller: Peer, echo: Peer) -> None:
    stream = opened(caller, echo, "respond")
    finish(stream, OK)
    with pytest.raises(KeyError):
        finish(stream, OK)


@pytest.mark.parametrize(
    ("ask", "outcome", "requester", "responder"),
    [
        ("respond", OK, 1, 0),
        ("respond", CANCELED, 1, 1),
        ("stream", OK, 1 + WINDOW, 1 + 1),
        ("stream", CANCELED, 1 + WINDOW, 1 + 1),
        ("channel", FAILED, 1 + WINDOW, 1 + 1 + WINDOW),
    ],
)
def test_what_is_excused(caller: Peer, echo: Peer, ask: str, outcome: int, requester: int, responder: int) -> None:
    """P22: a CANCEL, the credit that a consumer grants, the items that a producer has credit for."""
    finish(opened(caller, echo, ask), outcome)
    assert caller.connection.strays.excused == requester
    assert echo.connection.strays.excused == responder


def test_a_half_that_is_done(site: Site, caller: Peer, echo: Peer) -> None:
    """P33."""
    stream = opened(caller, echo, "channel")
    requester_done(stream)
    assert stream.state & REQUESTER_DONE
    assert site.open_streams() == 1
    stream.state |= RESPONDER_DONE
    requester_done(stream)
    assert site.open_streams() == 0
    assert site.metrics.services["echo"].ok == 1


INVALID = 0x204

BROKEN: list[tuple[str, str, Any, Any]] = [
    ("respond", "caller", Error(1, INVALID, "so"), Cancel(2)),
    ("stream", "caller", Error(1, INVALID, "so"), Cancel(2)),
    ("channel", "caller", Error(1, INVALID, "so"), Cancel(2)),
    ("fire", "caller", None, Cancel(2)),
    ("respond", "responder", Error(1, INVALID, "responder: so"), Cancel(2)),
    ("stream", "responder", Error(1, INVALID, "responder: so"), Cancel(2)),
    ("channel", "responder", Error(1, INVALID, "responder: so"), Error(2, INVALID, "so")),
    ("fire", "responder", None, Cancel(2)),
]


@pytest.mark.parametrize(("ask", "culprit", "to_caller", "to_responder"), BROKEN)
def test_who_breaks_a_stream_is_told_and_so_is_the_other(
    site: Site, caller: Peer, echo: Peer, ask: str, culprit: str, to_caller: Frame | None, to_responder: Frame
) -> None:
    """P35, faults 26 and 30: a fire-and-forget is not answered, whoever broke it."""
    stream = opened(caller, echo, ask)
    break_stream(stream, caller.connection if culprit == "caller" else echo.connection, "so", "zero_n")
    site.turn()
    assert caller.got() == ([] if to_caller is None else [to_caller])
    assert echo.got() == [to_responder]
    assert site.counters.refusals == {"zero_n": 1}
    assert site.metrics.services["echo"].failed == 1
    assert caller.open
    assert echo.open


def test_all_streams_of_one_side_end(site: Site, caller: Peer, echo: Peer) -> None:
    """Protocol 1: those it serves and those it opened."""
    other = site.service("other")
    served = [opened(caller, echo, ask) for ask in ("respond", "fire", "stream", "channel")]
    echo.stream("other.x")
    other.got()
    end_all(echo.connection)
    site.turn()
    gone = "responder disconnected"
    assert caller.got() == [Error(served[n].requester_id, 0x203, gone) for n in (0, 2, 3)]
    assert other.got() == [Cancel(2)]
    assert echo.got() == []
    assert site.metrics.services["echo"].failed == 4
    assert site.metrics.services["other"].canceled == 1


def test_streams_with_oneself_end_once(site: Site, echo: Peer) -> None:
    echo.respond("echo.x")
    echo.got()
    end_all(echo.connection)
    site.turn()
    assert echo.got() == [Error(1, 0x203, "responder disconnected")]
