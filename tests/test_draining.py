"""Draining with many peers: in which order they hear of it, and that it costs no request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import gateway.front
from device_sdk import Device
from device_sdk import RSocketError as DeviceRefused
from gateway.client import Service, connect
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
    monkeypatch.setattr(gateway.front, "GOODBYES_PER_S", 40)
    node = await start_node({"limits.drain_grace_s": 60})
    await node.servant("tcp")
    clients = [await node.client("ws" if number % 2 else "tcp") for number in range(40)]
    failures: list[frames.Frame] = []
    hammering = [asyncio.create_task(_hammer(client, failures)) for client in clients]
    await until(lambda: node.counters.request_response > 1000)
    loop = asyncio.get_running_loop()
    start = loop.time()
    await node.stop()
    assert 0.7 < loop.time() - start < 40
    answered = await asyncio.gather(*hammering)
    assert failures == []
    assert min(answered) > 0
    for client in clients:
        assert next(frame.code for frame in client.skipped if isinstance(frame, frames.Error)) == 0x102


async def test_goodbyes_are_spread_and_services_come_last(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """limits.drain_spread_s, fault 95: those who are sent elsewhere do not all come there at once."""
    monkeypatch.setattr(gateway.front, "GOODBYES_PER_S", 10)
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
    assert told[-1][0] - told[0][0] > 0.3


class Hammer:
    """Asks `route` one by one through whatever `ask` is; counts what is answered and keeps what is not."""

    def __init__(self, ask: Callable[[bytes], Awaitable[bytes]]) -> None:
        self._ask = ask
        self.answered = 0
        self.failures: list[Exception] = []
        self._task = asyncio.create_task(self._go())

    async def _go(self) -> None:
        while True:
            data = b"%d" % self.answered
            try:
                assert await self._ask(data) == data
            except Exception as error:
                self.failures.append(error)
                return
            self.answered += 1

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def _echo(urls: list[str], token: str, **options: Any) -> Service:
    service = Service(urls, token, name="echo", **options)

    @service.request_response("it")
    async def it(data: bytes) -> bytes:
        # Long enough for some to be in flight at any time.
        await asyncio.sleep(0.005)
        return data

    return service


async def _goes_on(hammers: list[Hammer], more: int = 20) -> None:
    """Wait until each has been answered so often again."""
    wanted = [hammer.answered + more for hammer in hammers]
    await until(
        lambda: all(hammer.answered >= n or hammer.failures for hammer, n in zip(hammers, wanted, strict=True)), 15
    )
    assert [hammer.failures for hammer in hammers] == [[] for _ in hammers]


@pytest.mark.parametrize("transport", ["ws", "tcp"])
async def test_p5_our_clients_go_to_another_node(start_node: StartNode, transport: str) -> None:
    """Fault 95, P5: a service and its callers know two nodes; the first drains under load, and no request fails."""
    nodes = [await start_node({"limits.drain_grace_s": 5}) for _ in range(2)]
    scheme, path = ("ws", "/rsocket") if transport == "ws" else ("tcp", "")
    urls = [f"{scheme}://127.0.0.1:{node.port(transport)}{path}" for node in nodes]
    token = nodes[0].token
    async with _echo(urls, token("svc")) as service:
        callers = [connect(urls, token(f"caller-{number}")) for number in range(4)]
        async with contextlib.AsyncExitStack() as opened:
            for caller in callers:
                await opened.enter_async_context(caller)
            hammers = [
                Hammer(lambda data, caller=caller: caller.request("echo.it", data)) for caller in callers for _ in "123"
            ]
            await _goes_on(hammers)
            assert nodes[1].counters.request_response == 0
            await nodes[0].stop()
            await _goes_on(hammers)
            assert {caller.url for caller in [*callers, service.gateway]} == {urls[1]}
            for hammer in hammers:
                await hammer.end()
    closes = nodes[0].counters.closes
    assert sum(closes.values()) == 5
    assert closes.keys() <= {"drained", "peer_closed"}


async def test_p5_our_clients_come_to_the_node_that_follows(start_node: StartNode) -> None:
    """Fault 95, P5: a new node takes the port over while the old one finishes. A service, its callers, a device that
    serves and asks: no request fails."""
    old = await start_node({"limits.drain_grace_s": 5})
    port, url = old.port("ws"), f"ws://127.0.0.1:{old.port('ws')}/rsocket"
    device = Device(url, "device-1", old.token("device-1", "device").encode(), backoff_ms=(100, 1000))

    @device.on("echo")  # type: ignore[untyped-decorator]
    async def echo(data: bytes, meta: bytes) -> bytes:
        await asyncio.sleep(0.005)
        return data

    async def from_the_device(data: bytes) -> bytes:
        while True:
            await device.wait_up()
            try:
                answer, _ = await device.request_response("echo.it", data)
            except DeviceRefused as error:
                if not error.text.startswith("no route"):
                    raise
                await asyncio.sleep(0.02)  # the service has yet to come
                continue
            return bytes(answer)

    async with _echo([url], old.token("svc")), connect(url, old.token("caller"), backoff=(0.05, 0.2)) as caller:
        device.start()
        await device.wait_up()
        hammers = [
            Hammer(lambda data: caller.request("echo.it", data)),
            Hammer(lambda data: caller.request("device-1.echo", data)),
            Hammer(from_the_device),
        ]
        await _goes_on(hammers)
        stopping = asyncio.create_task(old.stop())
        await until(lambda: old.node.plane.draining)
        new = await start_node({"listen.websocket": f"127.0.0.1:{port}"})
        await stopping
        await _goes_on(hammers)
        assert new.counters.request_response >= 40
        for hammer in hammers:
            await hammer.end()
        await device.close()
