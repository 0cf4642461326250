"""Frames to bytes and back.

``decode`` answers a frame, ``MalformedFrame`` (``UnknownFrame`` for a type nobody named) or, for a SETUP that breaks
its rules, ``InvalidSetup``: nothing else, whatever the bytes, in time linear in their number. ``encode`` raises
ValueError for values that the wire cannot carry: that is the caller's mistake, never a peer's. A frame here is header
and body: no length prefix, no WebSocket framing.

Read leniently: bytes after the last field of a frame of fixed size, flag bits without a meaning (P22), and a
METADATA_PUSH without M, which rsocket-py sends when the metadata is empty.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NoReturn

from gateway.errors import FrameError, InvalidSetup
from gateway.wire import mimetypes
from gateway.wire.header import (
    COMPLETE,
    FOLLOWS,
    HEADER_BYTES,
    IGNORE,
    LEASE,
    MAX_FRAME_BYTES,
    MAX_REQUEST_N,
    MAX_STREAM_ID,
    METADATA,
    NEXT,
    RESPOND,
    RESUME_ENABLE,
    Buffer,
    FrameType,
    metadata_span,
    payload_start,
    peek_error_code,
    peek_n,
)
from gateway.wire.shapes import (
    Cancel,
    Error,
    Extension,
    Frame,
    KeepAlive,
    Lease,
    MalformedFrame,
    MetadataPush,
    Payload,
    RequestChannel,
    RequestFnf,
    RequestN,
    RequestResponse,
    RequestStream,
    Resume,
    ResumeOk,
    Setup,
    UnknownFrame,
)

_HEADER = struct.Struct(">IH")
_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_SETUP = struct.Struct(">HHII")
_LEASE = struct.Struct(">II")
_RESUME = struct.Struct(">HHH")
_POSITIONS = struct.Struct(">QQ")

_MAX_U31 = 0x7FFFFFFF
_MAX_U63 = 0x7FFFFFFFFFFFFFFF


def encode(frame: Frame) -> bytes:
    """The bytes of ``frame``.

    Raises ValueError for a value outside its field, for F together with C, and for a frame above ``MAX_FRAME_BYTES``,
    which must be fragmented instead (P43).
    """
    data = _ENCODERS[type(frame)](frame)
    if len(data) > MAX_FRAME_BYTES:
        raise ValueError(f"frame of {len(data)} bytes is above {MAX_FRAME_BYTES}; fragment it")
    return data


def decode(data: Buffer) -> Frame:
    """The frame that ``data`` is, from its first byte to its last.

    Raises MalformedFrame, UnknownFrame or InvalidSetup (see there).
    """
    if len(data) < HEADER_BYTES:
        raise MalformedFrame(f"frame of {len(data)} bytes is shorter than its header")
    stream_id, kind = _HEADER.unpack_from(data)
    stream_id &= MAX_STREAM_ID
    flags = kind & 0x3FF
    decoder = _DECODERS.get(kind >> 10)
    if decoder is None:
        raise UnknownFrame(kind >> 10, bool(flags & IGNORE))
    try:
        return decoder(data, stream_id, flags)
    except MalformedFrame:
        raise
    except FrameError as error:
        raise MalformedFrame(error.text, ignore=bool(flags & IGNORE)) from None


# Encoding, in the order of the frame types.


def _header(stream_id: int, kind: FrameType, flags: int) -> bytes:
    return _HEADER.pack(_within(stream_id, 0, MAX_STREAM_ID, "stream id"), kind << 10 | flags)


def _within(value: int, low: int, high: int, what: str) -> int:
    if not low <= value <= high:
        raise ValueError(f"{what} {value} is not within {low} to {high}")
    return value


def _mime(mime: str) -> bytes:
    name = mime.encode("ascii")
    if len(name) > 255:
        raise ValueError(f"MIME type of {len(name)} bytes is above 255")
    return bytes((len(name),)) + name


def _token(token: bytes) -> bytes:
    return _U16.pack(_within(len(token), 0, 0xFFFF, "resume token length")) + token


def _with_metadata(metadata: bytes | None, data: bytes) -> bytes:
    if metadata is None:
        return data
    _within(len(metadata), 0, MAX_FRAME_BYTES, "metadata length")
    return b"".join((len(metadata).to_bytes(3, "big"), metadata, data))


def _encode_setup(frame: Setup) -> bytes:
    flags = LEASE if frame.lease else 0
    fixed = _SETUP.pack(
        _within(frame.major, 0, 0xFFFF, "major version"),
        _within(frame.minor, 0, 0xFFFF, "minor version"),
        _within(frame.keepalive_ms, 1, _MAX_U31, "keepalive"),
        _within(frame.lifetime_ms, 1, _MAX_U31, "lifetime"),
    )
    token = b""
    if frame.resume_token is not None:
        flags |= RESUME_ENABLE
        token = _token(frame.resume_token)
    if frame.metadata is not None:
        flags |= METADATA
    return b"".join(
        (
            _header(0, FrameType.SETUP, flags),
            fixed,
            token,
            _mime(frame.metadata_mime),
            _mime(frame.data_mime),
            _with_metadata(frame.metadata, frame.data),
        )
    )


def _encode_lease(frame: Lease) -> bytes:
    fixed = _LEASE.pack(_within(frame.ttl_ms, 0, _MAX_U31, "TTL"), _within(frame.requests, 0, _MAX_U31, "requests"))
    flags = 0 if frame.metadata is None else METADATA
    return _header(0, FrameType.LEASE, flags) + fixed + (frame.metadata or b"")


def _encode_keepalive(frame: KeepAlive) -> bytes:
    position = _U64.pack(_within(frame.position, 0, _MAX_U63, "position"))
    return _header(0, FrameType.KEEPALIVE, RESPOND if frame.respond else 0) + position + frame.data


def _encode_request(frame: RequestResponse | RequestFnf) -> bytes:
    flags = (0 if frame.metadata is None else METADATA) | (FOLLOWS if frame.follows else 0)
    stream_id = _within(frame.stream_id, 1, MAX_STREAM_ID, "stream id")
    return _header(stream_id, frame.frame_type, flags) + _with_metadata(frame.metadata, frame.data)


def _encode_request_with_credit(frame: RequestStream | RequestChannel) -> bytes:
    flags = (0 if frame.metadata is None else METADATA) | (FOLLOWS if frame.follows else 0)
    if isinstance(frame, RequestChannel) and frame.complete:
        if frame.follows:
            raise ValueError("F and C exclude each other")
        flags |= COMPLETE
    return b"".join(
        (
            _header(_within(frame.stream_id, 1, MAX_STREAM_ID, "stream id"), frame.frame_type, flags),
            _U32.pack(_within(frame.initial_n, 1, MAX_REQUEST_N, "request n")),
            _with_metadata(frame.metadata, frame.data),
        )
    )


def _encode_request_n(frame: RequestN) -> bytes:
    n = _U32.pack(_within(frame.n, 1, MAX_REQUEST_N, "request n"))
    return _header(frame.stream_id, FrameType.REQUEST_N, 0) + n


def _encode_cancel(frame: Cancel) -> bytes:
    return _header(frame.stream_id, FrameType.CANCEL, 0)


def _encode_payload(frame: Payload) -> bytes:
    if frame.follows and frame.complete:
        raise ValueError("F and C exclude each other")
    flags = (
        (0 if frame.metadata is None else METADATA)
        | (FOLLOWS if frame.follows else 0)
        | (COMPLETE if frame.complete else 0)
        | (NEXT if frame.next else 0)
    )
    return _header(frame.stream_id, FrameType.PAYLOAD, flags) + _with_metadata(frame.metadata, frame.data)


def _encode_error(frame: Error) -> bytes:
    code = _U32.pack(_within(frame.code, 0, 0xFFFFFFFF, "error code"))
    return _header(frame.stream_id, FrameType.ERROR, 0) + code + frame.text.encode()


def _encode_metadata_push(frame: MetadataPush) -> bytes:
    return _header(0, FrameType.METADATA_PUSH, METADATA) + frame.metadata


def _encode_resume(frame: Resume) -> bytes:
    return b"".join(
        (
            _header(0, FrameType.RESUME, 0),
            _U16.pack(_within(frame.major, 0, 0xFFFF, "major version")),
            _U16.pack(_within(frame.minor, 0, 0xFFFF, "minor version")),
            _token(frame.token),
            _U64.pack(_within(frame.server_position, 0, _MAX_U63, "position")),
            _U64.pack(_within(frame.client_position, 0, _MAX_U63, "position")),
        )
    )


def _encode_resume_ok(frame: ResumeOk) -> bytes:
    return _header(0, FrameType.RESUME_OK, 0) + _U64.pack(_within(frame.position, 0, _MAX_U63, "position"))


def _encode_extension(frame: Extension) -> bytes:
    flags = (IGNORE if frame.ignore else 0) | (METADATA if frame.metadata_flag else 0)
    extended = _U32.pack(_within(frame.type, 1, _MAX_U31, "extended type"))
    return _header(frame.stream_id, FrameType.EXT, flags) + extended + frame.body


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    Setup: _encode_setup,
    Lease: _encode_lease,
    KeepAlive: _encode_keepalive,
    RequestResponse: _encode_request,
    RequestFnf: _encode_request,
    RequestStream: _encode_request_with_credit,
    RequestChannel: _encode_request_with_credit,
    RequestN: _encode_request_n,
    Cancel: _encode_cancel,
    Payload: _encode_payload,
    Error: _encode_error,
    MetadataPush: _encode_metadata_push,
    Resume: _encode_resume,
    ResumeOk: _encode_resume_ok,
    Extension: _encode_extension,
}


# Decoding. A decoder gets the whole frame, the masked stream id and the ten flag bits.


def _need(data: Buffer, end: int, what: str) -> None:
    if len(data) < end:
        raise FrameError(f"{what} is cut short")


def _on_stream_zero(stream_id: int, what: str) -> None:
    if stream_id:
        raise FrameError(f"{what} on stream {stream_id}, not 0")


def _position(data: Buffer, at: int) -> int:
    _need(data, at + 8, "position")
    position: int = _U64.unpack_from(data, at)[0]
    if position > _MAX_U63:
        raise FrameError("position has its top bit set")
    return position


def _body(data: Buffer) -> tuple[bytes | None, bytes]:
    span = metadata_span(data, 0, len(data))
    if span is None:
        return None, bytes(data[payload_start(data, 0) :])
    start, end, data_start = span
    return bytes(data[start:end]), bytes(data[data_start:])


def _on_request_stream(stream_id: int) -> int:
    if not stream_id:
        raise FrameError("request on stream 0")
    return stream_id


def _refuse_setup(text: str) -> NoReturn:
    raise InvalidSetup(f"SETUP: {text}")


def _decode_setup(data: Buffer, stream_id: int, flags: int) -> Setup:
    size = len(data)
    if stream_id:
        _refuse_setup(f"on stream {stream_id}, not 0")
    if size < HEADER_BYTES + _SETUP.size:
        _refuse_setup("cut short")
    major, minor, keepalive_ms, lifetime_ms = _SETUP.unpack_from(data, HEADER_BYTES)
    if not 0 < keepalive_ms <= _MAX_U31:
        _refuse_setup(f"keepalive {keepalive_ms} ms is not within 1 to {_MAX_U31}")
    if not 0 < lifetime_ms <= _MAX_U31:
        _refuse_setup(f"lifetime {lifetime_ms} ms is not within 1 to {_MAX_U31}")
    at = HEADER_BYTES + _SETUP.size
    token: bytes | None = None
    if flags & RESUME_ENABLE:
        if at + 2 > size or (end := at + 2 + _U16.unpack_from(data, at)[0]) > size:
            _refuse_setup("resume token is cut short")
        token = bytes(data[at + 2 : end])
        at = end
    metadata_mime, at = _setup_mime(data, at, size)
    data_mime, at = _setup_mime(data, at, size)
    metadata: bytes | None = None
    if flags & METADATA:
        if at + 3 > size or (end := at + 3 + int.from_bytes(data[at : at + 3], "big")) > size:
            _refuse_setup("metadata goes beyond the frame")
        metadata = bytes(data[at + 3 : end])
        at = end
    return Setup(
        keepalive_ms=keepalive_ms,
        lifetime_ms=lifetime_ms,
        metadata_mime=metadata_mime,
        data_mime=data_mime,
        metadata=metadata,
        data=bytes(data[at:]),
        resume_token=token,
        lease=bool(flags & LEASE),
        major=major,
        minor=minor,
    )


def _setup_mime(data: Buffer, at: int, size: int) -> tuple[str, int]:
    # P08: the length byte is unsigned. rsocket-py reads it as signed and goes astray above 127.
    if at >= size or (end := at + 1 + data[at]) > size:
        _refuse_setup("MIME type is cut short")
    name = bytes(data[at + 1 : end])
    if not name.isascii():
        _refuse_setup("MIME type is not ASCII")
    return mimetypes.shared(name), end


def _decode_lease(data: Buffer, stream_id: int, flags: int) -> Lease:
    _on_stream_zero(stream_id, "LEASE")
    _need(data, HEADER_BYTES + _LEASE.size, "LEASE")
    ttl_ms, requests = _LEASE.unpack_from(data, HEADER_BYTES)
    if ttl_ms > _MAX_U31 or requests > _MAX_U31:
        raise FrameError("LEASE field has its top bit set")
    metadata = bytes(data[HEADER_BYTES + _LEASE.size :]) if flags & METADATA else None
    return Lease(ttl_ms, requests, metadata)


def _decode_keepalive(data: Buffer, stream_id: int, flags: int) -> KeepAlive:
    _on_stream_zero(stream_id, "KEEPALIVE")
    return KeepAlive(bool(flags & RESPOND), _position(data, HEADER_BYTES), bytes(data[HEADER_BYTES + 8 :]))


def _decode_request_response(data: Buffer, stream_id: int, flags: int) -> RequestResponse:
    return RequestResponse(_on_request_stream(stream_id), *_body(data), bool(flags & FOLLOWS))


def _decode_request_fnf(data: Buffer, stream_id: int, flags: int) -> RequestFnf:
    return RequestFnf(_on_request_stream(stream_id), *_body(data), bool(flags & FOLLOWS))


def _decode_request_stream(data: Buffer, stream_id: int, flags: int) -> RequestStream:
    n = peek_n(data, 0, len(data))
    return RequestStream(_on_request_stream(stream_id), *_body(data), n, bool(flags & FOLLOWS))


def _decode_request_channel(data: Buffer, stream_id: int, flags: int) -> RequestChannel:
    n = peek_n(data, 0, len(data))
    complete = bool(flags & COMPLETE)
    # P34: with C set, F is ignored.
    follows = bool(flags & FOLLOWS) and not complete
    return RequestChannel(_on_request_stream(stream_id), *_body(data), n, complete, follows)


def _decode_request_n(data: Buffer, stream_id: int, flags: int) -> RequestN:
    return RequestN(stream_id, peek_n(data, 0, len(data)))


def _decode_cancel(data: Buffer, stream_id: int, flags: int) -> Cancel:
    return Cancel(stream_id)


def _decode_payload(data: Buffer, stream_id: int, flags: int) -> Payload:
    complete = bool(flags & COMPLETE)
    follows = bool(flags & FOLLOWS) and not complete
    return Payload(stream_id, *_body(data), follows, complete, bool(flags & NEXT))


def _decode_error(data: Buffer, stream_id: int, flags: int) -> Error:
    code = peek_error_code(data, 0, len(data))
    # The text is for people: an undecodable byte must not turn a refusal into a protocol error.
    return Error(stream_id, code, bytes(data[HEADER_BYTES + 4 :]).decode(errors="replace"))


def _decode_metadata_push(data: Buffer, stream_id: int, flags: int) -> MetadataPush:
    if stream_id:
        raise MalformedFrame(f"METADATA_PUSH on stream {stream_id}, not 0", ignore=True)
    return MetadataPush(bytes(data[HEADER_BYTES:]))


def _decode_resume(data: Buffer, stream_id: int, flags: int) -> Resume:
    _on_stream_zero(stream_id, "RESUME")
    start = HEADER_BYTES + _RESUME.size
    _need(data, start, "RESUME")
    major, minor, length = _RESUME.unpack_from(data, HEADER_BYTES)
    end = start + length
    _need(data, end + _POSITIONS.size, "RESUME")
    return Resume(bytes(data[start:end]), _position(data, end), _position(data, end + 8), major, minor)


def _decode_resume_ok(data: Buffer, stream_id: int, flags: int) -> ResumeOk:
    _on_stream_zero(stream_id, "RESUME_OK")
    return ResumeOk(_position(data, HEADER_BYTES))


def _decode_extension(data: Buffer, stream_id: int, flags: int) -> Extension:
    _need(data, HEADER_BYTES + 4, "extended type")
    extended: int = _U32.unpack_from(data, HEADER_BYTES)[0]
    if not 0 < extended <= _MAX_U31:
        raise FrameError(f"extended type 0x{extended:x} is not within 1 to 0x{_MAX_U31:x}")
    body = bytes(data[HEADER_BYTES + 4 :])
    return Extension(stream_id, bool(flags & IGNORE), bool(flags & METADATA), extended, body)


_DECODERS: dict[int, Callable[[Buffer, int, int], Frame]] = {
    FrameType.SETUP: _decode_setup,
    FrameType.LEASE: _decode_lease,
    FrameType.KEEPALIVE: _decode_keepalive,
    FrameType.REQUEST_RESPONSE: _decode_request_response,
    FrameType.REQUEST_FNF: _decode_request_fnf,
    FrameType.REQUEST_STREAM: _decode_request_stream,
    FrameType.REQUEST_CHANNEL: _decode_request_channel,
    FrameType.REQUEST_N: _decode_request_n,
    FrameType.CANCEL: _decode_cancel,
    FrameType.PAYLOAD: _decode_payload,
    FrameType.ERROR: _decode_error,
    FrameType.METADATA_PUSH: _decode_metadata_push,
    FrameType.RESUME: _decode_resume,
    FrameType.RESUME_OK: _decode_resume_ok,
    FrameType.EXT: _decode_extension,
}
