"""Fault 90: what holds the event loop is seen and said."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from gateway.observe.watchdog import Watchdog


@pytest.fixture
async def log() -> AsyncIterator[list[EventDict]]:
    with capture_logs() as lines:
        yield lines


def hold_the_loop(seen: Callable[[], object]) -> None:
    """Until the watchdog has seen it."""
    deadline = time.monotonic() + 30
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def _until(condition: object) -> None:
    async with asyncio.timeout(30):
        while not condition():  # type: ignore[operator]  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_stall_is_said_with_its_stack_and_its_end(log: list[EventDict]) -> None:
    dog = Watchdog()
    dog.start()
    await asyncio.sleep(0.1)
    hold_the_loop(lambda: log)
    await _until(lambda: len(log) == 2)
    dog.stop()
    stands, runs = log
    assert stands["event"] == "the event loop stands still"
    assert stands["ms"] >= 250
    assert "hold_the_loop" in stands["stack"]
    assert runs["event"] == "the event loop runs again"
    assert runs["ms"] >= stands["ms"]
    assert dog.stalls == 1


async def test_less_than_a_stall_is_none(log: list[EventDict]) -> None:
    dog = Watchdog(stall_s=30)
    dog.start()
    for _ in range(3):
        time.sleep(0.1)  # noqa: ASYNC251  holding the loop is the point
        await asyncio.sleep(0.02)
    dog.stop()
    assert (log, dog.stalls) == ([], 0)


async def test_stalls_in_a_row_are_counted_and_said_once(log: list[EventDict]) -> None:
    dog = Watchdog(stall_s=0.1)
    dog.start()
    for number in range(3):
        hold_the_loop(lambda number=number: dog.stalls == number + 1)
        # It has to see that the loop runs again before it can see the next one.
        await asyncio.sleep(0.1)
    dog.stop()
    assert len(log) == 2
    assert dog.stalls == 3


async def test_stopping_leaves_no_thread() -> None:
    dog = Watchdog()
    dog.start()
    assert any(thread.name == "watchdog" for thread in threading.enumerate())
    dog.stop()
    assert not any(thread.name == "watchdog" for thread in threading.enumerate())
    Watchdog().stop()
