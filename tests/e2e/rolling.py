"""Linked nodes of several versions: a container of an image for each, on this machine's own network and disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from pathlib import Path

from bench.local_cluster import LocalCluster
from tests.e2e.deployment import ran, said
from tests.local_node import Servant, call
from tests.rawclient import RawClient
from tests.spooling.test_kills import GONE, SPOOL
from tests.spooling.traffic import CENTRAL, QUICK, connected


class Rolling(LocalCluster):
    """`images`: what each node runs at first. The data is of this user, in `root`."""

    def __init__(self, root: Path, images: dict[str, str]) -> None:
        super().__init__(root, tuple(images), settings={name: dict(QUICK) for name in images})
        self.images = dict(images)
        self._prefix = f"gateway-e2e-{os.getpid()}-rolling"

    def _container(self, name: str, *options: str) -> list[str]:
        mine = {key: value for key, value in self.environment(name).items() if key.startswith("GATEWAY")}
        environ = [word for key, value in mine.items() for word in ("--env", f"{key}={value}")]
        user = ("--user", f"{os.getuid()}:{os.getgid()}", "--volume", f"{self.root}:{self.root}")
        return ["docker", "run", "--rm", "--init", "--network", "host", *user, *environ, *options, self.images[name]]

    def run(self, name: str, *words: str) -> str:
        return said(*self._container(name), *words)

    def start(self, name: str, *, wait: bool = True) -> None:
        with (self.root / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*self._container(name, "--name", f"{self._prefix}-{name}"), "run", "--dev", "--data", self.data(name)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if wait:
            self.started(name)

    def bring_up_with_documents(self) -> None:
        edges = [name for name in self.names if name != CENTRAL]
        self.bring_up(*edges)
        document = self.root / "spool.yaml"
        document.write_text(SPOOL)
        for name in edges:
            self.run(name, "apply", "--file", str(document), "--data", self.data(name), "--yes")

    def upgrade(self, name: str, image: str) -> None:
        """Stop it in order, and start the other image on its data."""
        self.kill(name, signal.SIGTERM)
        self.processes[name].wait(60)
        self.images[name] = image
        self.start(name)

    def end(self) -> None:
        super().end()
        for name in self.names:
            ran("docker", "rm", "--force", f"{self._prefix}-{name}")


class Caller:
    """Asks a service of one edge from the other, over and over. `longest_s`: between two answers, at most."""

    def __init__(self, nodes: LocalCluster, *, at: str, serves: str) -> None:
        self.answered = 0
        self.longest_s = 0.0
        self._nodes = nodes
        self._serving = asyncio.create_task(self._serve(serves))
        self._calling = asyncio.create_task(self._call(at))

    async def stop(self) -> None:
        for task in (self._calling, self._serving):
            task.cancel()
        await asyncio.gather(self._calling, self._serving, return_exceptions=True)

    async def _serve(self, name: str) -> None:
        while True:
            with contextlib.suppress(*GONE):
                client = await connected(self._nodes, name, "svc-clock", ("clock",))
                servant = Servant(client, "clock")
                try:
                    await servant.ended()
                finally:
                    await servant.stop()
                    await client.close()
            await asyncio.sleep(0.02)

    async def _call(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        last = 0.0
        while True:
            with contextlib.suppress(*GONE, AssertionError):
                client: RawClient = await connected(self._nodes, name, "phone")
                try:
                    while True:
                        try:
                            await call(client, "clock.now", timeout=5)
                        except AssertionError:
                            # Refused: nobody has had it.
                            await asyncio.sleep(0.02)
                            continue
                        now = loop.time()
                        if last:
                            self.longest_s = max(self.longest_s, now - last)
                        last = now
                        self.answered += 1
                        await asyncio.sleep(0.02)
                finally:
                    await client.close()
            await asyncio.sleep(0.02)
