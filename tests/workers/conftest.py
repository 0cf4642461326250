"""One node of three processes for all tests that leave it as it was. It ends with them: an idle one takes time too."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.faults.node_process import NodeProcess
from tests.workers import several


@pytest.fixture(scope="package")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    root = tmp_path_factory.mktemp("several")
    running = asyncio.run(several.start(root / "data", root / "log", 3))
    try:
        yield running
    finally:
        running.stop()
