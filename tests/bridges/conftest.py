"""Fixtures for bridges: brokers that end with the test, and a node.

Without Mosquitto or another broker, which tools/install-peers installs where it may, the tests that need it are
deselected, which the end of the run says; with CI=true they stay and fail.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.bridges.brokers import MOSQUITTO, OTHERS, Broker
from tests.bridges.peers import Bridged, Peer
from tests.interop.peers import left_out
from tests.local_node import LocalNode

StartBroker = Callable[..., Awaitable[Broker]]
ConnectPeer = Callable[..., Awaitable[Peer]]

_deselected: list[pytest.Item] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    missing = {*left_out(), *({"start_broker", "mosquitto"} if MOSQUITTO is None else ())}
    if shutil.which("mosquitto_rr") is None:
        missing.add("mosquitto_clients")
    if not missing or os.environ.get("CI") == "true":
        return
    kept: list[pytest.Item] = []
    for item in items:
        needs = set(getattr(item, "fixturenames", ()))
        if "start_other" in needs and isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            needs = needs - {"start_broker"} | {item.callspec.params.get("other", "")}
        (kept if missing.isdisjoint(needs) else _deselected).append(item)
    if _deselected:
        config.hook.pytest_deselected(items=_deselected)
        items[:] = kept


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _deselected:
        terminalreporter.write_sep("!", f"{len(_deselected)} tests with Mosquitto did not run", red=True)


@pytest.fixture
def start_broker(tmp_path: Path) -> Iterator[StartBroker]:
    """`await start_broker("max_inflight_messages 1")`: a Mosquitto with these lines; `kind` is another broker."""
    started: list[Broker] = []

    async def start(*lines: str, kind: type[Broker] = Broker, **options: Any) -> Broker:
        broker = kind(tmp_path / f"broker-{len(started)}", *lines, **options)
        started.append(broker)
        return await broker.start()

    yield start
    for broker in started:
        broker.kill()


@pytest.fixture
def mosquitto_clients(start_broker: StartBroker) -> None:
    """Asked for by tests that run mosquitto_sub or mosquitto_rr."""
    assert shutil.which("mosquitto_rr"), "mosquitto-clients is not installed; tools/install-peers does it"


@pytest.fixture(params=["mosquitto", *OTHERS])
def other(request: pytest.FixtureRequest) -> str:
    """The name of a broker."""
    return str(request.param)


@pytest.fixture
def start_other(start_broker: StartBroker, other: str) -> Callable[[], Awaitable[Broker]]:
    """`await start_other()`: each of the brokers in turn."""
    return lambda: start_broker(kind=OTHERS.get(other, Broker))


@pytest_asyncio.fixture
async def broker(start_broker: StartBroker) -> Broker:
    return await start_broker()


@pytest_asyncio.fixture
async def peer(tmp_path: Path) -> AsyncIterator[ConnectPeer]:
    """`await peer(broker, "sensor")`: another client of the broker."""
    peers: list[Peer] = []

    async def connect(broker: Broker, name: str, version: int = 5, **options: Any) -> Peer:
        found = await Peer.connect(broker, name, tmp_path, version, **options)
        peers.append(found)
        return found

    yield connect
    for each in peers:
        each.leave()


@pytest_asyncio.fixture
async def bridged(tmp_path: Path) -> AsyncIterator[Bridged]:
    bridged = Bridged(await LocalNode.start(tmp_path / "data"))
    yield bridged
    await bridged.local.node.bridges.close()
    await bridged.local.finish()
