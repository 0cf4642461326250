"""Runs of every shape against a node in this very loop: counts add up and nothing goes wrong. No timing."""

from __future__ import annotations

from random import Random

import pytest

from gateway.load.arrivals import BackOff, connects, storm
from gateway.load.opening import Address, Refused
from gateway.load.run import measure, together
from gateway.load.shape import Access, Latency, Model, Result, Shape
from tests.local_node import LocalNode

SECONDS = 0.1


def access(node: LocalNode, scheme: str = "ws", mask: bytes = bytes(4), token: str | None = None) -> Access:
    url = f"{scheme}://127.0.0.1:{node.port(scheme)}/rsocket"
    return Access(Address.of(url), token or node.token("bench", services=("bench", "bench.*")), mask=mask)


@pytest.mark.parametrize(("scheme", "mask"), [("ws", bytes(4)), ("ws", b"\x01\x80\xff\x7f"), ("tcp", bytes(4))])
@pytest.mark.parametrize("model", Model)
async def test_each_model_comes_to_its_end(node: LocalNode, model: Model, scheme: str, mask: bytes) -> None:
    shape = Shape(model, requesters=2, in_flight=3, responders=2, items=50, idle=2, seconds=SECONDS, warm_up=0.0)
    result = await measure(access(node, scheme, mask), shape)
    assert result.good, result
    assert result.seconds >= SECONDS
    assert (result.latency.p50 > 0) == (model is not Model.FNF)
    assert result.latency.p50 <= result.latency.p99 <= result.latency.longest


@pytest.mark.parametrize("payload", [0, 125, 126, 65_535, 200_000])
async def test_payloads_of_any_size(node: LocalNode, payload: int) -> None:
    shape = Shape(in_flight=2, payload=payload, seconds=SECONDS, warm_up=0.0)
    assert (await measure(access(node), shape)).good


async def test_a_service_of_somebody_else(node: LocalNode) -> None:
    await node.servant(name="other")
    at = Access(access(node).address, node.token(), route="other.it")
    result = await measure(at, Shape(responders=0, payload=7, in_flight=2, seconds=SECONDS, warm_up=0.0))
    assert result.good
    result = await measure(at, Shape(Model.FNF, responders=0, seconds=SECONDS, warm_up=0.0))
    assert result.good


async def test_requests_that_are_refused_are_errors(node: LocalNode) -> None:
    at = Access(access(node).address, node.token(), route="nobody.here")
    result = await measure(at, Shape(responders=0, in_flight=2, seconds=SECONDS, warm_up=0.0))
    assert not result.good
    assert (result.operations, result.unfinished) == (0, 0)
    # Begun again at most every 10 ms, not as fast as they are refused.
    assert 2 <= result.errors <= 100
    assert result.texts[0].startswith("0x202")


async def test_connections_that_are_refused(node: LocalNode) -> None:
    with pytest.raises(Refused, match="0x003"):
        await measure(access(node, token=node.token(services=("other",))), Shape(seconds=SECONDS))


async def test_shapes_together(node: LocalNode) -> None:
    quiet = Shape(in_flight=1, seconds=SECONDS, warm_up=0.0)
    one, streams = await together(access(node), [quiet, Shape(Model.STREAM, in_flight=4)])
    assert one.good
    assert streams.good


async def test_connections_a_second(node: LocalNode) -> None:
    result = await connects(access(node), 4, SECONDS)
    assert result.good, result
    refused = await connects(access(node, token=node.token(services=("other",))), 2, SECONDS)
    assert not refused.good
    assert refused.texts[0].startswith("setup_refused: 0x003")


async def test_a_storm(node: LocalNode) -> None:
    tokens = [(f"device-{number}", node.token(f"device-{number}", "device", ("{sub}",), ())) for number in range(30)]
    result = await storm(access(node), tokens, BackOff(first=0.1), Random(1))
    assert result.good, result
    assert (result.operations, result.more["tries"]) == (30, 30)
    assert result.more["last_s"] > 0


def test_back_off_is_full_jitter_with_a_bound() -> None:
    """Fault 86: anything from 0 to the bound, which doubles and then stays."""
    back_off, random = BackOff(first=1.0, longest=8.0), Random(1)
    for tries, bound in ((0, 1), (1, 2), (3, 8), (4, 8), (10_000, 8)):
        pauses = [back_off.pause(tries, random) for _ in range(500)]
        assert 0 <= min(pauses) < bound / 20
        assert bound * 0.95 < max(pauses) <= bound


def test_how_a_result_reads() -> None:
    result = Result("rr", "r=1 w=64 s=1 b=32", "req", 3000, 2.0, Latency(158e-6, 0.0123, 1.5), errors=0, load=0.5)
    assert str(result) == (
        "rr      r=1 w=64 s=1 b=32              1,500 req/s    p50 158 µs  p99 12.3 ms  max 1.50 s  load 50 %  errors 0"
    )
    document = result.document()
    assert document["rate"] == 1500.0
    assert document["latency_us"] == {"p50": 158.0, "p99": 12300.0, "longest": 1500000.0}
