"""SETUP: who is it, what may it do, what does it serve; and what a refusal leaves behind, which is nothing."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace

import pytest

from gateway.errors import RejectedSetup
from gateway.forwarding.acceptor import by_device
from gateway.policy.principal import Kind
from gateway.routing.tags import SUB
from gateway.wire import brokering
from gateway.wire.brokering import Address, Cast, RouteSetup
from gateway.wire.frames import Error, KeepAlive, RequestFnf, RequestResponse, Setup, encode
from gateway.wire.metadata import encode_bearer, encode_composite, encode_routing, encode_simple
from gateway.wire.mimetypes import AUTHENTICATION, BROKER_FRAME, COMPOSITE, JSON, ROUTING
from tests.forwarding.plane_of import Peer, Site, credentials, item, to_route

SETUP = Setup(20_000, 90_000, COMPOSITE, JSON)
R1, R2 = (number.to_bytes(16, "big") for number in (0xA1, 0xA2))


def hello(site: Site, setup: Setup, *pipelined: bytes) -> Peer:
    """A peer that sends this SETUP, and the rest in the same turn."""
    peer = site.dial()
    peer.send(encode(setup), *pipelined)
    return peer


def refused(site: Site, setup: Setup) -> Error:
    """The one frame that a refused peer gets."""
    routes = list(site.plane.table)
    peer = hello(site, setup, encode(RequestFnf(1, to_route("echo.it"), b"?")), encode(KeepAlive(True)))
    error = peer.one()
    assert isinstance(error, Error)
    assert error.stream_id == 0
    assert peer.carrier.closed is not None
    assert not peer.open
    assert list(site.plane.table) == routes
    assert peer.connection not in site.plane.connections.values()
    return error


def closed_with(site: Site) -> str:
    """The only reason that was counted."""
    (reason,) = site.counters.closes
    return str(reason)


# The token


def test_a_token_in_composite_metadata(site: Site) -> None:
    """X03."""
    peer = hello(site, replace(SETUP, metadata=credentials(site.token("me"))))
    assert peer.got() == []
    assert peer.connection.principal.subject == "me"
    assert peer.connection.accepted


@pytest.mark.parametrize("mime", [ROUTING, JSON, "application/octet-stream", "message/x.rsocket.routing.v0"])
def test_a_token_in_json_data(site: Site, mime: str) -> None:
    """For clients that cannot build composite metadata."""
    token = site.token("me").decode()
    peer = hello(site, replace(SETUP, metadata_mime=mime, data=json.dumps({"token": token}).encode()))
    assert peer.got() == []
    assert peer.connection.principal.subject == "me"


@pytest.mark.parametrize("metadata", [None, b"", encode_composite([(ROUTING, encode_routing(["x"]))])])
def test_a_token_in_json_data_beside_composite_metadata_without_one(site: Site, metadata: bytes | None) -> None:
    token = site.token("me").decode()
    peer = hello(site, replace(SETUP, metadata=metadata, data=b' \n{"token": "%s"}' % token.encode()))
    assert peer.got() == []
    assert peer.connection.principal.subject == "me"


def test_the_token_in_metadata_wins(site: Site) -> None:
    data = json.dumps({"token": site.token("other").decode()}).encode()
    peer = hello(site, replace(SETUP, metadata=credentials(site.token("me")), data=data))
    assert peer.connection.principal.subject == "me"


def test_the_first_token_wins(site: Site) -> None:
    metadata = credentials(site.token("me")) + credentials(site.token("other"))
    assert hello(site, replace(SETUP, metadata=metadata)).connection.principal.subject == "me"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"token",
        b"[]",
        b'"token"',
        b"{",
        b"{}",
        b'{"token": 7}',
        b'{"token": null}',
        b'{"token": ["x"]}',
        b'{"other": "x"}',
        b'{"token": "\\ud800"}',
        b'{"token": "\xff"}',
        b'{"n": ' + b"9" * 5000 + b"}",
        b'{"token": ' + b"[" * 60_000,
        b"{" + b'"a":{' * 9_000,
    ],
    ids=lambda data: data[:20].decode("latin-1"),
)
def test_no_token(site: Site, data: bytes) -> None:
    """P02: whatever the data is, its sender is told what is missing."""
    error = refused(site, replace(SETUP, data=data))
    assert error.code == 0x003
    assert error.text == "no token: send it as bearer authentication in SETUP metadata"
    assert closed_with(site) == "unauthenticated"
    assert site.counters.tokens_refused == {"token_missing": 1}


def test_a_refused_token(site: Site) -> None:
    """P03."""
    error = refused(site, replace(SETUP, metadata=credentials(b"made up")))
    assert (error.code, error.text) == (0x003, "token not accepted")
    assert site.counters.tokens_refused == {"token_invalid": 1}
    assert site.counters.refusals == {"token_invalid": 1}


def test_another_kind_of_authentication(site: Site) -> None:
    """X03."""
    metadata = encode_composite([(AUTHENTICATION, encode_simple("me", "secret"))])
    error = refused(site, replace(SETUP, metadata=metadata))
    assert error.code == 0x003
    assert "bearer" in error.text
    assert closed_with(site) == "unauthenticated"


@pytest.mark.parametrize(
    "metadata",
    [
        b"\xfe\0\0",
        b"\xfe\0\0\5four",
        encode_composite([(AUTHENTICATION, b"")]),
        encode_composite([(BROKER_FRAME, b"\0\0")]),
        encode_composite([(BROKER_FRAME, b"\0\0\0\1\0\0")]),
    ],
)
def test_malformed_metadata(site: Site, metadata: bytes) -> None:
    """X01: INVALID_SETUP, and it says what is wrong."""
    error = refused(site, replace(SETUP, metadata=metadata))
    assert error.code == 0x001
    assert error.text.startswith("SETUP metadata: ")


def test_nothing_that_is_pipelined_behind_a_refused_setup_is_served(site: Site) -> None:
    """P03, fault 19."""
    echo = site.service("echo")
    refused(site, replace(SETUP, metadata=credentials(b"made up")))
    assert echo.got() == []
    assert site.counters.fire_and_forget == 0


def test_what_is_pipelined_behind_an_accepted_setup_is_served(site: Site) -> None:
    """P09: there is no answer to wait for."""
    echo = site.service("echo")
    setup = replace(SETUP, metadata=credentials(site.token("me")))
    peer = hello(site, setup, encode(RequestResponse(1, to_route("echo.it"), b"?")))
    echo.send(item(echo.one().stream_id, b"!", complete=True))
    assert peer.one() == item(1, b"!", complete=True)


def test_a_request_before_setup_is_refused(site: Site) -> None:
    """P01, P02, fault 17."""
    echo = site.service("echo")
    peer = site.dial()
    peer.send(RequestFnf(1, to_route("echo.it"), b"?"))
    error = peer.one()
    assert (error.stream_id, error.code) == (0, 0x001)
    assert echo.got() == []
    assert peer.carrier.closed is not None
    assert closed_with(site) == "refused_setup"


@pytest.mark.parametrize(
    ("setup", "code"),
    [
        (replace(SETUP, major=2), 0x002),
        (replace(SETUP, resume_token=b"t"), 0x003),
    ],
)
def test_what_the_session_refuses(site: Site, setup: Setup, code: int) -> None:
    """P04, P05; fault 46: a resume token that could be guessed."""
    assert refused(site, replace(setup, metadata=credentials(site.token("me")))).code == code


@pytest.mark.parametrize("where", ["metadata", "data"])
def test_the_size_of_a_setup_is_bounded(site: Site, where: str) -> None:
    """Fault 40: limit, and limit and one; a device's limit for a device, wherever it puts the bytes."""
    token = site.token("me", Kind.DEVICE)

    def setup(size: int) -> Setup:
        metadata = credentials(token)
        if where == "data":
            return replace(SETUP, metadata=metadata, data=bytes(size - len(metadata)))
        filler = encode_composite([("text/plain", bytes(size - len(metadata) - 4))])
        return replace(SETUP, metadata=metadata + filler)

    assert hello(site, setup(8192)).got() == []
    error = refused(site, setup(8193))
    assert (error.code, error.text) == (0x003, "SETUP is over the limit of 8192 bytes")
    service = replace(setup(8193), metadata=credentials(site.token("service")), data=bytes(9000))
    assert hello(site, service).got() == []


