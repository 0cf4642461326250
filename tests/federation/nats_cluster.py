"""Three nats-servers on loopback, with the accounts and permissions that `gateway engine init` prints."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from bench.local_nats import BUCKET, LocalNats
from gateway.federation.nats import NatsClient, NatsOptions, NatsStore
from gateway.federation.nats.bucket import make

#: The nodes that have a credential.
NODES = ("c1", "c2", "c3", "c4", "käse.net")


class NatsCluster(LocalNats):
    """As it is in `bench`, with clients of it."""

    def __init__(self, directory: Path, size: int = 3) -> None:
        super().__init__(directory, NODES, size)

    def options(self, node: str, *servers: str) -> NatsOptions:
        """As this node, or as `admin`, at these servers or all."""
        urls = [f"nats://127.0.0.1:{self.clients[name]}" for name in servers] or self.urls
        return NatsOptions(urls, node, BUCKET, self.seeds[node])

    def store(self, node: str, *servers: str) -> NatsStore:
        return NatsStore(self.options(node, *servers))

    def violations(self) -> list[str]:
        """What servers said of permissions."""
        logs = "".join((self.directory / f"{name}.log").read_text() for name in self.names)
        return [line for line in logs.splitlines() if "Violation" in line]


class Administrator:
    """A connection that may do everything in the account."""

    def __init__(self, cluster: NatsCluster, *servers: str) -> None:
        self.client = NatsClient(cluster.options("admin", *servers))

    async def __aenter__(self) -> Administrator:
        await self.client.start()
        await self.client.ready.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.stop()

    async def fresh_bucket(self, replicas: int = 3) -> None:
        """Without keys, and with none of what another test has left."""
        deadline = time.monotonic() + 60
        while True:
            try:
                # Asked before, because a cluster without a leader lets every question wait to its end.
                await self.client.call("$JS.API.INFO", seconds=0.5)
                break
            except Exception:
                assert time.monotonic() < deadline, "no leader"
        while True:
            try:
                await self.client.call(f"$JS.API.STREAM.DELETE.KV_{BUCKET}", seconds=10)
            except Exception as error:
                if getattr(error, "code", 0) != 10059 and time.monotonic() > deadline:
                    raise
            try:
                info, _ = await make(self.client, BUCKET, replicas)
                if info["config"]["num_replicas"] == replicas:
                    return
            except Exception:
                if time.monotonic() > deadline:
                    raise
            assert time.monotonic() < deadline, "no bucket with all replicas"

    async def info(self) -> dict:
        return await self.client.call(f"$JS.API.STREAM.INFO.KV_{BUCKET}")

    async def leader(self) -> str:
        return (await self.info())["cluster"]["leader"]

    async def consumers(self) -> int:
        return (await self.info())["state"]["consumer_count"]


async def prepare(cluster: NatsCluster) -> None:
    """All servers up, and an empty bucket."""
    cluster.heal()
    async with Administrator(cluster) as administrator:
        await administrator.fresh_bucket()


def main() -> None:
    """`python -m tests.federation.nats_cluster DIRECTORY`: runs until its standard input ends."""
    cluster = NatsCluster(Path(sys.argv[1]))
    print(*cluster.urls, flush=True)
    sys.stdin.read()
    cluster.close()


if __name__ == "__main__":
    main()
