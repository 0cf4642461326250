"""A real node in a process of its own, to be killed: forked from one that has imported it, to save a second each."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.config import LiveSettings, Sources
from gateway.control.audit import Actor
from gateway.control.identity import Identity
from gateway.control.runtime import Runtime
from gateway.node import Node
from tests.local_node import settings, until

_forks = multiprocessing.get_context("forkserver")
# With what a node loads only for its first bridge: a life is too short for that.
_forks.set_forkserver_preload([__name__, "gateway.bridges.mqtt.bridge"])


def run(data: Path, log: Path, documents: str) -> None:
    """What the process does."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    asyncio.run(_live(data, documents))


async def _live(data: Path, documents: str) -> None:
    node = Node(LiveSettings(Sources(None, {}, settings(data, {"spool.group_ms": 2}), True, data / "no-secrets")))
    await node.start()
    if documents:
        assert node.control is not None
        await node.control.documents.apply(documents, by=Actor("system", "tests"))
    await node.wait_for_end()


class ForkedNode:
    """Start it with `start`."""

    def __init__(self, data: Path, process: Any) -> None:
        self.data = data
        self._process = process

    @classmethod
    async def start(cls, data: Path, log: Path, documents: str = "") -> ForkedNode:
        """`documents`: applied by the node when it runs."""
        process = _forks.Process(target=run, args=(data, log, documents), daemon=True)
        process.start()
        node = cls(data, process)
        await until(node._is_up, 60)
        return node

    def _is_up(self) -> bool:
        assert self._process.is_alive()
        runtime = Runtime.read(self.data)
        return runtime is not None and runtime.pid == self._process.pid

    @property
    def tcp_port(self) -> int:
        runtime = Runtime.read(self.data)
        assert runtime is not None
        port = urlsplit(runtime.tcp).port
        assert port
        return port

    def token(self, subject: str, kind: str) -> str:
        return Identity.open(self.data).mint(subject, kind, ("*",), ("*",), 600, time.time())

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.join(20)
        self._process.close()
