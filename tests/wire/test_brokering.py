"""The broker frames, byte for byte as rsocket-broker-client writes and reads them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import FrameError
from gateway.wire import brokering
from gateway.wire.brokering import (
    SERVICE_NAME,
    WELL_KNOWN_KEYS,
    ZONE,
    Address,
    BrokerFrame,
    BrokerFrameType,
    BrokerInfo,
    Cast,
    RouteJoin,
    RouteRemove,
    RouteSetup,
    Tags,
    decode,
    decode_tags,
    encode,
    encode_tags,
    normalise_key,
)

from .vectors import BROKER_FRAMES, broker_frame_of, load, parameters

VECTORS = load("brokering.json")
ROUND_TRIPS = [vector for vector in VECTORS if "decode_only" not in vector]
MALFORMED = [vector for vector in load("malformed.json") if vector["kind"] == "brokering"]

ROUTE_ID = bytes(15) + b"\x11"

ids = st.binary(min_size=16, max_size=16)
timestamps = st.integers(0, 2**64 - 1)
services = st.text(max_size=255).filter(lambda name: len(name.encode()) <= 255)
short_texts = st.text(max_size=127).filter(lambda text: len(text.encode()) <= 127)
keys = short_texts.filter(bool).map(normalise_key) | st.sampled_from(sorted(WELL_KNOWN_KEYS.values()))
tag_lists = st.lists(st.tuples(keys, short_texts), max_size=6).map(tuple)
SHAPES: dict[BrokerFrameType, st.SearchStrategy[Any]] = {
    BrokerFrameType.ROUTE_SETUP: st.builds(RouteSetup, ids, services, tag_lists),
    BrokerFrameType.ROUTE_JOIN: st.builds(RouteJoin, ids, ids, timestamps, services, tag_lists),
    BrokerFrameType.ROUTE_REMOVE: st.builds(RouteRemove, ids, ids, timestamps),
    BrokerFrameType.BROKER_INFO: st.builds(BrokerInfo, ids, timestamps, tag_lists),
    BrokerFrameType.ADDRESS: st.builds(Address, ids, tag_lists, st.sampled_from(Cast), st.booleans()),
}


@pytest.mark.parametrize("vector", parameters(VECTORS))
def test_vector_decodes(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    expected = broker_frame_of(vector)
    assert decode(data) == expected
    assert decode(bytearray(data)) == expected
    assert decode(memoryview(data)) == expected


@pytest.mark.parametrize("vector", parameters(ROUND_TRIPS))
def test_vector_encodes(vector: dict[str, Any]) -> None:
    assert encode(broker_frame_of(vector)).hex() == vector["hex"]


@pytest.mark.parametrize("vector", parameters(MALFORMED))
def test_malformed_vector_is_refused(vector: dict[str, Any]) -> None:
    for data in (bytes.fromhex(vector["hex"]), memoryview(bytes.fromhex(vector["hex"]))):
        with pytest.raises(FrameError) as caught:
            decode(data)
        assert caught.value.code == vector["code"]
        assert caught.value.text


def test_every_frame_has_vectors() -> None:
    assert {vector["type"] for vector in VECTORS} == set(BROKER_FRAMES) == {kind.name for kind in BrokerFrameType}


@pytest.mark.parametrize("kind", list(BrokerFrameType))
def test_each_frame_round_trips(kind: BrokerFrameType) -> None:
    @given(SHAPES[kind])
    def round_trip(frame: BrokerFrame) -> None:
        assert frame.frame_type is kind
        data = encode(frame)
        assert decode(data) == frame
        assert data[:4] == b"\x00\x00\x00\x01"

    round_trip()


# Tags.


@given(tag_lists)
def test_tags_keep_order_and_duplicates(tags: Tags) -> None:
    assert decode_tags(encode_tags(tags)) == tags


def test_no_bytes_are_no_tags() -> None:
    assert encode_tags(()) == b""
    assert decode_tags(b"") == ()


@pytest.mark.parametrize(("id", "key"), sorted(WELL_KNOWN_KEYS.items()))
def test_well_known_keys_go_by_id_and_have_one_name(id: int, key: str) -> None:
    draft = key.replace("io.rsocket.broker.", "io.rsocket.routing.")
    assert normalise_key(draft) == normalise_key(key) == key
    assert encode_tags(((key, "v"),)) == encode_tags(((draft, "v"),)) == bytes((0x80 | id, 1)) + b"v"
    for spelling in (key, draft):
        raw = spelling.encode()
        assert decode_tags(bytes((len(raw),)) + raw + b"\x01v") == ((key, "v"),)


@pytest.mark.parametrize("id", [id for id in range(128) if id not in WELL_KNOWN_KEYS])
def test_unknown_key_ids_are_kept(id: int) -> None:
    key = f"id:0x{id:02x}"
    assert decode_tags(bytes((0x80 | id, 1)) + b"v") == ((key, "v"),)
    assert encode_tags(((key, "v"),)) == bytes((0x80 | id, 1)) + b"v"


def test_keys_are_named_by_constants() -> None:
    named = {value for name, value in vars(brokering).items() if name.isupper() and str(value).startswith("io.rsocket")}
    assert named >= set(WELL_KNOWN_KEYS.values())


def buggy_encode(tags: Tags) -> bytes:
    """rsocket-broker-client's TagsFlyweight.encode, line by line, with its bug."""
    out = bytearray()
    for index, (key, value) in enumerate(tags):
        known = [id for id, name in WELL_KNOWN_KEYS.items() if name == key]
        if known:
            out.append(0x80 | known[0])
        else:
            name = key.encode()
            if not 0 < len(name) <= 127:
                continue
            out.append(len(name))
            out += name
        raw = value.encode()
        if not 0 < len(raw) <= 127:
            continue
        out.append((0x80 if index < len(tags) - 1 else 0) | len(raw))
        out += raw
    return bytes(out)


