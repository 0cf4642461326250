"""`Access` documents on the data plane: each way in, and what is open when they change (fault 66)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.forwarding.ending import RIGHTS_CHANGED
from gateway.forwarding.judging import ACTS
from gateway.policy.access import Rights
from gateway.policy.access_list import AccessList, Registered
from gateway.policy.asking import Reached
from gateway.policy.authorization import REQUESTS, AccessPolicy, AccessRule, Act, Action, From, To, When
from gateway.policy.governance import Governance
from gateway.policy.principal import Kind
from gateway.wire import brokering
from gateway.wire.frames import Cancel, Error, FrameType, Payload, RequestN, Resume
from tests.forwarding.plane_of import Peer, Site, item, to_all, to_route, to_tags
from tests.forwarding.test_resume import TOKEN, setup_frame

REJECTED = 0x202


def policy(action: Action, *rules: AccessRule, name: str = "rule", dry_run: bool = False) -> AccessPolicy:
    return AccessPolicy(name, action, rules, dry_run)


def deny(*targets: To, name: str = "no", sources: tuple[From, ...] = (), when: tuple[When, ...] = ()) -> AccessPolicy:
    return policy(Action.DENY, AccessRule(sources, targets, when), name=name)


def govern(site: Site, *policies: AccessPolicy) -> None:
    site.plane.govern(Governance(access=policies))
    site.turn()


def refused(peer: Peer, name: str = "no") -> None:
    error = peer.one()
    assert isinstance(error, Error)
    assert error.code == REJECTED
    assert f"Access/{name}: " in error.text


@pytest.mark.parametrize("ask", ["respond", "stream", "channel"])
def test_a_deny_refuses_every_interaction_and_says_which_document(site: Site, ask: str) -> None:
    echo, caller = site.service("echo"), site.connect("d1")
    govern(site, deny(To(("echo",), ("set.*",))))
    getattr(caller, ask)("echo.set.x")
    refused(caller)
    caller.fire("echo.set.x")
    assert caller.got() == echo.got() == []
    getattr(caller, ask)("echo.get")
    assert len(echo.got()) == 1
    assert site.metrics.policies == {("no", "denied"): 2}
    assert site.counters.refusals["access_denied"] == 2


def test_an_allow_shuts_out_everybody_else_from_what_it_names(site: Site) -> None:
    echo, other = site.service("echo"), site.service("other")
    allow = policy(Action.ALLOW, AccessRule((From(principals=("op",)),), (To(("echo",), ("get",)),)))
    govern(site, allow)
    op, d1 = site.connect("op"), site.connect("d1")
    op.respond("echo.get")
    assert len(echo.got()) == 1
    op.respond("echo.set")
    refused(op, "rule")
    d1.respond("echo.get")
    refused(d1, "rule")
    d1.respond("other")
    assert len(other.got()) == 1


def test_rules_may_tell_interactions_apart(site: Site) -> None:
    echo, caller = site.service("echo"), site.connect()
    govern(site, deny(To(("echo",), interactions=frozenset({Act.REQUEST_STREAM}))))
    for _ in range(2):
        caller.stream("echo")
        refused(caller)
        caller.respond("echo")
        caller.fire("echo")
        assert len(echo.got()) == 2


@pytest.mark.parametrize(
    "metadata",
    [
        to_route("echo.set"),
        to_route("set", "ServiceName=echo"),
        to_tags(ServiceName="echo", entries=[("message/x.rsocket.routing.v0", b"\x03set")]),
        to_tags(sub="echo-1", entries=[("message/x.rsocket.routing.v0", b"\x03set")]),
    ],
)
def test_no_way_of_addressing_leads_around_a_rule(site: Site, metadata: bytes) -> None:
    site.service("echo")
    caller = site.connect()
    govern(site, deny(To(("echo",), ("set",))))
    caller.respond("", metadata=metadata)
    assert isinstance(caller.one(), Error)


def test_tags_of_both_entries_count(site: Site) -> None:
    site.connect("echo-1", serves=[site.registration("echo", zone="secret")])
    caller = site.connect()
    govern(site, deny(To(("echo",)), when=(When("request.tags[zone]", ("secret",)),)))
    routing = to_route("echo", "zone=secret")
    address = to_tags(ServiceName="echo")
    for metadata in (routing, address + routing, routing + address):
        caller.respond("", metadata=metadata)
        refused(caller)


def test_multicast_leaves_out_who_may_not_be_asked(site: Site) -> None:
    first, second = site.service("lamp", "lamp-1"), site.connect("lamp-2", serves=["lamp", "secret"])
    third = site.connect("x", serves=[site.registration("secret", kind="lamp")])
    caller = site.connect()
    govern(site, deny(To(("secret",))))
    caller.fire("", metadata=to_all("lamp"))
    assert [len(peer.got()) for peer in (first, second)] == [1, 1]
    caller.fire("", metadata=to_tags(brokering.Cast.MULTICAST, kind="lamp"))
    assert third.got() == []


def test_what_is_open_ends_when_it_would_not_be_opened_any_more(site: Site) -> None:
    echo, caller = site.service("echo"), site.connect("d1")
    stays = caller.stream("echo.get", n=3)
    streams = caller.stream("echo.set", n=3), caller.channel("echo.set", n=3), caller.respond("echo.set")
    asked = [frame.stream_id for frame in echo.got() if not isinstance(frame, RequestN)]
    govern(site, deny(To(("echo",), ("set",))))
    errors = [frame for frame in caller.got() if not isinstance(frame, RequestN)]
    assert [(error.stream_id, error.text) for error in errors] == [(each, RIGHTS_CHANGED) for each in streams]
    assert echo.got() == [Cancel(each) for each in asked[1:]]
    echo.send(item(asked[0]))
    assert caller.one() == item(stays)
    assert site.open_streams() == 1


def test_open_multicast_ends_when_one_of_its_responders_may_not_be_asked(site: Site) -> None:
    lamps = [site.service("lamp", f"lamp-{n}") for n in range(2)]
    caller = site.connect()
    caller.stream("", n=4, metadata=to_all("lamp"))
    assert all(len(lamp.got()) == 1 for lamp in lamps)
    govern(site, deny(To(("lamp",))))
    assert isinstance(caller.one(), Error)
    assert all(isinstance(lamp.one(), Cancel) for lamp in lamps)


def test_a_document_may_keep_somebody_from_serving(site: Site) -> None:
    caller = site.connect("caller")
    echo = site.service("echo", "d1")
    caller.stream("echo", n=3)
    assert len(echo.got()) == 1
    govern(site, deny(To(("echo",), interactions=frozenset({Act.REGISTER})), sources=(From(principals=("d1",)),)))
    assert isinstance(caller.one(), Error)
    assert isinstance(echo.one(), Cancel)
    assert site.plane.table.service("echo") is None
    assert echo.open
    late = site.dial()
    late.send(setup_frame(site, "d1", None, ("echo",)))
    assert "Access/no: d1 may not register echo" in late.one().text
    assert site.service("echo", "d2").open
    caller.respond("echo")
    assert caller.got() == []


def test_who_may_call_says_nothing_of_who_may_serve(site: Site) -> None:
    govern(site, deny(To(("echo",))), policy(Action.ALLOW, name="none"))
    assert site.service("echo").open


def test_the_nodes_own_services_stay_in_reach(site: Site) -> None:
    govern(site, deny(), policy(Action.ALLOW, name="none"))
    caller = site.connect("d1")
    caller.respond("gateway.ready")
    assert isinstance(caller.one(), Payload)


def test_who_may_not_ask_a_service_does_not_see_it(site: Site) -> None:
    site.service("echo")
    govern(site, deny(To(("echo",)), sources=(From(principals=("d1",)),)))
    for subject, seen in (("d1", False), ("d2", True)):
        caller = site.connect(subject)
        caller.stream("gateway.routes", n=100)
        names = {brokering.decode(frame.data).service for frame in caller.got() if frame.data}
        assert ("echo" in names) is seen


def test_audit_and_dry_run_refuse_nothing_and_are_told_of_each_request(site: Site) -> None:
    echo, caller = site.service("echo"), site.connect()
    trial = policy(Action.DENY, AccessRule(targets=(To(("echo",)),)), name="trial", dry_run=True)
    govern(site, trial, policy(Action.AUDIT, AccessRule(), name="watch"))
    for _ in range(3):
        caller.respond("echo")
    caller.fire("echo")
    assert len(echo.got()) == 4
    assert site.metrics.policies == {("watch", "audited"): 4, ("trial", "dry_run"): 4}


def test_a_session_that_goes_on_over_another_link_is_judged_by_that(site: Site) -> None:
    echo = site.service("echo")
    first = site.dial()
    first.connection.reached = Reached(True, "websocket", "10.0.0.1")
    first.send(setup_frame(site, "d1", TOKEN))
    govern(site, deny(To(("echo",)), when=(When("connection.tls", ("false",)),)))
    stream_id = first.stream("echo", n=2)
    asked = echo.one().stream_id
    connection = first.connection
    first.vanish()
    second = site.dial()
    second.connection.reached = Reached(False, "websocket", "10.0.0.1")
    second.send(Resume(TOKEN, 0, 0))
    assert Error(stream_id, REJECTED, RIGHTS_CHANGED) in second.got()
    assert echo.one() == Cancel(asked)
    assert not connection.requesting


def test_groups_that_change_are_judged_again(site: Site) -> None:
    echo = site.service("echo")
    govern(site, deny(To(("echo",)), sources=(From(not_groups=("ops",)),)))
    record = Registered(Kind.DEVICE, True, ("ops",), (("site", "7"),), Rights(("*",), ("*",)))
    plane = site.plane
    plane.publish(replace(plane.snapshot, access=AccessList(devices={"d1": record})))
    caller = site.connect("d1", Kind.DEVICE)
    caller.stream("echo", n=2)
    metadata = echo.one().metadata
    assert b'"groups":["ops"],"labels":{"site":"7"}' in metadata
    plane.publish(replace(plane.snapshot, access=AccessList(devices={"d1": replace(record, groups=())})))
    site.turn()
    assert isinstance(caller.one(), Error)
    caller.respond("echo")
    refused(caller)


def test_the_acts_are_those_of_the_frames(site: Site) -> None:
    assert set(ACTS) - {0} == {kind for kind in FrameType if kind.name.startswith("REQUEST_") and kind.name[8] != "N"}
    assert set(ACTS.values()) == REQUESTS