# Registrations


def test_services_are_registered(site: Site) -> None:
    peer = site.connect("me", serves=[RouteSetup(R1, "one", (("room", "1"),)), RouteSetup(R2, "two")])
    one, two = site.plane.table.get(R1), site.plane.table.get(R2)
    assert one is not None
    assert two is not None
    assert (one.service, one.subject, dict(one.tags)) == ("one", "me", {"room": "1"})
    assert (two.service, two.owner) == ("two", peer.connection)
    assert len(site.plane.table.of_owner(peer.connection)) == 2


def test_a_service_has_the_labels_of_its_node_unless_it_says_otherwise(site: Site) -> None:
    site.plane.labels = {"edge": "edge-1", "site": "7", "region": "eu"}
    peer = site.connect(serves=[site.registration("thermo", site="8", version="2")])
    (route,) = site.plane.table.of_owner(peer.connection)
    assert route.tags == {"edge": "edge-1", "site": "8", "region": "eu", "version": "2"}
    # Who is reachable as itself alone is not filed under them.
    assert site.plane.table.of_owner(site.connect("phone").connection)[0].tags == {}


def test_a_registration_without_an_id_gets_one(site: Site) -> None:
    peer = site.connect("me", serves=[RouteSetup(bytes(16), "one"), RouteSetup(bytes(16), "two")])
    ids = {route.route_id for route in site.plane.table.of_owner(peer.connection)}
    assert len(ids) == 2
    assert bytes(16) not in ids


