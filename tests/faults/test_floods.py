"""Floods of frames that are each in order: one attacker, who is a device, and one device that goes on in its midst.

What each costs is held by a bound on memory; the long versions, for `make soak`, are those of `bench.floods`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from bench import floods
from bench.processes import node as node_process
from gateway.load.run import complete
from gateway.wire import frames
from tests.conftest import StartNode
from tests.local_node import LocalNode, call, fnf, stream_request, until
from tests.rawclient import ConnectionEnded, RawClient, composite

TRANSPORTS = ["ws", "tcp"]
MAX_GROWTH = 32 << 20
Flood = Callable[[RawClient], Iterator[list[frames.Frame]]]


def resets(client: RawClient) -> Iterator[list[frames.Frame]]:
    while True:
        numbers = [client.next_stream_id() for _ in range(50)]
        asked = [frames.RequestResponse(number, composite("slow.it"), b"") for number in numbers]
        yield [frame for number, one in zip(numbers, asked, strict=True) for frame in (one, frames.Cancel(number))]


def keepalives(client: RawClient) -> Iterator[list[frames.Frame]]:
    while True:
        yield [frames.KeepAlive(respond=True, data=bytes(64))] * 100


def credits(client: RawClient) -> Iterator[list[frames.Frame]]:
    yield [stream_request(1, "slow.it", b"", 1)]
    while True:
        yield [frames.RequestN(1, 1)] * 100


def pushes(client: RawClient) -> Iterator[list[frames.Frame]]:
    while True:
        yield [frames.MetadataPush(composite("echo.it"))] * 100


def invalid(client: RawClient) -> Iterator[list[frames.Frame]]:
    """Requests that draw an error at once, and are smaller than it."""
    while True:
        yield [
            frames.RequestResponse(client.next_stream_id(), composite("r" * 250, entries=[("t", b"")] * 20), b"")
            for _ in range(50)
        ]


def streams(client: RawClient) -> Iterator[list[frames.Frame]]:
    while True:
        yield [stream_request(client.next_stream_id(), "slow.it", b"", 1) for _ in range(50)]


def requests(client: RawClient) -> Iterator[list[frames.Frame]]:
    while True:
        yield [frames.RequestResponse(client.next_stream_id(), composite("echo.it"), bytes(2000)) for _ in range(50)]


def messages(client: RawClient) -> Iterator[list[frames.Frame]]:
    while True:
        yield [fnf(client, "slow.it", bytes(60_000))] * 4


#: What floods, and whether it ends the connection; where it does not, it is refused or not read one by one.
FLOODS: list[tuple[Flood, bool]] = [
    (resets, True),
    (keepalives, True),
    (credits, True),
    (pushes, True),
    (invalid, False),
    (streams, False),
    (requests, False),
    (messages, False),
]


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _attack(node: LocalNode, transport: str, flood: Flood, reads: bool, until_s: float) -> list[int | None]:
    """Flood, and come back when thrown out; return the close codes."""
    loop = asyncio.get_running_loop()
    codes: list[int | None] = []
    for number in count():
        if loop.time() > until_s:
            break
        client = await node.client(transport, f"attacker-{number}", "device")
        ended = asyncio.create_task(client.recv_close(until_s - loop.time() + 5) if reads else asyncio.sleep(3600))
        frames_of = flood(client)
        try:
            while loop.time() < until_s and not ended.done() and not client._writer.transport.is_closing():
                client.send(*next(frames_of))
                with contextlib.suppress(TimeoutError):
                    await client.drain(0.05)
                await asyncio.sleep(0)
        except (ConnectionError, ConnectionEnded):
            pass
        if ended.done() and reads:
            codes.append(ended.result()[0])
        ended.cancel()
        await asyncio.gather(ended, return_exceptions=True)
        # By reset: behind a polite end the node would first read what it has not read so far, at its own pace.
        client.abort()
        node.clients.remove(client)
    return codes


async def _withstand(node: LocalNode, transport: str, flood: Flood, ends: bool, reads: bool, seconds: float) -> None:
    await node.servant()
    slow = await node.client("tcp", "svc-slow", serving=("slow",))
    swallowing = asyncio.create_task(_swallow(slow))
    healthy = await node.client("ws", "healthy", "device")
    loop = asyncio.get_running_loop()
    gc.collect()
    before = _resident()
    attack = asyncio.create_task(_attack(node, transport, flood, reads, loop.time() + seconds))
    asked = 0
    while not attack.done():
        await call(healthy, "echo.it")
        asked += 1
        await asyncio.wait({attack}, timeout=0.025)
    growth = _resident() - before
    codes = await attack
    assert growth <= MAX_GROWTH, growth
    assert asked > seconds * 5
    if ends and reads:
        assert codes
        assert set(codes) == {1008 if transport == "ws" else None}
        assert node.counters.closes["policy"] >= len(codes)
    elif not ends:
        assert node.counters.closes.get("policy", 0) == 0
    swallowing.cancel()
    await asyncio.gather(swallowing, return_exceptions=True)
    await until(lambda: sum(c.kind == "client" for c in node.node.plane.connections.values()) == 3)


async def _swallow(client: RawClient) -> None:
    while True:
        await client.recv_bytes(3600)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("flood", "ends"), FLOODS, ids=[flood.__name__ for flood, _ in FLOODS])
async def test_flood(node: LocalNode, transport: str, flood: Flood, ends: bool) -> None:
    """Faults 23, 24, 28, 29, 31, 43, promise P2: memory is bounded, others are served, the attacker is thrown out."""
    await _withstand(node, transport, flood, ends, True, 0.6)


@pytest.mark.parametrize("flood", [keepalives, requests, invalid], ids=lambda flood: flood.__name__)
async def test_flood_by_who_does_not_read(node: LocalNode, flood: Flood) -> None:
    """Faults 29, 31: the answers that are not read do not pile up."""
    await _withstand(node, "tcp", flood, flood is keepalives, False, 0.6)


@pytest.mark.soak
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", floods.NAMES)
def test_long_flood(tmp_path: Path, name: str) -> None:
    """Promises P2 and P3: a minute of each, in processes of their own. Memory grows by 32 MiB at most, a device's p99
    to three times what it was; the attacker is closed with the code for what it does, and the node pays less than ten
    times what the attacker does."""
    with node_process(tmp_path / "node", settings=floods.SETTINGS) as target:
        outcome = complete(floods.withstand(target, name, 60))
    assert outcome.good, str(outcome)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_rapid_reset(start_node: StartNode, transport: str) -> None:
    """limits.device.premature_ends, fault 23: the one that makes it too many ends the connection; what it asked for is
    canceled where it is served."""
    more = {"limits.device.premature_ends": 20, "limits.device.requests_per_second": 0}
    node = await start_node(more)
    service = await node.client("tcp", serving=("slow",))
    client = await node.client(transport, "attacker", "device")
    for _ in range(18):  # with gateway.ready, which was answered, this makes 19 that have ended
        client.send(frames.Cancel(client.request("slow.it")))
    await client.barrier()
    client.send(frames.Cancel(client.request("slow.it")))
    code, _ = await client.recv_close()
    assert code == (1008 if transport == "ws" else None)
    assert client.skipped[-1] == frames.Error(0, 0x101, "too many requests that are canceled at once")
    heard = await service.barrier()
    assert [type(frame) for frame in heard] == [frames.RequestResponse, frames.Cancel] * 19
    assert node.counters.refusals == {"premature_ends": 1}


async def test_services_have_no_budgets(node: LocalNode) -> None:
    """Whoever forwards for many asks, cancels and grants for many."""
    slow = await node.client("tcp", serving=("slow",))
    swallowing = asyncio.create_task(_swallow(slow))
    client = await node.client("tcp")
    for _ in range(1500):
        client.send(frames.Cancel(client.request("slow.it")))
    client.send(stream_request(client.next_stream_id(), "slow.it", b"", 1))
    client.send(*[frames.RequestN(client.next_stream_id() - 2, 1)] * 1500)
    client.send(*[frames.KeepAlive(respond=False)] * 1500, *[frames.MetadataPush(b"")] * 1500)
    await client.barrier()
    swallowing.cancel()
    await asyncio.gather(swallowing, return_exceptions=True)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_too_many_bytes_wait(start_node: StartNode, transport: str) -> None:
    """limits.device.bytes_per_second: nothing is refused and nothing lost; it takes as long as it may."""
    node = await start_node({"limits.device.bytes_per_second": 400_000})
    service = await node.client("tcp", serving=("sink",))
    client = await node.client(transport, "device-1", "device")
    loop = asyncio.get_running_loop()
    start = loop.time()
    for _ in range(20):
        client.send(fnf(client, "sink.put", bytes(50_000)))
    for _ in range(20):
        frame = await service.recv()
        assert isinstance(frame, frames.RequestFnf)
    assert loop.time() - start > 0.6
    await client.barrier()
    assert node.counters.refusals["bytes_per_second"] >= 1


async def test_memory_of_a_connection(start_node: StartNode) -> None:
    """limits.device.max_memory_bytes: what piles up for one that does not read ends it, before its deadline."""
    node = await start_node({"limits.device.max_memory_bytes": 300_000, "limits.device.high_water_bytes": 10_000_000})
    client = await node.client("tcp", "device-1", "device", serving=("device-1",), receive_buffer=4096)
    service = await node.client("tcp")
    for _ in range(100):
        service.send(fnf(service, "device-1.put", bytes(50_000)))
    await until(lambda: node.counters.closes)
    assert node.counters.closes == {"policy": 1}
    # What comes behind its end finds nobody.
    assert node.counters.refusals["max_memory_bytes"] == 1
    await service.barrier()
    await client.close()
