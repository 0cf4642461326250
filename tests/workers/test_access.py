"""Who gets in, and who has to go, is one matter for all processes of a node."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from gateway.wire import frames
from tests.faults.node_process import NodeProcess
from tests.rawclient import composite
from tests.workers.several import Clients, eventually

pytestmark = pytest.mark.xdist_group("workers")

PROCESSES = (0, 1, 2)


async def _device(api: httpx.AsyncClient, name: str) -> str:
    """A new device's token."""
    made = await api.post("/devices", json={"id": name, "services": ["{sub}.*"]}, headers={"idempotency-key": name})
    assert made.status_code == 201, made.text
    issued = await api.post(f"/devices/{name}/credentials", json={}, headers={"idempotency-key": f"{name}-token"})
    assert issued.status_code == 201, issued.text
    return str(issued.json()["token"])


async def test_a_registered_device_gets_in_everywhere_and_goes_from_everywhere(node: NodeProcess) -> None:
    """Fault 61: a device that is disabled is closed within 5 s, whatever process it is connected to."""
    async with node.operator() as api, Clients(node) as clients:
        names = [f"thermo-{process}" for process in PROCESSES]
        tokens = [await _device(api, name) for name in names]
        connected = [await clients.at(process, token) for process, token in zip(PROCESSES, tokens, strict=True)]
        for name in names:
            done = await api.post(f"/devices/{name}/disable")
            assert done.status_code == 200, done.text
        async with asyncio.timeout(5):
            codes = [await client.recv_close() for client in connected]
        assert len(codes) == len(PROCESSES)
        for process, token in zip(PROCESSES, tokens, strict=True):
            with pytest.raises(AssertionError, match="disabled"):
                await clients.at(process, token)


async def test_a_device_renews_its_token_at_any_process(node: NodeProcess) -> None:
    async with node.operator() as api, Clients(node) as clients:
        for process in PROCESSES:
            client = await clients.at(process, await _device(api, f"renews-{process}"))
            number = client.request("gateway.renew")
            answer = await client.recv()
            assert getattr(answer, "stream_id", 0) == number
            assert b"token" in answer.data, answer  # type: ignore[union-attr]


async def _lets_in(clients: Clients, process: int, token: str) -> bool:
    """Whether a process has heard of it."""
    try:
        await clients.at(process, token)
    except AssertionError:
        return False
    return True


async def _keeps_out(clients: Clients, process: int, token: str) -> bool:
    return not await _lets_in(clients, process, token)


async def test_a_device_enrols_at_any_process(node: NodeProcess) -> None:
    """What it is let in with is known to each, and used up for all when one has taken it."""
    async with node.operator() as api, Clients(node) as clients:
        for process in PROCESSES:
            key = {"idempotency-key": f"enrols-{process}"}
            made = await api.post("/enrollments", json={"device_id": f"enrols-{process}"}, headers=key)
            assert made.status_code == 201, made.text
            token = made.json()["token"]
            await eventually(lambda at=process, token=token: _lets_in(clients, at, token))
            client = await clients.at(process, token)
            number = client.request("gateway.enroll", json.dumps({"token": token}).encode())
            answer = await client.recv()
            assert getattr(answer, "stream_id", 0) == number
            assert isinstance(answer, frames.Payload), answer
            await clients.at(process, json.loads(answer.data)["token"])
            for other in PROCESSES:
                await eventually(lambda at=other, token=token: _keeps_out(clients, at, token))


@pytest.mark.soak
async def test_where_a_device_was_seen_is_known_to_the_node(node: NodeProcess) -> None:
    async with node.operator() as api, Clients(node) as clients:
        client = await clients.at(1, await _device(api, "seen-1"))

        async def seen() -> bool:
            return (await api.get("/devices/seen-1")).json().get("last_seen_at") is not None

        # It is written within half a minute.
        await eventually(seen, 90)
        await client.close()


async def test_what_is_set_reaches_all(node: NodeProcess) -> None:
    async with node.operator() as api, Clients(node) as clients:
        for most in (45_000, None):
            done = await api.patch("/config", json={"limits.lifetime_max_ms": most}, headers={"if-match": "*"})
            assert done.status_code == 200, done.text
            for process in PROCESSES:

                async def holds(process: int = process, expected: int = most or 90_000) -> bool:
                    client = await clients.asking(process)
                    return bool(clients.ready[client]["lifetime_ms"] == expected)

                await eventually(holds)


async def test_configurations_reach_devices_at_all_processes(node: NodeProcess) -> None:
    """What holds, a change while the device is connected, and what the device says of it."""
    async with node.operator() as api, Clients(node) as clients:
        token = await _device(api, "configured-1")
        for process in PROCESSES:
            client = await clients.at(process, token)
            number = client.next_stream_id()
            client.send(frames.RequestStream(number, composite("gateway.config"), b"", initial_n=9))
            for value in range(2):
                body = {"document": {"process": process, "value": value}}
                done = await api.put("/devices/configured-1/config", json=body, headers={"if-match": "*"})
                assert done.status_code == 200, done.text
                told: dict[str, Any] = {}
                # The first may be what the one before was told.
                while told.get("document") != body["document"]:
                    frame = await client.recv()
                    assert isinstance(frame, frames.Payload), frame
                    told = json.loads(frame.data)
            said = json.dumps({"version": told["version"], "ok": True}).encode()
            asked = client.request("gateway.config.applied", said)
            while (frame := await client.recv()).stream_id != asked:
                pass
            assert isinstance(frame, frames.Payload), frame
            status = (await api.get("/devices/configured-1/config")).json()["status"]
            assert (status["state"], status["applied"]) == ("applied", told["version"])
            await client.close()
