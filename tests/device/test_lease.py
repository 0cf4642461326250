"""Leases: the device asks as much as it was lent, and lends in turn (P36)."""

from __future__ import annotations

import asyncio
import json

from gateway.wire import frames
from tests.conftest import StartNode
from tests.device.conftest import Start
from tests.device.interpreters import Interpreter, roomy
from tests.device.peer import Link, Peer, composite
from tests.device.relay import Relay
from tests.device.test_node import address, token
from tests.local_node import call, until
from tests.rawclient import RawClient

SECONDS = 1000


async def reached(client: RawClient) -> None:
    """The device answers, as soon as the node has a lease of it."""
    async with asyncio.timeout(30):
        while True:
            number = client.request("dev-1.echo", b"there")
            answer = await client.recv(30)
            assert answer.stream_id == number
            if isinstance(answer, frames.Payload):
                return
            await asyncio.sleep(0.05)


async def test_on_a_node(start_node: StartNode, interpreter: Interpreter, start: Start) -> None:
    """A device that keeps to its leases is never refused for its rate; the node reaches it all the while."""
    local = await start_node({"limits.device.requests_per_second": 20, "limits.device.request_burst": 8})
    await local.servant(name="api")
    program = await start(interpreter, "leased", address(local), "{}", 20, DEVICE_TOKEN=token(local))
    await program.expect(lease=True)
    client = await local.client()
    assert await call(client, "dev-1.echo", b"there") == b"there"
    line = await program.expect(answered=20)
    assert line["busy"] > 0
    assert not local.counters.refusals
    await call(client, "dev-1.stop")
    await program.finish()


async def test_on_a_session_that_goes_on(start_node: StartNode, interpreter: Interpreter, start: Start) -> None:
    """P36: leases end with the connection, and each side lends again over the next one."""
    local = await start_node()
    await local.servant(name="api")
    async with Relay(local.node.websocket_port) as relay:
        settings = json.dumps({"resume": 1024})
        program = await start(roomy(interpreter), "leased", relay.url, settings, 1, DEVICE_TOKEN=token(local))
        await program.expect(lease=True)
        await program.expect(answered=1)
        client = await local.client()
        for resumed in range(3):
            await until(lambda resumed=resumed: local.counters.sessions_resumed == resumed)
            await reached(client)
            await call(client, "dev-1.ask")
            await program.expect(asked=True)
            relay.cut()
        await until(lambda: local.counters.sessions_resumed == 3)
        await reached(client)
        await call(client, "dev-1.stop")
        await program.finish()


async def test_frames(interpreter: Interpreter, start: Start) -> None:
    """SETUP asks for leases, nothing is asked before one has come, beyond its count, or after its time."""

    async def script(link: Link) -> None:
        setup = await link.expect(frames.Setup)
        assert setup.lease
        await asyncio.sleep(0.1)
        link.raw(b"")
        assert not link.has_frames()
        link.setup = setup
        link.send(frames.Lease(ttl_ms=60 * SECONDS, requests=2))
        lent = await link.expect(frames.Lease)
        assert lent.requests > 1000
        ready = await link.expect(frames.RequestResponse)
        answer = {"node": "n", "session": "s", "sub": "dev-1", "services": ["dev-1"], "lease": True}
        link.send(frames.Payload(ready.stream_id, None, json.dumps(answer).encode(), complete=True, next=True))
        first = await link.expect(frames.RequestResponse)

        async def reaches(stream_id: int) -> None:
            link.send(frames.RequestResponse(stream_id, composite("echo"), b"reached without a lease of its own"))
            assert (await link.expect(frames.Payload)).data.startswith(b"reached")
            await asyncio.sleep(0.1)

        # One that has ended when the device asks again; the next one replaces it.
        link.send(frames.Lease(ttl_ms=1, requests=5))
        await reaches(2)
        link.send(frames.Payload(first.stream_id, None, first.data, complete=True, next=True))
        await reaches(4)
        link.send(frames.Lease(ttl_ms=60 * SECONDS, requests=0))
        link.send(frames.Lease(ttl_ms=60 * SECONDS, requests=7))
        for _ in range(2):
            asked = await link.expect(frames.RequestResponse)
            link.send(frames.Payload(asked.stream_id, None, asked.data, complete=True, next=True))
        link.send(frames.RequestFnf(6, composite("stop"), b""))
        await link.ended()

    async with Peer(script) as peer:
        program = await start(interpreter, "leased", peer.url, "{}", 3)
        await program.expect(lease=True)
        line = await program.expect(answered=3)
        assert line["busy"] >= 1
        await program.finish()
