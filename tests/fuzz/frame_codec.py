"""Fuzz targets of the frame codec: RSocket frames, and first frames with the session behind them."""

from __future__ import annotations

from gateway.errors import (
    ConnectionFailed,
    FrameError,
    InvalidSetup,
    RejectedResume,
    RejectedSetup,
    UnsupportedSetup,
)
from gateway.session.session import Session, State
from gateway.session.setup import SetupRules, first_frame
from gateway.wire.frames import (
    Frame,
    MalformedFrame,
    Payload,
    RequestChannel,
    RequestFnf,
    RequestResponse,
    RequestStream,
    Setup,
    decode,
    encode,
    metadata_span,
    peek_flags,
    peek_stream_id,
    peek_type,
)
from tests.fuzz.target import check, outcome

_WITH_BODY = (RequestResponse, RequestFnf, RequestStream, RequestChannel, Payload)
RULES = SetupRules(max_bytes=1024)


def frame(data: bytes) -> str:
    """`decode`: a frame that survives encoding, or MalformedFrame or InvalidSetup; the peeks agree with it."""
    try:
        found = decode(data)
    except (MalformedFrame, InvalidSetup) as error:
        for other in (bytearray(data), memoryview(data)):
            _same_refusal(other, error)
        return outcome(error)
    check(decode(memoryview(data)) == found, "another buffer, another frame")
    again = encode(found)
    check(decode(again) == found, "not what it was after encoding")
    _peeks_agree(data, found)
    return f"{type(found).__name__} {peek_flags(again):03x}"


def _same_refusal(data: bytearray | memoryview, error: MalformedFrame | InvalidSetup) -> None:
    try:
        decode(data)
    except (MalformedFrame, InvalidSetup) as other:
        check((type(other), str(other)) == (type(error), str(error)), "another buffer, another error")
    else:
        check(False, "another buffer, no error")


def _peeks_agree(data: bytes, found: Frame) -> None:
    inside = b"\xff" * 5 + data + b"\xff" * 5
    check(peek_type(inside, 5) == found.frame_type, "peek_type")
    check(peek_stream_id(inside, 5) == getattr(found, "stream_id", 0), "peek_stream_id")
    if isinstance(found, _WITH_BODY):
        span = metadata_span(inside, 5, 5 + len(data))
        check((span is None) == (found.metadata is None), "metadata_span is there or not")
        if span is not None:
            check(inside[span[0] : span[1]] == found.metadata, "metadata_span")
            check(inside[span[2] : 5 + len(data)] == found.data, "where data begins")


def setup(data: bytes) -> str:
    """`first_frame` on the first frame, `Session.receive` on what follows; u16 lengths between them.

    A Setup or one of the four refusals; afterwards an event, ConnectionFailed or FrameError.
    """
    frames = _frames(data)
    first = frames[0]
    try:
        found = first_frame(b"\xff" + first + b"\xff", 1, 1 + len(first), RULES)
    except (InvalidSetup, UnsupportedSetup, RejectedSetup, RejectedResume) as error:
        return outcome(error)
    check(isinstance(found, Setup), "not a SETUP")
    check(encode(found) == encode(decode(first)), "not the SETUP that came")
    session = Session(RULES, now=0.0)
    session.set_up(first, 0, len(first))
    session.accepted()
    check(RULES.lifetime_min_ms <= session.lifetime_s * 1000 <= RULES.lifetime_max_ms, "lifetime out of bounds")
    labels = []
    for further in frames[1:9]:
        if len(further) < 6 or peek_stream_id(further):
            continue
        try:
            event, detail = session.receive(further, 0, len(further))
        except (ConnectionFailed, FrameError) as error:
            return f"{' '.join(labels)} {outcome(error)}"
        if isinstance(detail, bytes) and event.name == "KEPT_ALIVE" and detail:
            check(peek_type(detail) == 3, "an answer that is no KEEPALIVE")
            decode(detail)
        labels.append(event.name)
    check(session.state is not State.AWAITING_SETUP, "SETUP is not forgotten")
    return f"setup {' '.join(labels)}"


def _frames(data: bytes) -> list[bytes]:
    found = []
    while data or not found:
        end = 2 + int.from_bytes(data[:2], "big")
        found.append(data[2:end])
        data = data[end:]
    return found
