"""A loop that stands still, and memory that runs out."""

from __future__ import annotations

import time

import pytest
from structlog.testing import capture_logs

from gateway.observe.memory import Pressure
from gateway.policy.overload import Overload
from gateway.wire import frames
from tests.conftest import StartNode
from tests.local_node import LocalNode, fnf, until
from tests.rawclient import HandshakeRefused

TRANSPORTS = ["ws", "tcp"]
#: What the watchdog says of a stall, at its beginning and at its end.
STALL = ("the event loop stands still", "the event loop runs again")


def _hold_the_loop() -> None:
    time.sleep(1.2)


async def test_a_loop_that_stood_still_closes_nobody(start_node: StartNode) -> None:
    """Fault 90: the lifetime, the time for SETUP and that of a handshake are longer by the time nobody was heard, and
    the watchdog says what it was."""
    node = await start_node(
        {
            "limits.keepalive_min_ms": 100,
            "limits.setup_timeout_s": 0.5,
            "limits.upgrade_timeout_s": 0.5,
            "limits.lag_shed_ms": 500,
        }
    )
    client = await node.client("tcp", setup={"keepalive_ms": 300, "lifetime_ms": 500})
    waiting = [await node.connect(transport) for transport in TRANSPORTS]
    with capture_logs() as log:
        client.send(frames.KeepAlive(respond=True, data=b"sent before"))
        _hold_the_loop()
        assert await client.recv() == frames.KeepAlive(respond=False, data=b"sent before")
        for each in waiting:
            each.setup(node.token())
            await each.ready()
        await until(lambda: len([line for line in log if line["event"] in STALL]) == 2)
    assert node.counters.closes == {}
    (stack,) = [line["stack"] for line in log if "stack" in line]
    assert "_hold_the_loop" in stack
    # And the grace is not for ever.
    code, _ = await client.recv_close()
    assert code is None
    assert node.counters.closes == {"keepalive_timeout": 1}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_memory_watermarks(node: LocalNode, transport: str) -> None:
    """limits.memory_bytes: at 85 % nobody is let in, at 92 % nothing durable is taken, and it ends when it is over."""
    inner = node.node
    client = await node.client(transport)
    resident = inner.memory.resident()
    for percent, durable in ((88, True), (94, False)):
        inner.memory.limit = resident * 100 // percent
        wanted = Pressure.NO_NEW_CONNECTIONS if durable else Pressure.NO_DURABLE_WORK
        await until(lambda wanted=wanted: inner.pressure is wanted)
        assert inner.takes_durable_work == durable
        with pytest.raises(HandshakeRefused) as told:
            await node.connect("ws")
        assert told.value.status == 503
        refused = await node.connect("tcp")
        assert await refused.recv_close() == (None, "")
        await client.barrier()
    assert node.counters.closes == {"memory": 4}
    inner.memory.limit = resident * 10
    await until(lambda: inner.pressure is Pressure.NONE)
    await node.client(transport)


async def test_largest_buffers_go_when_memory_is_out(node: LocalNode) -> None:
    """limits.memory_bytes: at 97 % the connection for which most waits is closed; who has nothing waiting stays."""
    slow = await node.client("tcp", serving=("slow",), receive_buffer=4096)
    client = await node.client()
    for _ in range(100):
        client.send(fnf(client, "slow.put", bytes(20_000)))
    await until(lambda: node.connection(slow).outbox.size > 200_000)
    node.node.memory.limit = node.node.memory.resident()
    await until(lambda: node.counters.closes.get("overload"))
    node.node.memory.limit = 0
    await client.barrier()
    assert node.counters.closes == {"overload": 1}


async def test_limits_are_named_in_the_log(start_node: StartNode) -> None:
    with capture_logs() as log:
        node = await start_node({"limits.device.max_streams": 1})
        await node.client("tcp", serving=("slow",))
        client = await node.client("ws", "device-1", "device")
        for _ in range(5):
            client.request("slow.it")
        await until(lambda: any(line["event"] == "refused" for line in log))
    (line,) = [line for line in log if line["event"] == "refused"]
    assert line["reason"] == "max_streams"
    assert 1 <= line["count"] <= 4


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_nobody_is_let_in_behind_a_stall(start_node: StartNode, transport: str) -> None:
    """limits.lag_warn_ms, limits.lag_shed_ms: 503 and Retry-After for a second, smaller leases; who is there stays."""
    rates = {"limits.device.requests_per_second": 1_000, "limits.device.request_burst": 1_600}
    node = await start_node({**rates, "limits.lag_shed_ms": 500})
    client = await node.client("tcp")
    waiting = await node.connect(transport)
    with capture_logs() as log:
        _hold_the_loop()
        await until(lambda: node.node.plane.overload is Overload.SHEDDING)
        if transport == "ws":
            with pytest.raises(HandshakeRefused) as told:
                await node.connect("ws")
            assert told.value.status == 503
            assert "retry-after:" in told.value.head.lower()
        else:
            refused = await node.connect("tcp")
            assert await refused.recv_close() == (None, "")
        await client.barrier()
        waiting.setup(node.token("device-1", "device"), lease=True)
        lease = await waiting.recv()
    assert isinstance(lease, frames.Lease)
    assert lease.requests == 100
    assert node.counters.closes == {"lag_shed_ms": 1}
    assert [line["limit"] for line in log if line["event"] == "the event loop is late"] == ["lag_shed_ms"]
    await until(lambda: node.node.plane.overload is Overload.NONE)
    await node.client(transport)
