"""Faults that a document injects, bytes in and bytes out."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.forwarding.awaiting import MAX_BYTES
from gateway.forwarding.closing import CloseReason
from gateway.policy.governance import Governance
from gateway.policy.traffic import Fault, Limits, RouteRule, ServiceRules
from gateway.wire.frames import Cancel, Error, KeepAlive, Payload, RequestFnf, RequestN, RequestResponse, RequestStream
from tests.forwarding.plane_of import Peer, Site, item, to_route


@pytest.fixture
def echo(site: Site) -> Peer:
    return site.service("echo")


def govern(site: Site, fault: Fault, **fields: Any) -> Any:
    """Let one document hold for `echo`, and whatever else there is. Returns what was injected, by kind."""
    rules = ServiceRules("echo", hosts=("*",), routes=(RouteRule("all", fault=fault),), **fields)
    site.plane.govern(Governance((rules,)))
    return site.plane.governor.state("echo").faults  # type: ignore[union-attr]


def test_an_abort_answers_in_place_of_the_service(site: Site, echo: Peer) -> None:
    injected = govern(site, Fault(abort_code=0x201, abort_share=1.0))
    caller = site.connect()
    stream_id = caller.respond("echo")
    assert caller.one() == Error(stream_id, 0x201, "Service/echo: refused by a fault that is injected on purpose")
    caller.fire("echo")
    assert not caller.got()
    assert not echo.got()
    assert injected == {"abort": 2}
    assert site.counters.refusals == {"fault_abort": 2}


def test_an_aborted_request_counts_against_nobody(site: Site, echo: Peer) -> None:
    """INVALID is what a caller's own fault would be; this one is not."""
    govern(site, Fault(abort_code=0x204, abort_share=1.0), limits=Limits(max_requests=1))
    caller = site.connect()
    for _ in range(3):
        caller.respond("echo")
        assert caller.one().code == 0x204
    assert site.plane.governor.state("echo").guard.shedder.open == 0  # type: ignore[union-attr]


def test_shares_are_drawn_apart(site: Site, echo: Peer) -> None:
    injected = govern(site, Fault(abort_code=0x202, abort_share=0.25, drop_share=0.5))
    caller = site.connect()
    for _ in range(400):
        caller.respond("echo")
    refused = sum(isinstance(frame, Error) for frame in caller.got())
    served = len(echo.got())
    assert refused == injected["abort"]
    assert served == 400 - injected["abort"] - injected["drop"]
    assert 70 <= refused <= 130
    assert 115 <= injected["drop"] <= 185


def test_a_delayed_request_comes_later_with_what_followed_it(site: Site, echo: Peer) -> None:
    injected = govern(site, Fault(delay_s=0.3, delay_share=1.0))
    caller = site.connect()
    first = caller.stream("echo", 1)
    caller.send(RequestN(first, 4))
    second = caller.next_id()
    caller.send(RequestResponse(second, to_route("echo"), b"fra" * 30, follows=True))
    caller.send(Payload(second, None, b"gment", next=True))
    caller.fire("echo", b"fire")
    site.wait(0.29)
    assert not echo.got()
    site.wait(0.02)
    got = echo.got()
    assert [type(frame) for frame in got] == [RequestStream, RequestN, RequestResponse, Payload, RequestFnf]
    assert b"".join(frame.data for frame in got[2:4]) == b"fra" * 30 + b"gment"
    assert injected == {"delay": 3}
    echo.send(item(got[0].stream_id, b"1", complete=True))
    assert caller.one().stream_id == first
    assert len(site.metrics.guards["echo"].faults) == 1


def test_a_delayed_request_can_be_canceled(site: Site, echo: Peer) -> None:
    govern(site, Fault(delay_s=0.3, delay_share=1.0))
    caller = site.connect()
    caller.send(Cancel(caller.respond("echo")))
    site.wait(1.0)
    assert not echo.got()
    caller.respond("echo")
    caller.vanish()
    site.wait(1.0)
    assert not echo.got()


def test_what_is_held_back_is_bounded(site_with: Any) -> None:
    site = site_with(max_frame_bytes=400_000)
    echo = site.service("echo")
    govern(site, Fault(delay_s=0.3, delay_share=1.0))
    caller = site.connect()
    for _ in range(4):
        caller.respond("echo", bytes(MAX_BYTES * 3 // 10))
    assert caller.one().text == "too much of yours is held back"
    site.wait(0.3)
    assert len(echo.got()) == 3


@pytest.mark.parametrize("asked", [2, 3, 4])
def test_no_more_wait_than_may(site: Site, echo: Peer, asked: int) -> None:
    govern(site, Fault(delay_s=0.3, delay_share=1.0), limits=Limits(max_pending=3))
    guard = site.plane.governor.state("echo").guard  # type: ignore[union-attr]
    caller = site.connect()
    numbers = [caller.respond("echo") for _ in range(asked)]
    text = "Service/echo: over 3 requests that wait; try again later"
    assert [frame.text for frame in caller.got()] == [text] * (asked - 3)
    assert guard.waiting == min(asked, 3)
    caller.send(Cancel(numbers[0]))
    site.wait(0.3)
    assert len(echo.got()) == min(asked, 3) - 1
    assert guard.waiting == 0


def test_a_delayed_request_may_be_aborted_then(site: Site, echo: Peer) -> None:
    govern(site, Fault(delay_s=0.3, delay_share=1.0, abort_code=0x203, abort_share=1.0))
    caller = site.connect()
    caller.respond("echo")
    assert not caller.got()
    site.wait(0.3)
    assert caller.one().code == 0x203


def test_a_dropped_request_gets_no_answer_and_can_be_canceled(site: Site, echo: Peer) -> None:
    injected = govern(site, Fault(drop_share=1.0), limits=Limits(max_requests=1))
    caller = site.connect()
    stream_id = caller.respond("echo")
    site.wait(10.0)
    assert not caller.got()
    assert site.open_streams() == 1
    caller.send(Cancel(stream_id))
    assert site.open_streams() == 0
    stream_id = caller.channel("echo", 3)
    caller.send(RequestN(stream_id, 3))
    caller.fire("echo")
    assert injected == {"drop": 3}
    assert not echo.got()
    assert not caller.got()


def test_a_disconnect_closes_the_callers_connection(site: Site, echo: Peer) -> None:
    injected = govern(site, Fault(disconnect_share=1.0))
    caller = site.connect()
    caller.respond("echo")
    error = caller.got()[-1]
    assert (error.stream_id, error.code) == (0, 0x101)
    assert error.text == "Service/echo: closed by a fault that is injected on purpose"
    assert caller.connection.closed
    assert injected == {"disconnect": 1}
    assert site.counters.closes == {CloseReason.FAULT_INJECTED.label: 1}


def test_the_nodes_own_services_and_control_traffic_meet_no_fault(site: Site, echo: Peer) -> None:
    govern(site, Fault(abort_code=0x202, abort_share=1.0, drop_share=1.0, disconnect_share=1.0, delay_share=1.0))
    caller = site.connect()
    own = caller.respond("gateway.ping")
    assert caller.one().stream_id == own
    caller.send(KeepAlive(True, 0, b""))
    assert isinstance(caller.one(), KeepAlive)


def test_without_the_document_all_is_as_before(site: Site, echo: Peer) -> None:
    govern(site, Fault(abort_code=0x202, abort_share=1.0))
    site.plane.govern(Governance(()))
    site.connect().respond("echo")
    assert len(echo.got()) == 1