def test_who_registers_nothing_is_reachable_as_itself(site: Site) -> None:
    """Protocol 1: by `sub=` and by its route id."""
    peer = site.connect("me")
    (route,) = site.plane.table.of_owner(peer.connection)
    assert (route.service, route.tag(SUB)) == ("", "me")
    site.connect().respond("", metadata=encode_composite([(BROKER_FRAME, _to_sub("me"))]))
    assert isinstance(peer.one(), RequestResponse)


def _to_sub(subject: str) -> bytes:
    return brokering.encode(Address(bytes(16), (("sub", subject),), Cast.UNICAST))


def test_other_broker_frames_in_setup_register_nothing(site: Site) -> None:
    token = site.token("me")
    metadata = encode_composite([(AUTHENTICATION, encode_bearer(token)), (BROKER_FRAME, _to_sub("x"))])
    peer = hello(site, replace(SETUP, metadata=metadata))
    assert [route.service for route in site.plane.table.of_owner(peer.connection)] == [""]


@pytest.mark.parametrize("service", ["other", "gateway", "gateway.x", "", "a*", "$sys", "a..b"])
def test_a_name_that_the_claims_do_not_cover_is_refused(site: Site, service: str) -> None:
    """The token's `services` bound what may be registered; one bad name refuses all of them."""
    token = site.token("me", services=("mine.*", "{sub}"))
    registrations = [RouteSetup(R1, "mine.a"), RouteSetup(R2, service)]
    error = refused(site, replace(SETUP, metadata=credentials(token, registrations)))
    assert error.code == 0x003
    assert error.text == f"me may not register '{service}'; its token allows: mine.*, {{sub}}"
    assert closed_with(site) == "forbidden"


def test_who_may_register_nothing_is_told_so(site: Site) -> None:
    token = site.token("me", services=())
    error = refused(site, replace(SETUP, metadata=credentials(token, [RouteSetup(R1, "x")])))
    assert error.text.endswith("its token allows: none")


def test_claims_may_name_the_subject(site: Site) -> None:
    peer = site.connect("lamp-7", services=("{sub}.*",), serves=["lamp-7.light", "lamp-7"])
    assert len(site.plane.table.of_owner(peer.connection)) == 2


# The same route id again


def test_the_newest_registration_of_a_route_id_wins(site: Site) -> None:
    """The old connection is closed with its reason (4409), its requesters are told."""
    old = site.connect("me", serves=[RouteSetup(R1, "echo")])
    caller = site.connect()
    stream_id = caller.respond("echo.it")
    old.got()
    new = site.connect("me", serves=[RouteSetup(R1, "echo")])
    text = f"route {uuid.UUID(bytes=R1)} was registered by a newer connection"
    assert old.one() == Error(0, 0x101, text)
    assert old.carrier.closed == (4409, text)
    assert caller.one() == Error(stream_id, 0x203, "responder disconnected")
    assert site.counters.closes == {"taken_over": 1}
    caller.respond("echo.it")
    assert isinstance(new.one(), RequestResponse)


