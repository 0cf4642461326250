"""What protects a service, bytes in and bytes out: rates, leases, breaker, requests at once, ejections, priorities."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.forwarding.leasing import GENEROUS
from gateway.policy.breaker import State
from gateway.policy.governance import Governance
from gateway.policy.overload import Overload
from gateway.policy.principal import Kind
from gateway.policy.traffic import (
    Adaptive,
    Breaker,
    Limits,
    Match,
    Outliers,
    Per,
    Rate,
    RouteRule,
    ServiceRules,
)
from gateway.wire.frames import Cancel, Error, KeepAlive, Lease, Payload, RequestN, Setup
from gateway.wire.mimetypes import COMPOSITE
from tests.forwarding.plane_of import Peer, Site, credentials, item

REJECTED, APPLICATION_ERROR, INVALID = 0x202, 0x201, 0x204


@pytest.fixture
def echo(site: Site) -> Peer:
    return site.service("echo")


def govern(site: Site, **fields: Any) -> Any:
    """Let one document hold for `echo`. Returns what guards it, made by a first request that is canceled."""
    fields.setdefault("routes", (RouteRule("all"),))
    site.plane.govern(Governance((ServiceRules("echo", **fields),)))
    return site.plane.governor.state("echo").guard  # type: ignore[union-attr]


def answer(responder: Peer, error: int = 0) -> int:
    """Answer all that came, well or with an error. Returns how many."""
    asked = [frame for frame in responder.got() if not isinstance(frame, Cancel | RequestN | Lease)]
    for frame in asked:
        stream_id = frame.stream_id
        responder.send(Error(stream_id, error, "no") if error else item(stream_id, b"!", complete=True))
    return len(asked)


def refusals(caller: Peer) -> list[str]:
    """The texts of the REJECTED errors that came."""
    return [frame.text for frame in caller.got() if isinstance(frame, Error) and frame.code == REJECTED]


# Rates


def test_over_its_rate_a_caller_is_refused_with_the_document_and_what_to_do(site: Site, echo: Peer) -> None:
    govern(site, limits=Limits(rate=Rate(2, 1.0, 3, Per.PRINCIPAL)))
    caller, other = site.connect(subject="one"), site.connect(subject="two")
    for _ in range(4):
        caller.respond("echo")
    assert refusals(caller) == ["Service/echo: over 2 requests of yours in 1 s; try again in 0.5 s"]
    other.respond("echo")
    assert answer(echo) == 4
    assert site.counters.refusals == {"service_rate": 1}
    assert site.metrics.guards["echo"].refused == {"rate": 1}
    site.wait(0.5)
    caller.got()
    caller.respond("echo")
    assert answer(echo) == 1


@pytest.mark.parametrize(("per", "through"), [(Per.SERVICE, 3), (Per.ROUTE, 6), (Per.PRINCIPAL, 6)])
def test_a_rate_counts_apart_whom_it_says(site: Site, echo: Peer, per: Per, through: int) -> None:
    govern(site, limits=Limits(rate=Rate(1, 1.0, 3, per)))
    for number in (1, 2):
        caller = site.connect(subject=f"caller-{number}")
        for _ in range(5):
            caller.respond(f"echo.route{number}")
    assert answer(echo) == through


def test_a_dry_run_refuses_nobody_and_is_counted(site: Site, echo: Peer) -> None:
    govern(site, limits=Limits(rate=Rate(1, 1.0, 3, Per.PRINCIPAL, dry_run=True)))
    caller = site.connect()
    for _ in range(10):
        caller.respond("echo")
    assert answer(echo) == 10
    site.metrics.measure()
    assert site.metrics.guards["echo"].would_refuse == 7
    site.metrics.measure()
    assert site.metrics.guards["echo"].would_refuse == 7


def test_fire_and_forget_over_its_rate_is_dropped_and_not_answered(site: Site, echo: Peer) -> None:
    govern(site, limits=Limits(rate=Rate(1, 1.0, 3, Per.PRINCIPAL)))
    caller = site.connect()
    for _ in range(5):
        caller.fire("echo")
    assert len(echo.got()) == 3
    assert not caller.got()


# Rates told by lease


def leased(site: Site, subject: str, kind: Kind = Kind.SERVICE, routes: tuple[str, ...] = ("*",)) -> Peer:
    peer = site.dial()
    peer.send(
        Setup(20_000, 90_000, COMPOSITE, "a/b", credentials(site.token(subject, kind, routes=routes)), lease=True)
    )
    return peer


def test_a_lease_is_the_least_of_the_own_limit_and_what_the_rate_leaves(site: Site, echo: Peer) -> None:
    govern(site, limits=Limits(rate=Rate(10, 1.0, 20, Per.PRINCIPAL)))
    assert leased(site, "a").one().requests == 20
    assert leased(site, "b", Kind.DEVICE).one().requests == 20
    assert leased(site, "c", routes=("other.*",)).one().requests == GENEROUS
    assert leased(site, "d", routes=("echo.get.*",)).one().requests == 20


def test_who_keeps_to_its_lease_is_never_refused_and_gets_no_more_than_the_rate(site: Site, echo: Peer) -> None:
    govern(site, limits=Limits(rate=Rate(10, 1.0, 20, Per.PRINCIPAL)))
    caller = leased(site, "a")
    left, sent, passed, errors = 0, 0, 0, 0
    for _ in range(400):
        for frame in caller.got():
            if isinstance(frame, Lease):
                left = frame.requests
            errors += isinstance(frame, Error)
        if left:
            left -= 1
            sent += 1
            caller.respond("echo")
        passed += answer(echo)
        site.wait(0.05)
    assert errors == 0
    assert passed == sent
    # 20 s: the burst, ten a second, and one lease that was under way.
    assert 200 <= passed <= 20 + 200 + 20


def test_those_who_share_a_rate_by_lease_share_what_it_leaves(site: Site, echo: Peer) -> None:
    govern(site, limits=Limits(rate=Rate(20, 1.0, 20, Per.SERVICE)))
    callers = [leased(site, f"caller-{number}") for number in range(4)]
    left, errors, passed = [0] * 4, 0, 0
    for _ in range(400):
        for index, caller in enumerate(callers):
            for frame in caller.got():
                if isinstance(frame, Lease):
                    left[index] = frame.requests
                errors += isinstance(frame, Error)
            if left[index]:
                left[index] -= 1
                caller.respond("echo")
        passed += answer(echo)
        site.wait(0.05)
    assert errors == 0
    # 20 s: twenty a second, the burst, and the first leases, of which nobody knew of the others.
    assert passed <= 20 * 20 + 20 + 4 * 20


def test_a_new_document_makes_leases_smaller_at_once(site: Site, echo: Peer) -> None:
    caller = leased(site, "a")
    assert caller.one().requests == GENEROUS
    govern(site, limits=Limits(rate=Rate(10, 1.0, 20, Per.PRINCIPAL)))
    site.turn()
    assert caller.one().requests == 20


# Requests at once


@pytest.mark.parametrize("asked", [2, 3, 4])
def test_never_more_are_open_than_the_limit(site: Site, echo: Peer, asked: int) -> None:
    guard = govern(site, limits=Limits(max_requests=3))
    caller = site.connect()
    for _ in range(asked):
        caller.respond("echo")
    assert guard.shedder.open == min(asked, 3)
    assert refusals(caller) == ["Service/echo: over 3 requests at once; try again later"] * (asked - 3)
    assert answer(echo) == min(asked, 3)
    assert guard.shedder.open == 0


def test_every_way_to_end_frees_its_place(site: Site, echo: Peer) -> None:
    guard = govern(site, limits=Limits(max_requests=1))
    caller = site.connect()
    stream_id = caller.respond("echo")
    caller.send(Cancel(stream_id))
    stream_id = caller.stream("echo")
    echo.send(Error(echo.got()[-1].stream_id, APPLICATION_ERROR, "no"))
    caller.channel("echo")
    echo.send(Payload(echo.got()[-1].stream_id, None, b"", next=False))  # breaks the protocol
    caller.respond("echo")
    caller.vanish()
    assert guard.shedder.open == 0
    caller = site.connect()
    caller.respond("echo")
    echo.vanish()
    assert guard.shedder.open == 0
    assert not site.counters.refusals.get("service_max_requests")


def test_a_request_that_cannot_be_sent_frees_its_place(site: Site, echo: Peer) -> None:
    guard = govern(site, limits=Limits(max_requests=1))
    caller = site.connect()
    echo.connection.outbox.slow = True
    caller.respond("echo")
    assert "takes in too little" in caller.one().text
    assert guard.shedder.open == 0
    echo.connection.outbox.slow = False


def test_fire_and_forget_takes_no_place(site: Site, echo: Peer) -> None:
    guard = govern(site, limits=Limits(max_requests=1))
    caller = site.connect()
    for _ in range(5):
        caller.fire("echo")
    assert len(echo.got()) == 5
    assert guard.shedder.open == 0


def test_an_adaptive_limit_follows_latency(site: Site, echo: Peer) -> None:
    guard = govern(site, adaptive=Adaptive(min_limit=4, max_limit=100))
    caller = site.connect()
    for _ in range(5):
        caller.respond("echo")
    assert refusals(caller) == [
        "Service/echo: over 4 requests at once, which is what it does without delay; try again later"
    ]
    answer(echo)
    for _ in range(60):
        for _ in range(guard.limit):
            caller.respond("echo")
        site.wait(0.1)
        answer(echo)
    assert guard.limit > 20
    grown = guard.limit
    for _ in range(20):
        for _ in range(guard.limit):
            caller.respond("echo")
        site.wait(1.0)
        answer(echo)
    assert guard.limit < grown / 2


# Priorities


def by_priority(**more: Any) -> dict[str, Any]:
    routes = (
        RouteRule("vital", (Match("vital"),), priority=0),
        RouteRule("bulk", (Match("bulk"),), priority=7),
        RouteRule("rest"),
    )
    return {"routes": routes, **more}


def test_an_overloaded_node_sheds_what_was_declared_less_important(site: Site, echo: Peer) -> None:
    govern(site, **by_priority())
    caller = site.connect()
    site.plane.strain(Overload.LATE)
    caller.respond("echo.bulk")
    assert refusals(caller) == ["Service/echo: this node is overloaded, and sheds priority 7; try again later"]
    caller.respond("echo.vital")
    caller.respond("echo.else")
    assert answer(echo) == 2
    site.plane.strain(Overload.NONE)
    caller.respond("echo.bulk")
    assert answer(echo) == 1


def test_at_the_limit_the_low_are_shed_first(site: Site, echo: Peer) -> None:
    govern(site, **by_priority(limits=Limits(max_requests=4)))
    caller = site.connect()
    for _ in range(2):
        caller.respond("echo.vital")
    answer(echo)
    caller.got()
    for _ in range(4):
        caller.respond("echo.bulk")
    assert len(refusals(caller)) == 2
    for _ in range(2):
        caller.respond("echo.vital")
    assert not refusals(caller)
    answer(echo)


def test_control_traffic_is_neither_shed_nor_limited(site: Site, echo: Peer) -> None:
    """Keepalives, credit, cancels and the node's own services, while every request to the service is refused."""
    guard = govern(
        site, hosts=("*",), limits=Limits(max_requests=1, rate=Rate(1, 3600.0, 1, Per.SERVICE)), **by_priority()
    )
    caller = site.connect()
    stream_id = caller.stream("echo.vital", 1)
    site.plane.strain(Overload.SHEDDING)
    caller.respond("echo.bulk")
    assert len(refusals(caller)) == 1
    caller.send(KeepAlive(True, 0, b""))
    assert isinstance(caller.one(), KeepAlive)
    echo.got()
    caller.send(RequestN(stream_id, 5))
    assert isinstance(echo.one(), RequestN)
    own = caller.respond("gateway.ping")
    assert caller.one().stream_id == own
    caller.send(Cancel(stream_id))
    assert isinstance(echo.one(), Cancel)
    assert guard is None or guard.shedder.open == 0
    site.plane.strain(Overload.NONE)


