"""Fault 66: every kind of rule on every way by which something may be delivered, on a real node and a real broker.

`bad` may not, `good` may. Each has a mark of their own on each way; what `good` sends comes, and behind it nothing of
`bad` has come. Ways that are inside the data plane alone are in tests/forwarding/test_judging.py, bytes in, bytes out.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.forwarding.console import Console
from gateway.forwarding.ending import RIGHTS_CHANGED
from gateway.policy.principal import Kind, Principal
from gateway.wire import frames
from gateway.wire.frames import FrameType
from tests.bridges.brokers import Broker
from tests.bridges.conftest import ConnectPeer
from tests.bridges.peers import BY, Bridged, bridge, tagged
from tests.bridges.test_spool import spool
from tests.forwarding.plane_of import to_all
from tests.local_node import until
from tests.rawclient import RawClient

OUT = {"pattern": "t/{room}", "direction": "out", "qos": 1, "route": "rooms.tell"}
WHAT = [{"services": ["echo", "later"], "topics": ["t/#"]}]


def access(name: str, action: str, source: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    rule = {"to": WHAT, **({"from": [source]} if source else {}), **more}
    return {"kind": "Access", "name": name, "action": action, "rules": [rule]}


def when(key: str, *values: str) -> list[dict[str, Any]]:
    return [{"key": key, "values": list(values)}]


#: What keeps `bad`, a user without groups on the label site=9, from all of it, and leaves `good` alone.
RULES = {
    "DENY principals": access("m", "DENY", {"principals": ["b*"]}),
    "DENY notGroups": access("m", "DENY", {"notGroups": ["ops"]}),
    "DENY kinds": access("m", "DENY", {"kinds": ["user"]}),
    "DENY labels": access("m", "DENY", {"labels": {"site": "9"}}),
    "DENY when": access("m", "DENY", None, when=when("source.labels[site]", "9")),
    "DENY connection": access("m", "DENY", None, when=when("connection.transport", "tcp")),
    "ALLOW principals": access("m", "ALLOW", {"principals": ["good"]}),
    "ALLOW groups": access("m", "ALLOW", {"groups": ["ops"]}),
    "ALLOW when": access("m", "ALLOW", None, when=when("source.kind", "service")),
}


class Person:
    """A client that keeps what comes, by stream."""

    def __init__(self, client: RawClient, name: str) -> None:
        self.client = client
        self.name = name
        self.came: list[frames.Frame] = []
        self.task = asyncio.create_task(self._read(), name=f"reader of {name}")

    @classmethod
    async def connect(cls, bridged: Bridged, name: str) -> Person:
        good = name == "good"
        local = bridged.local
        token = local.node.identity.mint(
            name,
            "service" if good else "user",
            ("*",),
            ("*",),
            600,
            local.node.plane.wall(),
            groups=("ops",) if good else (),
            labels={"site": "7" if good else "9"},
        )
        client = await local.connect("ws" if good else "tcp")
        client.setup(token)
        await client.ready()
        return cls(client, name)

    async def _read(self) -> None:
        while True:
            self.came.append(await self.client.recv(600))

    def ask(self, make: type[Any], metadata: bytes, data: bytes = b"", **more: Any) -> int:
        number = self.client.next_stream_id()
        self.client.send(make(number, metadata, data, **more))
        return number

    def all_ways(self, round_: str) -> None:
        def mark(way: str) -> bytes:
            return f"{self.name} {round_} {way}".encode()

        response, fired = frames.RequestResponse, frames.RequestFnf
        self.ask(response, tagged("echo"), mark("request/response"))
        self.ask(fired, tagged("echo"), mark("fire-and-forget"))
        self.ask(frames.RequestStream, tagged("echo.s"), mark("stream"), initial_n=1)
        self.ask(frames.RequestChannel, tagged("echo.c"), mark("channel"), initial_n=1)
        self.ask(fired, to_all("echo"), mark("multicast"))
        self.ask(response, tagged("later"), mark("spool"))
        self.ask(response, tagged("rooms.tell", room="1"), mark("bridge, rule"))
        self.ask(fired, tagged("rooms.tell", room="1"), mark("bridge, rule, fired"))
        self.ask(response, tagged("mqtt.plant.publish", topic="t/2"), mark("publish"))
        self.ask(fired, tagged("mqtt.plant.publish", topic="t/2"), mark("publish, fired"))
        for make, way in (response, "publish, data"), (fired, "publish, data, fired"):
            self.ask(
                make, tagged("mqtt.plant.publish"), json.dumps({"topic": "t/3", "payload": mark(way).decode()}).encode()
            )
        self.ask(response, tagged("mqtt.plant.call", topic="t/4"), mark("call"))

    async def barrier(self) -> None:
        """The node has gone through all that was sent before."""
        number = self.ask(frames.RequestResponse, tagged("gateway.ready"))
        await until(lambda: any(getattr(frame, "stream_id", 0) == number for frame in self.came))

    def items(self, number: int) -> list[bytes]:
        return [f.data for f in self.came if isinstance(f, frames.Payload) and f.stream_id == number and f.next]

    def error(self, number: int) -> str:
        return next((f.text for f in self.came if isinstance(f, frames.Error) and f.stream_id == number), "")


@pytest.fixture
def people() -> Iterator[list[Person]]:
    found: list[Person] = []
    yield found
    for each in found:
        each.task.cancel()


ON_BROKER = (
    "bridge, rule",
    "bridge, rule, fired",
    "publish",
    "publish, fired",
    "publish, data",
    "publish, data, fired",
    "call",
)
TO_ECHO = ("request/response", "fire-and-forget", "stream", "channel", "multicast")


@pytest.mark.timeout(120)
async def test_no_rule_leaks_on_any_way(
    bridged: Bridged, broker: Broker, peer: ConnectPeer, people: list[Person]
) -> None:
    await bridged.apply(bridge(broker, OUT), spool("later", "later"))
    await bridged.is_connected()
    await until(lambda: bridged.local.node.plane.table.service("rooms.tell") is not None)
    device = await peer(broker, "device")
    await device.subscribe("t/#")
    people += [echo := Person(await bridged.local.client("tcp", "svc", serving=("echo",)), "echo")]
    good, bad = [await Person.connect(bridged, name) for name in ("good", "bad")]
    people += [good, bad]
    expected: list[bytes] = []
    for name, document in RULES.items():
        await bridged.apply(document)
        await asyncio.sleep(0)
        bad.all_ways(name)
        await bad.barrier()
        good.all_ways(name)
        expected += [f"good {name} {way}".encode() for way in TO_ECHO + ON_BROKER]
    await good.barrier()

    def heard() -> list[bytes]:
        requests = frames.RequestResponse | frames.RequestFnf | frames.RequestStream | frames.RequestChannel
        return [f.data for f in echo.came if isinstance(f, requests)] + [message.payload for message in device.got]

    await until(lambda: len(heard()) >= len(expected))
    assert sorted(heard()) == sorted(expected)
    depot = bridged.local.node.depot
    assert depot is not None
    await until(lambda: depot.outlets["later/later"].spool.messages == len(RULES))
    # What waits is delivered by the rules of then, and to whoever may serve it.
    no_more = access("m", "DENY", {"principals": ["good"]})
    await bridged.apply(no_more)
    people += [late := Person(await bridged.local.client("tcp", "late", serving=("later",)), "late")]
    await until(lambda: not depot.outlets["later/later"].spool.messages)
    assert depot.outlets["later/later"].spool.lost == {"forbidden": len(RULES)}
    assert not [f for f in late.came if isinstance(f, frames.RequestResponse)]


@pytest.mark.timeout(120)
async def test_what_comes_from_the_broker_comes_to_nobody_who_may_not_have_it(
    bridged: Bridged, broker: Broker, peer: ConnectPeer, people: list[Person]
) -> None:
    """Retained messages and live ones, by each way of asking; and what is open ends when rules change."""
    arrive = {"pattern": "in/#", "direction": "in", "qos": 1, "route": "echo.in"}
    await bridged.apply(bridge(broker, OUT, arrive))
    await bridged.is_connected()
    device = await peer(broker, "device")
    for topic in ("t/kept", "free/kept"):
        await device.publish(topic, topic.encode(), retain=True)
    people += [echo := Person(await bridged.local.client("tcp", "svc", serving=("echo",)), "echo")]
    good, bad = [await Person.connect(bridged, name) for name in ("good", "bad")]
    people += [good, bad]
    for name, document in RULES.items():
        await bridged.apply(document)
        last = [each.ask(frames.RequestResponse, tagged("mqtt.plant.last", topic="t/kept")) for each in (good, bad)]
        part = [
            each.ask(frames.RequestStream, tagged("mqtt.plant.subscribe", topic=pattern), initial_n=100)
            for each in (good, bad)
            for pattern in ("t/#", "#")
        ]
        await until(lambda n=last[0]: good.items(n) == [b"t/kept"])
        await until(lambda n=part[0]: good.items(n) == [b"t/kept"])
        await until(lambda n=part[1]: sorted(good.items(n)) == [b"free/kept", b"t/kept"])
        await until(lambda n=part[3]: bad.items(n) == [b"free/kept"])
        for topic in ("t/live", "free/live"):
            await device.publish(topic, topic.encode())
        await until(lambda n=part[0]: good.items(n)[1:] == [b"t/live"])
        await until(lambda n=part[3]: bad.items(n)[1:] == [b"free/live"])
        assert "Access/m" in bad.error(last[1]), name
        assert "Access/m" in bad.error(part[2]), name
        assert not bad.items(last[1]) + bad.items(part[2])
        # Whoever may not any more hears so at once.
        await bridged.apply(access("m", "DENY", {"principals": ["*"]}))
        await until(lambda n=part[0]: good.error(n) == RIGHTS_CHANGED)
        for person, number in (good, part[1]), (bad, part[3]):
            person.client.send(frames.Cancel(number))
    # A rule of the bridge takes nothing that the bridge itself may not have.
    await bridged.apply(
        {**access("m", "DENY", {"principals": ["mqtt.plant"]}), "rules": [{"to": [{"topics": ["in/no"]}]}]}
    )
    for topic in ("in/no", "in/yes"):
        await device.publish(topic, topic.encode())
    await until(lambda: any(isinstance(frame, frames.RequestResponse) for frame in echo.came))
    assert [f.data for f in echo.came if isinstance(f, frames.RequestResponse)] == [b"in/yes"]
    assert bridged.status().counters.dropped["access_denied"] >= 1


async def test_an_operator_at_the_console_is_judged_like_anybody(bridged: Bridged, people: list[Person]) -> None:
    people += [echo := Person(await bridged.local.client("tcp", "svc", serving=("echo",)), "echo")]
    await bridged.apply(access("m", "DENY", {"kinds": ["admin"]}))
    plane = bridged.local.node.plane
    over = asyncio.Event()
    admin = Principal("root", Kind.ADMIN, "", 0.0, 1e12, ("*",), ("*",))
    console = Console(plane, admin, over.set)
    console.ask(FrameType.REQUEST_RESPONSE, "echo", {}, b"?")
    async with asyncio.timeout(30):
        await over.wait()
    assert console.error is not None
    assert "Access/m" in console.error[1]
    assert not [f for f in echo.came if isinstance(f, frames.RequestResponse)]


async def test_a_document_binds_what_is_open_within_five_seconds(bridged: Bridged, people: list[Person]) -> None:
    """Issue 8: they end with ERROR and CANCEL; who was reachable by a name is not any more."""
    people += [echo := Person(await bridged.local.client("tcp", "svc", serving=("echo",)), "echo")]
    good, bad = [await Person.connect(bridged, name) for name in ("good", "bad")]
    people += [good, bad]
    numbers = [each.ask(frames.RequestStream, tagged("echo"), initial_n=5) for each in (good, bad)]
    await until(lambda: len([f for f in echo.came if isinstance(f, frames.RequestStream)]) == 2)
    served = {f.data: f.stream_id for f in echo.came if isinstance(f, frames.RequestStream)}
    await bridged.apply(RULES["DENY principals"])
    await until(lambda: bad.error(numbers[1]) == RIGHTS_CHANGED, 5)
    await until(lambda: len([f for f in echo.came if isinstance(f, frames.Cancel)]) == 1, 5)
    assert not good.error(numbers[0])
    assert served
    control = bridged.local.node.control
    assert control is not None
    register = {"to": [{"services": ["echo"], "interactions": ["register"]}]}
    await control.documents.apply(json.dumps({**RULES["DENY principals"], "rules": [register]}), by=BY)
    await until(lambda: bridged.local.node.plane.table.service("echo") is None, 5)
    await until(lambda: good.error(numbers[0]) == RIGHTS_CHANGED, 5)
