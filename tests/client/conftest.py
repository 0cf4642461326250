"""A real node for the client to talk to, in the test's own loop."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import gateway.front
from gateway.config import load
from gateway.control.identity import Identity
from gateway.node import Node
from tests.prepared import prepared

Mint = Callable[..., str]


def settings(data: Path, **overrides: object) -> dict[str, object]:
    return {
        "node.data": data,
        "node.name": "edge-1",
        "listen.websocket": "127.0.0.1:0",
        "listen.tcp": "127.0.0.1:0",
        "admin.listen": "",
        "telemetry.listen": "",
        **overrides,
    }


@pytest.fixture
async def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    """A node as `gateway run --dev` starts it, whose clock ticks faster: nobody waits for deadlines and goodbyes."""
    monkeypatch.setattr(gateway.front, "TICK_S", 0.02)
    node = Node(load(None, {}, settings(prepared(tmp_path / "data")), dev=True, secrets=tmp_path / "none"))
    await node.start()
    yield node
    await node.stop()


@pytest.fixture
def mint(node: Node) -> Mint:
    """Tokens of that node."""
    return minting(node.identity)


def minting(identity: Identity) -> Mint:
    def mint(
        subject: str = "tester",
        kind: str = "service",
        services: tuple[str, ...] = ("*",),
        routes: tuple[str, ...] = ("*",),
        ttl: float = 600,
    ) -> str:
        return identity.mint(subject, kind, services, routes, ttl, time.time())

    return mint


@pytest.fixture(params=["ws", "tcp"])
def url(request: pytest.FixtureRequest, node: Node) -> str:
    """The node's address by either transport."""
    return url_of(node, request.param)


def url_of(node: Node, scheme: str) -> str:
    if scheme in ("ws", "wss"):
        return f"{scheme}://127.0.0.1:{node.websocket_port}/rsocket"
    return f"{scheme}://127.0.0.1:{node.tcp_port}"
