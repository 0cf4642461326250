"""Draining with many peers: in which order they hear of it, and that it costs no request."""

from __future__ import annotations

import asyncio

import pytest

import gateway.node
from gateway.wire import frames
from tests.conftest import StartNode
from tests.local_node import until
from tests.rawclient import ConnectionEnded, RawClient


async def _hammer(client: RawClient, failures: list[frames.Frame]) -> int:
    """Ask one by one until the node says that it is going; return how many were answered."""
    answered = 0
    number = client.request("echo.it", b"hello")
    while True:
        try:
            frame = await client.recv()
        except ConnectionEnded:
            if number:
                failures.append(frames.Error(number, 0, "the connection ended before the answer"))
            return answered
        if isinstance(frame, frames.Payload) and frame.stream_id == number:
            answered += 1
            number = client.request("echo.it", b"hello") if not client.skipped else 0
        elif isinstance(frame, frames.Error) and frame.stream_id == 0:
            client.skipped.append(frame)
        elif isinstance(frame, frames.Error) and "draining" not in frame.text:
            failures.append(frame)
        elif isinstance(frame, frames.Error):
            number = 0  # it was sent before the node's word was read, and nobody has looked at it


async def test_p5_drain_under_load(start_node: StartNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 95, promise P5: no request that the node has taken fails, whoever is told first."""
    monkeypatch.setattr(gateway.node, "GOODBYES_PER_S", 40)
    node = await start_node({"limits.drain_grace_s": 5})
    await node.servant("tcp")
    clients = [await node.client("ws" if number % 2 else "tcp") for number in range(40)]
    failures: list[frames.Frame] = []
    hammering = [asyncio.create_task(_hammer(client, failures)) for client in clients]
    await until(lambda: node.counters.request_response > 1000)
    loop = asyncio.get_running_loop()
    start = loop.time()
    await node.stop()
    assert 0.7 < loop.time() - start < 4
    answered = await asyncio.gather(*hammering)
    assert failures == []
    assert min(answered) > 0
    for client in clients:
        assert next(frame.code for frame in client.skipped if isinstance(frame, frames.Error)) == 0x102


async def test_goodbyes_are_spread_and_services_come_last(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """limits.drain_spread_s, fault 95: those who are sent elsewhere do not all come there at once."""
    monkeypatch.setattr(gateway.node, "GOODBYES_PER_S", 10)
    node = await start_node({"limits.drain_spread_s": 0.8, "limits.drain_grace_s": 0})
    service = await node.client("tcp", serving=("echo",))
    clients = [await node.client() for _ in range(8)]
    told: list[tuple[float, RawClient]] = []
    loop = asyncio.get_running_loop()

    async def hear(client: RawClient) -> None:
        frame = await client.recv()
        assert isinstance(frame, frames.Error)
        assert (frame.stream_id, frame.code) == (0, 0x102)
        told.append((loop.time(), client))

    hearing = [asyncio.create_task(hear(client)) for client in (service, *clients)]
    await node.stop()
    await asyncio.gather(*hearing)
    assert told[-1][1] is service
    assert 0.3 < told[-1][0] - told[0][0] < 1.2
