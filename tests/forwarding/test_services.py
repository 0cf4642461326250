"""The node's own services, asked through the data plane as every other service is."""

from __future__ import annotations

import gc
import json
import uuid
from typing import Any

import pytest

from gateway.errors import RequestInvalid
from gateway.forwarding import services
from gateway.forwarding.closing import CloseReason
from gateway.forwarding.exchange import Exchange
from gateway.forwarding.services import RouteFeed
from gateway.policy.principal import Kind
from gateway.routing.route import Route
from gateway.wire import brokering
from gateway.wire.brokering import RouteJoin, RouteRemove, RouteSetup
from gateway.wire.frames import (
    MAX_REQUEST_N,
    Cancel,
    Error,
    FrameType,
    Payload,
    RequestN,
    RequestResponse,
    fragment,
)
from gateway.wire.metadata import encode_composite, encode_routing
from gateway.wire.mimetypes import ROUTING
from tests.forwarding.plane_of import NODE, NODE_ID, Peer, Site, complete, item, to_all, to_route, to_tags

R1, R2 = (number.to_bytes(16, "big") for number in (0xA1, 0xA2))


def answer(peer: Peer, route: str, data: bytes = b"", **more: Any) -> bytes:
    """What a request/response is answered with."""
    stream_id = peer.respond(route, data, **more)
    payload = peer.one()
    assert isinstance(payload, Payload), payload
    assert (payload.stream_id, payload.next, payload.complete, payload.metadata) == (stream_id, True, True, None)
    return payload.data


def refusal(peer: Peer, route: str, data: bytes = b"", **more: Any) -> Error:
    stream_id = peer.respond(route, data, **more)
    error = peer.one()
    assert isinstance(error, Error)
    assert error.stream_id == stream_id
    return error


def shown(peer: Peer) -> list[RouteJoin | RouteRemove]:
    """The route events that came since the last call."""
    events = []
    for frame in peer.got():
        assert isinstance(frame, Payload)
        assert frame.next
        event = brokering.decode(frame.data)
        assert isinstance(event, RouteJoin | RouteRemove)
        events.append(event)
    return events


def feeds() -> list[RouteFeed]:
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, RouteFeed)]


# ready and time


def test_ready(site: Site) -> None:
    """Protocol 1, "Readiness": every figure that holds for this caller."""
    peer = site.connect("me", serves=["one", "two"], keepalive_ms=7_000, lifetime_ms=30_000)
    assert json.loads(answer(peer, "gateway.ready")) == {
        "node": NODE,
        "session": str(peer.connection.number),
        "sub": "me",
        "services": ["one", "two"],
        "keepalive_ms": 7_000,
        "lifetime_ms": 30_000,
        "resume": False,
        "lease": False,
        "expires": None,
        "renew": False,
        "time": int(site.clock.wall() * 1000),
    }


def test_ready_of_a_caller_that_serves_nothing(site: Site) -> None:
    assert json.loads(answer(site.connect(), "gateway.ready"))["services"] == []


@pytest.mark.parametrize("route", ["gateway.time", "gateway/time"])
def test_time(site: Site, route: str) -> None:
    site.clock.now += 1.5
    assert json.loads(answer(site.connect(), route)) == {"time": int(site.clock.wall() * 1000)}


def test_everybody_may_ask_the_node(site: Site) -> None:
    """Built-in services need no claim."""
    assert answer(site.connect("me", Kind.DEVICE, services=(), routes=()), "gateway.ready")


def test_plain_routing_metadata_will_do(site: Site) -> None:
    """X02."""
    peer = site.connect("me", mime=ROUTING)
    assert answer(peer, "", metadata=encode_routing(["gateway.time"]))


# What does not fit


@pytest.mark.parametrize("route", ["gateway", "gateway.nothing", "gateway.time.x", "gateway.Time"])
def test_an_unknown_name(site: Site, route: str) -> None:
    error = refusal(site.connect(), route)
    assert error.code == 0x202
    assert error.text.startswith(f"no route to {route}; this node serves gateway.ready, ")


