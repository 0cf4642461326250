"""Between rsocket-py's frame objects and bytes, by way of ``gateway.wire``.

rsocket-py's own parser and serialiser are never used: the parser drops ERROR frames above 0x300 (their callers hang),
accepts truncated metadata and joins fragments without bound; the serialiser loses the NEXT flag of an empty item and
lets frames of one stream overtake each other between fragments.

Must not know: sockets, tasks, what a stream is for.
"""

from __future__ import annotations

from rsocket import frame as py
from rsocket.error_codes import ErrorCode as PyErrorCode

from gateway.errors import RequestInvalid
from gateway.wire import frames

MAX_FRAGMENTS = 65_536
MAX_PARTIALS = 64


class WireCode(int):
    """An error code that rsocket-py's enumeration does not have; behaves as one of its members does."""

    @property
    def name(self) -> str:
        return f"0x{int(self):03x}"

    @property
    def value(self) -> int:
        return int(self)


def error_code(code: int) -> PyErrorCode | WireCode:
    """Return the code as rsocket-py wants it, whatever its number."""
    try:
        return PyErrorCode(code)
    except ValueError:
        return WireCode(code)


def to_bytes(frame: py.Frame, mtu: int) -> list[bytes]:
    """Encode a frame of rsocket-py's; messages above `mtu` bytes become several frames (P40)."""
    wire = _to_wire(frame)
    if isinstance(wire, frames.Fragmentable):
        return frames.fragment(wire, mtu)
    return [frames.encode(wire)]


def _to_wire(frame: py.Frame) -> frames.Frame:
    stream_id = frame.stream_id
    match frame:
        case py.PayloadFrame():
            metadata, data = _body(frame)
            is_item = bool(frame.flags_next or data or metadata)
            return frames.Payload(stream_id, metadata, data, complete=bool(frame.flags_complete), next=is_item)
        case py.RequestNFrame():
            return frames.RequestN(stream_id, frame.request_n)
        case py.CancelFrame():
            return frames.Cancel(stream_id)
        case py.ErrorFrame():
            return frames.Error(stream_id, int(frame.error_code), bytes(frame.data or b"").decode("utf-8", "replace"))
        case py.RequestResponseFrame():
            return frames.RequestResponse(stream_id, *_body(frame))
        case py.RequestFireAndForgetFrame():
            return frames.RequestFnf(stream_id, *_body(frame))
        case py.RequestStreamFrame():
            return frames.RequestStream(stream_id, *_body(frame), frame.initial_request_n)
        case py.RequestChannelFrame():
            return frames.RequestChannel(stream_id, *_body(frame), frame.initial_request_n, bool(frame.flags_complete))
        case py.KeepAliveFrame():
            # rsocket-py would echo the peer's position; nothing resumes here, so ours is 0 (P10).
            return frames.KeepAlive(bool(frame.flags_respond), 0, bytes(frame.data or b""))
        case py.SetupFrame():
            metadata, data = _body(frame)
            return frames.Setup(
                keepalive_ms=frame.keep_alive_milliseconds,
                lifetime_ms=frame.max_lifetime_milliseconds,
                metadata_mime=bytes(frame.metadata_encoding).decode(),
                data_mime=bytes(frame.data_encoding).decode(),
                metadata=metadata,
                data=data,
            )
        case py.MetadataPushFrame():
            return frames.MetadataPush(bytes(frame.metadata))
    raise ValueError(f"no client sends {type(frame).__name__}")


def _body(frame: py.Frame) -> tuple[bytes | None, bytes]:
    return (None if not frame.metadata else bytes(frame.metadata), bytes(frame.data or b""))


