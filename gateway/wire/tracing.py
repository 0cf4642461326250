"""Which trace a request belongs to, in the forms in which callers say it.

    traceparent, tracestate               W3C Trace Context, each an entry with the header's name as its type and the
                                          header's text as its content; so does rsocket-java with Micrometer
    message/x.rsocket.tracing-zipkin.v0   the binary form of the RSocket extension (X05)
    b3                                    Zipkin's single header, as Sleuth sends it

Where a request has several, the first of this list that can be read counts. What cannot be read is as if it were not
there, as the W3C asks: a broken trace must not cost a request.

Must not know: what is sampled, where spans go.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from gateway.errors import FrameError
from gateway.wire.metadata import Sampling, Zipkin, decode_zipkin, encode_composite, encode_zipkin, iter_composite
from gateway.wire.mimetypes import ZIPKIN

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
B3: Final = "b3"
_FORMS: Final = frozenset({TRACEPARENT, TRACESTATE, ZIPKIN, B3})
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_B3 = re.compile(r"([0-9a-f]{32}|[0-9a-f]{16})-([0-9a-f]{16})(?:-([01d]))?(?:-[0-9a-f]{16})?")
_B3_SAMPLING: Final = {"0": Sampling.NOT_SAMPLED, "1": Sampling.SAMPLED, "d": Sampling.DEBUG}
_SAMPLED: Final = 1
_LONG: Final = 16
# Of a trace that begins here: what is in front of the header, and of the ids.
_W3C_BEGUN: Final = encode_composite([(TRACEPARENT, bytes(55))])[:-55]
_ZIPKIN_BEGUN: Final = encode_composite([(ZIPKIN, b"\xa8" + bytes(24))])[:-24]


class Context(NamedTuple):
    """Where in which trace a caller is: 16 and 8 bytes, not all zero. Both empty: it only says whether to record."""

    trace_id: bytes
    span_id: bytes
    sampling: Sampling


def context_in(metadata: bytes) -> Context | None:
    """The context that a request's composite metadata carries. Raises FrameError for metadata that is none."""
    found: dict[str, Context] = {}
    for entry in iter_composite(metadata, 0, len(metadata)):
        if entry.mime in _FORMS and entry.mime not in found:
            context = _read(entry.mime, metadata[entry.content_start : entry.end])
            if context is not None:
                found[entry.mime] = context
    return found.get(TRACEPARENT) or found.get(ZIPKIN) or found.get(B3)


def trace_id_in(metadata: bytes) -> str:
    """The id of that trace as text; "" where there is none, or no metadata that can be read."""
    try:
        context = context_in(metadata)
    except FrameError:
        return ""
    return "" if context is None else context.trace_id.hex()


def continued(metadata: bytes, trace_id: bytes, span_id: bytes, parent_id: bytes) -> bytes:
    """`metadata`, recorded, with `span_id` as the place where its trace goes on, in every form that it had; in both
    binary Zipkin and the W3C's where it had none. A form that cannot be read, or tells of another trace, is left out.

    Raises FrameError for metadata that is not composite.
    """
    kept: list[bytes] = []
    state: list[bytes] = []
    put = False
    keeps_state = False
    for entry in iter_composite(metadata, 0, len(metadata)):
        mime = entry.mime
        if mime not in _FORMS:
            kept.append(metadata[entry.start : entry.end])
            continue
        content = metadata[entry.content_start : entry.end]
        if mime == TRACESTATE:
            state.append(metadata[entry.start : entry.end])
            continue
        context = _read(mime, content)
        if context is None or context.trace_id != trace_id:
            continue
        put = True
        debug = context.sampling is Sampling.DEBUG
        if mime == TRACEPARENT:
            keeps_state = True
            flags = int(content[53:55], 16) | _SAMPLED
            written = f"00-{trace_id.hex()}-{span_id.hex()}-{flags:02x}".encode()
        elif mime == ZIPKIN:
            short = trace_id[8:] if not content[0] & 0x08 else trace_id
            sampling = Sampling.DEBUG if debug else Sampling.SAMPLED
            written = encode_zipkin(Zipkin(sampling, short, span_id, parent_id or None))
        else:
            short = trace_id[8:] if content[16:17] == b"-" else trace_id
            written = f"{short.hex()}-{span_id.hex()}-{'d' if debug else '1'}-{parent_id.hex()}".encode()
        kept.append(encode_composite([(mime, written)]))
    if not put:
        kept.append(begun(trace_id, span_id))
    return b"".join((*kept, *state) if keeps_state else kept)


def begun(trace_id: bytes, span_id: bytes) -> bytes:
    """The composite entries of a recorded trace that begins here."""
    header = f"00-{trace_id.hex()}-{span_id.hex()}-01".encode()
    return b"".join((_W3C_BEGUN, header, _ZIPKIN_BEGUN, trace_id, span_id))


def read_traceparent(text: str) -> Context | None:
    """Of a `traceparent` header; None for what is none."""
    found = _TRACEPARENT.fullmatch(text)
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    trace_id, span_id = bytes.fromhex(found[2]), bytes.fromhex(found[3])
    if not any(trace_id) or not any(span_id):
        return None
    sampled = Sampling.SAMPLED if int(found[4], 16) & _SAMPLED else Sampling.NOT_SAMPLED
    return Context(trace_id, span_id, sampled)


def write_traceparent(context: Context) -> str:
    """The header's text."""
    flags = _SAMPLED if context.sampling in (Sampling.SAMPLED, Sampling.DEBUG) else 0
    return f"00-{context.trace_id.hex()}-{context.span_id.hex()}-{flags:02x}"


def _read(mime: str, content: bytes) -> Context | None:
    if mime == ZIPKIN:
        return _read_zipkin(content)
    if mime == TRACESTATE:
        return None
    text = content.decode("ascii", "replace")
    return read_traceparent(text) if mime == TRACEPARENT else _read_b3(text)


def _read_zipkin(content: bytes) -> Context | None:
    try:
        said = decode_zipkin(content)
    except FrameError:
        return None
    if said.trace_id is None or said.span_id is None:
        return Context(b"", b"", said.sampling)
    if not any(said.trace_id) or not any(said.span_id):
        return None
    return Context(said.trace_id.rjust(_LONG, b"\0"), said.span_id, said.sampling)


def _read_b3(text: str) -> Context | None:
    if text in _B3_SAMPLING:
        return Context(b"", b"", _B3_SAMPLING[text])
    found = _B3.fullmatch(text)
    if found is None:
        return None
    trace_id, span_id = bytes.fromhex(found[1]).rjust(_LONG, b"\0"), bytes.fromhex(found[2])
    if not any(trace_id) or not any(span_id):
        return None
    return Context(trace_id, span_id, _B3_SAMPLING.get(found[3], Sampling.UNDECIDED))
