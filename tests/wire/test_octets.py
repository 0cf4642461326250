"""Cutting, ids and masks, by both twins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.octets import apply_mask, cut, id_bytes, unmask


@given(st.binary(max_size=50), st.data())
def test_cut(data: bytes, draw: st.DataObject) -> None:
    end = draw.draw(st.integers(0, len(data)))
    start = draw.draw(st.integers(0, end))
    assert cut(data, start, end) == data[start:end]


@pytest.mark.parametrize("stream_id", [0, 1, 2, 255, 256, 65536, 0x7FFFFFFF])
def test_id_bytes(stream_id: int) -> None:
    assert id_bytes(stream_id) == stream_id.to_bytes(4, "big")


@given(st.binary(min_size=4, max_size=4), st.binary(max_size=300), st.binary(max_size=20))
def test_unmask_undoes_a_mask(key: bytes, payload: bytes, before: bytes) -> None:
    data = before + key + apply_mask(payload, key) + b"after"
    start = len(before) + 4
    got = unmask(data, start, start + len(payload))
    assert got == (payload if key != bytes(4) else None)
    assert unmask(bytes(4) + payload, 4, 4 + len(payload)) is None
