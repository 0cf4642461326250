"""A broker that is away, and a node that is killed meanwhile: what the node has accepted reaches the broker, once."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from random import Random

import pytest

from gateway.bridges.mqtt.message import Message
from gateway.wire import frames
from tests.bridges.brokers import Broker
from tests.bridges.conftest import ConnectPeer, StartBroker
from tests.bridges.forked_node import ForkedNode
from tests.bridges.peers import Peer, bridge
from tests.bridges.test_kills import GONE, begin, end
from tests.bridges.test_spool import spool
from tests.local_node import until
from tests.rawclient import RawClient, composite

RULES = (
    {"pattern": "out/1/{sub}", "direction": "out", "qos": 1, "route": "cloud.one"},
    {"pattern": "out/2/{sub}", "direction": "out", "qos": 2, "route": "cloud.two"},
)


class Watch:
    """A client of the broker that comes back after each of its ends, and keeps what it got."""

    def __init__(self, broker: Broker, connect: ConnectPeer) -> None:
        self._broker = broker
        self._connect = connect
        self._peers: list[Peer] = []
        self.task = asyncio.create_task(self._live())

    async def _live(self) -> None:
        while True:
            try:
                peer = await self._connect(self._broker, "watcher", clean_start=False, session_expiry_s=3600)
            except Exception:  # whatever it is, the broker is away
                await asyncio.sleep(0.05)
                continue
            self._peers.append(peer)
            await peer.subscribe("out/#", 2)
            await peer.session.ended

    @property
    def got(self) -> list[Message]:
        return [message for peer in self._peers for message in peer.got]

    @property
    def payloads(self) -> set[str]:
        return {message.payload.decode() for message in self.got}

    def by_id(self) -> dict[str, str]:
        """What is left when it drops whatever has an identity that it knows."""
        found = {}
        for message in self.got:
            payload = message.payload.decode()
            found[message.properties.of_user("gateway-id") or f"live {payload}"] = payload
        return found


class Writer:
    """`accepted`: what a node has said that it has."""

    def __init__(self) -> None:
        self.accepted: set[str] = set()
        self._number = 0

    async def write(self, node: ForkedNode) -> None:
        """One request after the other until the node has gone, or silence keeps one open for a second."""
        with contextlib.suppress(*GONE):
            client = await RawClient.connect_tcp(node.tcp_port)
            try:
                client.setup(node.token("writer", "service"), ())
                await client.ready()
                while True:
                    self._number += 1
                    route, text = ("cloud.one", "cloud.two")[self._number % 2], str(self._number)
                    client.send(frames.RequestResponse(client.next_stream_id(), composite(route), text.encode()))
                    frame = await client.recv(1)
                    if isinstance(frame, frames.Payload):
                        self.accepted.add(text)
                    await asyncio.sleep(0.005)
            finally:
                await client.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("away_s", [1, pytest.param(60, marks=pytest.mark.soak)])
async def test_a_node_is_killed_while_its_broker_is_away(
    tmp_path: Path, start_broker: StartBroker, peer: ConnectPeer, away_s: float
) -> None:
    broker = await start_broker("max_queued_messages 0")
    writer, random, lives, over = Writer(), Random(away_s), [0], asyncio.Event()
    watch = Watch(broker, peer)
    await broker.has_subscribed("watcher")

    async def live() -> None:
        """One life of the node after the other, each ended by kill -9."""
        while not over.is_set():
            node = await begin(tmp_path, lives[0], spool("cloud", "cloud"), bridge(broker, *RULES))
            lives[0] += 1
            try:
                writing = asyncio.create_task(writer.write(node))
                with contextlib.suppress(TimeoutError):
                    await accepts(random.randrange(5, 50), random.uniform(0.5, 2))
            finally:
                node.kill()
            await writing

    async def accepts(more: int, within_s: float = 60) -> None:
        wanted = len(writer.accepted) + more
        await until(lambda: len(writer.accepted) >= wanted, within_s)

    living = asyncio.create_task(live())
    try:
        await accepts(30)
        # In the middle of one.
        broker.stop()
        before = lives[0]
        await accepts(20)
        await asyncio.sleep(away_s)
        await until(lambda: lives[0] >= before + 2, 60)
        await broker.start()
        await accepts(30)
        over.set()
        await living
        node = await begin(tmp_path, lives[0])
        try:
            with contextlib.suppress(TimeoutError):  # what is missing is said below
                await until(lambda: writer.accepted <= watch.payloads, 60 + away_s)
        finally:
            node.kill()
    finally:
        over.set()
        await living
        await end(watch.task)
    lost = writer.accepted - watch.payloads
    assert not lost, f"lost: {sorted(lost)[:10]} of {len(writer.accepted)}"
    once = list(watch.by_id().values())
    assert len(once) == len(set(once)), "something has two identities"
    print(f"{len(writer.accepted)} accepted, {lives[0]} lives, {len(watch.got) - len(once)} came again")
