"""MIME types as the wire writes them: a well-known id in one byte, or a name.

A type has one key, its name as spelt here, whichever form a peer sent (X06): Spring sends even well-known types as
strings. An id that this table does not know gets the key ``id:0x2b`` and is carried, never fatal. Ids 0x2B and 0x50 to
0x58 belong to one vendor and stay unknown.

Must not know: what the types contain.
"""

from __future__ import annotations

from typing import Final

from gateway.errors import FrameError
from gateway.wire.header import Buffer

MIME_TYPE: Final = "message/x.rsocket.mime-type.v0"
ACCEPT_MIME_TYPES: Final = "message/x.rsocket.accept-mime-types.v0"
AUTHENTICATION: Final = "message/x.rsocket.authentication.v0"
ZIPKIN: Final = "message/x.rsocket.tracing-zipkin.v0"
ROUTING: Final = "message/x.rsocket.routing.v0"
COMPOSITE: Final = "message/x.rsocket.composite-metadata.v0"
# Not well-known: these travel as names.
BROKER_FRAME: Final = "message/x.rsocket.broker.frame.v0"
PRINCIPAL: Final = "message/x.gateway.principal.v0"
SPOOLED: Final = "message/x.gateway.spooled.v0"
MQTT: Final = "message/x.gateway.mqtt.v0"
SUBSET: Final = "message/x.gateway.subset.v0"
DEADLINE: Final = "message/x.gateway.deadline.v0"
IDEMPOTENCY_KEY: Final = "message/x.gateway.idempotency-key.v0"
POST: Final = "message/x.gateway.post.v0"
BASIC: Final = "message/x.rsocket.authentication.basic.v0"
BEARER: Final = "message/x.rsocket.authentication.bearer.v0"

CBOR: Final = "application/cbor"
JSON: Final = "application/json"
OCTET_STREAM: Final = "application/octet-stream"
TEXT: Final = "text/plain"

# RSocket 1.0 extensions, "Well-known MIME Types".
WELL_KNOWN: Final[dict[int, str]] = {
    0x00: "application/avro",
    0x01: CBOR,
    0x02: "application/graphql",
    0x03: "application/gzip",
    0x04: "application/javascript",
    0x05: JSON,
    0x06: OCTET_STREAM,
    0x07: "application/pdf",
    0x08: "application/vnd.apache.thrift.binary",
    0x09: "application/vnd.google.protobuf",
    0x0A: "application/xml",
    0x0B: "application/zip",
    0x0C: "audio/aac",
    0x0D: "audio/mp3",
    0x0E: "audio/mp4",
    0x0F: "audio/mpeg3",
    0x10: "audio/mpeg",
    0x11: "audio/ogg",
    0x12: "audio/opus",
    0x13: "audio/vorbis",
    0x14: "image/bmp",
    0x15: "image/gif",
    0x16: "image/heic-sequence",
    0x17: "image/heic",
    0x18: "image/heif-sequence",
    0x19: "image/heif",
    0x1A: "image/jpeg",
    0x1B: "image/png",
    0x1C: "image/tiff",
    0x1D: "multipart/mixed",
    0x1E: "text/css",
    0x1F: "text/csv",
    0x20: "text/html",
    0x21: TEXT,
    0x22: "text/xml",
    0x23: "video/H264",
    0x24: "video/H265",
    0x25: "video/VP8",
    0x26: "application/x-hessian",
    0x27: "application/x-java-object",
    0x28: "application/cloudevents+json",
    0x29: "application/x-capnp",
    0x2A: "application/x-flatbuffers",
    0x7A: MIME_TYPE,
    0x7B: ACCEPT_MIME_TYPES,
    0x7C: AUTHENTICATION,
    0x7D: ZIPKIN,
    0x7E: ROUTING,
    0x7F: COMPOSITE,
}

MAX_NAME_BYTES: Final = 128
"""The longest name a metadata entry can carry: its length field has seven bits and holds the length minus 1 (X01)."""

KEY_BY_ID: Final[tuple[str, ...]] = tuple(WELL_KNOWN.get(id, f"id:0x{id:02x}") for id in range(128))
_ID_BY_KEY: Final[dict[str, int]] = {key: id for id, key in enumerate(KEY_BY_ID)}
_KEY_BY_LOWER: Final[dict[str, str]] = {
    name.lower(): name for name in (*WELL_KNOWN.values(), BROKER_FRAME, PRINCIPAL, DEADLINE, BASIC, BEARER)
}
_KEY_BY_BYTES: Final[dict[bytes, str]] = {name.encode(): name for name in _KEY_BY_LOWER.values()}


def normalise(mime: str) -> str:
    """The key of ``mime``: one spelling a type.

    Types are case-insensitive (RFC 2045) and blanks around them mean nothing. A parameter (``;charset=…``) keeps its
    spelling and makes another key, but on metadata types it has no meaning and does not.
    """
    stripped = mime.strip()
    known = _KEY_BY_LOWER.get(stripped.lower())
    if known is not None:
        return known
    name, semicolon, parameters = stripped.partition(";")
    name = name.rstrip().lower()
    if name.startswith("message/"):
        return _KEY_BY_LOWER.get(name, name)
    return name + semicolon + parameters


def shared(name: bytes) -> str:
    """``name``, which is ASCII, as text; one string for all who send it where it is well known."""
    return _KEY_BY_BYTES.get(name) or name.decode("ascii")


def encode_mime(mime: str) -> bytes:
    """``mime`` as id where it has one, else as length minus 1 and name (X01).

    Raises ValueError for a name that is empty, above 128 bytes or not ASCII.
    """
    id = _ID_BY_KEY.get(normalise(mime))
    if id is not None:
        return bytes((0x80 | id,))
    return encode_name(mime)


def encode_name(name: str) -> bytes:
    """Length minus 1 and ``name``: the string form, which is legal for well-known types too. ValueError as above."""
    raw = name.encode("ascii")
    if not 0 < len(raw) <= MAX_NAME_BYTES:
        raise ValueError(f"name of {len(raw)} bytes is not within 1 to {MAX_NAME_BYTES}")
    return bytes((len(raw) - 1,)) + raw


def decode_mime(buf: Buffer, at: int, end: int) -> tuple[str, int]:
    """The key of the type written at ``at`` and the offset behind it. Raises FrameError when cut short or not ASCII."""
    if at >= end:
        raise FrameError("MIME type is missing")
    first = buf[at]
    at += 1
    if first & 0x80:
        return KEY_BY_ID[first & 0x7F], at
    stop = at + first + 1
    if stop > end:
        raise FrameError("MIME type is cut short")
    raw = bytes(buf[at:stop])
    known = _KEY_BY_BYTES.get(raw)
    if known is not None:
        return known, stop
    if not raw.isascii():
        raise FrameError("MIME type is not ASCII")
    return normalise(raw.decode("ascii")), stop
