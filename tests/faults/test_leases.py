"""Leases on real sockets: what a requester may send under one, and what a responder is asked (P36, fault 45)."""

from __future__ import annotations

import pytest

from gateway.observe.memory import Pressure
from gateway.wire import frames
from tests.conftest import StartNode
from tests.local_node import LocalNode, call, until
from tests.rawclient import RawClient

TRANSPORTS = ["ws", "tcp"]
REJECTED = 0x202


async def leased(
    node: LocalNode, transport: str, subject: str, kind: str, serving: tuple[str, ...] = ()
) -> tuple[RawClient, frames.Lease]:
    """A client that has asked for leases, and its first one."""
    client = await node.connect(transport)
    client.setup(node.token(subject, kind), serving, lease=True)
    lease = await client.recv()
    assert isinstance(lease, frames.Lease)
    return client, lease


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_fault_45_over_the_lease(start_node: StartNode, transport: str) -> None:
    """Fault 45, P36: as many requests as were lent are served, the next is ERROR[REJECTED], and the client stays."""
    node = await start_node({"limits.device.request_burst": 4, "limits.device.requests_per_second": 1})
    await node.servant()
    client, lease = await leased(node, transport, "device-1", "device")
    assert (lease.requests, lease.ttl_ms) == (4, 30_000)
    for _ in range(4):
        assert await call(client) == b"hello"
    number = client.request("echo.it")
    error = await client.recv()
    while isinstance(error, frames.Lease):
        error = await client.recv()
    assert error == frames.Error(number, REJECTED, "over the lease, or without one")
    assert node.counters.refusals == {"no_lease": 1}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_fault_45_an_expired_lease(node: LocalNode, transport: str) -> None:
    """Fault 45, P36: the node sends a responder nothing under a lease whose time is over."""
    service, _ = await leased(node, transport, "svc", "service", ("lamp",))
    caller = await node.client("tcp")
    service.send(frames.Lease(60_000, 1))
    await service.barrier()
    number = caller.request("lamp.state")
    asked = await service.recv()
    assert isinstance(asked, frames.RequestResponse)
    service.send(frames.Payload(asked.stream_id, None, b"on", next=True, complete=True))
    assert await caller.recv() == frames.Payload(number, None, b"on", next=True, complete=True)
    service.send(frames.Lease(1, 100))
    await service.barrier()
    held = node.connection(service).held
    assert held is not None
    await until(lambda: not held.available(node.node.plane.monotonic()))
    number = caller.request("lamp.state")
    error = await caller.recv()
    assert isinstance(error, frames.Error)
    assert (error.stream_id, error.code) == (number, REJECTED)
    assert await service.barrier() == []


async def test_leases_shrink_when_memory_is_short(node: LocalNode) -> None:
    """P36, limits.memory_bytes: at once, and for those who come then."""
    client, lease = await leased(node, "ws", "device-1", "device")
    assert lease.requests == 100
    inner = node.node
    inner.memory.limit = inner.memory.resident() * 100 // 88
    await until(lambda: inner.pressure is Pressure.NO_NEW_CONNECTIONS)
    smaller = await client.recv()
    assert isinstance(smaller, frames.Lease)
    assert smaller.requests == 25
    inner.memory.limit = 0
    await until(lambda: inner.pressure is Pressure.NONE)
