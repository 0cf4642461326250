"""Fixtures for every test that wants a running node."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from _pytest.nodeid import NodeId
from hypothesis import settings

import gateway.front
from gateway.forwarding import COMPILED
from tests.examples import MANY
from tests.local_node import LocalNode
from tests.prepared import Place

settings.load_profile("many" if MANY else "few")


def pytest_report_header() -> str:
    return f"hot path: {'compiled' if COMPILED else 'pure Python'} ({gateway.__path__[0]})"


def pytest_configure() -> None:
    expected = os.environ.get("GATEWAY_HOT_PATH")
    if expected and (expected == "compiled") != COMPILED:
        raise pytest.UsageError(f"these tests are to run on a {expected} hot path, and this is the other one")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Name the group of a test in its id, which is how `--dist loadgroup` knows it.

    pytest-xdist 3.8 writes it where pytest 9.2 does not read it any more: each process of tests began all groups.
    """
    if not getattr(config.option, "loadgroup", False):
        return
    for item in items:
        mark = item.get_closest_marker("xdist_group")
        if mark is not None and not item.nodeid.endswith(f"@{mark.args[0]}"):
            item._id = NodeId.parse(f"{item.nodeid}@{mark.args[0]}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Call a test by its own name, without the group that pytest-xdist adds, so that `--last-failed` finds it."""
    # Not where it runs: there the report must have the name of the test as pytest-xdist knows it.
    if "PYTEST_XDIST_WORKER" not in os.environ and report.nodeid.rfind("@") > report.nodeid.rfind("]"):
        report.nodeid = report.nodeid.rpartition("@")[0]


StartNode = Callable[..., Awaitable[LocalNode]]


@pytest.fixture(scope="session", autouse=True)
def _place_of_the_prepared(tmp_path_factory: pytest.TempPathFactory) -> None:
    Place.root = tmp_path_factory.getbasetemp()


@pytest.fixture
async def start_node(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[StartNode]:
    """`await start_node({"limits.setup_timeout_s": 0.5}, dev=False)`: a node with these settings; see `LocalNode`.

    Nodes have the same identity unless they are given a data directory that is there.
    """
    # Deadlines are met as exactly as before, and tests wait less for the moment when they are looked at.
    monkeypatch.setattr(gateway.front, "TICK_S", 0.02)
    started: list[LocalNode] = []

    async def start(more: dict[str, object] | None = None, *, dev: bool = True, data: Path | None = None) -> LocalNode:
        local = await LocalNode.start(data or tmp_path_factory.mktemp("node") / "data", more, dev=dev)
        started.append(local)
        return local

    yield start
    for local in started:
        await local.finish()


@pytest.fixture
async def node(start_node: StartNode) -> LocalNode:
    """A node as `gateway run --dev` starts it, on ports of its own."""
    return await start_node()
