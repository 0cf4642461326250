"""The table of streams against a dictionary, by both twins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.forwarding.stream_table import StreamTable

IDS = st.integers(1, 0x7FFFFFFF) | st.integers(1, 40)


@given(st.lists(st.tuples(IDS, st.booleans()), max_size=200))
def test_behaves_as_a_dictionary(steps: list[tuple[int, bool]]) -> None:
    table = StreamTable()
    model: dict[int, object] = {}
    for stream_id, enter in steps:
        if enter:
            stream = object()
            if stream_id in model:
                table[stream_id] = stream
            else:
                table.insert(stream_id, stream)
            model[stream_id] = stream
        elif stream_id in model:
            table.discard(stream_id)
            del model[stream_id]
        else:
            with pytest.raises(KeyError):
                table.discard(stream_id)
        assert table.find(stream_id) is model.get(stream_id)
    assert len(table) == len(model)
    assert dict(table.items()) == model
    assert sorted(table) == sorted(model) == sorted(table.keys())
    assert set(table.values()) == set(model.values())
    assert all(stream_id in table and table[stream_id] is stream for stream_id, stream in model.items())


def test_a_burst_of_streams_in_any_order() -> None:
    table = StreamTable()
    for stream_id in range(1, 4001, 2):
        table[stream_id] = stream_id
    for stream_id in [*range(1, 2001, 2), *range(3999, 2000, -2)]:
        assert table.get(stream_id) == stream_id
        del table[stream_id]
    assert len(table) == 0
    assert not table
    assert table.find(1) is None
    table[7] = 7
    assert list(table) == [7]


def test_ids_that_no_stream_has() -> None:
    table = StreamTable()
    table[2] = "two"
    assert 0 not in table
    assert table.find(0) is None
    assert table.get(-1) is None
    with pytest.raises(KeyError):
        table[4]
