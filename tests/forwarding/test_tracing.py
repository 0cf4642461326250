"""Requests that are recorded as parts of a trace: which they are, what their responders see, what is said of them."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import pytest

from gateway.forwarding.links import DOWNLINK, LOCAL
from gateway.forwarding.sampling import Sampler
from gateway.forwarding.stamp import Form
from gateway.forwarding.tracing import Tracing
from gateway.observe.spans import Span
from gateway.policy import telemetry
from gateway.policy.governance import Governance
from gateway.policy.telemetry import ServiceSampling, TelemetryRules
from gateway.policy.traffic import RouteRule, ServiceRules
from gateway.wire.frames import Cancel, Error
from gateway.wire.metadata import Sampling, Zipkin, decode_composite, encode_composite, encode_routing, encode_zipkin
from gateway.wire.mimetypes import DEADLINE, PRINCIPAL, ROUTING, ZIPKIN
from gateway.wire.mimetypes import ROUTING as ROUTING_MIME
from gateway.wire.tracing import TRACEPARENT, TRACESTATE, Context, context_in
from tests.forwarding.plane_of import Peer, Site, item

TRACE = bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736")
SPAN = bytes.fromhex("00f067aa0ba902b7")


def part_of_a_trace(flags: str = "01", to: str = "echo") -> bytes:
    header = f"00-{TRACE.hex()}-{SPAN.hex()}-{flags}".encode()
    return encode_composite([(ROUTING, encode_routing([to])), (TRACEPARENT, header), (TRACESTATE, b"a=1")])


def trace(site: Site, sampling: float = 1.0, **more: Any) -> list[Span]:
    """The spans that are recorded from now on."""
    spans: list[Span] = []
    rules = telemetry.Tracing("http://collector", sampling, **more)
    plane = site.plane
    plane.tracing = Tracing(rules, plane.random, plane.monotonic, plane.wall, spans.append)
    plane.govern(Governance(plane.governance.services, telemetry=TelemetryRules(tracing=rules)))
    return spans


@pytest.fixture
def echo(site: Site) -> Peer:
    return site.service("echo")


def test_off_there_is_nothing_on_the_way(site: Site, echo: Peer) -> None:
    caller = site.connect()
    caller.respond("echo", metadata=part_of_a_trace())
    stream = next(iter(caller.connection.requesting.values()))
    assert stream.watch is None
    assert caller.connection.latest is None
    assert all(decision.sampler is None for decision in caller.connection.decisions.values())
    # What the caller says of its trace goes on as it came.
    entries = decode_composite(echo.one().metadata)
    assert entries[:-1] == decode_composite(part_of_a_trace())


def test_a_trace_begins_here(site: Site, echo: Peer) -> None:
    spans = trace(site, tags=(("site", "7"),))
    caller = site.connect("ann")
    caller.respond("echo", b"hello")
    asked = echo.one()
    context = context_in(asked.metadata)
    assert context is not None
    assert context.sampling is Sampling.SAMPLED
    assert [mime for mime, _ in decode_composite(asked.metadata)] == [ROUTING, PRINCIPAL, TRACEPARENT, ZIPKIN] or [
        mime for mime, _ in decode_composite(asked.metadata)
    ] == [ROUTING, TRACEPARENT, ZIPKIN, PRINCIPAL]
    site.wait(0.25)
    assert not spans
    echo.send(item(asked.stream_id, b"world", complete=True))
    (span,) = spans
    assert (span.trace_id, span.span_id, span.parent_id) == (context.trace_id, context.span_id, b"")
    assert (span.name, span.error, span.inner) == ("echo", "", False)
    assert span.start == pytest.approx(site.clock.wall() - 0.25)
    assert span.end - span.start == pytest.approx(0.25)
    assert span.attributes == {
        "rpc.system": "rsocket",
        "rpc.service": "echo",
        "rpc.method": "echo",
        "rsocket.interaction": "REQUEST_RESPONSE",
        "gateway.caller": "ann",
    }


def test_a_trace_of_a_caller_goes_on(site: Site, echo: Peer) -> None:
    spans = trace(site, 0.0)
    caller = site.connect()
    caller.respond("echo", metadata=part_of_a_trace())
    asked = echo.one()
    entries = dict(decode_composite(asked.metadata))
    assert entries[TRACESTATE] == b"a=1"
    context = context_in(asked.metadata)
    echo.send(item(asked.stream_id, b"", complete=True))
    (span,) = spans
    assert (span.trace_id, span.parent_id) == (TRACE, SPAN)
    assert context == Context(TRACE, span.span_id, Sampling.SAMPLED)


def test_a_caller_that_does_not_record_is_not_recorded(site: Site, echo: Peer) -> None:
    spans = trace(site)
    caller = site.connect()
    caller.respond("echo", metadata=part_of_a_trace("00"))
    asked = echo.one()
    assert decode_composite(asked.metadata)[:-1] == decode_composite(part_of_a_trace("00"))
    echo.send(item(asked.stream_id, b"", complete=True))
    assert not spans


def test_unless_told_otherwise_callers_decide(site: Site, echo: Peer) -> None:
    """With `respectCaller: false` a client cannot have everything recorded; what is drawn stays in its trace."""
    spans = trace(site, 0.0, parent_based=False)
    caller = site.connect()
    caller.respond("echo", metadata=part_of_a_trace("01"))
    assert context_in(echo.one().metadata) == Context(TRACE, SPAN, Sampling.SAMPLED)
    assert not spans
    spans = trace(site, 1.0, parent_based=False)
    caller.fire("echo", metadata=part_of_a_trace("00"))
    (span,) = spans
    assert (span.trace_id, span.parent_id) == (TRACE, SPAN)


def test_a_caller_that_leaves_the_decision_to_others(site: Site, echo: Peer) -> None:
    spans = trace(site)
    undecided = encode_zipkin(Zipkin(Sampling.UNDECIDED, TRACE, SPAN))
    site.connect().fire("echo", metadata=encode_composite([(ROUTING, b"\x04echo"), (ZIPKIN, undecided)]))
    (span,) = spans
    assert (span.trace_id, span.parent_id) == (TRACE, SPAN)
    assert context_in(echo.one().metadata) == Context(TRACE, span.span_id, Sampling.SAMPLED)


def test_each_interaction(site: Site, echo: Peer) -> None:
    spans = trace(site)
    caller = site.connect()
    caller.fire("echo")
    assert context_in(echo.one().metadata) is not None
    caller.stream("echo")
    echo.send(item(echo.one().stream_id, b"1", complete=True))
    channel = caller.channel("echo")
    echo.got()
    caller.send(Cancel(channel))
    assert [span.attributes["rsocket.interaction"] for span in spans] == [
        "REQUEST_FNF",
        "REQUEST_STREAM",
        "REQUEST_CHANNEL",
    ]
    assert spans[-1].attributes["gateway.outcome"] == "canceled"
    assert spans[-1].error == ""


def test_how_it_failed(site: Site, echo: Peer) -> None:
    spans = trace(site)
    caller = site.connect()
    caller.respond("echo")
    echo.send(Error(echo.one().stream_id, 0x301, "too hot"))
    caller.respond("echo")
    echo.send(Error(echo.one().stream_id, 0x202, "not now"))
    caller.respond("echo")
    echo.vanish()
    assert [span.error for span in spans] == [
        "0x301: too hot",
        "REJECTED: not now",
        "CANCELED: responder disconnected",
    ]
    assert [span.attributes["rsocket.error_code"] for span in spans] == [0x301, 0x202, 0x203]


def test_a_request_that_is_refused(site: Site, echo: Peer) -> None:
    spans = trace(site)
    caller = site.connect()
    echo.connection.outbox.slow = True
    caller.respond("echo")
    echo.connection.outbox.slow = False
    assert caller.one().code == 0x202
    (span,) = spans
    assert span.error.startswith("REJECTED: what serves this")
    # Where there is no decision, only a caller that records has it recorded.
    caller.respond("nobody")
    assert len(spans) == 1
    caller.respond("nobody", metadata=part_of_a_trace(to="nobody"))
    assert (spans[1].trace_id, spans[1].parent_id, spans[1].name) == (TRACE, SPAN, "refused")
    assert spans[1].attributes["gateway.reason"] == "no_route"
    assert site.plane.tracing is not None
    assert site.plane.tracing.refusals == {"responder_slow": span.trace_id.hex(), "no_route": TRACE.hex()}


def test_a_caller_without_composite_metadata(site: Site, echo: Peer) -> None:
    spans = trace(site)
    caller = site.connect(mime=ROUTING_MIME)
    caller.fire("echo", metadata=b"\x04echo")
    (span,) = spans
    assert context_in(echo.one().metadata) == Context(span.trace_id, span.span_id, Sampling.SAMPLED)


def test_a_responder_without_composite_metadata(site: Site) -> None:
    plain = site.service("plain", mime=ROUTING_MIME)
    spans = trace(site)
    site.connect().fire("plain")
    assert plain.one().metadata == b"\x05plain"
    assert len(spans) == 1


def test_what_a_document_governs(site: Site, echo: Peer) -> None:
    site.plane.govern(Governance((ServiceRules("mine", hosts=("echo",), routes=(RouteRule("all"),)),)))
    spans = trace(site)
    caller = site.connect()
    caller.respond("echo")
    echo.send(item(echo.one().stream_id, b"", complete=True))
    assert spans[0].attributes["gateway.policy"] == "Service/mine"


def test_a_time_limit_goes_on_once_with_and_without_a_trace(site: Site, echo: Peer) -> None:
    """Also where what goes on is kept from one request for the next."""
    rules = ServiceRules("mine", hosts=("echo",), routes=(RouteRule("all", timeout_s=5.0),))
    site.plane.govern(Governance((rules,)))
    spans = trace(site, 0.5)
    caller = site.connect()
    recorded = set()
    for _ in range(40):
        stream_id = caller.respond("echo")
        asked = echo.one()
        said = [content for mime, content in decode_composite(asked.metadata) if mime == DEADLINE]
        assert said == [(5000).to_bytes(4, "big")]
        recorded.add(context_in(asked.metadata) is not None)
        echo.send(item(asked.stream_id, b"", complete=True))
        assert [frame.stream_id for frame in caller.got()] == [stream_id]
    assert recorded == {True, False}
    assert 0 < len(spans) < 40


def test_the_nodes_own_services_are_not_recorded(site: Site) -> None:
    spans = trace(site)
    caller = site.connect()
    caller.respond("gateway.ready")
    assert len(caller.got()) == 1
    assert not spans


def test_services_have_shares_of_their_own(site: Site, echo: Peer) -> None:
    site.service("other")
    spans = trace(site, 0.0, services=(ServiceSampling("*er", 1.0),))
    caller = site.connect()
    caller.fire("echo")
    caller.fire("other")
    assert [span.name for span in spans] == ["other"]


def test_the_share_is_drawn_and_the_gaps_are_no_pattern() -> None:
    tracing = Tracing(telemetry.Tracing("", 0.01), Random(5), lambda: 0.0, lambda: 0.0, lambda span: None)
    sampler = Sampler(tracing, "echo", 0.01, True)
    drawn = [sampler.begin(b"", False, Form.COMPOSITE, LOCAL) is not None for _ in range(200_000)]
    assert sum(drawn) == pytest.approx(2000, rel=0.1)
    at = [number for number, one in enumerate(drawn) if one]
    gaps = [after - before for before, after in itertools.pairwise(at)]
    assert len(set(gaps)) > 150
    # What comes over a link was decided on where it came from.
    assert not any(sampler.begin(b"", False, Form.COMPOSITE, DOWNLINK) for _ in range(2000))


def test_each_attempt_is_a_span_of_its_own(site: Site) -> None:
    """What the responder of an attempt does is within that attempt."""
    spans: list[Span] = []
    clock = site.clock
    tracing = Tracing(telemetry.Tracing(""), Random(5), clock.monotonic, clock.wall, spans.append)
    recorded = tracing.begin(Context(TRACE, SPAN, Sampling.SAMPLED), "echo")
    recorded.asked("echo.it", 4, "ann")
    recorded.attempt(1, "canary", 0)
    first = context_in(recorded.onward(part_of_a_trace()))
    clock.now += 1
    recorded.text = b"busy"
    recorded.attempt(2, "", 0x202)
    second = context_in(recorded.onward(part_of_a_trace()))
    clock.now += 2
    recorded.ended(0)
    assert first is not None
    assert second is not None
    one, two, outer = spans
    assert (one.span_id, two.span_id) == (first.span_id, second.span_id)
    assert one.parent_id == two.parent_id == outer.span_id
    assert (one.name, one.error, one.inner) == ("echo.it #1", "REJECTED: busy", True)
    assert one.attributes["gateway.subset"] == "canary"
    assert (two.name, two.error) == ("echo.it #2", "")
    assert (outer.parent_id, outer.error, outer.end - outer.start) == (SPAN, "", 3)
