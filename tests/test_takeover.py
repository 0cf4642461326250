"""One token in two places: who has connected again is who is there (fault 59)."""

from __future__ import annotations

import pytest

from gateway.wire import frames
from tests.conftest import StartNode
from tests.local_node import LocalNode, call, until
from tests.rawclient import RawClient


async def connected(node: LocalNode, token: str, transport: str = "ws", name: str = "dev-1.lamp") -> RawClient:
    client = await node.connect(transport)
    client.setup(token, (name,))
    await client.ready()
    return client


@pytest.mark.parametrize("transport", ["ws", "tcp"])
async def test_the_newer_connection_of_a_device_takes_the_older_ones_place(node: LocalNode, transport: str) -> None:
    """Fault 59, limits.device.max_connections: what the older one was asked is canceled, the newer one is asked now."""
    token = node.token("dev-1", "device")
    old = await connected(node, token, "ws")
    caller = await node.client("tcp", "caller")
    waiting = caller.request("dev-1.lamp.on")
    assert isinstance(await old.recv(), frames.RequestResponse)
    new = await connected(node, token, transport)
    code, text = await old.recv_close()
    assert (code, text) == (4409, "dev-1 has connected again")
    canceled = await caller.recv()
    assert isinstance(canceled, frames.Error)
    assert (canceled.stream_id, canceled.code) == (waiting, 0x203)
    caller.request("dev-1.lamp.on")
    assert isinstance(await new.recv(), frames.RequestResponse)
    assert node.counters.closes == {"taken_over": 1}


async def test_the_name_is_the_tokens(node: LocalNode) -> None:
    """Fault 59: whoever holds a token is its subject, whatever it serves; another device's name is not to be had."""
    token = node.token("dev-1", "device", ("{sub}.*",))
    first = await connected(node, token, "tcp")
    second = await node.connect("tcp")
    second.setup(token, ("dev-2.lamp",))
    refused = await second.recv()
    assert isinstance(refused, frames.Error)
    assert (refused.code, refused.text) == (0x003, "dev-1 may not register 'dev-2.lamp'; its token allows: {sub}.*")
    # Who is refused takes nobody's place.
    assert (await first.ready())["sub"] == "dev-1"


async def test_a_session_that_waits_for_its_link_makes_room(node: LocalNode) -> None:
    """Fault 59: whoever begins anew does not come back to it; what it serves is not asked of a dead link."""
    token = node.token("dev-1", "device")
    old = await node.connect("tcp")
    old.setup(token, ("dev-1.lamp",), resume_token=bytes(range(16)))
    await old.ready()
    old.abort()
    await until(lambda: node.counters.sessions_parked == 1)
    new = await connected(node, token, "tcp")
    assert node.counters.sessions_parked == 0
    caller = await node.client("tcp", "caller")
    caller.request("dev-1.lamp.on")
    assert isinstance(await new.recv(), frames.RequestResponse)


async def test_who_may_be_in_several_places(start_node: StartNode) -> None:
    """limits.service.max_connections, limits.user.max_connections: none; a device may have more, or none."""
    node = await start_node({"limits.device.max_connections": 2})
    await node.servant()
    for kind in ("service", "user", "admin"):
        clients = [await node.client("tcp", "several", kind) for _ in range(3)]
        for client in clients:
            assert await call(client) == b"hello"
    devices = [await node.client("tcp", "dev-1", "device") for _ in range(3)]
    await devices[0].recv_close()
    for client in devices[1:]:
        assert await call(client) == b"hello"
    assert node.counters.closes == {"taken_over": 1}
    node = await start_node({"limits.device.max_connections": 0})
    for client in [await node.client("tcp", "dev-1", "device") for _ in range(3)]:
        assert (await client.ready())["sub"] == "dev-1"


async def test_another_kind_of_the_same_name_is_left_alone(node: LocalNode) -> None:
    service = await node.client("tcp", "dev-1", "service")
    await node.client("tcp", "dev-1", "device")
    assert (await service.ready())["sub"] == "dev-1"
