"""Strangers stand in line: a loop turn goes on with them for a while, in the order in which they came."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.transport.reception import TURN_S, Reception
from tests.local_node import LocalNode, call, until


class _Turns:
    """A loop whose turns the test takes, and a clock that only work moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[Callable[[], None]] = []
        self.done: list[int] = []
        self.reception = Reception(self.due.append, lambda: self.now)

    def work(self, number: int, seconds: float) -> Callable[[], None]:
        def work() -> None:
            self.now += seconds
            self.done.append(number)

        return work

    def take(self) -> list[int]:
        """What one turn has done."""
        before = len(self.done)
        due, self.due[:] = list(self.due), []
        for callback in due:
            callback()
        return self.done[before:]


def test_a_turn_has_its_time() -> None:
    turns = _Turns()
    for number in range(10):
        turns.reception.queue(turns.work(number, TURN_S / 2.5))
    assert len(turns.due) == 1
    assert [turns.take() for _ in range(4)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert turns.due == []


def test_one_is_served_whatever_it_costs() -> None:
    turns = _Turns()
    for number in range(3):
        turns.reception.queue(turns.work(number, TURN_S * 10))
    assert [turns.take() for _ in range(3)] == [[0], [1], [2]]


def test_who_asks_for_more_stands_at_the_end() -> None:
    turns = _Turns()
    turns.reception.queue(lambda: turns.reception.queue(turns.work(9, 0)))
    turns.reception.queue(turns.work(1, 0))
    assert turns.take() == [1, 9]
    assert (len(turns.reception), turns.due) == (0, [])


def test_a_bug_costs_who_caused_it() -> None:
    turns = _Turns()

    def broken() -> None:
        raise ZeroDivisionError

    turns.reception.queue(broken)
    turns.reception.queue(turns.work(1, 0))
    with pytest.raises(ZeroDivisionError):
        turns.take()
    assert turns.take() == [1]


@pytest.mark.parametrize("transport", ["ws", "tcp"])
async def test_many_who_come_at_once(node: LocalNode, transport: str) -> None:
    """Fault 86: however many come, who is here already is served between them, and each of them gets in."""
    await node.servant()
    healthy = await node.client()
    coming = [asyncio.create_task(node.client(transport, serving=(f"s{number}",))) for number in range(40)]
    await until(lambda: any(task.done() for task in coming))
    assert await call(healthy) == b"hello"
    await asyncio.gather(*coming)
    assert len(node.node.plane.connections) == 44  # the services of the node, multicast, the servant and the healthy
    assert await call(healthy) == b"hello"
