"""Fixtures for tests with several nodes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import gateway.front
from gateway.control.members import CENTRAL
from tests.federation.links.cluster import Cluster, until


@pytest.fixture(scope="session")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Identities for nodes to copy: making one waits for the disk several times."""
    return tmp_path_factory.mktemp("identities")


@pytest.fixture
async def cluster(
    tmp_path_factory: pytest.TempPathFactory, identities: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Cluster]:
    monkeypatch.setattr(gateway.front, "TICK_S", 0.02)
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), identities)
    yield cluster
    await cluster.close()


@pytest.fixture
async def edges(cluster: Cluster) -> Cluster:
    """A central node and two edges."""
    await cluster.add("central", CENTRAL)
    for edge in ("edge-a", "edge-b"):
        await cluster.add(edge, parents=("central",))
        await cluster.linked(edge)
    return cluster


@pytest.fixture
async def pair(cluster: Cluster) -> Cluster:
    """Two central nodes, each with an edge: from edge to edge it is up, across and down."""
    for central in ("central-1", "central-2"):
        await cluster.add(central, CENTRAL)
    await cluster.introduce_addresses()
    await cluster.meshed("central-1", "central-2")
    for at in ("1", "2"):
        await cluster.add(f"edge-{at}", parents=(f"central-{at}",))
        await cluster.linked(f"edge-{at}")
    await until(lambda: len(cluster["central-1"].federation.links) == 2)
    return cluster
