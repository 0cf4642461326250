"""`gateway.config` on a real node: what holds and each change, for whom it is, and what devices say of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.configuring import LOOKED_UP
from gateway.control.audit import Actor
from gateway.control.devices import NewDevice
from gateway.control.plane import ControlPlane
from gateway.wire import frames
from tests.local_node import LocalNode, until
from tests.rawclient import RawClient, composite

BY = Actor("user", "alice")


@pytest.fixture
async def control(node: LocalNode) -> ControlPlane:
    """That of a node which knows the device dev-1."""
    assert node.node.control is not None
    await node.node.control.devices.create(NewDevice("dev-1", labels={"site": "7"}), by=BY)
    return node.node.control


async def device(node: LocalNode, subject: str = "dev-1") -> RawClient:
    client = await node.connect("tcp")
    client.setup(node.token(subject, "device"))
    await client.ready()
    return client


def follow(client: RawClient, credit: int = 8, **asked: Any) -> int:
    number = client.next_stream_id()
    data = json.dumps(asked).encode() if asked else b""
    client.send(frames.RequestStream(number, composite("gateway.config"), data, initial_n=credit))
    return number


async def item(client: RawClient, number: int) -> Any:
    """The next item of a stream, or the ERROR that ended it."""
    while True:
        frame = await client.recv()
        if getattr(frame, "stream_id", -1) == number:
            return json.loads(frame.data) if isinstance(frame, frames.Payload) else frame


async def report(client: RawClient, **said: Any) -> Any:
    return await item(client, client.request("gateway.config.applied", json.dumps(said).encode()))


async def test_what_holds_then_each_change(node: LocalNode, control: ControlPlane) -> None:
    """Of its own document, of one that its labels select, and when its labels change. Nothing for a device that has
    what holds, and nothing when a document is withdrawn and none is left."""
    configs = control.device_configs
    first = await configs.put("all", {"a": 1}, by=BY)
    client = await device(node)
    number = follow(client)
    assert await item(client, number) == {"version": first.version, "document": {"a": 1}}
    site = await configs.put("labels:site=7", {"a": 2}, by=BY)
    assert (await item(client, number))["version"] == site.version
    elsewhere = await configs.put("labels:site=8", {"a": 3}, by=BY)
    await control.devices.update("dev-1", {"labels": {"site": "8"}}, by=BY)
    assert (await item(client, number))["version"] == elsewhere.version
    await configs.withdraw("labels:site=8", by=BY)
    assert (await item(client, number))["version"] == first.version, "what was there before is told again"
    await configs.withdraw("all", by=BY)
    own = await configs.put("device:dev-1", {"a": "\u00e9"}, by=BY)
    assert await item(client, number) == {"version": own.version, "document": {"a": "\u00e9"}}
    late = follow(client, version=own.version)
    last = await configs.put("device:dev-1", {}, by=BY)
    assert (await item(client, late))["version"] == last.version


async def test_without_credit_the_latest_wins(node: LocalNode, control: ControlPlane) -> None:
    configs = control.device_configs
    await configs.put("all", {"a": 0}, by=BY)
    client = await device(node)
    number = follow(client, credit=1)
    assert (await item(client, number))["document"] == {"a": 0}
    for value in range(1, 6):
        await configs.put("all", {"a": value}, by=BY)
    configuring = node.node.configuring
    assert configuring is not None
    await until(lambda: configuring._looking is None)
    client.send(frames.RequestN(number, 1))
    assert (await item(client, number))["document"] == {"a": 5}
    client.send(frames.Cancel(number))
    await until(lambda: not configuring._followers)


async def test_many_are_told_at_once(node: LocalNode, control: ControlPlane) -> None:
    """More than are looked up at a time; each once, and those of another site not at all."""
    count = LOOKED_UP + 20
    names = [f"many-{number}" for number in range(count)]
    new = [NewDevice(name, labels={"site": "8" if number % 4 else "9"}) for number, name in enumerate(names)]
    await control.devices.create_many(new, by=BY)
    clients = [await device(node, name) for name in names]
    numbers = [follow(client) for client in clients]
    configuring = node.node.configuring
    assert configuring is not None
    await until(lambda: len(configuring._followers) == count and not configuring._due, 30)
    told = await control.device_configs.put("labels:site=8", {"a": 1}, by=BY)
    last = await control.device_configs.put("all", {"a": 2}, by=BY)
    for number, client, stream in zip(range(count), clients, numbers, strict=True):
        assert (await item(client, stream))["version"] == (told if number % 4 else last).version
    await until(lambda: not configuring._due and configuring._looking is None, 30)
    assert node.node.metrics.counters.configurations == {"sent": count}


async def test_devices_say_what_became_of_it(node: LocalNode, control: ControlPlane) -> None:
    configs = control.device_configs
    config = await configs.put("all", {"a": 1}, by=BY)
    client = await device(node)
    assert await report(client, version=config.version, ok=True) == {}
    assert await report(client, version=0) == {}
    assert await report(client, version=config.version, reason="ValueError('a')") == {}
    _, _, said = await configs.of_device("dev-1")
    assert said is not None
    assert (said.ok, said.reason, said.applied) == (False, "ValueError('a')", config.version)
    assert node.node.metrics.counters.configurations == {"applied": 1, "rejected": 1}


async def test_what_is_refused(node: LocalNode, control: ControlPlane) -> None:
    """Whom nobody registered has no configuration; what is no report is said to be none."""
    client = await device(node)
    for said in (
        {"version": -1},
        {"version": 1, "reason": 5},
        {"version": True, "ok": True},
        {"version": 1, "ok": 1},
    ):
        refused = await report(client, **said)
        assert refused.code == frames.ErrorCode.INVALID, said
    assert (await item(client, follow(client, version="1"))).code == frames.ErrorCode.INVALID
    stranger = await device(node, "stranger")
    assert "only registered devices" in (await item(stranger, follow(stranger))).text
    assert "only registered devices" in (await report(stranger, version=1, ok=True)).text
    assert node.node.metrics.counters.refusals["config_nobody"] == 2