def test_the_node_has_to_be_asked_by_route(site: Site) -> None:
    """By tags alone it is found, but not what of it is meant."""
    peer = site.connect()
    assert refusal(peer, "", metadata=to_tags(ServiceName="gateway")).code == 0x202
    assert refusal(peer, "", metadata=to_tags(entries=[(ROUTING, b"")], ServiceName="gateway")).code == 0x202


@pytest.mark.parametrize(
    ("route", "ask", "text"),
    [
        ("gateway.time", "stream", "gateway.time is a REQUEST_RESPONSE, not a REQUEST_STREAM"),
        ("gateway.time", "channel", "gateway.time is a REQUEST_RESPONSE, not a REQUEST_CHANNEL"),
        ("gateway.routes", "respond", "gateway.routes is a REQUEST_STREAM, not a REQUEST_RESPONSE"),
        ("gateway.routes", "channel", "gateway.routes is a REQUEST_STREAM, not a REQUEST_CHANNEL"),
    ],
)
def test_the_wrong_interaction(site: Site, route: str, ask: str, text: str) -> None:
    peer = site.connect()
    stream_id = getattr(peer, ask)(route)
    assert peer.one() == Error(stream_id, 0x204, text)
    assert site.open_streams() == 0


@pytest.mark.parametrize("route", ["gateway.time", "gateway.register", "gateway.nothing"])
def test_fire_and_forget_does_nothing(site: Site, route: str) -> None:
    """P35."""
    peer = site.connect("me")
    peer.fire(route, brokering.encode(RouteSetup(R1, "x")))
    stream_id = peer.fire(route, bytes(64), follows=True)
    peer.send(item(stream_id, b"rest"))
    assert peer.got() == []
    assert site.plane.table.get(R1) is None


# register and unregister


def test_register(site: Site) -> None:
    peer, caller = site.connect("me"), site.connect()
    event = brokering.decode(answer(peer, "gateway.register", brokering.encode(RouteSetup(R1, "echo", (("a", "b"),)))))
    assert event == RouteJoin(
        NODE_ID,
        R1,
        int(site.clock.wall() * 1000),
        "echo",
        (
            ("a", "b"),
            ("sub", "me"),
            (brokering.ROUTE_ID, str(uuid.UUID(bytes=R1))),
            (brokering.SERVICE_NAME, "echo"),
        ),
    )
    caller.respond("echo.it")
    assert isinstance(peer.one(), RequestResponse)


@pytest.mark.parametrize("size", [127, 128, 255])
def test_a_name_that_no_tag_can_hold(site: Site, size: int) -> None:
    """A tag's value has at most 127 bytes, a service's name 255: such a name is told of by the frame alone."""
    watcher, peer = site.connect("watcher"), site.connect("me")
    watcher.stream("gateway.routes", 100)
    watcher.got()
    name = "n" * size
    event = brokering.decode(answer(peer, "gateway.register", brokering.encode(RouteSetup(R1, name))))
    assert isinstance(event, RouteJoin)
    assert event.service == name
    assert dict(event.tags).get(brokering.SERVICE_NAME) == (name if size < 128 else None)
    assert [told.service for told in shown(watcher) if isinstance(told, RouteJoin)] == [name]


def test_what_the_claims_do_not_cover_is_not_registered(site: Site) -> None:
    peer = site.connect("me", services=("mine",))
    error = refusal(peer, "gateway.register", brokering.encode(RouteSetup(R1, "other")))
    assert error == Error(error.stream_id, 0x202, "me may not register 'other'; its token allows: mine")
    assert site.plane.table.get(R1) is None
    assert peer.open


def test_registering_another_connections_route_id_closes_it(site: Site) -> None:
    """The newest wins."""
    old, new = site.connect("me", serves=[RouteSetup(R1, "echo")]), site.connect("me")
    answer(new, "gateway.register", brokering.encode(RouteSetup(R1, "echo")))
    assert old.carrier.closed is not None
    assert old.carrier.closed[0] == 4409