@pytest.mark.parametrize("prefixed", [False, True])
def test_a_keepalive_is_not_queued_behind_data(site: Site, echo: Peer, prefixed: bool) -> None:
    """To a caller that reads slowly: what waits in the node is behind it, what its socket has already is not."""
    caller = site.connect(prefixed=prefixed)
    caller.carrier.stall()
    numbers = [caller.respond("echo") for _ in range(12)]
    for frame in echo.got():
        echo.send(item(frame.stream_id, bytes(10_000), complete=True))
    written = len(caller.got())
    assert 0 < written < 12
    caller.send(KeepAlive(True, 0, b"now"))
    assert not caller.got()
    caller.carrier.read()
    site.turn()
    first, *rest = caller.got()
    assert first == KeepAlive(False, 0, b"now")
    assert [frame.stream_id for frame in rest] == numbers[written:]
    assert not caller.connection.outbox.waiting


# The breaker


def test_a_breaker_opens_half_opens_and_closes_at_exact_counts(site: Site, echo: Peer) -> None:
    guard = govern(site, breaker=Breaker(min_requests=10, failure_share=0.5, window_s=10.0, sleep_s=5.0, probes=2))
    caller = site.connect()
    for _ in range(9):
        caller.respond("echo")
        answer(echo, APPLICATION_ERROR)
    assert guard.breaker.state is State.CLOSED
    caller.respond("echo")
    answer(echo, APPLICATION_ERROR)
    assert guard.breaker.state is State.OPEN
    caller.got()
    for _ in range(7):
        caller.respond("echo")
    assert refusals(caller) == ["Service/echo: the circuit breaker is open; try again in 5 s"] * 7
    assert answer(echo) == 0
    site.wait(5.0)
    caller.got()
    for _ in range(5):
        caller.respond("echo")
    assert len(refusals(caller)) == 3
    assert guard.breaker.state is State.HALF_OPEN
    assert answer(echo) == 2
    assert guard.breaker.state is State.CLOSED
    caller.got()
    for _ in range(5):
        caller.respond("echo")
    assert answer(echo) == 5
    site.metrics.measure()
    figures = site.metrics.guards["echo"]
    assert (figures.breaker, figures.opened, figures.refused) == (0, 1, {"breaker_open": 10})


