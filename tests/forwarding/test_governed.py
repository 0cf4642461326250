"""Requests to a service that a document governs, and how its state outlives documents."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.forwarding.call import Call
from gateway.policy.governance import Governance
from gateway.policy.traffic import Match, RouteRule, ServiceRules
from gateway.wire.frames import Error, FrameType
from tests.forwarding.plane_of import Peer, Site, item

RULES = ServiceRules("echo", routes=(RouteRule("all"),))


@pytest.fixture
def echo(site: Site) -> Peer:
    return site.service("echo")


def govern(site: Site, *services: ServiceRules) -> None:
    site.plane.govern(Governance(services))


def calls(site: Site) -> list[Call]:
    """Those of the streams that are open."""
    open_now = [stream for connection in site.plane.connections.values() for stream in connection.requesting.values()]
    return [stream.watch for stream in open_now if stream.watch is not None]


def test_a_service_without_a_document_is_not_watched(site: Site, echo: Peer) -> None:
    govern(site, ServiceRules("other", routes=(RouteRule("all"),)))
    site.connect().respond("echo")
    assert not calls(site)


def test_a_governed_request_is_answered_and_let_go(site: Site, echo: Peer) -> None:
    govern(site, RULES)
    caller = site.connect()
    stream_id = caller.respond("echo", b"hello")
    (call,) = calls(site)
    assert (call.attempt, call.size, call.governed.rule.name) == (1, 5, "all")
    asked = echo.one()
    echo.send(item(asked.stream_id, b"world", complete=True))
    assert caller.one() == item(stream_id, b"world", complete=True)
    assert call.stream is None
    assert not site.open_streams()


def test_an_error_says_how_a_call_ended(site: Site, echo: Peer) -> None:
    govern(site, RULES)
    caller = site.connect()
    caller.respond("echo")
    (call,) = calls(site)
    echo.send(Error(echo.one().stream_id, 0x201, "no"))
    assert caller.one().text == "no"
    assert call.code == 0x201


def test_documents_bind_connections_that_are_open(site: Site, echo: Peer) -> None:
    caller = site.connect()
    caller.respond("echo")
    assert not calls(site)
    govern(site, RULES)
    caller.respond("echo")
    assert len(calls(site)) == 1
    govern(site)
    caller.respond("echo")
    assert len(calls(site)) == 1


def test_what_is_remembered_outlives_a_document_that_says_the_same(site: Site) -> None:
    govern(site, RULES)
    governor: Any = site.plane.governor
    before = governor.state("echo")
    govern(site, RULES, ServiceRules("other"))
    assert site.plane.governor.state("echo") is before  # type: ignore[union-attr]
    govern(site, ServiceRules("echo"))
    assert site.plane.governor.state("echo") is not before  # type: ignore[union-attr]


def test_the_nodes_own_services_are_never_governed(site: Site) -> None:
    govern(site, ServiceRules("all", hosts=("*",)))
    governor: Any = site.plane.governor
    assert governor.state("gateway.routes") is None
    assert governor.state("echo").rules.name == "all"


def test_where_interactions_differ_each_has_a_decision_of_its_own(site: Site, echo: Peer) -> None:
    streams = Match(interactions=frozenset({int(FrameType.REQUEST_STREAM)}))
    govern(site, ServiceRules("echo", routes=(RouteRule("streams", (streams,)), RouteRule("rest"))))
    caller = site.connect()
    caller.respond("echo")
    caller.stream("echo")
    assert sorted(call.decision.interaction for call in calls(site)) == [
        FrameType.REQUEST_RESPONSE,
        FrameType.REQUEST_STREAM,
    ]
