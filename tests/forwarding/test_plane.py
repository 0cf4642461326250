"""What the connections of a node share: deadlines, snapshots, draining, counters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway.forwarding.closing import CloseReason
from gateway.forwarding.lifecycle import GOODBYE_S
from gateway.observe.metrics import MAX_SERVICES
from gateway.policy.principal import Kind
from gateway.routing.route import Route
from gateway.wire.frames import Cancel, Error, KeepAlive, Setup
from gateway.wire.mimetypes import COMPOSITE
from tests.forwarding.plane_of import CARRIER_HIGH, Site, credentials, item

WALL_IN_AN_HOUR = 1_700_000_000.0 + 1000.0 + 3600.0


# Deadlines


def test_a_connection_without_setup_is_closed(site: Site) -> None:
    """P02, fault 18: at its deadline not yet, behind it."""
    stranger = site.dial()
    site.wait(5.0)
    assert stranger.open
    site.wait(0.01)
    assert stranger.one() == Error(0, 0x101, "no SETUP in time")
    assert stranger.carrier.closed == (4408, "no SETUP in time")
    assert site.counters.closes == {"setup_timeout": 1}


def test_setup_in_time_is_in_time(site: Site) -> None:
    """P02."""
    peer = site.connect()
    site.wait(60)
    assert peer.open


@pytest.mark.parametrize("draining", [False, True])
def test_a_silent_connection_is_closed_and_its_routes_go(site: Site, draining: bool) -> None:
    """P12, fault 33; with a stream open even while it drains."""
    echo, caller = site.service("echo", lifetime_ms=30_000), site.connect()
    stream_id = caller.respond("echo.x")
    echo.got()
    if draining:
        echo.send(Error(0, 0x102, "going"))
    site.clock.now += 30.0
    caller.connection.session.last_received = site.clock.now
    site.wait(0)
    assert echo.open
    site.wait(0.01)
    assert echo.one() == Error(0, 0x101, "nothing heard for 30 s")
    assert echo.carrier.closed is not None
    assert echo.carrier.closed[0] == 4408
    assert site.plane.table.service("echo") is None
    assert caller.one() == Error(stream_id, 0x203, "responder disconnected")
    assert site.counters.closes == {"keepalive_timeout": 1}


def test_who_is_heard_stays(site: Site) -> None:
    """P10, P12."""
    peer = site.connect(lifetime_ms=30_000)
    for _ in range(5):
        site.wait(29)
        peer.send(KeepAlive(True))
    assert peer.open


def test_an_expired_token_ends_its_connection(site: Site) -> None:
    """Fault 61."""
    peer = site.connect(expires_at=WALL_IN_AN_HOUR, lifetime_ms=3_600_000)
    peer.connection.session.lifetime_s = 1e9
    site.wait(3600.0)
    assert peer.open
    site.wait(0.01)
    assert peer.one() == Error(0, 0x101, "token expired; reconnect with a new one")
    assert peer.carrier.closed is not None
    assert peer.carrier.closed[0] == 4401
    assert site.counters.closes == {"token_expired": 1}


# Draining


def test_a_draining_node_tells_everybody_and_closes_who_is_done(site: Site) -> None:
    """Fault 95: CONNECTION_CLOSE at once, the end when the last stream has ended."""
    caller, echo, idle, stranger = site.connect(), site.service("echo"), site.connect("idle"), site.dial()
    stream_id = caller.respond("echo.x")
    echo.got()
    site.plane.drain()
    site.turn()
    for peer in (caller, echo, idle, stranger):
        assert peer.one() == Error(0, 0x102, "this node is draining; reconnect elsewhere")
    assert site.plane.busy
    site.wait(GOODBYE_S)
    assert idle.open, "what it sent before it read that may still be on its way"
    site.wait(0.01)
    assert idle.carrier.closed is not None
    assert idle.carrier.closed[0] == 1012
    assert idle.one() == Error(0, 0x102, "drained")
    assert caller.open
    assert echo.open
    echo.send(item(2, b"!", complete=True))
    assert caller.one() == item(stream_id, b"!", complete=True)
    assert not site.plane.busy
    site.wait(1)
    assert not caller.open
    assert not echo.open
    site.plane.drain()
    assert site.counters.closes == {"drained": 3}


def test_nobody_finds_a_connection_that_drains(site: Site) -> None:
    echo = site.service("echo")
    echo.connection.drain()
    assert site.plane.table.service("echo") is None
    echo.connection.drain()
    site.turn()
    assert len(echo.got()) == 1


def test_what_waits_to_be_read_keeps_a_drained_connection_open(site: Site) -> None:
    """Fault 95: an answer that was given is delivered."""
    caller, echo = site.connect(), site.service("echo")
    caller.respond("echo.x")
    echo.got()
    caller.carrier.stall()
    site.plane.drain()
    echo.send(item(2, bytes(CARRIER_HIGH), complete=True))
    assert caller.connection.outbox.blocked
    assert not caller.connection.requesting
    assert site.plane.busy
    site.wait(1)
    assert caller.open
    caller.carrier.read()
    assert not site.plane.busy
    site.wait(1)
    assert not caller.open


def test_what_the_node_serves_itself_keeps_nobody_waiting(site: Site) -> None:
    caller = site.connect()
    caller.stream("gateway.routes", 1)
    caller.got()
    assert not site.plane.busy


# Snapshots


def test_a_new_snapshot_binds_live_connections(site: Site) -> None:
    """DESIGN 4: within 5 s; here at once."""
    device, stranger = site.connect("d", Kind.DEVICE), site.dial()
    site.service("echo")
    snapshot = site.snapshot(
        2, max_streams=1, max_frame_bytes=1000, high_water_bytes=10, hard_water_bytes=20, requests_per_second=7
    )
    site.plane.publish(snapshot)
    connection = device.connection
    assert connection.grant.limits.max_streams == 1
    assert (connection.outbox.high, connection.outbox.hard) == (10, 20)
    assert device.carrier.max_frame_bytes == 1000
    assert stranger.connection.grant.limits.max_streams == 1
    assert stranger.carrier.max_frame_bytes == 0, "a SETUP may have the size of a SETUP"
    device.stream("echo.x")
    device.respond("echo.x")
    assert device.one().code == 0x202
    for internal in (site.services, site.multicast):
        assert not internal.closed


def test_a_new_snapshot_judges_new_connections(site: Site) -> None:
    token = site.token("me")
    wide = site.plane.snapshot
    site.plane.publish(replace(wide, generation=2, setup_timeout_s=1.0))
    stranger = site.dial()
    site.wait(1.01)
    assert not stranger.open
    del site.principals[token]
    peer = site.dial()
    peer.send(Setup(1000, 1000, COMPOSITE, "a/b", credentials(token)))
    assert peer.one().code == 0x003


# Counters


def test_connections_are_counted_by_kind(site: Site) -> None:
    peers = [site.connect() for _ in range(3)]
    stranger = site.dial()
    assert site.counters.connections_open == {"internal": 2, "client": 4}
    peers[0].vanish()
    stranger.connection.close(CloseReason.POLICY, "no")
    assert site.counters.connections_open == {"internal": 2, "client": 2}
    assert site.counters.connections_opened == {"internal": 2, "client": 4}
    assert site.counters.closes == {"peer_reset": 1, "policy": 1}


def test_numbers_are_not_used_again(site: Site) -> None:
    first = site.connect().connection.number
    site.peers[0].vanish()
    assert site.connect().connection.number > first


def test_who_has_left_leaves_once(site: Site) -> None:
    peer = site.connect()
    peer.vanish()
    site.plane.leave(peer.connection, CloseReason.BUG)
    assert site.counters.closes == {"peer_reset": 1}


def test_every_request_ends_as_exactly_one_thing(site: Site) -> None:
    """The counters balance, whoever ended what and how."""
    caller, echo = site.connect(), site.service("echo")
    for _ in range(5):
        caller.respond("echo.x")
    caller.stream("echo.x", 5)
    caller.fire("echo.x")
    echo.send(item(2, b"!", complete=True), Error(4, 0x201, "no"), item(6, b"!"))
    caller.send(Cancel(7))
    stats = site.metrics.services["echo"]
    assert (stats.requests, stats.ok, stats.failed, stats.canceled, stats.open) == (7, 3, 1, 1, 2)
    assert site.open_streams() == 2
    echo.vanish()
    assert (stats.ok, stats.failed, stats.canceled, stats.open) == (3, 3, 1, 0)
    assert site.open_streams() == 0


def test_labels_are_bounded(site: Site) -> None:
    """However many services there are, and whether they are remembered or not."""
    caller = site.connect()
    for number in range(1100):
        peer = site.service(f"s{number}")
        caller.fire(f"s{number}.x")
        peer.vanish()
    assert len(site.metrics.services) <= MAX_SERVICES + 1
    assert sum(stats.requests for stats in site.metrics.services.values()) == 1100


def test_an_owner_need_not_say_whose_it_is(site: Site) -> None:
    """What serves a route is known to the table by its `pending` count alone."""

    class Owner:
        pending = 0

    assert site.plane.stats_of(Route(bytes(16), "x", Owner())) is site.metrics.services["x"]


def test_what_waits_to_leave(site: Site) -> None:
    caller, echo = site.connect(), site.service("echo")
    assert site.plane.outbox_bytes() == 0
    caller.fire("echo.x", bytes(1000), turn=False)
    assert site.plane.outbox_bytes() == echo.connection.outbox.size > 1000
    site.turn()
    assert site.plane.outbox_bytes() == 0


def test_the_clock_is_read_when_something_comes(site_with: Callable[..., Site]) -> None:
    """And not for each request."""
    site = site_with()
    before = site.plane.now
    site.clock.now += 5
    assert site.plane.now == before
    assert site.plane.wake() == site.plane.now == before + 5
    site.clock.now += 5
    site.plane.tick()
    assert site.plane.now == before + 10
