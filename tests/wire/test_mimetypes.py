"""MIME types have one key, whichever way a peer writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rsocket.extensions.mimetypes import WellKnownMimeTypes

from gateway.errors import FrameError
from gateway.wire import mimetypes
from gateway.wire.mimetypes import (
    BROKER_FRAME,
    JSON,
    MAX_NAME_BYTES,
    PRINCIPAL,
    ROUTING,
    WELL_KNOWN,
    decode_mime,
    encode_mime,
    encode_name,
    normalise,
)

ascii_names = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=MAX_NAME_BYTES)


def key_of(data: bytes) -> str:
    key, end = decode_mime(data, 0, len(data))
    assert end == len(data)
    return key


@pytest.mark.parametrize(("id", "name"), sorted(WELL_KNOWN.items()))
def test_id_and_string_form_are_one_type(id: int, name: str) -> None:
    """X06: the same key for both forms; encoding takes the id."""
    assert key_of(bytes((0x80 | id,))) == key_of(encode_name(name)) == normalise(name) == name
    assert encode_mime(name) == bytes((0x80 | id,))


def test_table_is_that_of_rsocket_py_and_two_more() -> None:
    stock = {member.value.id: member.value.name.decode() for member in WellKnownMimeTypes if member.value.id >= 0}
    assert {0x29: "application/x-capnp", 0x2A: "application/x-flatbuffers"} | stock == WELL_KNOWN


@pytest.mark.parametrize("id", [id for id in range(128) if id not in WELL_KNOWN])
def test_unknown_ids_are_kept(id: int) -> None:
    """X01, X06: an id nobody named, vendors' private ones too, is a key like any other and goes back as it came."""
    key = key_of(bytes((0x80 | id,)))
    assert key == f"id:0x{id:02x}"
    assert encode_mime(key) == bytes((0x80 | id,))


@pytest.mark.parametrize("id", [0x05, 0x7C, 0x7E])
def test_a_string_cannot_pass_for_a_known_id(id: int) -> None:
    """Only ids without a name are written as ``id:``; the text ``id:0x7e`` stays text."""
    text = f"id:0x{id:02x}"
    assert key_of(encode_name(text)) == text
    assert encode_mime(text) == encode_name(text)


@pytest.mark.parametrize(
    ("mime", "key"),
    [
        ("Application/JSON", JSON),
        (" application/json ", JSON),
        ("VIDEO/h264", "video/H264"),
        ("Message/X.RSocket.Routing.V0", ROUTING),
        ("MESSAGE/x.gateway.PRINCIPAL.v0", PRINCIPAL),
        ("Message/x.rsocket.broker.frame.v0", BROKER_FRAME),
        ("Text/X-Log", "text/x-log"),
        ("Text/X-Log;Charset=UTF-8", "text/x-log;Charset=UTF-8"),
        ("application/json;charset=utf-8", "application/json;charset=utf-8"),
        ("message/x.gateway.principal.v0;a=b", PRINCIPAL),
        ("Message/X.Gateway.Principal.v0 ; a=b", PRINCIPAL),
        ("message/x.unheard.of;a=b", "message/x.unheard.of"),
        ("", ""),
    ],
)
def test_spelling_does_not_make_another_type(mime: str, key: str) -> None:
    """X06: so that nobody gets an entry past the gateway by capital letters or a parameter."""
    assert normalise(mime) == key
    if mime:
        assert key_of(encode_name(mime)) == key


@given(ascii_names)
def test_names_round_trip(name: str) -> None:
    key = normalise(name)
    assert normalise(key) == key
    assert key_of(encode_mime(name)) == key
    assert key_of(encode_name(name)) == key


@pytest.mark.parametrize("name", ["", "a" * 129, "a/ä"])
def test_names_that_do_not_fit_are_refused(name: str) -> None:
    """X01: 1 to 128 bytes of ASCII."""
    with pytest.raises(ValueError):  # noqa: PT011 - UnicodeEncodeError is one
        encode_mime(name)
    with pytest.raises(ValueError):  # noqa: PT011
        encode_name(name)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x05abcde", b"\x7f" + b"a" * 127, b"\x01\xc3\xa4"])
def test_malformed_types_are_refused(data: bytes) -> None:
    with pytest.raises(FrameError):
        decode_mime(data, 0, len(data))


def test_the_end_given_counts_not_the_end_of_the_buffer() -> None:
    data = b"\xff" + encode_name("a/b") + b"\xff"
    assert decode_mime(data, 1, 5) == ("a/b", 5)
    with pytest.raises(FrameError):
        decode_mime(data, 1, 4)


@given(st.binary(max_size=140))
def test_random_bytes_give_a_key_or_frame_error(data: bytes) -> None:
    try:
        key, end = decode_mime(data, 0, len(data))
    except FrameError:
        return
    assert 0 < end <= len(data)
    assert normalise(key) == key


def test_longest_and_shortest_name() -> None:
    """X01: the length on the wire is the length minus 1."""
    assert encode_name("x") == b"\x00x"
    assert encode_name("x" * 128) == b"\x7f" + b"x" * 128


def test_constants_of_well_known_types_are_in_the_table() -> None:
    for name in ("MIME_TYPE", "ACCEPT_MIME_TYPES", "AUTHENTICATION", "ZIPKIN", "ROUTING", "COMPOSITE", "JSON", "CBOR"):
        assert getattr(mimetypes, name) in WELL_KNOWN.values()
    assert len(encode_mime(BROKER_FRAME)) == 1 + 33


def test_connections_share_the_names_they_announce() -> None:
    """Ten thousand devices announce the same two types: the node holds each once."""
    assert mimetypes.shared(bytes(mimetypes.COMPOSITE.encode())) is mimetypes.COMPOSITE
    assert mimetypes.shared(b"application/x.other") == "application/x.other"
