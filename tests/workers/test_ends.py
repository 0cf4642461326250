"""Processes that die, and processes that are told to go."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import httpx
import pytest

from gateway.wire import frames
from tests.faults.node_process import NodeProcess
from tests.rawclient import ConnectionEnded, RawClient
from tests.workers.several import Clients, all_ready, answered, eventually, is_alive, start, worker_pids

pytestmark = pytest.mark.xdist_group("workers")


async def test_a_worker_that_dies_comes_back_and_the_others_go_on(node: NodeProcess) -> None:
    """kill -9 of a worker: the port goes on accepting, routes of its clients go, and it is started again."""
    async with Clients(node) as clients, node.operator() as api:
        await clients.serving(0, "stays")
        await clients.serving(1, "goes")
        asking = await clients.asking(2)
        await eventually(lambda: answered(asking, "stays.it"))
        await eventually(lambda: answered(asking, "goes.it"))
        pids = worker_pids(node)
        os.kill(pids[1], signal.SIGKILL)

        async def gone() -> bool:
            return not await answered(asking, "goes.it")

        await eventually(gone)
        # Whoever comes now comes to one of the others, or to the one that is back.
        for _ in range(4):
            await eventually(lambda: _comes_in(node))
        assert await answered(asking, "stays.it")
        await all_ready(node, 3)
        assert worker_pids(node)[1] != pids[1]
        assert worker_pids(node)[2] == pids[2]
        alarms = (await api.get("/node")).json()["alarms"]
        assert [alarm["slug"] for alarm in alarms] == ["worker_died"]
        await clients.serving(1, "goes")
        await eventually(lambda: answered(asking, "goes.it"))


async def _comes_in(node: NodeProcess) -> bool:
    """Whether a newcomer is let in. What the dead process had not yet taken from the system ends with it."""
    try:
        client = await RawClient.connect_tcp(node.tcp_port)
    except ConnectionError:
        return False
    client.setup(node.token("newcomer", "service"))
    try:
        return await client.ready()
    except ConnectionEnded:
        return False
    finally:
        await client.close()


async def test_the_first_process_takes_all_with_it(tmp_path: Path) -> None:
    """kill -9 of the first process: no worker stays, and so none on the port, which others may have by then."""
    node = await start(tmp_path / "data", tmp_path / "log", 2)
    try:
        pids = list(worker_pids(node).values())
        assert len(pids) == 1
        node.kill()

        async def ended() -> bool:
            return not any(is_alive(pid) for pid in pids)

        await eventually(ended)
    finally:
        node.stop()


async def _known(api: httpx.AsyncClient, service: str) -> bool:
    """Whether the first process knows who serves it."""
    return bool((await api.get("/routes", params={"service": service})).json()["data"])


async def test_sigterm_drains_all(tmp_path: Path) -> None:
    """P5: what is under way at any process is answered before the end, nobody new is let in, and all end well."""
    node = await start(tmp_path / "data", tmp_path / "log", 2, GATEWAY__LIMITS__DRAIN_GRACE_S="30")
    try:
        pids = list(worker_pids(node).values())
        async with Clients(node) as clients:
            service = await clients.at(1, node.token("svc-slow", "service"), ("slow",))
            async with node.operator() as api:
                await eventually(lambda: _known(api, "slow"))
            asked = []
            for process in (0, 1):
                caller = await clients.asking(process, f"caller-{process}")
                number = caller.request("slow.it")
                frame = await service.recv()
                assert isinstance(frame, frames.RequestResponse)
                asked.append((caller, number, frame.stream_id))
            node.process.terminate()
            # The service is told last; then nobody is let in any more.
            goodbye = await service.recv()
            assert isinstance(goodbye, frames.Error)
            assert goodbye.code == 0x102
            for _, number, theirs in asked:
                service.send(frames.Payload(theirs, None, b"answer %d" % number, next=True, complete=True))
            for caller, number, _ in asked:
                await caller.recv_close()
                data = [frame.data for frame in caller.skipped if isinstance(frame, frames.Payload)]
                assert data == [b"answer %d" % number]
        assert await asyncio.to_thread(node.process.wait, 30) == 0
        assert not any(is_alive(pid) for pid in pids)
    finally:
        node.stop()
