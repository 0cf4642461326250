"""The account of messages that are partly there, each bound at its limit and on either side of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.errors import Overloaded, RequestError, RequestInvalid
from gateway.forwarding.assembly import WINDOW_S, Assembly
from gateway.policy.limits import LimitsProfile

LIMITS = LimitsProfile(max_partials=3, max_partial_bytes=100, partial_idle_s=10.0, broken_messages=3)


def ignore(error: RequestError) -> None:
    """Nobody is told."""


def test_how_many() -> None:
    """limits.device.max_partials, fault 36: limit - 1, limit, limit + 1; what ends makes room."""
    assembly = Assembly()
    for stream_id in (1, 3, 5):
        assembly.begin(stream_id, 1, LIMITS, 0.0, ignore)
    with pytest.raises(Overloaded) as refused:
        assembly.begin(7, 1, LIMITS, 0.0, ignore)
    assert refused.value.reason == "max_partials"
    assert (len(assembly), assembly.size) == (3, 3)
    assembly.end(3)
    assembly.begin(7, 1, LIMITS, 0.0, ignore)
    assembly.end(99)
    assert (len(assembly), assembly.size) == (3, 3)


@pytest.mark.parametrize(("more", "fits"), [(39, True), (40, True), (41, False)])
@pytest.mark.parametrize("grows", [True, False])
def test_how_much(grows: bool, more: int, fits: bool) -> None:
    """limits.device.max_partial_bytes, fault 34: of all together; limit - 1, limit, limit + 1."""
    assembly = Assembly()
    assembly.begin(1, 20, LIMITS, 0.0, ignore)
    assembly.begin(3, 40, LIMITS, 0.0, ignore)

    def take() -> None:
        if grows:
            assembly.grow(1, more, LIMITS, 0.0)
        else:
            assembly.begin(5, more, LIMITS, 0.0, ignore)

    if fits:
        take()
        assert assembly.size == 60 + more
    else:
        with pytest.raises(RequestInvalid) as refused:
            take()
        assert refused.value.reason == "max_partial_bytes"
        assert assembly.size == 60
    assembly.end(3)
    assert assembly.size == (20 + more if fits else 20)


def test_how_long() -> None:
    """limits.device.partial_idle_s, fault 34: from the last fragment; before, at and after it."""
    assembly = Assembly()
    given_up: list[tuple[int, str]] = []
    for stream_id in (1, 3):
        assembly.begin(
            stream_id, 1, LIMITS, 0.0, lambda error, number=stream_id: given_up.append((number, error.reason))
        )
    assembly.grow(3, 1, LIMITS, 5.0)
    for now in (9.9, 10.0):
        assembly.tick(LIMITS, now)
        assert given_up == []
    assembly.tick(LIMITS, 10.1)
    assert given_up == [(1, "partial_idle_s")]
    assembly.end(1)
    assembly.forgive(2.0)
    assembly.tick(LIMITS, 17.0)
    assert len(given_up) == 1
    assembly.tick(LIMITS, 17.1)
    assert given_up[1:] == [(3, "partial_idle_s")]


def test_how_often_it_may_break() -> None:
    """limits.device.broken_messages, fault 34: the third in a minute is too many; 0: never."""
    assembly = Assembly()
    assert [assembly.broke(LIMITS, 100.0 + number) for number in range(4)] == [False, False, True, True]
    assert [assembly.broke(LIMITS, 101.0 + WINDOW_S + number) for number in range(3)] == [False, False, True]
    assert not any(assembly.broke(replace(LIMITS, broken_messages=0), 300.0) for _ in range(10))