def test_invalid_requests_and_cancels_open_no_breaker(site: Site, echo: Peer) -> None:
    guard = govern(site, breaker=Breaker(min_requests=2))
    caller = site.connect()
    for _ in range(10):
        caller.respond("echo")
        answer(echo, INVALID)
        caller.send(Cancel(caller.respond("echo")))
        echo.got()
    assert guard.breaker.state is State.CLOSED
    assert (guard.breaker.requests, guard.breaker.failures) == (10, 0)


def test_fire_and_forget_waits_for_others_to_close_a_breaker(site: Site, echo: Peer) -> None:
    govern(site, breaker=Breaker(min_requests=2, sleep_s=5.0))
    caller = site.connect()
    for _ in range(2):
        caller.respond("echo")
        answer(echo, REJECTED)
    caller.fire("echo")
    assert not echo.got()
    site.wait(5.0)
    caller.fire("echo")
    assert len(echo.got()) == 1


# Ejections


def test_an_instance_that_fails_is_passed_over_and_comes_back(site: Site) -> None:
    good, bad = site.service("echo", subject="good"), site.service("echo", subject="bad")
    guard = govern(site, outliers=Outliers(consecutive_errors=3, base_ejection_s=30.0))
    caller = site.connect()

    def ask(times: int) -> tuple[int, int]:
        well = ill = 0
        for _ in range(times):
            caller.respond("echo")
            well += answer(good)
            ill += answer(bad, APPLICATION_ERROR)
        return well, ill

    assert ask(100) == (97, 3)
    site.metrics.measure()
    figures = site.metrics.guards["echo"]
    assert (figures.ejected, figures.ejections) == (1, {"consecutive_errors": 1})
    site.wait(30.0)
    # On probation: its first failure ejects it again.
    assert ask(100) == (99, 1)
    assert guard.outliers.latest[-1].cause == "probation"


