"""Whoever else is at the broker, and a node that has a bridge to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.bridges.mqtt import packets
from gateway.bridges.mqtt.message import NO_PROPERTIES, Message, Properties
from gateway.bridges.mqtt.outgoing import Outgoing, Unreleased
from gateway.bridges.mqtt.packets import Acknowledged, Arriving
from gateway.bridges.mqtt.session import Dial, Filter, Session
from gateway.control.audit import Actor
from gateway.documents.broker import endpoint
from gateway.observe.bridges import BridgeState, BridgeStatus
from gateway.wire import frames
from gateway.wire.metadata import encode_composite, encode_routing
from gateway.wire.mimetypes import ROUTING
from tests.bridges.brokers import Broker
from tests.local_node import LocalNode, until
from tests.rawclient import RawClient

BY = Actor("system", "tests")


class Peer:
    """A client of the broker that acknowledges at once and keeps what it got. `connect` it, `leave` it."""

    def __init__(self, session: Session, outgoing: Outgoing, got: list[Message]) -> None:
        self.session = session
        self.got = got
        self._outgoing = outgoing

    @classmethod
    async def connect(cls, broker: Broker, name: str, directory: Path, version: int = 5, **options: Any) -> Peer:
        outgoing = Outgoing(version, Unreleased.open(directory / f"peer-{name}"))
        got: list[Message] = []
        found: list[Session] = []

        def arrived(arriving: Arriving) -> None:
            got.append(arriving.message)
            qos = arriving.message.qos
            if qos:
                kind = packets.PUBACK if qos == 1 else packets.PUBREC
                found[0].send(packets.encode_acknowledgement(kind, arriving.packet_id, version))

        def answered(kind: int, answer: Acknowledged) -> None:
            if kind == packets.PUBREL:
                found[0].send(packets.encode_acknowledgement(packets.PUBCOMP, answer.packet_id, version))
            else:
                outgoing.acknowledged(kind, answer)

        usual = {"clean_start": True, "receive_maximum": 1000, "username": broker.username}
        dial = Dial(name, version=version, **{**usual, **options})
        session = await Session.connect(
            dial, endpoint(broker.url), outgoing.ids, arrived, answered, on_open=found.append
        )
        outgoing.connected(session.send, session.limits.receive_maximum, present=False)
        return cls(session, outgoing, got)

    async def subscribe(self, topic: str, qos: int = 1, **options: Any) -> None:
        codes = await self.session.subscribe([Filter(topic, qos, no_local=False, retained=0, **options)])
        assert all(code < 0x80 for code in codes), codes

    async def publish(
        self, topic: str, payload: bytes, qos: int = 1, *, retain: bool = False, properties: Properties = NO_PROPERTIES
    ) -> int:
        """The broker's reason code."""
        message = Message(topic, payload, qos, retain, False, properties)
        if not qos:
            self.session.send(packets.encode_publish(message, 0, self.session.dial.version))
            return 0
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._outgoing.publish(message, lambda reason: None if done.done() else done.set_result(reason))
        # Not `wait_for`, which before Python 3.12 loses a cancellation that comes in the same turn as the answer.
        async with asyncio.timeout(30):
            return await done

    async def gets(self, count: int) -> list[Message]:
        await until(lambda: len(self.got) >= count)
        return self.got

    def leave(self) -> None:
        self.session.disconnect()


def tagged(route: str, **tags: str) -> bytes:
    """Metadata of a request with tags."""
    return encode_composite([(ROUTING, encode_routing([route, *(f"{key}={value}" for key, value in tags.items())]))])


async def answer(client: RawClient, route: str, data: bytes, **tags: str) -> Any:
    """The frame that a request/response is answered with."""
    number = client.next_stream_id()
    client.send(frames.RequestResponse(number, tagged(route, **tags), data))
    while True:
        frame = await client.recv(20)
        if getattr(frame, "stream_id", 0) == number:
            return frame


class Bridged:
    """A node that is given documents."""

    def __init__(self, local: LocalNode) -> None:
        self.local = local

    async def apply(self, *documents: dict[str, Any]) -> None:
        control = self.local.node.control
        assert control is not None
        # What is JSON is YAML.
        await control.documents.apply("\n---\n".join(map(json.dumps, documents)), by=BY)

    def status(self, name: str = "plant") -> BridgeStatus:
        return next(each for each in self.local.node.bridges.statuses() if each.name == name)

    async def is_connected(self, name: str = "plant") -> None:
        await self.becomes(name, lambda status: status.state is BridgeState.CONNECTED)

    async def becomes(self, name: str, condition: Callable[[BridgeStatus], object]) -> None:
        def holds() -> object:
            found = [each for each in self.local.node.bridges.statuses() if each.name == name]
            return found and condition(found[0])

        try:
            await until(holds)
        except TimeoutError:
            raise AssertionError(self.local.node.bridges.statuses()) from None


async def cut(bridged: Bridged, name: str = "plant") -> None:
    """The connection breaks; wait for the next one."""
    connects = bridged.status(name).counters.connects
    session = bridged.local.node.bridges._places[name].bridge.client.session  # type: ignore[union-attr]
    assert session is not None
    session.link.abort()
    await bridged.becomes(name, lambda status: status.counters.connects > connects)
    await bridged.is_connected(name)


def bridge(broker: Broker, *topics: dict[str, Any], name: str = "plant", **more: Any) -> dict[str, Any]:
    """A document; `mqtt` in `more` is added to what says where the broker is."""
    mqtt = {"address": broker.url, "keepalive": "5s", **more.pop("mqtt", {})}
    if broker.username is not None:
        mqtt["username"] = broker.username
    return {
        "kind": "Bridge",
        "name": name,
        "mqtt": mqtt,
        "topics": list(topics),
        "backoff": {"base": "50ms", "cap": "1s"},
        **more,
    }
