from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.session.stream_ids import CLIENT_FIRST, SERVER_FIRST, StreamIds
from gateway.wire.frames import MAX_STREAM_ID


@pytest.mark.parametrize(("first", "expected"), [(CLIENT_FIRST, [1, 3, 5, 7]), (SERVER_FIRST, [2, 4, 6, 8])])
def test_ids_are_two_apart(first: int, expected: list[int]) -> None:
    """P20: clients use odd ids from 1, servers even ids from 2."""
    ids = StreamIds(first)
    assert [ids.allocate(()) for _ in expected] == expected


def test_ids_in_use_are_skipped() -> None:
    """P20."""
    ids = StreamIds(SERVER_FIRST)
    assert ids.allocate({2, 4, 8}) == 6
    assert ids.allocate({2, 4, 8}) == 10


def test_an_id_is_not_used_again_before_the_wrap() -> None:
    ids = StreamIds(SERVER_FIRST)
    assert [ids.allocate({}) for _ in range(3)] == [2, 4, 6]


@pytest.mark.parametrize(
    ("first", "last"),
    [(CLIENT_FIRST, MAX_STREAM_ID), (SERVER_FIRST, MAX_STREAM_ID - 1)],
)
def test_ids_wrap(first: int, last: int) -> None:
    """P20: behind the largest id of its parity comes the first one again, or the next that is free."""
    ids = StreamIds(first, last)
    assert ids.allocate(()) == last
    assert ids.allocate({first, first + 2}) == first + 4


@pytest.mark.parametrize(
    ("first", "last"),
    [(CLIENT_FIRST, MAX_STREAM_ID), (SERVER_FIRST, MAX_STREAM_ID - 1)],
)
def test_a_last_id_that_is_in_use_is_skipped_too(first: int, last: int) -> None:
    """P20."""
    assert StreamIds(first, last).allocate({last}) == first
    assert StreamIds(first, last - 2).allocate({last - 2, last}) == first


@given(
    first=st.sampled_from([CLIENT_FIRST, SERVER_FIRST]),
    below=st.integers(0, 8),
    in_use=st.sets(st.integers(0, 12)),
    count=st.integers(1, 12),
)
def test_every_id_is_free_in_range_and_of_its_parity(first: int, below: int, in_use: set[int], count: int) -> None:
    """P20, around the wrap."""
    last = MAX_STREAM_ID - (MAX_STREAM_ID - first) % 2
    ids = StreamIds(first, last - 2 * below)
    taken = {first + 2 * offset for offset in in_use} | {last - 2 * offset for offset in in_use}
    for _ in range(count):
        stream_id = ids.allocate(taken)
        assert 0 < stream_id <= MAX_STREAM_ID
        assert stream_id % 2 == first % 2
        assert stream_id not in taken
        taken.add(stream_id)
