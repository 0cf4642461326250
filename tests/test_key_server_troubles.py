"""A key server in trouble, seen from the data plane: who has a valid token comes in, and nobody waits (fault 58)."""

from __future__ import annotations

import gc
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.control import issuers
from gateway.control.audit import Actor
from gateway.control.issuers import NewIssuer
from tests.conftest import StartNode
from tests.control.key_server import ISSUER, KeyServer, LagMeter
from tests.in_time import in_time
from tests.local_node import LocalNode, call, until
from tests.rawclient import RawClient

OPERATOR = Actor("user", "alice")
#: What the loop may be late by, in seconds.
LATE_S = 0.05


@pytest.fixture
async def server() -> AsyncIterator[KeyServer]:
    server = KeyServer()
    server.add_key("one")
    await server.start()
    yield server
    await server.stop()


async def come_and_go(node: LocalNode, server: KeyServer, standing: RawClient) -> float:
    """Connect with tokens of the issuer, and call over a connection that stands, until its keys have been asked for
    again and that has come to its end. The longest that the loop was late, in seconds."""
    wanted = server.requests + 2
    async with LagMeter() as lag:
        while server.requests < wanted:
            subject = f"dev-{time.monotonic_ns()}"
            client = await node.connect("tcp")
            client.setup(server.token(time.time(), subject))
            assert (await client.ready())["sub"] == subject
            assert await call(client) == b"hello"
            await client.close()
            assert await call(standing) == b"hello"
    return lag.longest


@pytest.fixture
async def node(start_node: StartNode) -> LocalNode:
    """One that lets a device ask as often as it likes."""
    return await start_node({"limits.device.requests_per_second": 0})


@pytest.fixture
def frozen() -> Iterator[None]:
    """As `gateway run` does: what is there already is not looked through for garbage, which would keep the loop waiting
    for longer than what is held here."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize("mood", ["down", "slow", "endless", "broken", "gone"])
async def test_nobody_notices(node: LocalNode, server: KeyServer, mood: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 58: down, slow, 100 MB, wrong, or no server at all. Valid tokens go on working, what stands stands, and the
    loop waits for nobody."""
    monkeypatch.setattr(issuers, "REFRESH_S", 0.1)
    monkeypatch.setattr(issuers, "FLOOR_S", 0.05)
    monkeypatch.setattr("gateway.control.jwks.FETCH_S", 0.3)
    control = node.node.control
    assert control is not None
    await control.issuers.create(NewIssuer(ISSUER, server.url), by=OPERATOR)
    await until(lambda: len(node.node._published.keys) == 2)
    await node.servant()
    standing = await node.connect("ws")
    standing.setup(server.token(time.time(), "standing"))
    await standing.ready()
    server.mood = mood
    if mood == "gone":
        await server.stop()
    else:
        await in_time(LATE_S, lambda: come_and_go(node, server, standing))
    await until(lambda: any(alarm.slug == f"jwks_failed:{ISSUER}" for alarm in control.alarms))
    assert await call(standing) == b"hello"
    # What the kernels took before the fetch was broken off.
    assert server.sent <= 8 * 1024 * 1024 * server.requests
    again = await node.connect("tcp")
    again.setup(server.token(time.time(), "again"))
    assert (await again.ready())["sub"] == "again"
