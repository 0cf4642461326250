"""What is left open between the side of a stream and those who make one of it."""

from __future__ import annotations

import pytest

from gateway.forwarding.endpoint import Endpoint
from gateway.forwarding.internal import NoCarrier
from gateway.forwarding.outbox import Outbox
from gateway.forwarding.stream import REQUEST_FNF, new_stream
from gateway.observe.metrics import ServiceStats
from tests.forwarding.plane_of import Site


def test_an_endpoint_alone_spreads_nothing_and_resumes_nothing(site: Site) -> None:
    """Only the multicast connection spreads a request, and only connections have credit that was held."""
    outbox = Outbox(NoCarrier(), site.plane.flusher, site.counters, 1, 2)
    endpoint = Endpoint(site.plane, outbox.carrier, outbox)
    stream = new_stream(REQUEST_FNF, endpoint, 1, endpoint, 2, ServiceStats(), 0.0)
    with pytest.raises(NotImplementedError):
        endpoint.spread(stream, [])
    with pytest.raises(NotImplementedError):
        endpoint.relieved(stream)


def test_a_new_endpoint_may_nothing(site: Site) -> None:
    """P02."""
    peer = site.dial()
    connection = peer.connection
    assert not connection.accepted
    assert connection.grant is site.plane.nobody
    assert not connection.grant.may_call("echo", "echo.x")
    assert not connection.grant.may_register("echo")


def test_pauses_are_counted_by_outbox(site: Site) -> None:
    """And a connection that has ended is neither paused nor resumed."""
    peer, one, two = site.connect(), site.connect(), site.connect()
    for _ in range(2):
        peer.connection.pause_for(one.connection.outbox)
        peer.connection.pause_for(two.connection.outbox)
    one.connection.outbox.flush()
    assert peer.carrier.pauses == ["pause"]
    two.connection.outbox.flush()
    assert peer.carrier.pauses == ["pause", "resume"]
    peer.vanish()
    peer.connection.pause_for(one.connection.outbox)
    peer.connection.resume_after(one.connection.outbox)
    assert peer.carrier.pauses == ["pause", "resume"]
    assert not one.connection.outbox.feeders
