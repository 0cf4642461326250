"""Stores on real files, with a clock that a test may turn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.spool.age import Clock
from gateway.spool.store import Grouping, SpoolStore


class HandClock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.monotonic = 1000.0
        self.wall = 1_900_000_000.0

    def clock(self) -> Clock:
        return Clock(lambda: self.monotonic, lambda: self.wall)

    def pass_time(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds


class Stores:
    """`alarms`: what stores said, newest last."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "spool" / "spool.sqlite3"
        self.time = HandClock()
        self.alarms: list[tuple[str, str]] = []
        self._open: list[SpoolStore] = []

    async def open(self, **more: object) -> SpoolStore:
        options = {"grouping": Grouping(1, 0.0), "clock": self.time.clock(), "upkeep_s": 0.02} | more
        store = await SpoolStore.open(
            self.path, "edge-1", alarm=lambda slug, text: self.alarms.append((slug, text)), **options
        )
        self._open.append(store)
        return store

    async def close(self) -> None:
        for store in self._open:
            await store.close()
        self._open.clear()

    async def reopen(self, **more: object) -> SpoolStore:
        await self.close()
        return await self.open(**more)


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    made = Stores(tmp_path)
    yield made
    await made.close()
