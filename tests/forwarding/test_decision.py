"""The cached answer for one request metadata: what it is keyed by, how long it holds, and what it never does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import NoRoute, NotPermitted
from gateway.forwarding.decision import CAPACITY, Decision, decide, section
from gateway.forwarding.links import LOCAL
from gateway.forwarding.plane import Snapshot
from gateway.forwarding.stamp import Deciding, Form
from gateway.policy.access import Grant
from gateway.policy.principal import Kind, Principal
from gateway.wire.brokering import Cast, RouteSetup
from gateway.wire.frames import Error, RequestResponse
from gateway.wire.metadata import Sampling, Zipkin, encode_bearer, encode_composite, encode_routing, encode_zipkin
from gateway.wire.mimetypes import AUTHENTICATION, ROUTING, ZIPKIN
from tests.forwarding.plane_of import Peer, Site, credentials, entries_of, item, stamp, to_all, to_route, to_tags


@pytest.fixture
def caller(site: Site) -> Peer:
    return site.connect()


def asked(caller: Peer, metadata: bytes) -> str:
    """Who gets a request with this metadata: its subject, or the error's text."""
    stream_id = caller.respond("", metadata=metadata)
    for peer in caller.site.peers:
        for frame in peer.got():
            if isinstance(frame, RequestResponse):
                peer.send(item(frame.stream_id, b"", complete=True))
                caller.got()
                return peer.connection.principal.subject
            if isinstance(frame, Error) and frame.stream_id == stream_id:
                return frame.text
    raise AssertionError("neither asked nor refused")


def decisions(caller: Peer) -> dict[bytes, Any]:
    return caller.connection.decisions


# Keys


def test_the_same_metadata_is_decided_once(site: Site, caller: Peer) -> None:
    site.service("echo")
    assert asked(caller, to_route("echo.x")) == "echo-1"
    (decision,) = decisions(caller).values()
    for _ in range(5):
        assert asked(caller, to_route("echo.x")) == "echo-1"
    assert list(decisions(caller).values()) == [decision]


def test_other_metadata_is_decided_by_itself(site: Site, caller: Peer) -> None:
    site.service("echo")
    for route in ("echo.x", "echo.y", "echo"):
        assert asked(caller, to_route(route)) == "echo-1"
    assert len(decisions(caller)) == 3


def test_tracing_is_not_part_of_the_key(site: Site, caller: Peer) -> None:
    """X05: it differs from request to request, and reaches the responder as it came."""
    echo = site.service("echo")
    for number in range(10):
        trace = (ZIPKIN, encode_zipkin(Zipkin(Sampling.SAMPLED, number.to_bytes(8, "big"), bytes(8))))
        caller.fire("", metadata=to_route("echo.x", entries=[trace]))
        assert entries_of(echo.one().metadata) == [*entries_of(to_route("echo.x")), trace, stamp()]
    assert len(decisions(caller)) == 1
    caller.fire("echo.x")
    assert entries_of(echo.one().metadata) == [*entries_of(to_route("echo.x")), stamp()]
    assert len(decisions(caller)) == 1


def test_the_order_of_varying_entries_does_not_matter_to_the_key(site: Site, caller: Peer) -> None:
    echo = site.service("echo")
    plain, routing = ("text/plain", b"x"), (ROUTING, encode_routing(["echo.x"]))
    for entries in ([plain, routing], [routing, plain], [plain, routing, plain]):
        caller.fire("", metadata=encode_composite(entries))
        assert entries_of(echo.one().metadata) == [*entries, stamp()]
    assert len(decisions(caller)) == 1


def test_authentication_is_part_of_the_key(site: Site, caller: Peer) -> None:
    """X03: it decides, and is removed on the way."""
    echo = site.service("echo")
    for token in (b"one", b"two"):
        caller.fire("", metadata=to_route("echo.x", entries=[(AUTHENTICATION, encode_bearer(token))]))
        assert entries_of(echo.one().metadata) == [*entries_of(to_route("echo.x")), stamp()]
    assert len(decisions(caller)) == 2


def test_each_connection_decides_for_itself(site: Site, caller: Peer) -> None:
    site.service("echo")
    other = site.connect("other", routes=("nothing",))
    assert asked(caller, to_route("echo.x")) == "echo-1"
    assert asked(other, to_route("echo.x")) == "other may not call echo.x"


@pytest.mark.parametrize("varying", [True, False])
def test_the_cache_is_bounded(site: Site, caller: Peer, varying: bool) -> None:
    """A client that addresses more at random pays for it itself."""
    site.service("echo")
    extra = [("text/plain", b"x")] if varying else []
    for number in range(CAPACITY):
        caller.fire("", metadata=to_route(f"echo.{number}", entries=extra))
    assert len(decisions(caller)) == CAPACITY
    caller.fire("", metadata=to_route("echo.0", entries=extra))
    assert len(decisions(caller)) == CAPACITY, "a hit makes no room"
    caller.fire("", metadata=to_route("echo.more", entries=extra))
    assert len(decisions(caller)) == 1


