"""Spans on their way: delivered by the real exporter, dropped where there is no room, and nobody waits for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.observe import spans
from gateway.observe.metrics import Counters
from gateway.observe.spans import Span, SpanDelivery, missing
from tests.collector import Collector

TRACE = bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736")


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def a_span(number: int = 1, **more: object) -> Span:
    span = Span(TRACE, number.to_bytes(8, "big"), b"", "thermo.read", 1000.0, 1000.25, {"rpc.system": "rsocket"})
    return span._replace(**more)  # type: ignore[arg-type]


def delivery(url: str, counters: Counters) -> SpanDelivery:
    return SpanDelivery(f"{url}/v1/traces", {"service.instance.id": "edge-1"}, {"site": "7"}, counters)


def test_a_span_as_the_collector_reads_it(collector: Collector) -> None:
    counters = Counters()
    on_its_way = delivery(collector.url, counters)
    on_its_way.offer(a_span(1, error="REJECTED: no"))
    on_its_way.offer(a_span(2, parent_id=bytes(7) + b"\x01", inner=True))
    on_its_way.close(30)
    outer, inner = collector.spans
    assert (outer.trace_id, outer.span_id, outer.parent_id) == (TRACE.hex(), f"{1:016x}", "")
    assert (outer.name, outer.kind, outer.node, outer.error) == ("thermo.read", "SERVER", "edge-1", "REJECTED: no")
    assert outer.attributes == {"rpc.system": "rsocket", "site": "7"}
    assert outer.seconds == 0.25
    assert (inner.parent_id, inner.kind, inner.error) == (f"{1:016x}", "CLIENT", "")
    assert counters.spans == {"delivered": 2}


def test_what_comes_while_others_are_on_their_way_follows(collector: Collector) -> None:
    counters = Counters()
    on_its_way = delivery(collector.url, counters)
    for number in range(1, 4):
        on_its_way.offer(a_span(number))
        collector.wait(lambda seen, number=number: len(seen) == number)  # type: ignore[misc]
    on_its_way.close(30)
    assert counters.spans == {"delivered": 3}
    assert collector.requests == 3


def test_a_full_batch_does_not_wait(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "DELAY_S", 3600.0)
    counters = Counters()
    on_its_way = delivery(collector.url, counters)
    for number in range(spans.BATCH + 1):
        on_its_way.offer(a_span(number + 1))
    collector.wait(lambda seen: len(seen) == spans.BATCH + 1)
    on_its_way.close(30)
    assert counters.spans == {"delivered": spans.BATCH + 1}


def test_a_collector_that_refuses_costs_spans_alone(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "TIMEOUT_S", 0.2)
    collector.refusing = True
    counters = Counters()
    on_its_way = delivery(collector.url, counters)
    on_its_way.offer(a_span())
    on_its_way.close(30)
    assert counters.spans == {"failed": 1}


def test_a_dead_collector_keeps_no_end_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "CAPACITY", 8)
    counters = Counters()
    on_its_way = delivery("http://127.0.0.1:1", counters)
    for number in range(1, 101):
        on_its_way.offer(a_span(number))
    on_its_way.close(0.2)
    assert sum(counters.spans.values()) == 100
    assert counters.spans["dropped"] >= 84


def test_what_is_missing_is_said_without_loading_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing() == ""
    monkeypatch.setattr(spans, "find_spec", lambda name: None)
    assert "pip install 'rsocket-edge-gateway[otlp]'" in missing()
