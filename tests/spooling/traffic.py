"""Two linked nodes as processes, and clients of both that go on whatever becomes of the nodes and their line.

The checker is that of `test_kills` (faults 1.0): attempts, acknowledged and read are sets of (writer, number). Writers
are clients of an edge, the service is a client of the central node.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Callable
from pathlib import Path

from bench.local_cluster import GATEWAY, LocalCluster
from gateway.control.audit import SYSTEM
from gateway.control.plane import ControlPlane
from gateway.wire import frames
from tests.local_node import call
from tests.rawclient import RawClient, composite
from tests.spooling.test_kills import GONE, SPOOL, History

CENTRAL, EDGE = "central-1", "edge-a"
QUICK = {
    "GATEWAY__SPOOL__GROUP_MS": "2",
    "GATEWAY__SPOOL__START_JITTER_S": "0",
    "GATEWAY__LINKS__BACKOFF_MAX_S": "0.3",
    "GATEWAY__LOG__LEVEL": "warning",
}


class _Cluster(LocalCluster):
    """`space`: the network namespace of the central."""

    space = ""

    def start(self, name: str, *, wait: bool = True) -> None:
        if not self.space or name != CENTRAL:
            super().start(name, wait=wait)
            return
        with (self.root / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                ["ip", "netns", "exec", self.space, *GATEWAY, "run", "--dev", "--data", self.data(name)],
                env=self.environment(name),
                stdout=log,
                stderr=log,
            )


async def a_cluster(
    root: Path,
    parents: Callable[[tuple[int, ...]], str] | None = None,
    *,
    space: str = "",
    central_at: str = "127.0.0.1",
) -> LocalCluster:
    """A central node and an edge, which has the document. `parents`: where the edge dials, by the central's ports, if
    not at the central; `central_at`: where clients do."""
    settings = {CENTRAL: dict(QUICK), EDGE: dict(QUICK)}
    cluster = _Cluster(root, (CENTRAL, EDGE), settings=settings, admin=False)
    cluster.space = space
    if space:
        websocket, tcp, _ = cluster.ports[CENTRAL]
        settings[CENTRAL] |= {
            "GATEWAY__LISTEN__WEBSOCKET": f"0.0.0.0:{websocket}",
            "GATEWAY__LISTEN__TCP": f"0.0.0.0:{tcp}",
            "GATEWAY__TLS__INSECURE": "true",
        }
    if parents is not None:
        settings[EDGE]["GATEWAY__LINKS__PARENTS"] = parents(cluster.ports[CENTRAL])
    await asyncio.to_thread(cluster.introduce)
    async with await ControlPlane.offline(root / EDGE) as control:
        await control.documents.apply(SPOOL, by=SYSTEM)
    return cluster


async def connected(
    cluster: LocalCluster, name: str, subject: str, serving: tuple[str, ...] = (), at: str = "127.0.0.1"
) -> RawClient:
    """A client, as soon as the node is there. Raises ConnectionError while it is not."""
    client = await RawClient.connect_tcp(cluster.ports[name][1], host=at)
    try:
        client.setup(cluster.token(name, subject), serving)
        await client.ready()
    except BaseException:
        await client.close()
        raise
    return client


class Traffic:
    """Writers and the service, who come back whenever their node does, until `stop`."""

    def __init__(
        self, cluster: LocalCluster, history: History, writers: int = 4, central_at: str = "127.0.0.1"
    ) -> None:
        self._central_at = central_at
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
        # A node that stops says so on stream 0, and answers what is in flight.
        while (frame := await client.recv(30)).stream_id != stream:
            continue
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
                client = await connected(self.cluster, CENTRAL, "svc-ledger", ("ledger",), self._central_at)
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
            # As long as some of it comes; the checker says what is lost.
            before, quiet_s = -1, 0.0
            while self.history.acked - self.read and quiet_s < 60:
                quiet_s = quiet_s + 0.1 if len(self.read) == before else 0.0
                before = len(self.read)
                await asyncio.sleep(0.1)
        finally:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)

    def cancel(self) -> None:
        """The end of a test that has failed."""
        for task in (*self._writing, self._serving):
            task.cancel()

    @property
    def read(self) -> set[tuple[str, int]]:
        return {(writer, number) for writer, numbers in self.history.read.items() for number in numbers}


class Partition:
    """Two nodes whose line is cut, and a service of the edge's own."""

    def __init__(
        self, cluster: LocalCluster, history: History, writers: int = 4, central_at: str = "127.0.0.1"
    ) -> None:
        self.cluster = cluster
        self.traffic = Traffic(cluster, history, writers, central_at)
        self.local_asked = 0
        self.local_slowest_s = 0.0
        self._talking = asyncio.create_task(self._talk())

    async def _talk(self) -> None:
        """Ask the edge's own service, one request after the other; every one is answered."""
        lamp = await connected(self.cluster, EDGE, "svc-lamp", ("lamp",))
        phone = await connected(self.cluster, EDGE, "phone")
        serving = asyncio.create_task(_serve_all(lamp))
        loop = asyncio.get_running_loop()
        try:
            while True:
                began = loop.time()
                await call(phone, "lamp.on")
                self.local_asked += 1
                self.local_slowest_s = max(self.local_slowest_s, loop.time() - began)
                await asyncio.sleep(0.005)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await phone.close()
            await lamp.close()

    async def refused_after(self) -> tuple[float, str]:
        """How long a request takes that nothing here serves and that may not wait, and what it is told."""
        caller = await connected(self.cluster, EDGE, "caller")
        loop = asyncio.get_running_loop()
        try:
            began = loop.time()
            number = caller.request("clock.now", b"?")
            while getattr(frame := await caller.recv(20), "stream_id", 0) != number:
                pass
            assert isinstance(frame, frames.Error), frame
            return loop.time() - began, frame.text
        finally:
            await caller.close()

    def cancel(self) -> None:
        self._talking.cancel()

    async def end(self) -> None:
        self.cancel()
        await asyncio.gather(self._talking, return_exceptions=True)
        await self.traffic.stop()


async def _serve_all(client: RawClient) -> None:
    while True:
        frame = await client.recv(3600)
        if isinstance(frame, frames.RequestResponse):
            client.send(frames.Payload(frame.stream_id, None, frame.data, next=True, complete=True))
        elif isinstance(frame, frames.KeepAlive) and frame.respond:
            client.send(frames.KeepAlive(False, 0, frame.data))


async def until(condition: Callable[[], object], timeout: float = 60) -> None:
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110  (other processes)
            await asyncio.sleep(0.01)
