"""The line between an edge and its parent is cut: what is local goes on, what was accepted arrives once, in order."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Self

import pytest

from tests.federation.links.proxy import Line
from tests.spooling.test_kills import History
from tests.spooling.traffic import CENTRAL, EDGE, Partition, a_cluster, until


@pytest.mark.timeout(300)
async def test_the_line_is_cut(tmp_path: Path) -> None:
    """Fault 80, P6: nothing gets through and nobody is told, both ways, then one way, then the other. What is local
    goes on; what was accepted arrives once, in order per key."""
    history = History()
    line = await Line.to(0)
    cluster = await a_cluster(tmp_path, lambda ports: line.url)
    line.target = cluster.ports[CENTRAL][0]
    partition = None
    try:
        for name in (CENTRAL, EDGE):
            await asyncio.to_thread(cluster.start, name)
        partition = Partition(cluster, history)
        for up, down in ((False, False), (False, True), (True, False)):
            before = len(partition.traffic.read)
            await until(lambda before=before: len(partition.traffic.read) > before + 20)  # type: ignore[misc]
            line.up, line.down = up, down
            asked = partition.local_asked
            _, why = await partition.refused_after()
            assert why.startswith("no route to clock.now"), why
            # Those who write go on: it waits at the edge.
            acked = len(history.acked)
            await until(lambda acked=acked: len(history.acked) > acked + 50)  # type: ignore[misc]
            await until(lambda asked=asked: partition.local_asked > asked + 20)  # type: ignore[misc]
            line.heal()
        await partition.end()
    finally:
        if partition is not None:
            partition.cancel()
        cluster.end()
        await line.close()
    history.check()


# Hosts of their own


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


class Hosts:
    """The central is a host of its own (a network namespace), with two lines to this one: `WIRE`, over which the edge
    dials it, and `SIDE`, over which its clients do."""

    SPACE = "spool-central"
    WIRE, SIDE = ("10.97.0.1", "10.97.0.2"), ("10.98.0.1", "10.98.0.2")

    def __enter__(self) -> Self:
        self.__exit__()  # a run that was killed has left them
        run("ip", "netns", "add", self.SPACE)
        for name, (near, far) in (("wire", self.WIRE), ("side", self.SIDE)):
            run("ip", "link", "add", f"sp-{name}", "type", "veth", "peer", "name", f"sp-{name}-far")
            run("ip", "link", "set", f"sp-{name}-far", "netns", self.SPACE)
            run("ip", "addr", "add", f"{near}/24", "dev", f"sp-{name}")
            run("ip", "link", "set", f"sp-{name}", "up")
            run("ip", "-n", self.SPACE, "addr", "add", f"{far}/24", "dev", f"sp-{name}-far")
            run("ip", "-n", self.SPACE, "link", "set", f"sp-{name}-far", "up")
        run("ip", "-n", self.SPACE, "link", "set", "lo", "up")
        self._nft("add", "table", "inet", "cut")
        self._nft("add", "chain", "inet", "cut", "in", "{ type filter hook input priority 0 ; }")
        self._nft("add", "chain", "inet", "cut", "out", "{ type filter hook output priority 0 ; }")
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(("ip", "netns", "del", self.SPACE), check=False, capture_output=True)
        for name in ("wire", "side"):
            subprocess.run(("ip", "link", "del", f"sp-{name}"), check=False, capture_output=True)

    def _nft(self, *words: str) -> None:
        run("ip", "netns", "exec", self.SPACE, "nft", *words)

    def cut(self, up: bool, down: bool) -> None:
        """Drop what comes from the edge, what goes to it, or both, without a word."""
        if up:
            self._nft("add", "rule", "inet", "cut", "in", "ip", "saddr", self.WIRE[0], "drop")
        if down:
            self._nft("add", "rule", "inet", "cut", "out", "ip", "daddr", self.WIRE[0], "drop")

    def heal(self) -> None:
        self._nft("flush", "table", "inet", "cut")


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("up", "down"), [(True, True), (True, False), (False, True)])
async def test_an_edge_is_cut_off_for_a_minute(tmp_path: Path, up: bool, down: bool) -> None:
    """Fault 80, P6. More is written meanwhile than ten minutes of 100 messages a second."""
    history = History()
    with Hosts() as hosts:
        central_at = hosts.SIDE[1]
        cluster = await a_cluster(
            tmp_path, lambda ports: f"ws://{hosts.WIRE[1]}:{ports[0]}/rsocket", space=hosts.SPACE, central_at=central_at
        )
        partition = None
        try:
            for name in (CENTRAL, EDGE):
                await asyncio.to_thread(cluster.start, name)
            partition = Partition(cluster, history, writers=32, central_at=central_at)
            await until(lambda: len(partition.traffic.read) > 200)  # type: ignore[union-attr]
            partition.traffic.slowest_s = partition.local_slowest_s = 0.0
            hosts.cut(up, down)
            loop = asyncio.get_running_loop()
            began, first = loop.time(), len(history.acked)
            took_s, why = await partition.refused_after()
            while loop.time() < began + 60 or len(history.acked) < first + 60_000:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            backlog, slowest_s = len(history.acked) - first, partition.traffic.slowest_s
            hosts.heal()
            healed = loop.time()
            caught_up = set(history.acked)
            await until(lambda: caught_up <= partition.traffic.read, 600)  # type: ignore[union-attr]
            print(
                f"\n{backlog} accepted in {healed - began:.0f} s; remote refused after {took_s:.2f} s ({why}); slowest "
                f"that waits {slowest_s:.2f} s, local {partition.local_slowest_s:.2f} s; delivered "
                f"{loop.time() - healed:.1f} s after the line was back"
            )
            await partition.end()
        finally:
            if partition is not None:
                partition.cancel()
            cluster.end()
    history.check()