class Inbound:
    """Frames as they arrive on one connection: decoded, put together, checked."""

    def __init__(self, max_payload_bytes: int) -> None:
        self._max_payload_bytes = max_payload_bytes
        self._partials: dict[int, frames.Reassembly] = {}

    def accept(self, data: bytes) -> tuple[py.Frame | None, py.Frame | None]:
        """Return (the frame to handle, the frame to answer with); either may be None.

        Raises FrameError when the connection cannot go on (P23, P24).
        """
        try:
            frame = frames.decode(data)
        except frames.MalformedFrame as malformed:
            if malformed.ignore:
                return None, None
            raise
        if isinstance(frame, frames.Fragmentable):
            return self._gather(frame)
        if isinstance(frame, frames.Cancel | frames.Error):
            self._partials.pop(frame.stream_id, None)
        return _from_wire(frame), None

    def connection_error(self, text: str) -> py.Frame:
        """Return ERROR[CONNECTION_ERROR] for stream 0."""
        return _error(0, frames.ErrorCode.CONNECTION_ERROR, text)

    def _gather(self, frame: frames.Fragmentable) -> tuple[py.Frame | None, py.Frame | None]:
        partial = self._partials.get(frame.stream_id)
        if partial is None:
            if not frame.follows:
                return _from_wire(frame), None
            if len(self._partials) >= MAX_PARTIALS:
                return self._refuse(frame.stream_id, f"more than {MAX_PARTIALS} unfinished messages")
            partial = frames.Reassembly(self._max_payload_bytes, MAX_FRAGMENTS)
            self._partials[frame.stream_id] = partial
        try:
            whole = partial.add(frame)
        except RequestInvalid as invalid:
            del self._partials[frame.stream_id]
            return self._refuse(frame.stream_id, invalid.text)
        if whole is None:
            return None, None
        del self._partials[frame.stream_id]
        return _from_wire(whole), None

    def _refuse(self, stream_id: int, text: str) -> tuple[py.Frame, py.Frame]:
        """End a stream on both sides: the requester cancels, the responder answers ERROR."""
        refusal = _error(stream_id, frames.ErrorCode.INVALID, text)
        if stream_id % 2:
            cancel = py.CancelFrame()
            cancel.stream_id = stream_id
            return refusal, cancel
        return refusal, refusal


def _error(stream_id: int, code: int, text: str) -> py.Frame:
    frame = py.ErrorFrame()
    frame.stream_id = stream_id
    frame.error_code = error_code(code)
    frame.data = text.encode()
    return frame


def _from_wire(wire: frames.Frame) -> py.Frame | None:
    frame: py.Frame
    match wire:
        case frames.Payload():
            frame = py.PayloadFrame()
            frame.flags_complete = wire.complete
            # Neither NEXT nor COMPLETE is illegal, but stock rsocket-py sends its empty items so.
            frame.flags_next = wire.next or not wire.complete
        case frames.RequestN():
            frame = py.RequestNFrame()
            frame.request_n = wire.n
        case frames.Cancel():
            frame = py.CancelFrame()
        case frames.Error():
            return _error(wire.stream_id, wire.code, wire.text)
        case frames.RequestResponse():
            frame = py.RequestResponseFrame()
        case frames.RequestFnf():
            frame = py.RequestFireAndForgetFrame()
        case frames.RequestStream():
            frame = py.RequestStreamFrame()
            frame.initial_request_n = wire.initial_n
        case frames.RequestChannel():
            frame = py.RequestChannelFrame()
            frame.initial_request_n = wire.initial_n
            frame.flags_complete = wire.complete
        case frames.KeepAlive():
            frame = py.KeepAliveFrame(wire.data)
            frame.flags_respond = wire.respond
            return frame
        case frames.MetadataPush():
            frame = py.MetadataPushFrame()
            frame.metadata = wire.metadata
            return frame
        case _:
            # LEASE and RESUME_OK answer what this client never asks for; SETUP and RESUME are a client's own.
            return None
    frame.stream_id = wire.stream_id
    if isinstance(wire, frames.Fragmentable):
        frame.metadata = wire.metadata or b""
        frame.data = wire.data
    return frame
