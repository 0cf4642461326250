"""Sparkplug B: who was born, what is missing, what is history."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.bridges.mqtt.message import Message
from gateway.bridges.mqtt.sparkplug import ASK_AGAIN_S, Births, Kind, Lives, may_replay, topic_of
from gateway.bridges.mqtt.sparkplug_payload import historical, number_of, rebirth, seq_of
from gateway.errors import FrameError


def varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value % 128 + 128)
        value //= 128
    return bytes([*parts, value])


def metric(name: str, value: int, more: bytes = b"") -> bytes:
    raw = name.encode()
    return bytes([0x0A, len(raw)]) + raw + b"\x20\x04" + more + b"\x58" + varint(value)


def payload(seq: int | None, *metrics: bytes) -> bytes:
    """Timestamp, metrics, seq, in the order in which Tahu writes them."""
    parts = [b"\x08" + varint(1_700_000_000_000)]
    parts += [b"\x12" + varint(len(each)) + each for each in metrics]
    if seq is not None:
        parts.append(b"\x18" + varint(seq))
    return b"".join(parts)


#: As `metric`, with a time.
DEATH_METRIC = b"\x0a\x05bdSeq\x18" + varint(1_700_000_000_000) + b"\x20\x04\x58\x07"


def message(kind: str, body: bytes, device: str = "") -> Message:
    return Message(f"spBv1.0/plant/{kind}/edge{'/' + device if device else ''}", body)


def born(births: Births, session: int = 3) -> None:
    assert births.arrived(message("NBIRTH", payload(0, metric("bdSeq", session))), 0.0) == (True, None, "")


def test_numbers() -> None:
    body = payload(200, metric("a", 5), metric("bdSeq", 300))
    assert seq_of(body) == 200
    assert number_of(body, "bdSeq") == 300
    assert number_of(body, "none") is None
    assert seq_of(payload(None)) is None


def test_history_is_marked_and_nothing_else_changes() -> None:
    strange = b"\x9a\x06\x02hi" + b"\xa5\x06abcd" + b"\xa1\x06abcdefgh"
    body = payload(7, metric("a", 5, b"\x28\x00"), metric("b", 1)) + strange
    marked = historical(body)
    expected = payload(7, metric("a", 5) + b"\x28\x01", metric("b", 1) + b"\x28\x01") + strange
    assert marked == expected
    assert historical(marked) == marked
    assert historical(b"") == b""


@pytest.mark.parametrize(
    "body", [b"\x12\x05a", b"\x80", b"\x0b", b"\x00\x00", b"\xff" * 20, b"\x11abc", b'{"json": 1}']
)
def test_what_is_no_payload(body: bytes) -> None:
    with pytest.raises(FrameError):
        historical(body)
    births = Births()
    born(births)
    assert births.arrived(message("NDATA", body), 0.0) == (True, None, "sparkplug_malformed")


@given(st.binary(max_size=40))
def test_any_bytes_are_a_payload_or_none(body: bytes) -> None:
    try:
        marked = historical(body)
    except FrameError:
        return
    assert historical(marked) == marked


def test_what_a_rebirth_is() -> None:
    body = rebirth(1_700_000_000_000)
    name = b"Node Control/Rebirth"
    inner = b"\x0a" + bytes([len(name)]) + name + b"\x18" + varint(1_700_000_000_000) + b"\x20\x0b\x70\x01"
    assert body == b"\x08" + varint(1_700_000_000_000) + b"\x12" + varint(len(inner)) + inner


def test_a_gap_asks_for_a_rebirth_once_in_a_while() -> None:
    births = Births()
    born(births)
    assert births.arrived(message("NDATA", payload(1)), 1.0).rebirth is None
    assert births.arrived(message("DBIRTH", payload(2), "d"), 1.0).rebirth is None
    verdict = births.arrived(message("DDATA", payload(4), "d"), 2.0)
    assert (verdict.forward, verdict.reason) == (True, "sparkplug_gap")
    assert verdict.rebirth is not None
    assert verdict.rebirth.topic == "spBv1.0/plant/NCMD/edge"
    # It goes on from there; what is missing was asked for.
    assert births.arrived(message("NDATA", payload(5)), 3.0) == (True, None, "")
    assert births.arrived(message("NDATA", payload(9)), 4.0) == (True, None, "sparkplug_gap")
    assert births.arrived(message("NDATA", payload(1)), 2.0 + ASK_AGAIN_S).rebirth is not None


def test_numbers_begin_again_behind_255() -> None:
    births = Births()
    assert births.arrived(message("NBIRTH", payload(254, metric("bdSeq", 1))), 0.0).rebirth is None
    for seq in (255, 0, 1):
        assert births.arrived(message("NDATA", payload(seq)), 0.0) == (True, None, ""), seq


def test_who_was_never_born_is_asked_to_be() -> None:
    births = Births()
    verdict = births.arrived(message("DDATA", payload(77), "d"), 0.0)
    assert (verdict.forward, verdict.reason) == (True, "sparkplug_unborn")
    assert verdict.rebirth is not None


def test_a_will_that_comes_behind_the_next_birth_is_dropped() -> None:
    """otfabric/go-sparkplugb waits 250 ms instead."""
    births = Births()
    born(births, session=4)
    assert births.arrived(message("NDEATH", payload(None, metric("bdSeq", 3))), 1.0) == (False, None, "sparkplug_stale")
    assert [each.topic for each in births.known("#")] == ["spBv1.0/plant/NBIRTH/edge"]
    assert births.arrived(message("NDEATH", payload(None, metric("bdSeq", 4))), 1.0) == (True, None, "")
    assert list(births.known("#")) == []


def test_births_are_kept_for_who_comes_late() -> None:
    births = Births()
    born(births)
    births.arrived(message("DBIRTH", payload(1), "a"), 0.0)
    births.arrived(message("DBIRTH", payload(2), "b"), 0.0)
    assert [each.topic[14:] for each in births.known("spBv1.0/plant/+/edge/#")] == [
        "NBIRTH/edge",
        "DBIRTH/edge/a",
        "DBIRTH/edge/b",
    ]
    births.arrived(message("DDEATH", payload(3), "a"), 0.0)
    assert [each.topic[14:] for each in births.known("spBv1.0/plant/DBIRTH/#")] == ["DBIRTH/edge/b"]
    born(births)
    assert [each.topic[14:] for each in births.known("#")] == ["NBIRTH/edge"]


def test_what_is_kept_is_bounded() -> None:
    births = Births(max_nodes=3, max_bytes=10_000)
    for at in range(10):
        births.arrived(Message(f"spBv1.0/g/NBIRTH/n{at}", payload(0)), 0.0)
    assert len(births) == 3
    births.arrived(
        Message("spBv1.0/g/NBIRTH/big", payload(0, metric("m" * 100, 1) + b"\x7a" + varint(9000) + bytes(9000))), 0.0
    )
    assert births.bytes <= 10_000
    births.arrived(Message("spBv1.0/g/NBIRTH/huge", payload(0, b"\x7a" + varint(20_000) + bytes(20_000))), 0.0)
    assert (len(births), births.bytes) == (0, 0)


@pytest.mark.parametrize(
    ("topic", "kind", "replays"),
    [
        ("spBv1.0/g/NBIRTH/n", Kind.NBIRTH, False),
        ("spBv1.0/g/NDEATH/n", Kind.NDEATH, False),
        ("spBv1.0/g/DBIRTH/n/d", Kind.DBIRTH, False),
        ("spBv1.0/g/DDEATH/n/d", Kind.DDEATH, False),
        ("spBv1.0/g/NDATA/n", Kind.NDATA, True),
        ("spBv1.0/g/DDATA/n/d", Kind.DDATA, True),
        ("spBv1.0/g/NCMD/n", Kind.NCMD, True),
        ("spBv1.0/g/NBIRTH/n/d", None, True),
        ("spBv1.0/g/DBIRTH/n", None, True),
        ("spBv1.0/STATE/host", None, True),
        ("spBv1.0/g/OTHER/n", None, True),
        ("site/g/NBIRTH/n", None, True),
    ],
)
def test_topics(topic: str, kind: Kind | None, replays: bool) -> None:
    found = topic_of(topic)
    assert (found and found.kind) == kind
    assert may_replay(topic) is replays


def test_what_is_no_message_of_a_node_goes_on() -> None:
    births = Births()
    for topic in ("spBv1.0/STATE/host", "other", "spBv1.0/g/NCMD/n", "spBv1.0/g/DCMD/n/d"):
        assert births.arrived(Message(topic, b"anything"), 0.0) == (True, None, "")
    assert len(births) == 0


def test_the_death_of_who_was_born_through_this_bridge() -> None:
    lives = Lives(max_nodes=2)
    lives.went("spBv1.0/plant/NBIRTH/edge", payload(0, metric("bdSeq", 7)), "kitchen")
    lives.went("spBv1.0/plant/NDATA/edge", payload(1), "kitchen")
    lives.went("spBv1.0/plant/DBIRTH/edge/pump", payload(2, metric("bdSeq", 7)), "kitchen")
    lives.went("spBv1.0/plant/NBIRTH/other", payload(0, metric("bdSeq", 1)), "hall")
    lives.went("spBv1.0/plant/NDEATH/other", payload(None, metric("bdSeq", 1)), "hall")
    lives.went("spBv1.0/plant/NBIRTH/broken", b"\xff", "hall")
    lives.went("spBv1.0/plant/NBIRTH/nameless", payload(0), "hall")
    (death,) = lives.ended("kitchen", 1_700_000_000.0)
    assert death == Message("spBv1.0/plant/NDEATH/edge", payload(None, DEATH_METRIC), qos=1)
    assert not lives.ended(None, 0.0)
    for name in ("a", "b", "c", "a"):
        lives.went(f"spBv1.0/plant/NBIRTH/{name}", payload(0, metric("bdSeq", 1)), "hall")
    assert len(lives.ended(None, 0.0)) == 2
