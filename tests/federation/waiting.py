"""Waiting for what other processes do."""

from __future__ import annotations

from collections.abc import Callable

from tests.local_node import until as until_within


async def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Fails when it does not come true; how long that takes is not looked at."""
    await until_within(condition, seconds)
