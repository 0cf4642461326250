"""Requests that wait for somebody to serve them."""

from __future__ import annotations

import pytest

from gateway.forwarding import acceptor
from gateway.policy.traffic import Destination, Limits, Match, RouteRule, ServiceRules
from gateway.wire.frames import Cancel, Error
from gateway.wire.mimetypes import DEADLINE
from tests.forwarding.plane_of import Peer, Site, complete, item, to_route
from tests.forwarding.test_choosing import govern, rules

WAITS = RouteRule("waits", wait_for_route_s=5.0)


def waits(site: Site) -> dict[str, int]:
    return dict(site.metrics.guards["echo"].waits)


def come(site: Site, service: str = "echo", **tags: str) -> Peer:
    """Somebody comes to serve it; what waits is sent at once."""
    peer = site.connect(f"late-{len(site.peers)}")
    acceptor.register(peer.connection, site.registration(service, **tags))
    site.turn()
    return peer


def answered(caller: Peer, serving: Peer, stream_id: int) -> None:
    serving.send(item(serving.one().stream_id, b"well", complete=True))
    assert caller.one() == item(stream_id, b"well", complete=True)


def test_a_request_waits_for_a_route_to_join(site: Site) -> None:
    govern(site, rules(WAITS))
    caller = site.connect()
    stream_id = caller.respond("echo.read")
    assert caller.got() == []
    site.wait(4)
    assert caller.got() == []
    answered(caller, come(site), stream_id)
    assert waits(site) == {"tried": 1}
    assert not len(site.waiting)


def test_it_ends_when_its_time_is_over(site: Site) -> None:
    govern(site, rules(WAITS))
    caller = site.connect()
    caller.respond("echo.read")
    come(site, "other")
    site.wait(5.1)
    error = caller.one()
    assert error.code == 0x202
    assert error.text == "no route to echo.read; nobody came within 5 s (Service/echo, waitForRoute)"
    assert waits(site) == {"in_vain": 1}
    come(site)
    assert caller.got() == []


def test_its_deadline_goes_before(site: Site) -> None:
    govern(site, rules(WAITS))
    caller = site.connect()
    entries = [(DEADLINE, (1000).to_bytes(4, "big"))]
    caller.respond("echo", metadata=to_route("echo", entries=entries))
    site.wait(1.1)
    assert caller.one().text == "deadline exceeded: it waited for a route (Service/echo)"


def test_who_comes_in_time_gets_what_is_left_of_the_deadline(site: Site) -> None:
    govern(site, rules(WAITS))
    caller = site.connect()
    entries = [(DEADLINE, (3000).to_bytes(4, "big"))]
    caller.respond("echo", metadata=to_route("echo", entries=entries))
    site.wait(1.0)
    asked = come(site).one()
    assert (2000).to_bytes(4, "big") in asked.metadata


def test_without_a_rule_that_says_so_nothing_waits(site: Site) -> None:
    govern(site, rules(RouteRule("set", (Match(route="set"),), wait_for_route_s=5.0), RouteRule("rest")))
    caller = site.connect()
    caller.respond("echo.read")
    assert isinstance(caller.one(), Error)
    caller.respond("echo.set")
    assert caller.got() == []
    caller.respond("other.set")
    assert isinstance(caller.one(), Error)
    site.wait(6)
    assert len(caller.got()) == 1


def test_how_many_wait_is_bounded(site: Site) -> None:
    govern(site, rules(WAITS, limits=Limits(max_pending=2)))
    caller = site.connect()
    for _ in range(3):
        caller.respond("echo")
    assert caller.one().text == "Service/echo: over 2 requests wait for a route"
    assert waits(site) == {"refused": 1}
    come(site)
    assert waits(site) == {"refused": 1, "tried": 2}


def test_who_cancels_or_leaves_waits_no_more(site: Site) -> None:
    govern(site, rules(WAITS))
    caller, other = site.connect(), site.connect()
    caller.send(Cancel(caller.respond("echo")))
    other.respond("echo")
    other.vanish()
    assert come(site).got() == []
    assert caller.got() == []


def test_every_interaction_waits_and_fire_and_forget_is_told_nothing(site: Site) -> None:
    govern(site, rules(WAITS))
    caller = site.connect()
    caller.fire("echo", b"one")
    site.wait(6)
    assert caller.got() == []
    caller.fire("echo", b"two")
    caller.stream("echo", 1, b"three")
    channel = caller.channel("echo", 1, b"four")
    caller.send(item(channel, b"more"), complete(channel))
    serving = come(site)
    assert [frame.data for frame in serving.got()[:3]] == [b"two", b"three", b"four"]  # type: ignore[union-attr]


def test_what_is_gone_again_waits_for_what_is_left_of_its_time(site: Site) -> None:
    """A part with nobody in it is waited for, too: those who come are of another part."""
    govern(site, rules(RouteRule("canary", to=(Destination("canary"),), wait_for_route_s=5.0)))
    caller = site.connect()
    stream_id = caller.respond("echo")
    site.wait(3)
    stable = come(site, version="1")
    assert (stable.got(), caller.got()) == ([], [])
    site.wait(1)
    canary = come(site, version="2")
    answered(caller, canary, stream_id)
    # Two seconds and another three.
    canary.vanish()
    caller.respond("echo")
    site.wait(3)
    come(site, version="1")
    site.wait(2.1)
    assert "nobody is in it; nobody came within 5 s" in caller.one().text


@pytest.mark.parametrize("name", ["echo", "echo.read", "echo/read"])
def test_a_document_with_a_pattern_or_a_longer_name(site: Site, name: str) -> None:
    govern(site, ServiceRules("all", hosts=(name,), routes=(WAITS,)))
    caller = site.connect()
    stream_id = caller.respond("echo/read" if "/" in name else "echo.read")
    answered(caller, come(site), stream_id)
