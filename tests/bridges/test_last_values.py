"""The last value of each topic, within bounds, against a plain dictionary."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.bridges.mqtt.last_values import OVERHEAD_BYTES, LastValues
from gateway.bridges.mqtt.message import Message
from gateway.topics.filters import matches

TOPIC = st.lists(st.sampled_from("ab"), min_size=1, max_size=2).map("/".join)


@given(st.lists(st.tuples(TOPIC, st.binary(max_size=2)), max_size=30), st.sampled_from(["#", "a/+", "+", "a", "b/#"]))
def test_as_a_dictionary(messages: list[tuple[str, bytes]], pattern: str) -> None:
    table, expected = LastValues(), dict[str, bytes]()
    for topic, payload in messages:
        table.put(Message(topic, payload, retain=True))
        expected.pop(topic, None)
        if payload:
            expected[topic] = payload
    assert {each.topic: each.payload for each in table.matching("#")} == expected
    assert [(each.topic, each.payload) for each in table.matching(pattern)] == [
        (topic, payload) for topic, payload in expected.items() if matches(pattern, topic)
    ]
    assert (len(table), table.evicted) == (len(expected), 0)
    for topic in list(expected):
        table.put(Message(topic, b""))
    assert (len(table), table.bytes) == (0, 0)


def test_the_oldest_goes_when_there_are_too_many() -> None:
    table = LastValues(max_entries=3)
    for topic in ("a", "b", "c", "a", "d"):
        table.put(Message(topic, b"x"))
    assert [each.topic for each in table.matching("#")] == ["c", "a", "d"]
    assert table.evicted == 1
    assert table.get("b") is None
    assert table.get("a") == Message("a", b"x")


def test_the_oldest_goes_when_they_are_too_large() -> None:
    table = LastValues(max_bytes=3 * OVERHEAD_BYTES)
    table.put(Message("a", b"x" * OVERHEAD_BYTES))
    table.put(Message("b", b"x"))
    assert [each.topic for each in table.matching("#")] == ["b"]
    table.put(Message("b", b"x" * 4 * OVERHEAD_BYTES))
    assert len(table) == 0
    assert (table.bytes, table.evicted) == (0, 2)