def test_unregister(site: Site) -> None:
    peer = site.connect("me", serves=[RouteSetup(R1, "one"), RouteSetup(R2, "two")])
    event = brokering.decode(answer(peer, "gateway.unregister", brokering.encode(RouteRemove(bytes(16), R1, 0))))
    assert event == RouteRemove(NODE_ID, R1, int(site.clock.wall() * 1000))
    assert [route.service for route in site.plane.table.of_owner(peer.connection)] == ["two"]


def test_who_withdraws_its_last_service_is_still_reachable_as_itself(site: Site) -> None:
    peer = site.connect("me", serves=[RouteSetup(R1, "one")])
    answer(peer, "gateway.unregister", brokering.encode(RouteRemove(bytes(16), R1, 0)))
    (route,) = site.plane.table.of_owner(peer.connection)
    assert (route.service, route.subject) == ("", "me")


def test_only_its_own_routes_can_be_withdrawn(site: Site) -> None:
    owner, other = site.connect("one", serves=[RouteSetup(R1, "one")]), site.connect("one")
    for route_id in (R1, R2):
        error = refusal(other, "gateway.unregister", brokering.encode(RouteRemove(bytes(16), route_id, 0)))
        assert (error.code, error.text) == (
            0x204,
            f"this connection serves no route {uuid.UUID(bytes=route_id)}",
        )
    assert owner.open


@pytest.mark.parametrize(
    ("route", "data", "text"),
    [
        ("register", b"", "gateway.register: "),
        ("register", b"\0\0\0\1\4\0short", "gateway.register: "),
        ("register", brokering.encode(RouteRemove(bytes(16), R1, 0)), "gateway.register takes a ROUTE_SETUP frame"),
        ("unregister", b"x", "gateway.unregister: "),
        ("unregister", brokering.encode(RouteSetup(R1, "x")), "gateway.unregister takes a ROUTE_REMOVE frame"),
    ],
)
def test_malformed_data(site: Site, route: str, data: bytes, text: str) -> None:
    error = refusal(site.connect(), f"gateway.{route}", data)
    assert error.code == 0x204
    assert error.text.startswith(text)


# Fragments


def test_a_request_in_fragments_is_put_together(site: Site) -> None:
    """P40, P42: for the node's own services, and nowhere else."""
    peer = site.connect("me")
    data = brokering.encode(RouteSetup(R1, "echo", tuple((f"tag{number}", "x" * 100) for number in range(20))))
    request = RequestResponse(peer.next_id(), to_route("gateway.register"), data)
    parts = fragment(request, 128)
    assert len(parts) > 10
    peer.send(*parts)
    event = brokering.decode(peer.one().data)
    assert isinstance(event, RouteJoin)
    assert len(event.tags) == 23
    assert site.plane.table.get(R1) is not None


def test_fragments_to_a_service_that_takes_no_data(site: Site) -> None:
    peer = site.connect("me")
    stream_id = peer.respond("gateway.time", bytes(64), follows=True)
    peer.send(item(stream_id, bytes(10)))
    assert peer.one().complete


def test_a_message_over_its_limits_is_refused(site: Site) -> None:
    """P42, fault 34, by bytes and by fragments."""
    device = site.connect("me", Kind.DEVICE)
    first = device.respond("gateway.register", bytes(50_000), follows=True)
    device.send(*[item(first, bytes(60_000), follows=True)] * 17)
    error = device.one()
    assert (error.stream_id, error.code) == (first, 0x204)
    assert "1048576 bytes" in error.text
    second = device.respond("gateway.register", bytes(64), follows=True)
    device.send(*[item(second, bytes(64), follows=True)] * 64)
    error = device.one()
    assert (error.stream_id, error.code) == (second, 0x204)
    assert "64 fragments" in error.text
    device.send(item(first, bytes(64), follows=True), item(second, b""))
    assert device.got() == []
    assert device.open


def test_small_fragments_are_refused(site: Site) -> None:
    """P42, fault 35."""
    peer = site.connect("me")
    stream_id = peer.respond("gateway.register", bytes(64), follows=True)
    peer.send(item(stream_id, b"x", follows=True))
    error = peer.one()
    assert (error.stream_id, error.code) == (stream_id, 0x204)


