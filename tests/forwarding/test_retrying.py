"""Requests that are tried again: which, how often, where, and what their callers see of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.forwarding.governed import ServiceState
from gateway.policy.governance import Governance
from gateway.policy.traffic import Limits, Retries, RetryBudget, RetryOn, RouteRule, ServiceRules
from gateway.wire.frames import Cancel, Error, ErrorCode, RequestN, RequestResponse
from gateway.wire.metadata import encode_composite, encode_routing
from gateway.wire.mimetypes import IDEMPOTENCY_KEY, ROUTING
from tests.forwarding.plane_of import Peer, Site, complete, item

EVERYTHING = frozenset(RetryOn)
AMPLE = RetryBudget(1.0, 1000)
REJECTED, APPLICATION, INVALID = int(ErrorCode.REJECTED), int(ErrorCode.APPLICATION_ERROR), int(ErrorCode.INVALID)


def rules(
    attempts: int = 1,
    on: frozenset[RetryOn] = EVERYTHING,
    *,
    idempotent: bool = False,
    per_try_s: float | None = None,
    timeout_s: float | None = None,
    budget: RetryBudget = AMPLE,
) -> ServiceRules:
    retries = Retries(attempts, on, per_try_s, backoff_s=0.01, max_backoff_s=0.02)
    return ServiceRules(
        "echo",
        routes=(RouteRule("all", timeout_s=timeout_s, retries=retries, idempotent=idempotent),),
        retry_budget=budget,
    )


def govern(site: Site, service: ServiceRules) -> None:
    site.plane.govern(Governance((service,)))


def state(site: Site) -> ServiceState:
    governor = site.plane.governor
    assert governor is not None
    found = governor.state("echo")
    assert found is not None
    return found


def fail(site: Site, responder: Peer, stream_id: int, how: str) -> None:
    if how == "gone":
        responder.vanish()
    elif how == "timeout":
        site.wait(1.1)
    elif how == "late":
        responder.send(item(stream_id, b"first"))
        responder.send(Error(stream_id, REJECTED, "no more"))
    else:
        code = {"rejected": REJECTED, "application": APPLICATION, "invalid": INVALID}[how]
        responder.send(Error(stream_id, code, how))


@pytest.mark.parametrize("idempotent", [False, True])
@pytest.mark.parametrize("how", ["rejected", "application", "invalid", "gone", "timeout", "late"])
@pytest.mark.parametrize("interaction", ["respond", "stream", "channel", "fire"])
def test_what_is_tried_again_and_what_is_not(site: Site, interaction: str, how: str, idempotent: bool) -> None:
    """Each interaction, each failure, marked idempotent or not. Streams not after their first item."""
    if interaction == "fire" and how == "late":
        how = "application"
    if interaction == "respond" and how == "late":
        how = "application"
    govern(site, rules(idempotent=idempotent, per_try_s=1.0))
    responders = [site.service("echo", f"svc-{number}") for number in range(2)]
    caller = site.connect()
    getattr(caller, interaction)("echo")
    asked = [responder.got() for responder in responders]
    first = 0 if asked[0] else 1
    (request,) = asked[first]
    fail(site, responders[first], request.stream_id, how)
    site.wait(0.05)
    safe = how == "rejected" or (idempotent and how in ("application", "gone", "timeout"))
    again = safe and interaction != "fire"
    assert len(responders[1 - first].got()) == again
    told = [frame for frame in caller.got() if isinstance(frame, Error)]
    assert len(told) == (not again and interaction != "fire")
    assert state(site).retries["retried"] == again


def test_a_request_says_itself_that_it_may_be_processed_twice(site: Site) -> None:
    govern(site, rules())
    one, other = site.service("echo", "svc-1"), site.service("echo", "svc-2")
    caller = site.connect()
    marked = encode_composite([(ROUTING, encode_routing(["echo"])), (IDEMPOTENCY_KEY, b"k1")])
    caller.send(RequestResponse(caller.next_id(), marked, b"?"))
    first, second = (one, other) if (asked := one.got()) else (other, one)
    (request,) = asked or first.got()
    first.send(Error(request.stream_id, APPLICATION, "broken"))
    site.wait(0.05)
    assert second.one().data == b"?"


def test_no_more_wait_for_their_turn_than_may(site: Site) -> None:
    """maxPendingRequests holds for what is tried again, and what it keeps back leaves no trace in the budget."""
    service = rules(attempts=3)
    govern(site, replace(service, limits=Limits(max_pending=1)))
    responder = site.service("echo")
    caller = site.connect()
    for _ in range(3):
        caller.respond("echo")
    for request in responder.got():
        responder.send(Error(request.stream_id, REJECTED, "busy"))
    assert len(caller.got()) == 2
    site.wait(0.05)
    responder.send(item(responder.one().stream_id, b"!", complete=True))
    assert caller.one().data == b"!"
    assert state(site).retries == {"retried": 1}
    assert (state(site).account.open, state(site).account.retrying) == (0, 0)


def test_a_caller_gets_the_answer_of_a_later_try(site: Site) -> None:
    govern(site, rules(2))
    responder = site.service("echo")
    caller = site.connect()
    stream_id = caller.respond("echo", b"ping")
    for _ in range(2):
        responder.send(Error(responder.one().stream_id, REJECTED, "busy"))
        assert not caller.got()
        site.wait(0.05)
    request = responder.one()
    assert request.data == b"ping"
    responder.send(item(request.stream_id, b"pong", complete=True))
    assert caller.one() == item(stream_id, b"pong", complete=True)
    assert state(site).retries == {"retried": 2}
    assert (state(site).account.open, state(site).account.retrying) == (0, 0)
    assert site.counters.request_response == 1
    assert not site.open_streams()


def test_attempts_end(site: Site) -> None:
    govern(site, rules(2))
    responder = site.service("echo")
    caller = site.connect()
    caller.respond("echo")
    for _ in range(3):
        responder.send(Error(responder.one().stream_id, REJECTED, "busy"))
        site.wait(0.05)
    error = caller.one()
    assert (error.code, error.text) == (REJECTED, "busy")
    assert not responder.got()
    assert state(site).retries == {"retried": 2, "exhausted": 1}
    assert (state(site).account.open, state(site).account.retrying) == (0, 0)


def test_another_instance_of_the_same_part(site: Site) -> None:
    """Each instance once before one of them is asked again."""
    govern(site, rules(3))
    responders = [site.service("echo", f"svc-{number}") for number in range(3)]
    caller = site.connect()
    caller.respond("echo")
    asked = []
    for _ in range(3):
        (at,) = [number for number, each in enumerate(responders) if each.connection.pending]
        asked.append(at)
        responders[at].send(Error(responders[at].one().stream_id, REJECTED, "busy"))
        site.wait(0.05)
    assert sorted(asked) == [0, 1, 2]


def test_credit_goes_along(site: Site) -> None:
    govern(site, rules())
    responder = site.service("echo")
    caller = site.connect()
    stream_id = caller.stream("echo", n=3)
    first = responder.one()
    caller.send(RequestN(stream_id, 4))
    responder.got()
    responder.send(Error(first.stream_id, REJECTED, "busy"))
    # While it waits for its turn, too.
    caller.send(RequestN(stream_id, 2))
    site.wait(0.05)
    request, more = responder.got()
    assert (request.initial_n, more.n) == (7, 2)
    responder.send(item(request.stream_id, b"a"), complete(request.stream_id))
    assert [frame.data for frame in caller.got()] == [b"a", b""]


def test_a_channel_whose_caller_has_gone_on_is_not_tried_again(site: Site) -> None:
    govern(site, rules())
    responder = site.service("echo")
    caller = site.connect()
    stream_id = caller.channel("echo")
    request = responder.one()
    responder.send(RequestN(request.stream_id, 2))
    caller.got()
    caller.send(item(stream_id, b"more"))
    responder.send(Error(request.stream_id, REJECTED, "busy"))
    assert caller.one().text == "busy"


@pytest.mark.parametrize("how", ["cancel", "vanish"])
def test_a_caller_that_does_not_wait(site: Site, how: str) -> None:
    govern(site, rules())
    responder = site.service("echo")
    caller = site.connect()
    stream_id = caller.respond("echo")
    responder.send(Error(responder.one().stream_id, REJECTED, "busy"))
    if how == "cancel":
        caller.send(Cancel(stream_id))
    else:
        caller.vanish()
    site.wait(0.05)
    assert not responder.got()
    assert (state(site).account.open, state(site).account.retrying) == (0, 0)


def test_the_time_of_one_try(site: Site) -> None:
    """perTryTimeout: CANCEL to who is late, another one is asked; the last one's time is its caller's."""
    govern(site, rules(1, idempotent=True, per_try_s=1.0, timeout_s=10.0))
    responders = [site.service("echo", f"svc-{number}") for number in range(2)]
    caller = site.connect()
    caller.respond("echo")
    (at,) = [number for number, each in enumerate(responders) if each.connection.pending]
    late = responders[at].one()
    site.wait(1.05)
    assert responders[at].one() == Cancel(late.stream_id)
    request = responders[1 - at].one()
    assert not caller.got()
    site.wait(1.05)
    assert responders[1 - at].one() == Cancel(request.stream_id)
    error = caller.one()
    assert error.text == "deadline exceeded: Service/echo: no answer within 1 s, the perTryTimeout of all"
    assert not len(site.plane.deadlines)


def test_all_tries_have_one_deadline(site: Site) -> None:
    govern(site, rules(50, timeout_s=0.5))
    responder = site.service("echo")
    caller = site.connect()
    caller.respond("echo")
    told: list[Any] = []
    for _ in range(100):
        for request in responder.got():
            site.wait(0.1)
            responder.send(Error(request.stream_id, REJECTED, "busy"))
        site.wait(0.02)
        told += caller.got()
    (error,) = told
    assert isinstance(error, Error)
    assert 1 <= state(site).retries["retried"] <= 6


@pytest.mark.parametrize("least", [0, 3])
def test_a_retry_storm_is_bounded_by_the_budget(site: Site, least: int) -> None:
    """Half of all tries fail: what the responders get is at most 1.2 times what callers ask, and a few."""
    govern(site, rules(5, budget=RetryBudget(0.2, least)))
    responder = site.service("echo")
    caller = site.connect()
    asked = tries = answered = failed = 0
    for turn in range(30):
        for _ in range(100):
            caller.respond("echo")
            asked += 1
        for number, request in enumerate(responder.got()):
            tries += 1
            if (number + turn) % 2:
                responder.send(Error(request.stream_id, REJECTED, "busy"))
            else:
                responder.send(item(request.stream_id, b"!", complete=True))
        site.wait(0.02)
        for frame in caller.got():
            answered += not isinstance(frame, Error)
            failed += isinstance(frame, Error)
    counted = state(site).retries
    assert tries <= 1.2 * asked + least + 1
    assert counted["retried"] <= 0.2 * asked + least + 1
    assert counted["over_budget"] > 0
    assert counted["retried"] > 0.1 * asked
    assert answered > 0.5 * asked
    assert answered + failed <= asked
