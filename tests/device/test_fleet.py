"""Many real devices on one node: all connect, answer, and come back when the node was gone."""

from __future__ import annotations

import asyncio
import json
import resource
import time
from pathlib import Path

import pytest

from tests.conftest import StartNode
from tests.device.conftest import Start, micropython_compiled
from tests.device.test_node import address, token
from tests.local_node import call


@pytest.mark.parametrize("devices", [6, pytest.param(50, marks=pytest.mark.soak)])
async def test_all_connect_and_come_back(
    devices: int, start_node: StartNode, compiled: Path, start: Start, unused_port: int, tmp_path: Path
) -> None:
    """Each is reached by its name, before and after a restart of the node."""
    where: dict[str, object] = {"listen.websocket": f"127.0.0.1:{unused_port}"}
    local = await start_node(where, data=tmp_path / "data")
    names = [f"dev-{number}" for number in range(devices)]
    credentials = {name: token(local, name) for name in names}
    settings = json.dumps({"backoff_ms": [50, 500]})
    interpreter = micropython_compiled(compiled)
    began = time.monotonic()
    fleet = await asyncio.gather(
        *(
            start(interpreter, "supervised", address(local), settings, DEVICE_ID=name, DEVICE_TOKEN=credentials[name])
            for name in names
        )
    )
    await asyncio.gather(*(program.expect(state="up") for program in fleet))
    ready_s = time.monotonic() - began
    for _ in range(2):
        client = await local.client()
        for name in names:
            assert await call(client, f"{name}.echo", name.encode()) == name.encode()
        await local.stop()
        await asyncio.gather(*(program.expect(state="down") for program in fleet))
        local = await start_node(where, data=tmp_path / "data")
        await asyncio.gather(*(program.expect(state="up") for program in fleet))
    client = await local.client()
    for name in names:
        await call(client, f"{name}.stop")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = [(await program.finish())[-1] for program in fleet]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert all(end["stats"]["connects"] == 3 and end["ws"] is False for end in ended)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{devices} devices: ready after {ready_s:.2f} s, {cpu_s:.2f} CPU-s in their whole life")
