"""A control plane on a real database, with a clock that a test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.control.audit import Actor
from gateway.control.identity import Identity
from gateway.control.plane import ControlPlane
from gateway.control.registry import Publication
from tests.prepared import prepared

OPERATOR = Actor("user", "alice", "192.0.2.7", "req-1")


class Clock:
    """Unix seconds that stand still until a test moves them."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.25

    def __call__(self) -> float:
        return self.now


class Site:
    """A data directory and the control planes that are opened on it, one after the other."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.clock = Clock()
        self.identity = Identity.open(data)
        self.published: list[Publication] = []
        self.alarms: list[str] = []
        self.control: ControlPlane | None = None

    async def open(self, **options: Any) -> ControlPlane:
        await self.close()
        self.control = await ControlPlane.open(
            self.data,
            self.identity,
            publish=self.published.append,
            alarm=lambda slug, text: self.alarms.append(slug),
            wall=self.clock,
            **options,
        )
        return self.control

    async def close(self) -> None:
        if self.control is not None:
            await self.control.close()
            self.control = None


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(prepared(tmp_path / "data"))
    yield site
    await site.close()


@pytest.fixture
async def control(site: Site) -> ControlPlane:
    return await site.open()


Opening = Callable[..., Awaitable[ControlPlane]]
