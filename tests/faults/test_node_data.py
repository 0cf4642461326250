"""A whole node whose process is killed, whose power is cut or whose disk is full: what it has answered, it keeps.

`tests/storage` holds the same of the database alone, more often.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from gateway.wire import frames
from tests.faults.node_process import NodeProcess
from tests.local_node import until
from tests.rawclient import RawClient
from tests.volumes import cut_power, image, mounted, resize, small_volume

__all__ = ["image"]

WRITERS = 4
RESTART_S = 5.0


class Load:
    """Adds devices until the node is gone. `promised`: names whose creation it has answered."""

    def __init__(self) -> None:
        self.promised: set[str] = set()
        self._numbers = itertools.count()
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, operator: httpx.AsyncClient) -> None:
        self._tasks = [asyncio.create_task(self._write(operator)) for _ in range(WRITERS)]

    async def end(self) -> None:
        await asyncio.gather(*self._tasks)

    async def _write(self, operator: httpx.AsyncClient) -> None:
        for number in self._numbers:
            name = f"device-{number}"
            try:
                answer = await operator.post("/devices", json={"id": name})
            except httpx.TransportError:
                return
            if answer.status_code != 201:
                assert answer.status_code in (503, 507), answer.text
                return
            self.promised.add(name)


async def everything(operator: httpx.AsyncClient, path: str, **params: str) -> list[Any]:
    found = []
    while True:
        page = (await operator.get(path, params={"limit": 1000, **params})).raise_for_status().json()
        found += page["data"]
        if not page["meta"].get("next"):
            return found
        params["cursor"] = page["meta"]["next"]


async def check(node: NodeProcess, promised: set[str]) -> None:
    """What was promised is there, each with its line in the audit, whose chain is whole; nothing is amiss."""
    async with node.operator() as operator:
        there = {device["id"] for device in await everything(operator, "/devices")}
        audited = {entry["object"] for entry in await everything(operator, "/audit", action="device.create")}
        verdict = (await operator.post("/audit/verify")).raise_for_status().json()
        alarms = (await operator.get("/node")).json()["alarms"]
    assert promised <= there, sorted(promised - there)[:5]
    assert {f"device:{name}" for name in there} == audited
    assert verdict["ok"], verdict
    assert alarms == []


async def begun(data: Path, log: Path, load: Load) -> NodeProcess:
    """A node that has what was promised before, and is told to keep more."""
    node = await NodeProcess.start(data, log)
    try:
        await check(node, load.promised)
        load.begin(node.operator())
    except BaseException:
        node.kill()
        raise
    return node


async def killed(data: Path, log: Path, rounds: int) -> list[float]:
    """What each start took of a processor, in seconds; a start waits for little else."""
    random, load, took = Random(69), Load(), []
    for _ in range(rounds):
        node = await begun(data, log, load)
        took.append(node.ready_cpu_s)
        await asyncio.sleep(random.uniform(0.0, 0.4))
        node.kill()
        await load.end()
    node = await begun(data, log, load)
    node.stop()
    await load.end()
    assert len(load.promised) > rounds
    assert node.process.returncode == 0, node.log
    return took


async def test_a_node_that_is_killed_at_any_instant(tmp_path: Path) -> None:
    """fault 69: and it starts again at once, over the lock and the addresses that the killed one has left"""
    took = await killed(tmp_path / "data", tmp_path / "log", 5)
    assert max(took) <= RESTART_S, took


@pytest.mark.soak
async def test_a_node_that_is_killed_two_hundred_times(tmp_path: Path) -> None:
    """fault 69"""
    took = await killed(tmp_path / "data", tmp_path / "log", 200)
    assert max(took) <= RESTART_S, took


async def cut(image: Path, volume: Path, log: Path, rounds: int) -> None:
    random, load = Random(70), Load()
    for _ in range(rounds):
        with mounted(image, volume):
            node = await begun(volume / "data", log, load)
            await asyncio.sleep(random.uniform(0.05, 0.4))
            # What comes later comes from a machine that has no power; see `tests.storage`.
            promised = set(load.promised)
            cut_power(volume)
            node.kill()
            await load.end()
            load.promised = promised
    with mounted(image, volume):
        node = await begun(volume / "data", log, load)
        node.stop()
        await load.end()
    assert len(load.promised) > rounds


async def test_a_node_whose_power_is_cut(image: Path, tmp_path: Path) -> None:
    """fault 70: three times"""
    await cut(image, tmp_path / "volume", tmp_path / "log", 3)


@pytest.mark.soak
async def test_a_node_whose_power_is_cut_fifty_times(image: Path, tmp_path: Path) -> None:
    """fault 70"""
    await cut(image, tmp_path / "volume", tmp_path / "log", 50)


def fill(volume: Path) -> None:
    with (volume / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(65_536))


async def test_a_node_whose_disk_is_full(tmp_path: Path) -> None:
    """fault 72: reads go on and requests are forwarded, changes get a clear refusal; it recovers without a restart"""
    with small_volume(tmp_path / "volume", "6m") as volume:
        node = await NodeProcess.start(volume / "data", tmp_path / "log")
        try:
            async with node.operator() as operator, await RawClient.connect_tcp(node.tcp_port) as client:
                client.setup(node.token("svc", "service"), ["echo"])
                await client.ready()
                load = Load()
                load.begin(operator)
                await until(lambda: len(load.promised) > 20)
                await asyncio.to_thread(fill, volume)
                await load.end()
                refused = await operator.post("/devices", json={"id": "one-more"})
                assert refused.status_code in (503, 507), refused.text
                assert str(volume) in refused.json()["detail"]
                assert {device["id"] for device in await everything(operator, "/devices")} == load.promised
                assert (await client.ready())["sub"] == "svc"
                told = (await operator.get("/node")).json()
                assert {alarm["slug"] for alarm in told["alarms"]} & {"storage_full", "storage_failed"}
                resize(volume, "12m")
                again = await operator.post("/devices", json={"id": "one-more"})
                assert again.status_code == 201, again.text
                assert (await operator.get("/node")).json()["alarms"] == []
            await check(node, load.promised | {"one-more"})
        finally:
            node.stop()
        assert node.process.returncode == 0, node.log


@pytest.mark.parametrize("how", ["disable", "delete", "revoke"])
async def test_a_live_connection_of_somebody_who_must_go(tmp_path: Path, how: str) -> None:
    """fault 61: through the API of a node in another process, in five seconds"""
    node = await NodeProcess.start(tmp_path / "data", tmp_path / "log")
    try:
        async with node.operator() as operator:
            made = await operator.post("/devices", json={"id": "kitchen"})
            assert made.status_code == 201, made.text
            issued = (await operator.post("/devices/kitchen/credentials", json={})).json()
            await asyncio.sleep(1.0 - time.time() % 1.0)  # a deletion is for what was issued before its second
            async with await RawClient.connect_tcp(node.tcp_port) as client:
                client.setup(issued["token"])
                await client.ready()
                began = time.monotonic()
                if how == "disable":
                    answer = await operator.post("/devices/kitchen/disable")
                elif how == "delete":
                    answer = await operator.delete("/devices/kitchen", headers={"if-match": "*"})
                else:
                    answer = await operator.post(f"/credentials/{issued['credential_id']}/revoke", json={})
                assert answer.is_success, answer.text
                await client.recv_close(5)
                assert time.monotonic() - began < 5
                last = client.skipped[-1]
                assert isinstance(last, frames.Error)
                assert (last.stream_id, last.code) == (0, 0x101)
    finally:
        node.stop()
