"""Fixtures for tests with several nodes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import gateway.front
from tests.federation.links.cluster import Cluster


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