def test_refusals_are_not_kept(site: Site, caller: Peer) -> None:
    assert asked(caller, to_route("echo.x")) == "no route to echo.x"
    assert not decisions(caller)
    site.service("echo")
    assert asked(caller, to_route("echo.x")) == "echo-1"


# How long it holds


def test_a_candidate_that_leaves_is_asked_no_more(site: Site, caller: Peer) -> None:
    peers = {f"echo-{number}": site.service("echo", f"echo-{number}") for number in range(3)}
    assert {asked(caller, to_route("echo.x")) for _ in range(3)} == set(peers)
    peers.pop("echo-1").vanish()
    assert {asked(caller, to_route("echo.x")) for _ in range(4)} == set(peers)
    for peer in peers.values():
        peer.vanish()
    assert asked(caller, to_route("echo.x")) == "no route to echo.x"


def test_a_candidate_that_joins_is_asked_too(site: Site, caller: Peer) -> None:
    site.service("echo", "one")
    assert asked(caller, to_route("echo.x")) == "one"
    site.service("echo", "two")
    assert {asked(caller, to_route("echo.x")) for _ in range(2)} == {"one", "two"}


def test_a_service_that_comes_back_is_found_again(site: Site, caller: Peer) -> None:
    site.service("echo", "one").vanish()
    assert asked(caller, to_route("echo.x")) == "no route to echo.x"
    first = site.service("echo", "one")
    assert asked(caller, to_route("echo.x")) == "one"
    first.vanish()
    assert asked(caller, to_route("echo.x")) == "no route to echo.x"
    site.service("echo", "two")
    assert asked(caller, to_route("echo.x")) == "two"


def test_a_longer_name_registered_later_wins(site: Site, caller: Peer) -> None:
    """Protocol 1, "Addressing": and when it leaves, the shorter one serves again."""
    site.service("plant", "short")
    assert asked(caller, to_route("plant/7/thermo/read")) == "short"
    longer = site.service("plant/7/thermo", "long")
    assert asked(caller, to_route("plant/7/thermo/read")) == "long"
    longer.vanish()
    assert asked(caller, to_route("plant/7/thermo/read")) == "short"


def test_changes_elsewhere_cost_a_look_and_no_verdict(site: Site, caller: Peer) -> None:
    """A decision stands while its own candidates do."""
    site.service("echo")
    assert asked(caller, to_route("echo.x")) == "echo-1"
    (decision,) = decisions(caller).values()
    before = decision.generation
    site.service("other")
    assert asked(caller, to_route("echo.x")) == "echo-1"
    assert decision.generation == site.plane.table.generation > before
    assert list(decisions(caller).values()) == [decision]


def test_by_tags(site: Site, caller: Peer) -> None:
    """Joins and leaves change the answer to a tag query, too."""
    metadata = to_tags(room="1", floor="2")
    assert asked(caller, metadata) == "no route to floor=2, room=1"
    site.connect("one", serves=[RouteSetup(b"1" * 16, "lamp", (("room", "1"), ("floor", "2")))])
    assert asked(caller, metadata) == "one"
    two = site.connect("two", serves=[RouteSetup(b"2" * 16, "fan", (("room", "1"), ("floor", "2")))])
    assert {asked(caller, metadata) for _ in range(2)} == {"one", "two"}
    two.vanish()
    assert {asked(caller, metadata) for _ in range(2)} == {"one"}


# Permission


class Narrowed(Snapshot):
    """What a control plane publishes that has taken routes away from everybody."""

    def grant(self, principal: Principal) -> Grant:
        return Grant(replace(principal, routes=("other.*",)), self.profiles[principal.kind])


def test_a_grant_that_is_narrowed_is_asked_at_once(site: Site, caller: Peer) -> None:
    """Fault 61: what was decided under the old one is forgotten."""
    site.service("echo")
    site.service("other")
    assert asked(caller, to_route("echo.x")) == "echo-1"
    wide = site.plane.snapshot
    narrowed = Narrowed(2, wide.authenticate, wide.profiles, wide.setup_rules, wide.setup_timeout_s)
    site.plane.publish(narrowed)
    assert not decisions(caller)
    assert asked(caller, to_route("echo.x")) == "caller may not call echo.x"
    assert asked(caller, to_route("other.x")) == "other-1"
    site.plane.publish(wide)
    assert asked(caller, to_route("echo.x")) == "echo-1"


def test_a_candidate_that_may_not_be_called_is_none(site: Site) -> None:
    """Several services answer to one tag; the caller may reach some of them and learns nothing of the others."""
    caller = site.connect("me", routes=("mine", "shared"))
    for number, service in enumerate(("mine", "secret", "shared"), 1):
        site.connect(f"{service}-1", serves=[RouteSetup(bytes([number]) * 16, service, (("room", "1"),))])
    assert {asked(caller, to_tags(room="1")) for _ in range(4)} == {"mine-1", "shared-1"}
    caller.fire("", metadata=to_tags(Cast.MULTICAST, room="1"))
    reached = {peer.connection.principal.subject for peer in site.peers if peer.got()}
    assert reached == {"mine-1", "shared-1"}


