"""What the flow log is told of requests, by bytes in and bytes out."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import NotPermitted
from gateway.forwarding import flow_log
from gateway.observe.flow_filter import FlowFilter
from gateway.observe.flows import FlowRing
from gateway.policy.governance import Governance
from gateway.policy.principal import Kind
from gateway.policy.traffic import RouteRule, ServiceRules
from gateway.routing.address import Address
from gateway.wire.frames import Cancel, Error
from tests.forwarding.plane_of import Peer, Site, item


@pytest.fixture
def echo(site: Site) -> Peer:
    return site.service("echo")


@pytest.fixture
def ring(site: Site) -> FlowRing:
    plane = site.plane
    ring = FlowRing(64, plane.node, b"identity", plane.monotonic, plane.wall)
    plane.record(ring)
    return ring


def records(ring: FlowRing) -> list[dict[str, Any]]:
    return [ring.record(number) for number in range(ring.oldest, ring.latest + 1)]


def told(ring: FlowRing) -> list[tuple[str, str]]:
    return [(record["verdict"], record["reason"]) for record in records(ring)]


def test_nothing_is_told_while_nobody_wants_it(site: Site, echo: Peer, ring: FlowRing) -> None:
    site.plane.record(None)
    caller = site.connect()
    caller.respond("echo.x")
    caller.respond("nobody")
    echo.vanish()
    assert not ring.latest


def test_an_answer_is_told_with_who_and_where_and_how_long(site: Site, echo: Peer, ring: FlowRing) -> None:
    caller = site.connect(subject="me")
    stream_id = caller.respond("echo.x", b"12345")
    site.clock.now += 0.25
    echo.send(item(echo.one().stream_id, b"!", complete=True))
    (record,) = records(ring)
    assert record["source"]["id"] == "me"
    assert (record["destination"]["service"], record["route"]) == ("echo", "echo.x")
    assert (record["verdict"], record["stream_id"], record["bytes"]) == ("FORWARDED", stream_id, 5)
    assert (record["direction"], record["is_reply"], record["attempt"]) == ("local", True, 1)
    assert (record["latency_ns"], record["interaction"]) == (250_000_000, "requestResponse")


def test_each_end_has_its_verdict(site: Site, echo: Peer, ring: FlowRing) -> None:
    caller = site.connect()
    for _ in range(4):
        caller.respond("echo.x")
    caller.fire("echo.x")
    caller.stream("echo.x", 5)
    echo.send(Error(2, 0x201, "no"), Error(4, 0x301, "own"))
    caller.send(Cancel(5))
    echo.vanish()
    assert told(ring) == [
        ("FORWARDED", ""),
        ("ERROR", "APPLICATION_ERROR"),
        ("ERROR", "0x301"),
        ("FORWARDED", "canceled"),
        ("ERROR", "CANCELED"),
        ("ERROR", "CANCELED"),
    ]
    first, *_, last = records(ring)
    assert (first["interaction"], first["is_reply"]) == ("fireAndForget", False)
    assert (last["interaction"], last["credits_left"]) == ("requestStream", 5)


def test_refusals_are_told_with_what_was_asked_for(site: Site, echo: Peer, ring: FlowRing) -> None:
    caller = site.connect(subject="me")
    caller.respond("nobody.there", b"123")
    caller.respond("", metadata=b"\xff")
    assert [(each["verdict"], each["reason"], each["route"]) for each in records(ring)] == [
        ("DROPPED", "no_route", "nobody.there"),
        ("DROPPED", "malformed_metadata", ""),
    ]
    assert records(ring)[0]["source"]["id"] == "me"
    assert records(ring)[0]["latency_ns"] is None


def test_a_refusal_by_a_document_names_it(site: Site, echo: Peer, ring: FlowRing) -> None:
    caller = site.connect()
    caller.respond("echo.x")
    error = NotPermitted("no")
    error.policy = "Access/ops-only"
    metadata = next(iter(caller.connection.decisions))
    flow_log.refused(caller.connection, 4, 9, metadata, error)
    flow_log.audited(caller.connection, 4, Address(route="echo.set"), None, "Access/seen", "dry_run")
    refused, audited = records(ring)
    assert (refused["verdict"], refused["policy"], refused["route"]) == ("DROPPED", "Access/ops-only", "echo.x")
    assert (audited["verdict"], audited["policy"], audited["reason"]) == ("AUDIT", "Access/seen", "dry_run")


def test_a_message_that_came_round_is_told_by_its_topic(site: Site, ring: FlowRing) -> None:
    flow_log.looped(site.plane, "plant", "a/b", "via")
    (record,) = records(ring)
    assert (record["verdict"], record["topic"], record["reason"], record["policy"]) == (
        "LOOP",
        "a/b",
        "via",
        "Bridge/plant",
    )
    assert "route" not in record
    site.plane.record(None)
    flow_log.looped(site.plane, "plant", "a/b", "via")
    assert ring.latest == 1


def test_what_a_document_governs_is_told_with_its_name(site: Site, echo: Peer, ring: FlowRing) -> None:
    site.plane.govern(Governance((ServiceRules("echo", routes=(RouteRule("all"),)),)))
    caller = site.connect()
    caller.respond("echo.x")
    echo.send(item(echo.one().stream_id, b"!", complete=True))
    assert records(ring)[0]["policy"] == "Service/echo"


def test_a_record_keeps_no_connection(site: Site, echo: Peer, ring: FlowRing) -> None:
    caller = site.connect()
    caller.fire("echo.x")
    caller.vanish()
    echo.vanish()
    assert records(ring)[0]["destination"]["service"] == "echo"
    assert not site.plane.table.of_owner(echo.connection)


def test_what_a_viewer_does_not_want_is_passed_over(site: Site, echo: Peer, ring: FlowRing) -> None:
    ring.want([FlowFilter.parse('verdict == "DROPPED"')])
    caller = site.connect()
    caller.fire("echo.x")
    caller.respond("nobody")
    assert told(ring) == [("DROPPED", "no_route")]
    assert ring.left_out == 1


class TestPaths:
    """Requests are counted by who calls whom, without a device's id."""

    def test_who_calls_whom(self, site: Site, echo: Peer) -> None:
        device = site.connect(subject="device-1", kind=Kind.DEVICE)
        service = site.service("billing", subject="svc-billing")
        device.fire("echo.x")
        service.fire("echo.x")
        device.respond("billing.y")
        found = {(path.source, path.service): stats.requests for path, stats in site.metrics.paths.items()}
        assert found == {("device", "echo"): 1, ("billing", "echo"): 1, ("device", "billing"): 1}
        assert site.metrics.services["echo"].requests == 2

    def test_requests_by_a_rule_are_counted_by_it(self, site: Site, echo: Peer) -> None:
        site.plane.govern(Governance((ServiceRules("echo", routes=(RouteRule("all"),)),)))
        site.connect(subject="device-1", kind=Kind.DEVICE).fire("echo.x")
        assert [(path.service, path.rule) for path, stats in site.metrics.paths.items() if stats.requests] == [
            ("echo", "all")
        ]