sound_values = short_texts.filter(bool)
bad_values = st.sampled_from(["", "v" * 128, "v" * 1000])
sound_tags = st.lists(st.tuples(keys, sound_values), max_size=5).map(tuple)


@given(sound_tags)
def test_the_stock_encoder_agrees_on_sound_tags(tags: Tags) -> None:
    assert buggy_encode(tags) == encode_tags(tags)


@given(sound_tags, keys, bad_values)
def test_a_key_left_without_its_value_reads_as_empty(tags: Tags, key: str, value: str) -> None:
    """The encoder bug at the end of the list: an empty value, never a dropped tag, which would widen an address."""
    assert decode_tags(buggy_encode((*tags, (key, value)))) == (*tags, (key, ""))


@given(sound_tags)
def test_more_left_set_on_the_last_tag_reads_as_the_end(tags: Tags) -> None:
    """The encoder bug when the last tag is skipped whole, its key being too long."""
    assert decode_tags(buggy_encode((*tags, ("k" * 128, "v")))) == tags


@given(st.lists(st.tuples(keys, sound_values | bad_values), max_size=6).map(tuple))
def test_the_bug_within_the_list_gives_tags_or_frame_error(tags: Tags) -> None:
    try:
        decode_tags(buggy_encode(tags))
    except FrameError:
        return


def test_an_address_never_widens_by_the_bug() -> None:
    data = encode(Address(ROUTE_ID)) + buggy_encode(((SERVICE_NAME, "pong"), (ZONE, "")))
    assert decode(data) == Address(ROUTE_ID, ((SERVICE_NAME, "pong"), (ZONE, "")))


# Addresses.


@pytest.mark.parametrize("flags", range(8))
def test_exactly_one_cast(flags: int) -> None:
    data = bytearray(encode(Address(ROUTE_ID)))
    data[5] = flags << 5
    if flags in (1, 2, 4):
        frame = decode(data)
        assert isinstance(frame, Address)
        assert frame.cast is Cast(flags << 5)
    else:
        with pytest.raises(FrameError, match="exactly one"):
            decode(data)


def test_unicast_is_the_default() -> None:
    assert encode(Address(ROUTE_ID))[5] == 0x80


# What cannot be encoded, and fuzz.


@pytest.mark.parametrize(
    "frame",
    [
        RouteSetup(bytes(15), "a"),
        RouteSetup(bytes(17), "a"),
        RouteSetup(ROUTE_ID, "s" * 256),
        RouteSetup(ROUTE_ID, "a", (("", "v"),)),
        RouteSetup(ROUTE_ID, "a", (("k" * 128, "v"),)),
        RouteSetup(ROUTE_ID, "a", (("k", "ä" * 64),)),
        RouteJoin(ROUTE_ID, b"", 0, "a"),
        RouteJoin(ROUTE_ID, ROUTE_ID, -1, "a"),
        RouteRemove(b"", ROUTE_ID, 0),
        RouteRemove(ROUTE_ID, ROUTE_ID, 2**64),
        BrokerInfo(b"", 0),
        Address(b""),
    ],
    ids=repr,
)
def test_values_beyond_their_field_are_refused(frame: BrokerFrame) -> None:
    with pytest.raises(ValueError, match=r"id of|above|within|u64"):
        encode(frame)


@given(st.sampled_from(list(BrokerFrameType)), st.integers(0, 0x3FF), st.binary(max_size=120))
def test_random_bodies_give_a_frame_or_frame_error(kind: BrokerFrameType, flags: int, body: bytes) -> None:
    data = b"\x00\x00\x00\x01" + (kind << 10 | flags).to_bytes(2, "big") + body
    try:
        frame = decode(data)
    except FrameError:
        return
    assert decode(encode(frame)) == frame


@given(st.binary(max_size=80))
def test_random_bytes_give_a_frame_or_frame_error(data: bytes) -> None:
    try:
        decode(data)
    except FrameError:
        return


@given(st.one_of(*SHAPES.values()), st.data())
def test_damaged_frames_give_a_frame_or_frame_error(frame: BrokerFrame, data: st.DataObject) -> None:
    whole = bytearray(encode(frame))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(whole[: data.draw(st.integers(0, len(whole)))])
    except FrameError:
        return