def test_cancel_drops_the_fragments(site: Site) -> None:
    """P41."""
    peer = site.connect("me")
    stream_id = peer.respond("gateway.register", bytes(64), follows=True)
    peer.send(Cancel(stream_id), item(stream_id, brokering.encode(RouteSetup(R1, "x"))))
    assert peer.got() == []
    assert site.plane.table.get(R1) is None


# routes


def test_routes_shows_what_stands_and_then_what_changes(site: Site) -> None:
    watcher = site.connect("watcher")
    stream_id = watcher.stream("gateway.routes", 100)
    standing = shown(watcher)
    assert {(event.service, dict(event.tags).get("sub")) for event in standing} == {  # type: ignore[union-attr]
        ("gateway", "gateway"),
        ("", "watcher"),
    }
    peer = site.connect("me", serves=[RouteSetup(R1, "one"), RouteSetup(R2, "two")])
    events = shown(watcher)
    assert [(type(event), event.route_id) for event in events] == [(RouteJoin, R1), (RouteJoin, R2)]
    peer.vanish()
    assert [(type(event), event.route_id) for event in shown(watcher)] == [(RouteRemove, R1), (RouteRemove, R2)]
    watcher.send(Cancel(stream_id))
    site.connect("me", serves=[RouteSetup(R1, "one")])
    assert watcher.got() == []
    assert feeds() == []


def test_routes_keeps_to_its_credit(site: Site) -> None:
    """P31."""
    for number in range(5):
        site.service(f"s{number}")
    watcher = site.connect("watcher")
    stream_id = watcher.stream("gateway.routes", 2)
    assert len(shown(watcher)) == 2
    site.service("late")
    assert shown(watcher) == []
    watcher.send(RequestN(stream_id, 3))
    assert len(shown(watcher)) == 3
    watcher.send(RequestN(stream_id, 100))
    assert len(shown(watcher)) == 3
    site.service("later")
    assert len(shown(watcher)) == 1


def test_routes_with_the_largest_credit(site: Site) -> None:
    """P30: passed on in windows, and saturated."""
    peers = [site.service(f"s{number}") for number in range(700)]
    watcher = site.connect("watcher")
    stream_id = watcher.stream("gateway.routes", MAX_REQUEST_N)
    watcher.send(RequestN(stream_id, MAX_REQUEST_N))
    assert len(shown(watcher)) == len(peers) + 2


def test_routes_shows_what_the_caller_may_call(site: Site) -> None:
    """Visibility follows the grant: at the start, and for each change."""
    site.service("public.a")
    site.service("secret.a")
    watcher = site.connect("watcher", routes=("public.*", "watcher"))
    watcher.stream("gateway.routes", 100)
    assert sorted(event.service for event in shown(watcher)) == ["", "gateway", "public.a"]  # type: ignore[union-attr]
    secret, public = site.service("secret.b"), site.service("public.b")
    assert [event.service for event in shown(watcher)] == ["public.b"]  # type: ignore[union-attr]
    secret.vanish()
    public.vanish()
    assert [type(event) for event in shown(watcher)] == [RouteRemove]


def test_what_left_before_it_was_shown_is_shown_to_join_and_leave(site: Site) -> None:
    """Slow subscribers see the same events, later."""
    watcher = site.connect("watcher")
    peer = site.connect("me", serves=[RouteSetup(R1, "one")])
    stream_id = watcher.stream("gateway.routes", 1)
    peer.vanish()
    watcher.send(RequestN(stream_id, 100))
    events = [(type(event), event.route_id) for event in shown(watcher)]
    assert events[-2:] == [(RouteJoin, R1), (RouteRemove, R1)]


