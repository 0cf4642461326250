"""Fuzz targets of what rides in metadata: each decoder answers a value that survives encoding, or FrameError."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gateway.errors import FrameError
from gateway.wire import brokering, metadata
from gateway.wire.metadata import Bearer, OtherAuthentication, Simple
from tests.fuzz.target import check, outcome


def _survives(data: bytes, decode: Callable[[Any], Any], encode: Callable[[Any], bytes]) -> str:
    try:
        value = decode(data)
    except FrameError as error:
        return outcome(error)
    try:
        again = encode(value)
    except ValueError as error:
        # Read leniently, refused when written: a name that is nothing but blanks.
        return f"not encodable: {outcome(error)}"
    check(decode(again) == value, "not what it was after encoding")
    return f"{type(value).__name__} {min(len(value) if isinstance(value, Iterable) else 0, 8)}"


def composite(data: bytes) -> str:
    """Entries inside a larger buffer are those of the bytes alone, in order, without a gap."""
    try:
        found = list(metadata.iter_composite(b"\x7f" * 7 + data + b"\x7f" * 7, 7, 7 + len(data)))
    except FrameError as error:
        label = _survives(data, metadata.decode_composite, metadata.encode_composite)
        check(label == outcome(error), "inside a buffer it is malformed, alone it is not")
        return label
    at = 7
    for entry in found:
        check(entry.start == at < entry.content_start <= entry.end, "a gap between entries")
        at = entry.end
    check(at == 7 + len(data), "bytes that belong to no entry")
    check(len(found) <= len(data) // 4, "more entries than fit")
    return _survives(data, metadata.decode_composite, metadata.encode_composite)


def routing(data: bytes) -> str:
    return _survives(data, metadata.decode_routing, metadata.encode_routing)


def authentication(data: bytes) -> str:
    label = _survives(data, metadata.decode_authentication, _encode_authentication)
    try:
        found = metadata.decode_authentication(data)
    except FrameError:
        return label
    secret = {Bearer: "token", Simple: "password", OtherAuthentication: "body"}[type(found)]
    check(f"{secret}=" not in repr(found), "a secret in repr")
    return label


def _encode_authentication(value: metadata.Authentication) -> bytes:
    if isinstance(value, Bearer):
        return metadata.encode_bearer(value.token)
    if isinstance(value, Simple):
        return metadata.encode_simple(value.user, value.password)
    return metadata.encode_other_authentication(value.type, value.body)


def mime_types(data: bytes) -> str:
    """The single type and the list, from the same bytes."""
    one = _survives(data, metadata.decode_mime_type, metadata.encode_mime_type)
    return f"{one}; {_survives(data, metadata.decode_accept_mime_types, metadata.encode_accept_mime_types)}"


def zipkin(data: bytes) -> str:
    return _survives(data, metadata.decode_zipkin, metadata.encode_zipkin)


def broker_frame(data: bytes) -> str:
    return _survives(data, brokering.decode, brokering.encode)


def broker_tags(data: bytes) -> str:
    return _survives(data, brokering.decode_tags, brokering.encode_tags)
