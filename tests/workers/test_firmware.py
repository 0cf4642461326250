"""Devices are updated at whichever process they are connected to."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.wire import frames
from tests.faults.node_process import NodeProcess
from tests.rawclient import RawClient, composite
from tests.workers.several import PATIENCE_S, Clients, eventually
from tests.workers.test_access import _device

pytestmark = pytest.mark.xdist_group("workers")

IMAGE = bytes(range(256)) * 200


async def _told(client: RawClient) -> None:
    """Wait until the node has told the device to ask."""
    frame = await client.recv(PATIENCE_S)
    assert isinstance(frame, frames.RequestFnf), frame


async def _update(client: RawClient, state: str = "idle", **more: str) -> dict[str, Any] | None:
    said = {"board": "several", "version": "1", "state": state, **more}
    number = client.request("gateway.firmware.report", json.dumps(said).encode())
    frame = await client.recv()
    assert isinstance(frame, frames.Payload), frame
    assert frame.stream_id == number
    update: dict[str, Any] | None = json.loads(frame.data)["update"]
    return update


def _ask(client: RawClient, firmware: str, n: int) -> int:
    number = client.next_stream_id()
    asked = json.dumps({"id": firmware, "chunk": 4096}).encode()
    client.send(frames.RequestStream(number, composite("gateway.firmware"), asked, initial_n=n))
    return number


async def test_a_device_is_updated_at_any_process(node: NodeProcess) -> None:
    """It is told, asks, downloads, and is cut off when the rollout is aborted."""
    async with node.operator() as api, Clients(node) as clients:
        names = [f"updated-{process}" for process in range(3)]
        devices = [await clients.at(at, await _device(api, name), (name,)) for at, name in enumerate(names)]

        async def known() -> bool:
            found = [(await api.get("/routes", params={"service": name})).json()["data"] for name in names]
            return all(found)

        await eventually(known)
        made = (await api.post("/firmware", params={"board": "several", "version": "2"}, content=IMAGE)).json()
        begun = await api.post("/rollouts", json={"firmware": made["id"]}, headers={"idempotency-key": "several"})
        path = f"/rollouts/{begun.json()['id']}"
        for client in devices:
            await _told(client)
            update = await _update(client)
            assert update is not None
            _ask(client, update["id"], 2**31 - 1)
            image = b""
            while len(image) < len(IMAGE):
                frame = await client.recv(PATIENCE_S)
                assert isinstance(frame, frames.Payload), frame
                image += frame.data
            assert image == IMAGE
            while not frame.complete:
                frame = await client.recv(PATIENCE_S)
                assert isinstance(frame, frames.Payload), frame

        async def received() -> bool:
            rows = (await api.get(f"{path}/devices")).json()["data"]
            return [row["received"] for row in rows] == [len(IMAGE)] * 3

        await eventually(received)
        for client in devices:
            _ask(client, made["id"], 1)
            assert isinstance(await client.recv(PATIENCE_S), frames.Payload)
        assert (await api.post(f"{path}/abort")).status_code == 200
        async with asyncio.timeout(PATIENCE_S):
            ended = [await client.recv(PATIENCE_S) for client in devices]
        assert [getattr(frame, "code", None) for frame in ended] == [0x202] * 3
        assert [await _update(client) for client in devices] == [None] * 3
        assert (await api.delete(f"/firmware/{made['id']}")).status_code == 204
