from __future__ import annotations

from gateway.forwarding.stream import REQUEST_STREAM, REQUESTER_DONE, new_stream
from gateway.observe.metrics import ServiceStats
from tests.forwarding.plane_of import Site


def test_a_new_stream(site: Site) -> None:
    """Its ids are kept as the four bytes that replace those of a frame that crosses."""
    caller, echo = site.connect().connection, site.service("echo").connection
    stats = ServiceStats()
    stream = new_stream(REQUEST_STREAM, caller, 0x7FFFFFFF, echo, 2, stats, 1.5)
    assert (stream.interaction, stream.stats, stream.opened_at) == (REQUEST_STREAM, stats, 1.5)
    assert (stream.requester, stream.requester_id) == (caller, 0x7FFFFFFF)
    assert (stream.responder, stream.responder_id) == (echo, 2)
    assert (stream.state, stream.down, stream.up) == (REQUESTER_DONE, None, None)
