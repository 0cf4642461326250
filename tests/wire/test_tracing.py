"""Which trace a request is part of, in each form in which callers say it (X05)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import FrameError
from gateway.wire.metadata import Sampling, Zipkin, decode_composite, decode_zipkin, encode_composite, encode_zipkin
from gateway.wire.mimetypes import ROUTING, ZIPKIN
from gateway.wire.tracing import (
    B3,
    TRACEPARENT,
    TRACESTATE,
    Context,
    context_in,
    continued,
    read_traceparent,
    trace_id_in,
    write_traceparent,
)
from tests.wire.vectors import load, parameters

TRACE = bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736")
SHORT = bytes(8) + TRACE[8:]
SPAN = bytes.fromhex("00f067aa0ba902b7")
NEXT = bytes.fromhex("1111111111111111")
W3C = f"00-{TRACE.hex()}-{SPAN.hex()}-01"


@pytest.mark.parametrize("vector", parameters(load("tracing.json")))
def test_what_stock_clients_send(vector: dict[str, Any]) -> None:
    context = context_in(bytes.fromhex(vector["hex"]))
    assert context is not None
    said = (context.trace_id.hex(), context.span_id.hex(), context.sampling.name)
    assert said == (vector["trace_id"], vector["span_id"], vector["sampling"])
    assert trace_id_in(bytes.fromhex(vector["hex"])) == vector["trace_id"]


def test_every_form_goes_on_in_its_own() -> None:
    """X05: a responder that reads one of them finds the span of the node before it, whichever it reads."""
    metadata = bytes.fromhex(load("tracing.json")[0]["hex"])
    entries = decode_composite(continued(metadata, TRACE, NEXT, SPAN))
    assert entries == [
        (ROUTING, b"\x04echo"),
        (ZIPKIN, encode_zipkin(Zipkin(Sampling.SAMPLED, TRACE, NEXT, SPAN))),
        (TRACEPARENT, f"00-{TRACE.hex()}-{NEXT.hex()}-01".encode()),
        (TRACESTATE, b"congo=t61rcWkgMzE"),
    ]


def test_a_short_trace_id_stays_short() -> None:
    b3 = bytes.fromhex(load("tracing.json")[1]["hex"])
    entries = dict(decode_composite(continued(b3, SHORT, NEXT, SPAN)))
    assert entries[B3] == f"{TRACE[8:].hex()}-{NEXT.hex()}-1-{SPAN.hex()}".encode()
    zipkin = encode_composite([(ZIPKIN, encode_zipkin(Zipkin(Sampling.DEBUG, TRACE[8:], SPAN)))])
    entries = dict(decode_composite(continued(zipkin, SHORT, NEXT, SPAN)))
    assert decode_zipkin(entries[ZIPKIN]) == Zipkin(Sampling.DEBUG, TRACE[8:], NEXT, SPAN)


def test_a_trace_that_begins_here_is_told_in_both_forms() -> None:
    entries = dict(decode_composite(continued(encode_composite([(ROUTING, b"\x04echo")]), TRACE, SPAN, b"")))
    assert entries == {
        ROUTING: b"\x04echo",
        TRACEPARENT: W3C.encode(),
        ZIPKIN: encode_zipkin(Zipkin(Sampling.SAMPLED, TRACE, SPAN)),
    }


def test_only_a_decision() -> None:
    metadata = encode_composite([(ZIPKIN, encode_zipkin(Zipkin(Sampling.SAMPLED)))])
    assert context_in(metadata) == Context(b"", b"", Sampling.SAMPLED)
    assert trace_id_in(metadata) == ""
    assert context_in(encode_composite([(B3, b"0")])) == Context(b"", b"", Sampling.NOT_SAMPLED)
    assert [mime for mime, _ in decode_composite(continued(metadata, TRACE, SPAN, b""))] == [TRACEPARENT, ZIPKIN]


@pytest.mark.parametrize(
    "entry",
    [
        (TRACEPARENT, b"00-zz"),
        (TRACEPARENT, f"ff-{TRACE.hex()}-{SPAN.hex()}-01".encode()),
        (TRACEPARENT, f"00-{'0' * 32}-{SPAN.hex()}-01".encode()),
        (TRACEPARENT, f"00-{TRACE.hex()}-{'0' * 16}-01".encode()),
        (TRACEPARENT, f"{W3C}-more".encode()),
        (TRACEPARENT, b"\xff\xfe"),
        (ZIPKIN, b""),
        (ZIPKIN, b"\x80\x01"),
        (ZIPKIN, encode_zipkin(Zipkin(Sampling.SAMPLED, bytes(8), SPAN))),
        (B3, b"no"),
        (B3, f"{'0' * 16}-{SPAN.hex()}".encode()),
    ],
)
def test_what_cannot_be_read_is_as_if_it_were_not_there(entry: tuple[str, bytes]) -> None:
    metadata = encode_composite([entry, (TRACESTATE, b"a=1")])
    assert context_in(metadata) is None
    assert [mime for mime, _ in decode_composite(continued(metadata, TRACE, SPAN, b""))] == [TRACEPARENT, ZIPKIN]


def test_the_w3c_form_counts_before_the_others() -> None:
    other = encode_zipkin(Zipkin(Sampling.NOT_SAMPLED, TRACE[::-1], SPAN))
    metadata = encode_composite([(ZIPKIN, other), (TRACEPARENT, W3C.encode())])
    assert context_in(metadata) == Context(TRACE, SPAN, Sampling.SAMPLED)
    # What tells of another trace would lead its reader astray.
    assert [mime for mime, _ in decode_composite(continued(metadata, TRACE, NEXT, SPAN))] == [TRACEPARENT]


def test_a_later_version_may_say_more() -> None:
    assert read_traceparent(f"cc-{TRACE.hex()}-{SPAN.hex()}-01-what") == Context(TRACE, SPAN, Sampling.SAMPLED)


def test_metadata_that_is_none() -> None:
    assert trace_id_in(b"\x05nonsense") == ""
    with pytest.raises(FrameError):
        context_in(b"\x05nonsense")


@given(st.binary(min_size=16, max_size=16).filter(any), st.binary(min_size=8, max_size=8).filter(any), st.booleans())
def test_a_header_is_read_as_it_was_written(trace_id: bytes, span_id: bytes, sampled: bool) -> None:
    context = Context(trace_id, span_id, Sampling.SAMPLED if sampled else Sampling.NOT_SAMPLED)
    assert read_traceparent(write_traceparent(context)) == context
    metadata = encode_composite([(TRACEPARENT, write_traceparent(context).encode())])
    assert context_in(continued(metadata, trace_id, NEXT, span_id)) == Context(trace_id, NEXT, Sampling.SAMPLED)