def test_all_that_are_left_serve_even_when_they_are_ejected(site: Site) -> None:
    good, bad = site.service("echo", subject="good"), site.service("echo", subject="bad")
    govern(site, outliers=Outliers(consecutive_errors=1))
    caller = site.connect()
    for _ in range(4):
        caller.respond("echo")
        answer(good)
        answer(bad, APPLICATION_ERROR)
    good.vanish()
    caller.got()
    caller.respond("echo")
    assert answer(bad) == 1


def test_an_ejection_can_be_taken_back(site: Site) -> None:
    site.service("echo", subject="good")
    bad = site.service("echo", subject="bad")
    guard = govern(site, outliers=Outliers(consecutive_errors=1))
    caller = site.connect()
    for _ in range(2):
        caller.respond("echo")
        answer(bad, APPLICATION_ERROR)
    (key,) = guard.outliers.out
    assert not guard.restore(bytes(16))
    assert guard.restore(key)
    assert not guard.outliers.out
    assert site.plane.governor.state("echo").choices.out == frozenset()  # type: ignore[union-attr]


# Documents


def test_what_is_counted_outlives_a_document_and_the_state_does_not(site: Site, echo: Peer) -> None:
    govern(site, limits=Limits(max_requests=1))
    caller = site.connect()
    for _ in range(3):
        caller.respond("echo")
    site.metrics.measure()
    figures = site.metrics.guards["echo"]
    assert (figures.open, figures.limit, figures.refused) == (1, 1, {"max_requests": 2})
    site.plane.govern(Governance(()))
    site.metrics.measure()
    assert (figures.open, figures.limit, figures.refused) == (0, 0, {"max_requests": 2})
    answer(echo)


def test_a_document_that_protects_nothing_has_no_guard(site: Site, echo: Peer) -> None:
    assert govern(site) is None
    assert govern(site, limits=Limits(max_requests=1)) is not None
