"""One frozen dataclass a frame of RSocket 1.0, and the two ways bytes can fail to be one.

Lengths are bytes, intervals milliseconds, credits and positions plain ints. ``metadata`` is None when the frame carries
none (M flag clear), which is not the same as empty metadata. Ranges are checked when a frame is encoded, not here.

Must not know: how frames look as bytes, what a stream or a connection does with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from gateway.errors import FrameError
from gateway.wire.header import FrameType


class MalformedFrame(FrameError):
    """Bytes that break the rules of the frame they claim to be.

    ``ignore`` says that the receiver drops the frame and goes on, because its I flag is set (P24) or the specification
    asks for it (P22); otherwise the connection ends with CONNECTION_ERROR.
    """

    def __init__(self, text: str = "", *, ignore: bool = False) -> None:
        super().__init__(text)
        self.ignore = ignore


class UnknownFrame(MalformedFrame):
    """A frame type that the specification does not name (P23)."""

    reason = "unknown_frame"

    def __init__(self, type: int, ignore: bool) -> None:
        super().__init__(f"unknown frame type 0x{type:02x}", ignore=ignore)
        self.type = type


@dataclass(frozen=True, slots=True)
class Setup:
    """A client's first frame. ``resume_token`` None means that it does not ask for resumption.

    Versions are what the client said; whether they are served is the session's decision (P04).
    """

    keepalive_ms: int
    lifetime_ms: int
    metadata_mime: str
    data_mime: str
    metadata: bytes | None = None
    data: bytes = b""
    resume_token: bytes | None = None
    lease: bool = False
    major: int = 1
    minor: int = 0
    frame_type: ClassVar[FrameType] = FrameType.SETUP


@dataclass(frozen=True, slots=True)
class Lease:
    """Leave to send ``requests`` requests within ``ttl_ms``; 0 in either stops them (P36)."""

    ttl_ms: int
    requests: int
    metadata: bytes | None = None
    frame_type: ClassVar[FrameType] = FrameType.LEASE


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """``respond`` asks for the same ``data`` back (P10). ``position`` is 0 where nothing resumes."""

    respond: bool
    position: int = 0
    data: bytes = b""
    frame_type: ClassVar[FrameType] = FrameType.KEEPALIVE


@dataclass(frozen=True, slots=True)
class RequestResponse:
    stream_id: int
    metadata: bytes | None
    data: bytes
    follows: bool = False
    frame_type: ClassVar[FrameType] = FrameType.REQUEST_RESPONSE


@dataclass(frozen=True, slots=True)
class RequestFnf:
    stream_id: int
    metadata: bytes | None
    data: bytes
    follows: bool = False
    frame_type: ClassVar[FrameType] = FrameType.REQUEST_FNF


@dataclass(frozen=True, slots=True)
class RequestStream:
    stream_id: int
    metadata: bytes | None
    data: bytes
    initial_n: int
    follows: bool = False
    frame_type: ClassVar[FrameType] = FrameType.REQUEST_STREAM


@dataclass(frozen=True, slots=True)
class RequestChannel:
    """``complete`` says that the requester sends nothing after this first item."""

    stream_id: int
    metadata: bytes | None
    data: bytes
    initial_n: int
    complete: bool = False
    follows: bool = False
    frame_type: ClassVar[FrameType] = FrameType.REQUEST_CHANNEL


@dataclass(frozen=True, slots=True)
class RequestN:
    """``n`` more items may be sent, on top of what was allowed before (P30)."""

    stream_id: int
    n: int
    frame_type: ClassVar[FrameType] = FrameType.REQUEST_N


@dataclass(frozen=True, slots=True)
class Cancel:
    stream_id: int
    frame_type: ClassVar[FrameType] = FrameType.CANCEL


@dataclass(frozen=True, slots=True)
class Payload:
    """An item (``next``), the end of its side (``complete``), both, or a fragment of an item.

    ``next`` with no bytes is a real item. Neither ``next`` nor ``complete`` is legal on a fragment only (P34); a single
    frame cannot tell, so whoever knows the stream judges.
    """

    stream_id: int
    metadata: bytes | None
    data: bytes
    follows: bool = False
    complete: bool = False
    next: bool = False
    frame_type: ClassVar[FrameType] = FrameType.PAYLOAD


@dataclass(frozen=True, slots=True)
class Error:
    """Ends a stream, or with stream id 0 the connection. ``code`` may be an application's own."""

    stream_id: int
    code: int
    text: str = ""
    frame_type: ClassVar[FrameType] = FrameType.ERROR


@dataclass(frozen=True, slots=True)
class MetadataPush:
    metadata: bytes
    frame_type: ClassVar[FrameType] = FrameType.METADATA_PUSH


@dataclass(frozen=True, slots=True)
class Resume:
    """``server_position``: last position received from the server. ``client_position``: first one still held."""

    token: bytes
    server_position: int
    client_position: int
    major: int = 1
    minor: int = 0
    frame_type: ClassVar[FrameType] = FrameType.RESUME


@dataclass(frozen=True, slots=True)
class ResumeOk:
    """``position``: the last one the server received from the client."""

    position: int
    frame_type: ClassVar[FrameType] = FrameType.RESUME_OK


@dataclass(frozen=True, slots=True)
class Extension:
    """A frame of an extended type. ``body`` is what follows that type, uninterpreted."""

    stream_id: int
    ignore: bool
    metadata_flag: bool
    type: int
    body: bytes = b""
    frame_type: ClassVar[FrameType] = FrameType.EXT


Request: TypeAlias = RequestResponse | RequestFnf | RequestStream | RequestChannel
Fragmentable: TypeAlias = Request | Payload
Frame: TypeAlias = (
    Setup
    | Lease
    | KeepAlive
    | RequestResponse
    | RequestFnf
    | RequestStream
    | RequestChannel
    | RequestN
    | Cancel
    | Payload
    | Error
    | MetadataPush
    | Resume
    | ResumeOk
    | Extension
)
