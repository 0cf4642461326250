"""Requests that are not answered in time, by a caller's deadline and by the `timeout` of a document."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.forwarding.deadlines import SLOT_S
from gateway.policy.governance import Governance
from gateway.policy.traffic import RouteRule, ServiceRules
from gateway.wire.frames import Cancel, Error, Payload, RequestFnf, fragment
from gateway.wire.mimetypes import DEADLINE
from tests.forwarding.plane_of import Peer, Site, entries_of, item, to_route

LATE_S = 3 * SLOT_S


def due(left_ms: int) -> tuple[str, bytes]:
    return DEADLINE, left_ms.to_bytes(4, "big")


def lefts(metadata: bytes | None) -> list[int]:
    return [int.from_bytes(content, "big") for mime, content in entries_of(metadata) if mime == DEADLINE]


def govern(site: Site, *rules: RouteRule) -> None:
    site.plane.govern(Governance((ServiceRules("echo", routes=rules),)))


@pytest.fixture
def caller(site: Site) -> Peer:
    return site.connect()


@pytest.fixture
def echo(site: Site) -> Peer:
    return site.service("echo")


Ask = Callable[..., int]


def ask_of(caller: Peer, kind: str) -> Ask:
    return {"requestResponse": caller.respond, "requestStream": caller.stream, "requestChannel": caller.channel}[kind]


@pytest.mark.parametrize("kind", ["requestResponse", "requestStream", "requestChannel"])
@pytest.mark.parametrize("by", ["caller", "document", "both", "shorter caller"])
def test_no_answer_in_time(site: Site, caller: Peer, echo: Peer, kind: str, by: str) -> None:
    """The caller hears whose time it was, the responder gets CANCEL, what comes late is no offence."""
    if by != "caller":
        govern(site, RouteRule("reads", timeout_s=0.5))
    theirs = {"caller": [due(500)], "document": [], "both": [due(9000)], "shorter caller": [due(200)]}[by]
    after_s = 0.2 if by == "shorter caller" else 0.5
    stream_id = ask_of(caller, kind)("", metadata=to_route("echo.it", entries=theirs))
    asked = echo.one()
    assert lefts(asked.metadata) == [after_s * 1000]
    site.wait(after_s - SLOT_S)
    assert caller.got() == []
    site.wait(LATE_S)
    what = "answer" if kind == "requestResponse" else "first item"
    why = "500 ms that its caller had left here"
    if by == "shorter caller":
        why = "200 ms that its caller had left here"
    text = f"deadline exceeded: no {what} within the {why}"
    if by in ("document", "both"):
        text = f"deadline exceeded: Service/echo: no {what} within 0.5 s, the timeout of reads"
    assert caller.one() == Error(stream_id, 0x203, text)
    assert echo.one() == Cancel(asked.stream_id)
    assert site.counters.refusals == {"deadline_exceeded": 1}
    assert [stats.failed for stats in site.metrics.services.values() if stats.requests] == [1]
    echo.send(item(asked.stream_id, b"late", complete=True))
    assert caller.got() == []
    assert echo.open
    assert not site.plane.deadlines


def test_an_answer_in_time_is_the_end_of_it(site: Site, caller: Peer, echo: Peer) -> None:
    govern(site, RouteRule("reads", timeout_s=5.0))
    for _ in range(3):
        stream_id = caller.respond("echo.it")
        assert len(site.plane.deadlines) == 1
        echo.send(item(echo.one().stream_id, b"!", complete=True))
        assert caller.one() == item(stream_id, b"!", complete=True)
        assert len(site.plane.deadlines) == 0
    site.wait(10)
    assert caller.got() == []
    assert not site.plane.deadlines.armed


@pytest.mark.parametrize("end", ["error", "cancel", "responder", "caller"])
def test_every_other_end_takes_its_deadline_along(site: Site, caller: Peer, echo: Peer, end: str) -> None:
    govern(site, RouteRule("reads", timeout_s=5.0))
    stream_id = caller.stream("echo.it")
    asked = echo.one()
    if end == "error":
        echo.send(Error(asked.stream_id, 0x201, "no"))
    elif end == "cancel":
        caller.send(Cancel(stream_id))
    else:
        (echo if end == "responder" else caller).vanish()
    assert len(site.plane.deadlines) == 0
    site.wait(10)
    assert "deadline_exceeded" not in site.counters.refusals


@pytest.mark.parametrize("kind", ["requestStream", "requestChannel"])
@pytest.mark.parametrize("first", [{}, {"follows": True}])
def test_a_stream_that_has_begun_may_go_on(
    site: Site, caller: Peer, echo: Peer, kind: str, first: dict[str, bool]
) -> None:
    govern(site, RouteRule("reads", timeout_s=0.5))
    stream_id = ask_of(caller, kind)("echo.it", 8)
    asked = echo.one()
    site.wait(0.4)
    echo.send(item(asked.stream_id, bytes(64), **first))
    site.wait(60)
    echo.send(item(asked.stream_id, b"2"))
    assert [frame.stream_id for frame in caller.got()] == [stream_id] * 2
    assert site.counters.refusals == {}


def test_half_an_answer_is_none(site: Site, caller: Peer, echo: Peer) -> None:
    govern(site, RouteRule("reads", timeout_s=0.5))
    caller.respond("echo.it")
    asked = echo.one()
    echo.send(Payload(asked.stream_id, None, bytes(64), follows=True, next=True))
    site.wait(0.6)
    assert isinstance(caller.got()[-1], Error)
    assert echo.one() == Cancel(asked.stream_id)
    echo.send(item(asked.stream_id, b"rest", complete=True))
    assert echo.open
    assert caller.got() == []


def test_fire_and_forget_is_over_when_it_is_sent(site: Site, caller: Peer, echo: Peer) -> None:
    govern(site, RouteRule("reads", timeout_s=0.5))
    caller.fire("echo.it")
    for frame in fragment(RequestFnf(caller.next_id(), to_route("echo.it"), bytes(100)), 120):
        caller.send(frame)
    assert len(site.plane.deadlines) == 0
    echo.got()
    site.wait(1)
    assert echo.got() == []
    assert caller.got() == []


def test_a_responder_that_cannot_read_it_is_not_told(site: Site, caller: Peer) -> None:
    plain = site.service("echo", mime="message/x.rsocket.routing.v0")
    govern(site, RouteRule("reads", timeout_s=0.5))
    caller.respond("echo.it")
    assert plain.one().metadata == to_route("echo.it")[4:]
    site.wait(0.6)
    assert caller.one().text.startswith("deadline exceeded: Service/echo")


def test_a_new_document_holds_for_requests_to_come(site: Site, caller: Peer, echo: Peer) -> None:
    govern(site, RouteRule("reads", timeout_s=0.5))
    caller.respond("echo.it")
    govern(site, RouteRule("reads", timeout_s=5.0))
    caller.respond("echo.it")
    assert [lefts(frame.metadata) for frame in echo.got()] == [[500], [5000]]
    site.wait(1)
    assert len(caller.got()) == 1
    site.plane.govern(Governance())
    caller.respond("echo.it")
    assert lefts(echo.got()[-1].metadata) == []


def test_short_calls_under_a_long_timeout_leave_nothing(site: Site, caller: Peer, echo: Peer) -> None:
    """Two thousand through the plane; the wheel's own test has the rest."""
    govern(site, RouteRule("reads", timeout_s=5.0))
    for _ in range(2000):
        caller.respond("echo.it")
        echo.send(item(echo.one().stream_id, complete=True))
        site.clock.now += 0.001
        assert not site.plane.deadlines
        assert len(site.timers.pending) <= 1
    caller.got()
