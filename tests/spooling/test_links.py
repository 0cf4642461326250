"""Two nodes and the line between them, which are killed and cut: what was accepted arrives once, in order per key.

The checker is that of `test_kills` (faults 1.0): attempts, acknowledged and read are sets of (writer, number). Writers
are clients of an edge, the service is a client of the central node.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from random import Random

import pytest

from bench.local_cluster import LocalCluster
from gateway.control.audit import SYSTEM
from gateway.control.plane import ControlPlane
from gateway.wire import frames
from tests.rawclient import RawClient, composite
from tests.spooling.test_kills import GONE, SPOOL, History

CENTRAL, EDGE = "central-1", "edge-a"
QUICK = {
    "GATEWAY__SPOOL__GROUP_MS": "2",
    "GATEWAY__SPOOL__START_JITTER_S": "0",
    "GATEWAY__LINKS__BACKOFF_MAX_S": "0.3",
    "GATEWAY__LOG__LEVEL": "warning",
}


async def a_cluster(root: Path, parents: str = "") -> LocalCluster:
    """A central node and an edge, which has the document. `parents`: where the edge dials, if not at the central."""
    edge = QUICK | ({"GATEWAY__LINKS__PARENTS": parents} if parents else {})
    cluster = LocalCluster(root, (CENTRAL, EDGE), settings={CENTRAL: QUICK, EDGE: edge}, admin=False)
    await asyncio.to_thread(cluster.introduce)
    async with await ControlPlane.offline(root / EDGE) as control:
        await control.documents.apply(SPOOL, by=SYSTEM)
    return cluster


async def connected(cluster: LocalCluster, name: str, subject: str, serving: tuple[str, ...] = ()) -> RawClient:
    """A client, as soon as the node is there. Raises ConnectionError while it is not."""
    client = await RawClient.connect_tcp(cluster.ports[name][1])
    try:
        client.setup(cluster.token(name, subject), serving)
        await client.ready()
    except BaseException:
        await client.close()
        raise
    return client


class Traffic:
    """Writers and the service, who come back whenever their node does, until `stop`."""

    def __init__(self, cluster: LocalCluster, history: History, writers: int = 4) -> None:
        self.cluster = cluster
        self.history = history
        self.stopping = False
        self.refusals: set[str] = set()
        self.slowest_s = 0.0
        self._writing = [asyncio.create_task(self._write(f"w{number}")) for number in range(writers)]
        self._serving = asyncio.create_task(self._serve())

    async def _write(self, writer: str) -> None:
        number = 0
        while not self.stopping:
            with contextlib.suppress(*GONE):
                client = await connected(self.cluster, EDGE, writer)
                try:
                    while not self.stopping:
                        number += 1
                        await self._ask(client, writer, number)
                finally:
                    await client.close()
            await asyncio.sleep(0.02)

    async def _ask(self, client: RawClient, writer: str, number: int) -> None:
        loop = asyncio.get_running_loop()
        self.history.attempts.add((writer, number))
        stream, began = client.next_stream_id(), loop.time()
        client.send(frames.RequestResponse(stream, composite("ledger.write"), b"%s %d" % (writer.encode(), number)))
        frame = await client.recv(30)
        self.slowest_s = max(self.slowest_s, loop.time() - began)
        if isinstance(frame, frames.Payload):
            self.history.acked.add((writer, number))
        else:
            assert isinstance(frame, frames.Error), frame
            self.refusals.add(frame.text)
        await asyncio.sleep(0.002)

    async def _serve(self) -> None:
        while True:
            with contextlib.suppress(*GONE):
                client = await connected(self.cluster, CENTRAL, "svc-ledger", ("ledger",))
                try:
                    while True:
                        frame = await client.recv(3600)
                        if isinstance(frame, frames.RequestResponse):
                            self.history.take(frame)
                            client.send(frames.Payload(frame.stream_id, None, b"had", next=True, complete=True))
                        elif isinstance(frame, frames.KeepAlive) and frame.respond:
                            client.send(frames.KeepAlive(False, 0, frame.data))
                finally:
                    await client.close()
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Nobody writes any more; everything that was acknowledged comes."""
        self.stopping = True
        await asyncio.gather(*self._writing)
        try:
            async with asyncio.timeout(60):
                while self.history.acked - self.read:  # noqa: ASYNC110  (other processes)
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pass  # the checker says what is lost
        finally:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)

    @property
    def read(self) -> set[tuple[str, int]]:
        return {(writer, number) for writer, numbers in self.history.read.items() for number in numbers}


async def kill_again_and_again(root: Path, times: int, seed: int) -> History:
    random, history = Random(seed), History()
    cluster = await a_cluster(root)
    try:
        for name in (CENTRAL, EDGE):
            await asyncio.to_thread(cluster.start, name)
        traffic = Traffic(cluster, history)
        for _ in range(times):
            enough = len(history.acked) + random.randint(5, 60)
            async with asyncio.timeout(60):
                while len(history.acked) < enough:  # noqa: ASYNC110  (other processes)
                    await asyncio.sleep(0.01)
            name = random.choice((CENTRAL, EDGE))
            cluster.kill(name)
            await asyncio.to_thread(cluster.start, name)
        await traffic.stop()
    finally:
        cluster.end()
    return history


@pytest.mark.timeout(300)
async def test_either_side_is_killed_again_and_again(tmp_path: Path) -> None:
    """Fault 69: kill -9 at any moment, of the node that accepts or of the one that it hands over to."""
    history = await kill_again_and_again(tmp_path, 6, seed=5)
    history.check()


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_either_side_is_killed_200_times(tmp_path: Path) -> None:
    """Fault 69, P1 and P6."""
    history = await kill_again_and_again(tmp_path, 200, seed=6)
    history.check()
    print(f"{len(history.acked)} acknowledged, {history.again} came again")
