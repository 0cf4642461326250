"""Metadata of the extensions: golden vectors, round trips, what is refused, rsocket-py as a second opinion."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rsocket.extensions.authentication import AuthenticationBearer, AuthenticationSimple
from rsocket.extensions.composite_metadata import CompositeMetadata
from rsocket.extensions.helpers import authenticate_bearer, authenticate_simple, composite, metadata_item, route

from gateway.errors import FrameError
from gateway.wire.metadata import (
    Authentication,
    Bearer,
    Entry,
    OtherAuthentication,
    Sampling,
    Simple,
    Zipkin,
    decode_accept_mime_types,
    decode_authentication,
    decode_composite,
    decode_mime_type,
    decode_routing,
    decode_zipkin,
    encode_accept_mime_types,
    encode_bearer,
    encode_composite,
    encode_entry,
    encode_mime_type,
    encode_other_authentication,
    encode_routing,
    encode_simple,
    encode_zipkin,
    iter_composite,
)
from gateway.wire.mimetypes import AUTHENTICATION, BROKER_FRAME, JSON, ROUTING, WELL_KNOWN, encode_name, normalise

from .vectors import authentication_of, load, parameters, zipkin_of

VECTORS = load("metadata.json")
MALFORMED = [vector for vector in load("malformed.json") if vector["kind"] not in {"frame", "brokering"}]

DECODERS: dict[str, Any] = {
    "composite": decode_composite,
    "routing": decode_routing,
    "authentication": decode_authentication,
    "mime_type": decode_mime_type,
    "accept_mime_types": decode_accept_mime_types,
    "zipkin": decode_zipkin,
}

mimes = st.one_of(
    st.sampled_from(sorted(WELL_KNOWN.values())),
    st.sampled_from([BROKER_FRAME, "id:0x2b", "id:0x50"]),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128),
)
contents = st.binary(max_size=300)
tags = st.text(max_size=255).filter(lambda tag: len(tag.encode()) <= 255)


def encode_authentication(value: Authentication) -> bytes:
    if isinstance(value, Bearer):
        return encode_bearer(value.token)
    if isinstance(value, Simple):
        return encode_simple(value.user, value.password)
    return encode_other_authentication(value.type, value.body)


def values_of(vector: dict[str, Any]) -> tuple[Any, bytes]:
    """What a vector decodes to, and what encoding that gives."""
    value: Any
    match vector["type"]:
        case "composite":
            value = [(mime, bytes.fromhex(content)) for mime, content in vector["entries"]]
            return value, encode_composite(value)
        case "routing":
            value = tuple(vector["tags"])
            return value, encode_routing(value)
        case "authentication":
            value = authentication_of(vector)
            return value, encode_authentication(value)
        case "mime_type":
            return vector["mime"], encode_mime_type(vector["mime"])
        case "accept_mime_types":
            value = tuple(vector["mimes"])
            return value, encode_accept_mime_types(value)
        case _:
            value = zipkin_of(vector)
            return value, encode_zipkin(value)


# Golden vectors.


@pytest.mark.parametrize("vector", parameters(VECTORS))
def test_vector(vector: dict[str, Any]) -> None:
    """X01 to X06."""
    data = bytes.fromhex(vector["hex"])
    value, encoded = values_of(vector)
    for buffer in (data, bytearray(data), memoryview(data)):
        assert DECODERS[vector["type"]](buffer) == value
    if "decode_only" not in vector:
        assert encoded == data


@pytest.mark.parametrize("vector", parameters(MALFORMED))
def test_malformed_vector_is_refused(vector: dict[str, Any]) -> None:
    """X01: a truncated entry, and whatever else is cut short or not text, is malformed."""
    data = bytes.fromhex(vector["hex"])
    for buffer in (data, bytearray(data), memoryview(data)):
        with pytest.raises(FrameError) as caught:
            DECODERS[vector["kind"]](buffer)
        assert caught.value.code == vector["code"]
        assert caught.value.text


def test_every_kind_has_vectors() -> None:
    assert {vector["type"] for vector in VECTORS} == {vector["kind"] for vector in MALFORMED} == set(DECODERS)


# Composite metadata.


def test_entries_are_spans_of_the_buffer() -> None:
    """X01: order and duplicates are kept; spans hold type, length and content."""
    first, second = encode_entry(ROUTING, b"\x04echo"), encode_entry(BROKER_FRAME, b"frame")
    buf = b"before" + first + second + first + b"after"
    start, end = 6, len(buf) - 5
    entries = list(iter_composite(buf, start, end))
    assert [entry.mime for entry in entries] == [ROUTING, BROKER_FRAME, ROUTING]
    assert [buf[entry.start : entry.end] for entry in entries] == [first, second, first]
    assert [buf[entry.content_start : entry.end] for entry in entries] == [b"\x04echo", b"frame", b"\x04echo"]
    assert entries[0] == Entry(ROUTING, 6, 10, 15)
    assert list(iter_composite(buf, start, start)) == []


def test_a_truncated_entry_is_found_when_it_is_reached() -> None:
    """X01, fault 40: the entries before it cost nothing more; a caller with a cap can stop before it."""
    buf = encode_entry(ROUTING, b"\x04echo") + b"\xfe\x00\x00\x05\x04ech"
    entries = iter_composite(buf, 0, len(buf))
    assert next(entries).mime == ROUTING
    with pytest.raises(FrameError, match="beyond"):
        next(entries)


def test_strings_of_well_known_types_are_understood() -> None:
    """X06: Spring writes every type but the route as a string."""
    data = b"".join((encode_name(AUTHENTICATION), b"\x00\x00\x04\x81tok", encode_name("Application/Json"), b"\0\0\0"))
    assert decode_composite(data) == [(AUTHENTICATION, b"\x81tok"), (JSON, b"")]


@given(st.lists(st.tuples(mimes, contents), max_size=8))
def test_composite_round_trips(entries: list[tuple[str, bytes]]) -> None:
    data = encode_composite(entries)
    assert decode_composite(data) == [(normalise(mime), content) for mime, content in entries]
    spans = list(iter_composite(data, 0, len(data)))
    assert [span.end for span in spans[:-1]] == [span.start for span in spans[1:]]


def test_content_above_16_mib_is_refused() -> None:
    with pytest.raises(ValueError, match="above"):
        encode_entry(ROUTING, bytes(1 << 24))


# Routing, authentication, MIME types, tracing.


@given(st.lists(tags, max_size=6))
def test_routing_round_trips(values: list[str]) -> None:
    """X02."""
    assert decode_routing(encode_routing(values)) == tuple(values)


def test_a_tag_above_255_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="above 255"):
        encode_routing(["ä" * 128])


@given(
    st.one_of(
        st.builds(Bearer, contents),
        st.builds(Simple, st.text(max_size=80), st.text(max_size=80)),
        st.builds(
            OtherAuthentication,
            st.text(st.characters(max_codepoint=0x7F), min_size=1, max_size=128).filter(
                lambda name: name not in {"bearer", "simple"}
            ),
            contents,
        ),
    )
)
def test_authentication_round_trips(value: Authentication) -> None:
    """X03."""
    assert decode_authentication(encode_authentication(value)) == value


def test_secrets_stay_out_of_repr() -> None:
    for value in (Bearer(b"s3cret"), Simple("user", "s3cret"), OtherAuthentication("x-key", b"s3cret")):
        assert "s3cret" not in repr(value)


def test_a_user_name_above_64_kib_is_refused() -> None:
    with pytest.raises(ValueError, match="above 65535"):
        encode_simple("u" * 65_536, "")


@given(st.lists(mimes, max_size=6))
def test_mime_types_round_trip(values: list[str]) -> None:
    """X04."""
    assert decode_accept_mime_types(encode_accept_mime_types(values)) == tuple(normalise(value) for value in values)
    for value in values:
        assert decode_mime_type(encode_mime_type(value)) == normalise(value)


ids = st.binary(min_size=8, max_size=8)


@given(
    st.sampled_from(Sampling),
    st.none() | st.tuples(st.one_of(ids, st.binary(min_size=16, max_size=16)), ids, st.none() | ids),
)
def test_zipkin_round_trips(sampling: Sampling, context: tuple[bytes, bytes, bytes | None] | None) -> None:
    """X05."""
    value = Zipkin(sampling) if context is None else Zipkin(sampling, *context)
    assert decode_zipkin(encode_zipkin(value)) == value


@pytest.mark.parametrize(
    "context",
    [
        Zipkin(Sampling.SAMPLED, None, bytes(8)),
        Zipkin(Sampling.SAMPLED, None, None, bytes(8)),
        Zipkin(Sampling.SAMPLED, bytes(8)),
        Zipkin(Sampling.SAMPLED, bytes(7), bytes(8)),
        Zipkin(Sampling.SAMPLED, bytes(8), bytes(9)),
        Zipkin(Sampling.SAMPLED, bytes(16), bytes(8), bytes(7)),
    ],
)
def test_zipkin_ids_of_a_wrong_length_are_refused(context: Zipkin) -> None:
    with pytest.raises(ValueError, match="id"):
        encode_zipkin(context)


# Fuzz.


@pytest.mark.parametrize("kind", sorted(DECODERS))
def test_random_bytes_give_a_value_or_frame_error(kind: str) -> None:
    """Faults 39, 40: never anything else, whatever the bytes."""

    @given(st.binary(max_size=200))
    def decode_or_refuse(data: bytes) -> None:
        try:
            DECODERS[kind](data)
        except FrameError as error:
            refusals.append(error.text)

    refusals: list[str] = []
    decode_or_refuse()
    assert all(refusals)


@given(st.lists(st.tuples(mimes, contents), min_size=1, max_size=4), st.data())
def test_damaged_composite_gives_entries_within_it_or_frame_error(
    entries: list[tuple[str, bytes]], data: st.DataObject
) -> None:
    whole = bytearray(encode_composite(entries))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(whole)))
    at = 0
    try:
        for entry in iter_composite(whole, 0, end):
            assert entry.start == at < entry.content_start <= entry.end <= end
            at = entry.end
    except FrameError:
        return
    assert at == end


# rsocket-py as a second opinion. It knows neither unknown ids nor 0x29 and 0x2A, and lets truncated entries pass.


stock_mimes = st.sampled_from(sorted(name for id, name in WELL_KNOWN.items() if id < 0x29)) | st.just(BROKER_FRAME)


@given(st.lists(st.tuples(stock_mimes, contents), max_size=5))
def test_rsocket_py_agrees_on_composite(entries: list[tuple[str, bytes]]) -> None:
    peer = composite(*[metadata_item(content, mime.encode()) for mime, content in entries])
    assert peer == encode_composite(entries)
    read = CompositeMetadata().parse(encode_composite(entries))
    assert [(item.encoding.decode(), item.content) for item in read.items] == entries


@given(tags.filter(bool), st.text(max_size=60), st.text(max_size=60))
def test_rsocket_py_agrees_on_route_and_authentication(tag: str, user: str, password: str) -> None:
    peer = composite(route(tag), authenticate_simple(user, password), authenticate_bearer("tok"))
    routing, simple, bearer = decode_composite(peer)
    assert (routing[0], decode_routing(routing[1])) == (ROUTING, (tag,))
    assert (simple[0], decode_authentication(simple[1])) == (AUTHENTICATION, Simple(user, password))
    assert (bearer[0], decode_authentication(bearer[1])) == (AUTHENTICATION, Bearer(b"tok"))
    ours = encode_composite(
        [
            (ROUTING, encode_routing([tag])),
            (AUTHENTICATION, encode_simple(user, password)),
            (AUTHENTICATION, encode_bearer(b"tok")),
        ]
    )
    assert ours == peer
    items = CompositeMetadata().parse(ours).items
    assert items[0].tags == [tag.encode()]
    assert isinstance(items[1].authentication, AuthenticationSimple)
    assert isinstance(items[2].authentication, AuthenticationBearer)
