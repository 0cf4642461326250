"""Several real nodes in one test's event loop: central ones and edges, linked as they would be anywhere.

Membership is written into their databases before they start; how nodes come by it is tested where they join.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gateway.config import LiveSettings, Sources
from gateway.control.archive import DATABASE
from gateway.control.audit import SYSTEM
from gateway.control.identity import Identity
from gateway.control.members import CENTRAL, EDGE, Member
from gateway.control.plane import ControlPlane, schema
from gateway.federation.federation import Federation
from gateway.node import Node
from gateway.storage.file import prepare
from gateway.wire import frames
from tests.local_node import Servant, call, settings, until
from tests.rawclient import RawClient

#: Links are taken for dead sooner than in life, and later than a busy machine stands still.
QUICK: dict[str, object] = {
    "links.keepalive_ms": 100,
    "links.silence_ms": 1500,
    "links.backoff_max_s": 0.3,
}


@dataclass
class Place:
    """One node: its data directory, and the node while it runs."""

    name: str
    role: str
    data: Path
    more: dict[str, object]
    member: Member
    node: Node | None = None
    ports: tuple[int, ...] = ()

    @property
    def running(self) -> Node:
        assert self.node is not None
        return self.node

    @property
    def federation(self) -> Federation:
        membership = self.running.links.membership
        assert membership is not None
        return membership.federation

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.running.websocket_port}/rsocket"


class Cluster:
    """`places` by name. Stop it with `close`."""

    def __init__(self, root: Path, identities: Path) -> None:
        self.root = root
        self._identities = identities
        self.places: dict[str, Place] = {}
        self.clients: list[RawClient] = []
        self.servants: list[Servant] = []
        self.errors: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.errors.append(context))

    def __getitem__(self, name: str) -> Place:
        return self.places[name]

    async def add(
        self,
        name: str,
        role: str = EDGE,
        *,
        parents: tuple[str, ...] = (),
        more: Mapping[str, object] | None = None,
        start: bool = True,
        **grant: tuple[str, ...],
    ) -> Place:
        """A node that belongs to it. `parents`: addresses, or names of nodes that run; `grant`: services, routes."""
        data = self.root / name
        source = self._identities / str(len(self.places))
        if not source.exists():
            Identity.open(source, names=())
            prepare(source / DATABASE, schema())
        shutil.copytree(source, data)
        urls = tuple(self[parent].url if parent in self.places else parent for parent in parents)
        wanted = {"node.name": name, **QUICK, **({"links.parents": urls} if urls else {}), **(more or {})}
        async with await ControlPlane.offline(data) as control:
            member = replace(control.members.itself(name, role, (), ""), **grant)  # type: ignore[arg-type]
        place = self.places[name] = Place(name, role, data, wanted, member)
        await self._introduce(place)
        if start:
            await self.start(name)
        return place

    async def _introduce(self, place: Place) -> None:
        """Let the new one know all others, and those all of it."""
        async with await ControlPlane.offline(place.data) as control:
            for other in self.places.values():
                await control.members.put(other.member, by=SYSTEM)
        for other in self.places.values():
            if other is place:
                continue
            if other.node is not None:
                assert other.node.control is not None
                await other.node.control.members.put(place.member, by=SYSTEM)
            else:
                async with await ControlPlane.offline(other.data) as control:
                    await control.members.put(place.member, by=SYSTEM)

    async def introduce_addresses(self) -> None:
        """Let the central nodes that run know where the others are."""
        places = [place for place in self.places.values() if place.node is not None and place.role == CENTRAL]
        for place in places:
            assert place.running.control is not None
            own = place.running.control.members.own
            assert own is not None
            place.member = own
            for other in places:
                assert other.running.control is not None
                if other is not place:
                    await other.running.control.members.put(own, by=SYSTEM)

    async def start(self, name: str) -> Node:
        place = self[name]
        if place.ports:
            # Where it was before: others know it by that.
            place.more |= {
                "listen.websocket": f"127.0.0.1:{place.ports[0]}",
                "listen.tcp": f"127.0.0.1:{place.ports[1]}",
            }
        plain = "tls.enabled" not in place.more
        sources = Sources(None, {}, settings(place.data, place.more), plain, place.data / "no-secrets")
        place.node = Node(LiveSettings(sources))
        await place.node.start()
        place.ports = (place.node.websocket_port, place.node.tcp_port)
        return place.node

    async def stop(self, name: str) -> None:
        place = self[name]
        node, place.node = place.running, None
        await node.stop()

    async def kill(self, name: str) -> None:
        """As a process that dies, as far as others see: every socket is reset at once."""
        place = self[name]
        node, place.node = place.running, None
        await node.links.stop()
        for listener in node.listeners.values():
            listener.stop_accepting()
        for connection in list(node.plane.connections.values()):
            connection.carrier.abort()
        await node._close()

    # Links

    async def linked(self, edge: str, central: str | None = None) -> None:
        """Wait until an edge's uplink is in use, and its parent knows that."""
        federation = self[edge].federation
        await until(lambda: federation.uplink is not None)
        node_id = self[edge].running.plane.node_id

        def heard() -> bool:
            uplink = federation.uplink
            if uplink is None or (central is not None and uplink.name != central):
                return False
            parent = self[uplink.name].federation
            return any(
                link.node == node_id and link.intake.active and link.intake.whole for link in parent.links.values()
            )

        await until(heard)

    async def meshed(self, *names: str) -> None:
        """Wait until each of these has a link to each other one that is in order."""

        def complete(name: str) -> bool:
            links = self[name].federation.links.values()
            peers = {link.name for link in links if link.kind == "peer" and link.intake.whole}
            return peers >= set(names) - {name}

        await until(lambda: all(map(complete, names)))

    async def knows(self, name: str, service: str) -> None:
        """Wait until a node has heard of a service."""
        await until(lambda: self[name].running.plane.table.service(service) is not None)

    # Clients

    async def client(
        self,
        name: str,
        subject: str = "phone",
        kind: str = "service",
        serving: tuple[str, ...] = (),
        *,
        services: tuple[str, ...] = ("*",),
        routes: tuple[str, ...] = ("*",),
        setup: Mapping[str, Any] | None = None,
        **said: Any,
    ) -> RawClient:
        node = self[name].running
        client = await RawClient.connect_ws(node.websocket_port)
        self.clients.append(client)
        token = node.identity.mint(subject, kind, services, routes, 600, time.time(), **said)
        client.setup(token, serving, **(setup or {}))
        await client.ready()
        return client

    async def servant(self, at: str, name: str = "echo", subject: str = "") -> Servant:
        """A service that answers by itself."""
        servant = Servant(await self.client(at, subject or f"svc-{name}".replace(".", "-"), serving=(name,)), name)
        self.servants.append(servant)
        return servant

    async def close(self) -> None:
        for servant in self.servants:
            await servant.stop()
        for client in self.clients:
            await client.close()
        for place in reversed(list(self.places.values())):
            if place.node is not None:
                node, place.node = place.node, None
                await node.stop()
        assert self.errors == []


async def refused(client: RawClient, route: str, data: bytes = b"?", timeout: float = 30) -> frames.Error:
    """Ask, and return the error that comes back."""
    number = client.request(route, data)
    while True:
        frame = await client.recv(timeout)
        if getattr(frame, "stream_id", 0) == number:
            assert isinstance(frame, frames.Error), frame
            return frame


async def answers(client: RawClient, route: str, timeout: float = 30) -> bytes:
    """Ask until there is an answer; what is refused meanwhile is asked again."""
    data = b""

    async def asked() -> bool:
        nonlocal data
        try:
            data = await call(client, route)
        except AssertionError:
            return False
        return True

    async with asyncio.timeout(timeout):
        while not await asked():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return data


Condition = Callable[[], object]
__all__ = ["CENTRAL", "EDGE", "Cluster", "Condition", "answers", "call", "refused", "until"]
