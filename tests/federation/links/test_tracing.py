"""One request over several nodes is one trace, as a real collector has it from the real exporter."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from gateway.documents.validation import understand
from gateway.wire import frames, tracing
from gateway.wire.metadata import Sampling
from tests.collector import Collector
from tests.federation.links.cluster import Cluster, call

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def telemetry(collector: Collector, percent: float) -> dict[str, object]:
    return {
        "kind": "Telemetry",
        "name": "traces",
        "tracing": {"endpoint": collector.url, "randomSamplingPercentage": percent, "customTags": {"plant": "7"}},
    }


async def traced(cluster: Cluster, collector: Collector) -> None:
    """The node of the caller records everything, the others what comes recorded."""
    for name in ("edge-a", "central", "edge-b"):
        body = telemetry(collector, 100 if name == "edge-a" else 0)
        cluster[name].running.govern((understand(body),))


async def test_edge_central_edge_is_one_trace(edges: Cluster, collector: Collector) -> None:
    await traced(edges, collector)
    echo = await edges.servant("edge-b")
    await edges.knows("central", "echo")
    phone = await edges.client("edge-a")
    await call(phone, "echo.it")
    await asyncio.to_thread(collector.wait, lambda seen: len(seen) >= 3)
    assert len(collector.spans) == 3
    by_node = {span.node: span for span in collector.spans}
    first, middle, last = (by_node[name] for name in ("edge-a", "central", "edge-b"))
    assert len({span.trace_id for span in collector.spans}) == 1
    assert (first.parent_id, middle.parent_id, last.parent_id) == ("", first.span_id, middle.span_id)
    for span in collector.spans:
        assert (span.name, span.kind, span.error) == ("echo.it", "SERVER", "")
        assert span.attributes["rpc.service"] == "echo"
        assert span.attributes["gateway.caller"] == "phone"
        assert span.attributes["plant"] == "7"
    (asked,) = echo.got(frames.RequestResponse)
    context = tracing.context_in(asked.metadata)
    assert context is not None
    assert (context.trace_id.hex(), context.span_id.hex()) == (last.trace_id, last.span_id)


async def test_the_trace_of_a_caller_goes_through(edges: Cluster, collector: Collector) -> None:
    """What a caller does not record is recorded nowhere; what it does is, on each node."""
    await traced(edges, collector)
    echo = await edges.servant("edge-b")
    await edges.knows("central", "echo")
    phone = await edges.client("edge-a")
    for flags in ("00", "01"):
        header = f"00-{TRACE}-{SPAN}-{flags}".encode()
        await call(phone, "echo.it", entries=[(tracing.TRACEPARENT, header), (tracing.TRACESTATE, b"a=1")])
    await asyncio.to_thread(collector.wait, lambda seen: len(seen) >= 3)
    assert {span.trace_id for span in collector.spans} == {TRACE}
    assert len(collector.spans) == 3
    assert [span.node for span in collector.spans if span.parent_id == SPAN] == ["edge-a"]
    contexts = [tracing.context_in(asked.metadata) for asked in echo.got(frames.RequestResponse)]
    assert contexts[0] == tracing.Context(bytes.fromhex(TRACE), bytes.fromhex(SPAN), Sampling.NOT_SAMPLED)
    assert contexts[1] is not None
    assert contexts[1].span_id.hex() in {span.span_id for span in collector.spans}


async def test_a_node_that_ends_delivers_what_it_has(edges: Cluster, collector: Collector) -> None:
    await traced(edges, collector)
    await edges.servant("edge-a")
    phone = await edges.client("edge-a")
    await call(phone, "echo.it")
    counters = edges["edge-a"].running.metrics.counters
    await edges.stop("edge-a")
    assert counters.spans == {"delivered": 1}
    assert [span.node for span in collector.spans] == ["edge-a"]
