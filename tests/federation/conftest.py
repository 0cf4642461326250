"""A cluster of nats-servers for all tests here that want one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.federation.nats_cluster import Administrator, NatsCluster, prepare


@pytest.fixture(scope="package")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsCluster]:
    cluster = NatsCluster(tmp_path_factory.mktemp("nats"))
    yield cluster
    cluster.close()


@pytest.fixture
async def cluster(running_cluster: NatsCluster) -> AsyncIterator[NatsCluster]:
    """All servers up, and an empty bucket."""
    await prepare(running_cluster)
    yield running_cluster
    running_cluster.heal()


@pytest.fixture
async def administrator(cluster: NatsCluster) -> AsyncIterator[Administrator]:
    async with Administrator(cluster) as administrator:
        yield administrator