def test_many_routes_are_gone_through_in_turns(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that may see none of them does not stop the loop for all of them."""
    monkeypatch.setattr(services, "LOOKS_A_TURN", 4)
    peers = [site.service(f"secret.{number}") for number in range(20)]
    last = site.service("public")
    watcher = site.connect("watcher", routes=("public",))
    watcher.stream("gateway.routes", 100, turn=False)
    for _ in range(4):
        turns, site.turns[:] = site.turns[:], []
        for callback in turns:
            callback()
        last.respond("gateway.time", turn=False)
    assert site.turns
    site.turn()
    assert {event.service for event in shown(watcher)} == {"gateway", "public"}  # type: ignore[union-attr]
    assert len(peers) == 20


def test_credit_that_comes_between_two_turns(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """One continuation is scheduled, not one for each."""
    monkeypatch.setattr(services, "LOOKS_A_TURN", 1)
    for number in range(5):
        site.service(f"s{number}")
    watcher = site.connect("watcher")
    stream_id = watcher.stream("gateway.routes", 100, turn=False)
    watcher.send(RequestN(stream_id, 1), RequestN(stream_id, 1), turn=False)
    turns, site.turns[:] = site.turns[:], []
    for callback in turns:
        callback()
    assert len(site.turns) <= 2, "a flush and a continuation"
    site.turn()
    assert len(shown(watcher)) == 7


def test_routes_without_a_subject_and_with_a_long_name(site: Site) -> None:
    """What serves a route need not be somebody; a name longer than a tag's value is in the frame all the same."""
    route = Route(R1, "x" * 200, site.services)
    site.plane.table.add(route)
    watcher = site.connect("watcher")
    watcher.stream("gateway.routes", 100)
    (event,) = [each for each in shown(watcher) if each.route_id == R1]
    assert isinstance(event, RouteJoin)
    assert event.service == "x" * 200
    assert event.tags == ((brokering.ROUTE_ID, str(uuid.UUID(bytes=R1))),)
    site.plane.table.remove(route)


def test_a_subscriber_may_end_between_two_turns(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "LOOKS_A_TURN", 1)
    site.service("one")
    watcher = site.connect("watcher")
    stream_id = watcher.stream("gateway.routes", 100, turn=False)
    turns, site.turns[:] = site.turns[:], []
    for callback in turns:
        callback()
    watcher.send(Cancel(stream_id))
    assert feeds() == []


def test_a_subscriber_that_is_too_slow_is_told_to_start_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for it is bounded, and it leaves nothing behind."""
    monkeypatch.setattr(services, "MAX_WAITING_EVENTS", 10)
    watcher = site.connect("watcher")
    stream_id = watcher.stream("gateway.routes", 1)
    watcher.got()
    for _ in range(10):
        site.service("flap").vanish()
    error = watcher.one()
    assert (error.stream_id, error.code) == (stream_id, 0x202)
    assert "subscribe again" in error.text
    assert feeds() == []
    watcher.stream("gateway.routes", 100)
    assert len(shown(watcher)) == 2


def test_subscribers_that_go_leave_nothing_behind(site: Site) -> None:
    for _ in range(3):
        watcher = site.connect("watcher")
        watcher.stream("gateway.routes", 1)
        watcher.vanish()
    assert feeds() == []


def test_a_storm_of_changes_behind_a_cancel_does_no_harm(site: Site) -> None:
    """Between the end of a stream and the node's noticing, what the node sends is nobody's offence."""
    watchers = [site.connect(f"w{number}") for number in range(6)]
    peers = [site.service("s") for _ in range(300)]
    for watcher in watchers:
        watcher.stream("gateway.routes", MAX_REQUEST_N)
        watcher.got()
    for watcher in watchers:
        watcher.send(Cancel(1), turn=False)
    for peer in peers:
        peer.connection.lost(CloseReason.PEER_RESET)
    site.turn()
    assert not site.services.closed
    assert answer(watchers[0], "gateway.time")


def test_a_requester_that_fails_ends_its_subscription(site: Site) -> None:
    """ERROR of a requester, as good as CANCEL."""
    watcher = site.connect("watcher")
    stream_id = watcher.stream("gateway.routes", 1)
    watcher.got()
    watcher.send(Error(stream_id, 0x201, "gave up"))
    assert feeds() == []


def test_the_changes_that_a_closing_subscriber_makes_reach_nobody(site: Site) -> None:
    """Its own routes leave, and it is not shown that."""
    watcher = site.connect("watcher", serves=["x"])
    watcher.stream("gateway.routes", 100)
    watcher.got()
    watcher.vanish()
    assert watcher.got() == []


def test_frames_to_a_subscription_that_has_just_ended(site: Site) -> None:
    """In one turn, the node's end crosses the subscriber's credit."""
    watcher = site.connect("watcher")
    stream_id = watcher.stream("gateway.routes", 1)
    watcher.got()
    (exchange,) = site.services._exchanges.values()
    watcher.send(RequestN(stream_id, 5), turn=False)
    exchange.complete()
    site.turn()
    assert watcher.got() == [complete(stream_id)]


# Services that others offer


def test_offer(site: Site) -> None:
    """A channel of one's own: the node takes its requester's ERROR as an end, and no items."""
    ended = []

    def handler(exchange: Exchange) -> None:
        exchange.on_end = lambda: ended.append(exchange.route)

    site.services.offer("chat", FrameType.REQUEST_CHANNEL, handler)
    peer = site.connect()
    for last in (Error(1, 0x201, "no"), Cancel(3)):
        peer.channel("gateway.chat", 5)
        peer.send(last)
    assert ended == ["gateway.chat"] * 2


def test_a_handler_may_refuse(site: Site) -> None:
    def handler(exchange: Exchange) -> None:
        raise RequestInvalid("not like this")

    site.services.offer("picky", FrameType.REQUEST_RESPONSE, handler)
    error = refusal(site.connect(), "gateway.picky")
    assert (error.code, error.text) == (0x204, "not like this")


def test_a_handler_may_answer_and_then_refuse(site: Site) -> None:
    """The first word counts."""

    def handler(exchange: Exchange) -> None:
        exchange.reply(b"!")
        raise RequestInvalid("too late")

    site.services.offer("hasty", FrameType.REQUEST_RESPONSE, handler)
    assert answer(site.connect(), "gateway.hasty") == b"!"


def test_a_channel_of_the_nodes_own_takes_completion(site: Site) -> None:
    """Items it has not asked for end it (P32)."""
    site.services.offer("chat", FrameType.REQUEST_CHANNEL, lambda exchange: None)
    peer = site.connect()
    first = peer.channel("gateway.chat", 5)
    peer.send(complete(first))
    assert peer.got() == []
    (exchange,) = site.services._exchanges.values()
    exchange.complete()
    site.turn()
    assert peer.got() == [complete(first)]
    second = peer.channel("gateway.chat", 5)
    peer.send(item(second, b"unasked"))
    assert peer.one().code == 0x204


def test_a_bug_in_a_handler_costs_its_stream_and_nobody_else(site: Site) -> None:
    """DESIGN 5: it is raised to whoever logs it; the caller is told no detail."""

    def handler(exchange: Exchange) -> None:
        raise ZeroDivisionError("a bug")

    site.services.offer("broken", FrameType.REQUEST_RESPONSE, handler)
    peer, other = site.connect(), site.connect()
    stream_id = peer.respond("gateway.broken", turn=False)
    other.respond("gateway.time", turn=False)
    with pytest.raises(ZeroDivisionError):
        site.turn()
    site.turn()
    assert peer.one() == Error(stream_id, 0x201, "internal error")
    assert other.one().complete


# Multicast


def test_the_node_can_be_asked_by_multicast(site: Site) -> None:
    """It is a service like any other, and knows who asks only by the frame: nobody."""
    peer = site.connect("me")
    stream_id = peer.respond("", metadata=to_all("gateway", [(ROUTING, encode_routing(["gateway.ready"]))]))
    (frame,) = peer.got()
    assert isinstance(frame, Payload)
    assert json.loads(frame.data)["sub"] == ""
    assert frame.stream_id == stream_id


def test_composite_metadata_may_hold_more_than_the_route(site: Site) -> None:
    metadata = encode_composite([("text/plain", b"x"), (ROUTING, encode_routing(["gateway.time", "a=b"]))])
    peer = site.connect("me")
    stream_id = peer.respond("", metadata=metadata)
    # A tag narrows, and the node's own route has none.
    assert peer.one() == Error(stream_id, 0x202, "no route to gateway.time (a=b)")
    metadata = encode_composite([("text/plain", b"x"), (ROUTING, encode_routing(["gateway.time"]))])
    peer.respond("", metadata=metadata)
    assert peer.one().complete