def test_who_may_call_none_of_them_is_told(site: Site) -> None:
    caller = site.connect("me", routes=("mine",))
    site.connect("one", serves=[RouteSetup(b"1" * 16, "secret", (("room", "1"),))])
    assert asked(caller, to_tags(room="1")) == "me may not call room=1"
    site.connect("two", serves=[RouteSetup(b"2" * 16, "mine", (("room", "1"),))])
    assert asked(caller, to_tags(room="1")) == "two"


def test_a_connection_without_a_service_is_called_by_its_subject(site: Site) -> None:
    caller = site.connect("me", routes=("lamp-1",))
    site.connect("lamp-1")
    site.connect("lamp-2")
    assert asked(caller, to_tags(sub="lamp-1")) == "lamp-1"
    assert asked(caller, to_tags(sub="lamp-2")) == "me may not call sub=lamp-2"


def test_a_route_that_reads_like_another_services_is_judged_as_what_it_reaches(site: Site) -> None:
    caller = site.connect("me", routes=("mine.*",))
    site.service("secret")
    assert asked(caller, to_tags(ServiceName="secret", entries=[(ROUTING, encode_routing(["mine.x"]))])) == (
        "me may not call ServiceName=secret"
    )


# Counters


def test_candidates_of_several_services_have_no_counters_in_common(site: Site, caller: Peer) -> None:
    site.connect("one", serves=[RouteSetup(b"1" * 16, "a", (("room", "1"),))])
    site.connect("two", serves=[RouteSetup(b"2" * 16, "b", (("room", "1"),))])
    site.connect("lamp", Kind.DEVICE, serves=[RouteSetup(b"3" * 16, "lamp.x", (("room", "1"),))])
    for _ in range(3):
        asked(caller, to_tags(room="1"))
    counted = {name: stats.ok for name, stats in site.metrics.services.items() if stats.requests}
    assert counted == {"a": 1, "b": 1, "(devices)": 1}


# By itself


class Requester:
    """As much of one as a decision asks for."""

    side = LOCAL

    def __init__(self, grant: Grant) -> None:
        self.grant = grant


def made(site: Site, metadata: bytes, form: Form = Form.COMPOSITE) -> Decision:
    """The decision that a caller with all rights gets."""
    grant = site.snapshot().grant(site.principals[site.token("me")])
    return decide(site.plane, Deciding(metadata, form, 16), Requester(grant), 255)  # type: ignore[arg-type]


def test_a_decision(site: Site) -> None:
    echo = site.service("echo")
    decision = made(site, to_route("echo.x"))
    assert decision.generation == site.plane.table.generation
    assert decision.pick(site.plane).owner is echo.connection
    assert decision.first is decision.pick(site.plane)
    assert decision.spread() == [decision.first]
    assert not decision.multicast
    assert decision.stats is site.metrics.services["echo"]
    assert made(site, to_all("echo")).multicast


def test_a_decision_that_fails_is_asked_again(site: Site) -> None:
    echo = site.service("echo")
    decision = made(site, to_route("echo.x"))
    echo.vanish()
    nobody: Any = Requester(site.plane.nobody)
    for _ in range(2):
        with pytest.raises(NoRoute):
            decision.refresh(site.plane, nobody)
        assert decision.generation != site.plane.table.generation
    site.service("echo")
    with pytest.raises(NotPermitted):
        decision.refresh(site.plane, nobody)
    assert decision.generation != site.plane.table.generation


def test_a_broker_frame_that_is_no_address_addresses_nothing(site: Site) -> None:
    """First match wins: the routing tags then."""
    site.service("echo")
    metadata = credentials(None, [RouteSetup(b"1" * 16, "other")]) + to_route("echo.x")
    assert made(site, metadata).address.route == "echo.x"


def test_the_first_of_several_entries_decides(site: Site) -> None:
    """X01: duplicates are allowed."""
    site.service("echo")
    assert made(site, to_route("echo.x") + to_route("nobody")).address.route == "echo.x"
    both = to_tags(ServiceName="echo") + to_tags(ServiceName="nobody")
    assert made(site, both).address.by_tags


def test_sections_are_kept_for_metadata_that_does_not_vary(site: Site) -> None:
    site.service("echo")
    decision = made(site, to_route("echo.x"))
    metadata = to_route("echo.x")
    entry = encode_composite([stamp()])
    for form, expected in (
        (Form.COMPOSITE, metadata + entry),
        (Form.ROUTING, encode_routing(["echo.x"])),
        (Form.OPAQUE, metadata),
    ):
        with_length = len(expected).to_bytes(3, "big") + expected
        assert section(decision, metadata, True, Form.COMPOSITE, form, entry) == with_length
        assert decision.sections[form] is None
        assert section(decision, metadata, False, Form.COMPOSITE, form, entry) == with_length
        assert decision.sections[form] == with_length


def test_no_metadata_is_an_empty_section(site: Site) -> None:
    site.service("echo")
    decision = made(site, to_tags(ServiceName="echo"))
    assert section(decision, to_tags(ServiceName="echo"), False, Form.COMPOSITE, Form.ROUTING, b"") == b""
    assert decision.sections[Form.ROUTING] == b""
