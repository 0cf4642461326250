"""Metadata of the RSocket extensions: composite, routing, authentication, MIME types, Zipkin tracing.

Decoders raise FrameError for bytes that are cut short or otherwise break their format, and nothing else; they check
every length before they copy, and they set no caps: how many entries or tags somebody may send is policy. Encoders
raise ValueError for values that do not fit.

Must not know: principals, whether a token is good, what a route leads to.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from gateway.errors import FrameError
from gateway.wire.header import Buffer
from gateway.wire.mimetypes import KEY_BY_ID, decode_mime, encode_mime, encode_name

_MAX_ENTRY_BYTES: Final = 0xFFFFFF
_unpack_u32 = struct.Struct(">I").unpack_from


# Composite metadata (X01).


class Entry(NamedTuple):
    """One entry of composite metadata as offsets into the buffer it was found in.

    ``start`` to ``end`` is the entry with its type and length, ``content_start`` to ``end`` its content.
    """

    mime: str
    start: int
    content_start: int
    end: int


def iter_composite(buf: Buffer, start: int, end: int) -> Iterator[Entry]:
    """The entries in ``buf[start:end]``, in order, duplicates included. Raises FrameError at one that is truncated."""
    at = start
    while at < end:
        # decode_mime's short way, without its call: most entries have an id.
        if buf[at] & 0x80:
            mime, content = KEY_BY_ID[buf[at] & 0x7F], at + 4
        else:
            mime, length_at = decode_mime(buf, at, end)
            content = length_at + 3
        if content > end:
            raise FrameError("composite metadata: length is cut short")
        # The byte before the length belongs to the type.
        stop: int = content + (_unpack_u32(buf, content - 4)[0] & 0xFFFFFF)
        if stop > end:
            raise FrameError(f"composite metadata: entry {mime} goes beyond the metadata")
        # Entry(…) would take twice as long: a named tuple's own constructor is Python code.
        yield tuple.__new__(Entry, (mime, at, content, stop))
        at = stop


def decode_composite(data: Buffer) -> list[tuple[str, bytes]]:
    """Type and content of each entry. Raises FrameError when one is truncated."""
    return [(entry.mime, bytes(data[entry.content_start : entry.end])) for entry in iter_composite(data, 0, len(data))]


def encode_entry(mime: str, content: bytes) -> bytes:
    """One composite entry; a well-known type goes by its id. Raises ValueError when type or content are too long."""
    if len(content) > _MAX_ENTRY_BYTES:
        raise ValueError(f"composite entry of {len(content)} bytes is above {_MAX_ENTRY_BYTES}")
    return b"".join((encode_mime(mime), len(content).to_bytes(3, "big"), content))


def encode_composite(entries: Iterable[tuple[str, bytes]]) -> bytes:
    """The entries one after the other. Raises ValueError when a type or a content is too long."""
    return b"".join([encode_entry(mime, content) for mime, content in entries])


# Routing (X02).


def encode_routing(tags: Iterable[str]) -> bytes:
    """A length byte and UTF-8 a tag. Raises ValueError for a tag above 255 bytes."""
    parts = []
    for tag in tags:
        raw = tag.encode()
        if len(raw) > 255:
            raise ValueError(f"routing tag of {len(raw)} bytes is above 255")
        parts.append(bytes((len(raw),)) + raw)
    return b"".join(parts)


def decode_routing(data: Buffer) -> tuple[str, ...]:
    """The tags; the first one is the route. Raises FrameError when one is truncated or not UTF-8."""
    raw = bytes(data)
    size = len(raw)
    tags: list[str] = []
    at = 0
    while at < size:
        stop = at + 1 + raw[at]
        if stop > size:
            raise FrameError("routing metadata: tag is cut short")
        tags.append(_text(raw[at + 1 : stop], "routing metadata: tag"))
        at = stop
    return tuple(tags)


# Authentication (X03).


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token. Kept out of ``repr`` so that no log shows it."""

    token: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Simple:
    """User name and password. The password is kept out of ``repr``."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class OtherAuthentication:
    """A scheme that the gateway does not know; one with an unknown id has the type ``id:0x05``."""

    type: str
    body: bytes = field(repr=False)


Authentication: TypeAlias = Bearer | Simple | OtherAuthentication

_SIMPLE_ID: Final = 0x80
_BEARER_ID: Final = 0x81


def encode_bearer(token: bytes) -> bytes:
    return bytes((_BEARER_ID,)) + token


def encode_simple(user: str, password: str) -> bytes:
    """Raises ValueError for a user name above 65,535 bytes."""
    name = user.encode()
    if len(name) > 0xFFFF:
        raise ValueError(f"user name of {len(name)} bytes is above 65535")
    return b"".join((bytes((_SIMPLE_ID,)), len(name).to_bytes(2, "big"), name, password.encode()))


def encode_other_authentication(type: str, body: bytes) -> bytes:
    """A scheme by its name: length minus 1 and name, as rsocket-java writes it. ValueError as ``encode_name``."""
    return encode_name(type) + body


def decode_authentication(data: Buffer) -> Authentication:
    """Bearer, Simple or OtherAuthentication. Raises FrameError when empty, truncated or not text where it must be.

    The two known schemes may come by id or by name.
    """
    raw = bytes(data)
    if not raw:
        raise FrameError("authentication metadata is empty")
    first = raw[0]
    if first & 0x80:
        scheme, body = f"id:0x{first & 0x7F:02x}", raw[1:]
        if first == _BEARER_ID:
            scheme = "bearer"
        elif first == _SIMPLE_ID:
            scheme = "simple"
    else:
        stop = first + 2
        if stop > len(raw):
            raise FrameError("authentication metadata: type is cut short")
        if not raw[1:stop].isascii():
            raise FrameError("authentication metadata: type is not ASCII")
        scheme, body = raw[1:stop].decode("ascii"), raw[stop:]
    if scheme == "bearer":
        return Bearer(body)
    if scheme != "simple":
        return OtherAuthentication(scheme, body)
    end = 2 + int.from_bytes(body[:2], "big")
    if len(body) < end:
        raise FrameError("authentication metadata: user name is cut short")
    return Simple(
        _text(body[2:end], "authentication metadata: user name"), _text(body[end:], "authentication metadata: password")
    )


# MIME type of the data, and the list of acceptable ones (X04).


def encode_mime_type(mime: str) -> bytes:
    """The content of a ``MIME_TYPE`` entry. ValueError as ``encode_mime``."""
    return encode_mime(mime)


def decode_mime_type(data: Buffer) -> str:
    """The key of the one type. Raises FrameError when it is missing, malformed or not alone."""
    mime, end = decode_mime(data, 0, len(data))
    if end != len(data):
        raise FrameError("MIME type metadata: bytes after the type")
    return mime


def encode_accept_mime_types(mimes: Iterable[str]) -> bytes:
    """The content of an ``ACCEPT_MIME_TYPES`` entry. ValueError as ``encode_mime``."""
    return b"".join([encode_mime(mime) for mime in mimes])


def decode_accept_mime_types(data: Buffer) -> tuple[str, ...]:
    """The keys of the types, most wanted first. Raises FrameError for a malformed one."""
    mimes: list[str] = []
    at = 0
    while at < len(data):
        mime, at = decode_mime(data, at, len(data))
        mimes.append(mime)
    return tuple(mimes)


# Zipkin tracing (X05).


class Sampling(Enum):
    """Whether a trace is recorded. DEBUG is recorded whatever a sampler says."""

    UNDECIDED = 0x00
    NOT_SAMPLED = 0x10
    SAMPLED = 0x20
    DEBUG = 0x40


_IDS_SET: Final = 0x80
_LONG_TRACE_ID: Final = 0x08
_PARENT_SET: Final = 0x04


@dataclass(frozen=True, slots=True)
class Zipkin:
    """A tracing context. Without a ``trace_id`` (8 or 16 bytes) there is only the decision on sampling.

    ``span_id`` and ``parent_id`` have 8 bytes; a root span has no parent.
    """

    sampling: Sampling
    trace_id: bytes | None = None
    span_id: bytes | None = None
    parent_id: bytes | None = None


def encode_zipkin(context: Zipkin) -> bytes:
    """Raises ValueError for ids of a wrong length, a trace without a span, or a span without a trace."""
    flags = context.sampling.value
    trace_id, span_id, parent_id = context.trace_id, context.span_id, context.parent_id
    if trace_id is None:
        if span_id is not None or parent_id is not None:
            raise ValueError("span without a trace id")
        return bytes((flags,))
    if len(trace_id) not in (8, 16) or span_id is None or len(span_id) != 8:
        raise ValueError("a trace id has 8 or 16 bytes, a span id 8")
    flags |= _IDS_SET
    if len(trace_id) == 16:
        flags |= _LONG_TRACE_ID
    if parent_id is None:
        return bytes((flags,)) + trace_id + span_id
    if len(parent_id) != 8:
        raise ValueError("a parent id has 8 bytes")
    return bytes((flags | _PARENT_SET,)) + trace_id + span_id + parent_id


def decode_zipkin(data: Buffer) -> Zipkin:
    """Raises FrameError when empty or truncated. Contradicting flags read as the strongest: debug, sampled, not."""
    raw = bytes(data)
    if not raw:
        raise FrameError("tracing metadata is empty")
    flags = raw[0]
    sampling = Sampling.UNDECIDED
    for choice in (Sampling.DEBUG, Sampling.SAMPLED, Sampling.NOT_SAMPLED):
        if flags & choice.value:
            sampling = choice
            break
    if not flags & _IDS_SET:
        return Zipkin(sampling)
    trace_end = 17 if flags & _LONG_TRACE_ID else 9
    span_end = trace_end + 8
    parent_end = span_end + 8 if flags & _PARENT_SET else span_end
    if len(raw) < parent_end:
        raise FrameError("tracing metadata: ids are cut short")
    return Zipkin(sampling, raw[1:trace_end], raw[trace_end:span_end], raw[span_end:parent_end] or None)


def _text(raw: bytes, what: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise FrameError(f"{what} is not UTF-8") from None