def test_another_instance_of_the_service_may_take_a_route_over(site: Site) -> None:
    old = site.connect("one", serves=[RouteSetup(R1, "echo")], services=("echo",))
    site.connect("two", serves=[RouteSetup(R1, "echo")], services=("echo",))
    assert old.carrier.closed is not None


def test_the_same_connection_may_register_a_route_id_twice(site: Site) -> None:
    peer = site.connect("me", serves=[RouteSetup(R1, "one"), RouteSetup(R1, "two")])
    assert peer.open
    assert [route.service for route in site.plane.table.of_owner(peer.connection)] == ["two"]


def test_a_stranger_cannot_take_a_route_over(site: Site) -> None:
    """Fault 59: route ids can be listed; to close somebody else's connection takes the right to stand in for it."""
    old = site.connect("one", serves=[RouteSetup(R1, "echo")])
    token = site.token("two", services=("{sub}.*",))
    error = refused(site, replace(SETUP, metadata=credentials(token, [RouteSetup(R1, "two.x")])))
    assert (error.code, error.text) == (0x003, f"route id {uuid.UUID(bytes=R1)} is in use; choose a new one")
    assert old.open


def test_nobody_can_take_over_the_route_of_a_connection_that_registered_nothing(site: Site) -> None:
    quiet = site.connect("quiet")
    (route,) = site.plane.table.of_owner(quiet.connection)
    token = site.token("two")
    refused(site, replace(SETUP, metadata=credentials(token, [RouteSetup(route.route_id, "x")])))
    assert quiet.open
    again = site.connect("quiet", serves=[RouteSetup(route.route_id, "x")])
    assert not quiet.open
    assert again.open


def test_nobody_can_take_over_the_nodes_own_route(site: Site) -> None:
    """Fault 59: everybody may see it, and without it no built-in service would be left."""
    (route,) = site.plane.table.of_owner(site.services)
    token = site.token("two")
    refused(site, replace(SETUP, metadata=credentials(token, [RouteSetup(route.route_id, "x")])))
    caller = site.connect()
    caller.respond("gateway.time")
    assert caller.one().complete


# What stands afterwards


def test_the_kind_chooses_the_limits(site: Site) -> None:
    device, service = site.connect("d", Kind.DEVICE), site.connect("s", Kind.SERVICE)
    assert (device.carrier.max_frame_bytes, service.carrier.max_frame_bytes) == (65_536, 0xFFFFFF)
    assert (device.connection.outbox.high, service.connection.outbox.high) == (256 * 1024, 1024 * 1024)
    assert (device.connection.outbox.hard, service.connection.outbox.hard) == (1024 * 1024, 4096 * 1024)
    assert (device.connection.by_device, service.connection.by_device) == (True, False)


def test_keepalive_and_lifetime_are_clamped(site: Site) -> None:
    """Fault 21."""
    assert site.connect(keepalive_ms=1, lifetime_ms=1).connection.session.lifetime_s == 5.0
    assert site.connect(keepalive_ms=1, lifetime_ms=0x7FFFFFFF).connection.session.lifetime_s == 3600.0
    assert site.connect(keepalive_ms=30_000, lifetime_ms=20_000).connection.session.lifetime_s == 30.0


def test_a_draining_node_takes_nobody_in(site: Site) -> None:
    token = site.token("me")
    site.plane.drain()
    error = refused(site, replace(SETUP, metadata=credentials(token)))
    assert error.code == 0x102
    assert closed_with(site) == "drained"


@pytest.mark.parametrize("kind", Kind)
def test_whose_names_no_label_holds(kind: Kind) -> None:
    assert by_device(kind) is (kind in (Kind.DEVICE, Kind.USER))


def test_a_refusal_is_a_protocol_error() -> None:
    assert RejectedSetup("x").code == 0x003
