"""The two ends of the load against each other: what is begun ends, credit is kept, errors are counted."""

from __future__ import annotations

from random import Random

import pytest

from gateway.load.calls import Calls, ChannelCalls, FnfCalls, ResponseCalls, StreamCalls
from gateway.load.responder import Responder
from gateway.load.tally import Tally
from gateway.wire.frames import (
    MAX_STREAM_ID,
    Cancel,
    Error,
    KeepAlive,
    Payload,
    RequestChannel,
    RequestFnf,
    RequestN,
    RequestResponse,
    RequestStream,
)
from tests.load.pipe import FRAMING, Pipe

DATA = b"0123456789abcdef"


def joined(model: str, in_flight: int = 8, items: int = 10, credit: int = 4, seed: int = 1, data: bytes = DATA) -> Pipe:
    tally = Tally()
    tally.running = True
    calls: Calls
    match model:
        case "rr":
            calls = ResponseCalls(tally, FRAMING, RequestResponse(1, b"m", data), in_flight, len(data))
        case "fnf":
            calls = FnfCalls(tally, FRAMING, RequestFnf(1, b"m", data), in_flight, len(data))
        case "stream":
            request = RequestStream(1, b"m", data, credit)
            calls = StreamCalls(tally, FRAMING, request, in_flight, len(data), credit)
        case _:
            opening = RequestChannel(1, b"m", data, credit, complete=items == 1)
            calls = ChannelCalls(tally, FRAMING, opening, in_flight, len(data), credit, items)
    return Pipe(calls, Responder(tally, FRAMING, data, items, credit), tally, Random(seed))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [0, 16, 300, 70_000])
def test_every_request_is_answered(seed: int, size: int) -> None:
    pipe = joined("rr", seed=seed, data=bytes(size))
    pipe.calls.begin()
    assert pipe.tally.begun == 8
    pipe.deliver(until=lambda: pipe.tally.operations >= 100)
    assert pipe.tally.begun - pipe.tally.finished == 8
    pipe.tally.running = False
    pipe.deliver()
    assert pipe.tally.begun == pipe.tally.finished == pipe.tally.operations == pipe.tally.latencies.count
    assert pipe.tally.errors == 0, pipe.tally.texts
    asked = [frame.stream_id for frame in pipe.of(RequestResponse, up=True)]
    assert asked == list(range(1, 2 * len(asked), 2))
    assert sorted(asked) == sorted(frame.stream_id for frame in pipe.of(Payload, up=False))


async def test_fire_and_forget_is_counted_where_it_arrives() -> None:
    pipe = joined("fnf")
    pipe.calls.begin()
    pipe.tally.running = False
    assert pipe.tally.operations == 0
    pipe.deliver()
    assert pipe.tally.operations == pipe.tally.begun == len(pipe.of(RequestFnf, up=True)) > 0


async def test_fire_and_forget_stops_when_the_connection_is_full() -> None:
    pipe = joined("fnf")
    pipe.calls.pause_writing()
    pipe.calls.begin()
    assert pipe.tally.begun == 0
    pipe.calls.resume_writing()
    assert pipe.tally.begun > 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("items", "credit"), [(1, 1), (1, 64), (3, 1), (10, 4), (7, 3), (64, 64), (100, 1000)])
@pytest.mark.parametrize("model", ["stream", "channel"])
def test_items_keep_to_their_credit_and_streams_end(model: str, items: int, credit: int, seed: int) -> None:
    pipe = joined(model, in_flight=3, items=items, credit=credit, seed=seed)
    pipe.calls.begin()
    pipe.deliver(until=lambda: pipe.tally.finished >= 9)
    pipe.tally.running = False
    pipe.deliver()
    tally = pipe.tally
    assert tally.errors == 0, tally.texts
    assert tally.begun == tally.finished == tally.latencies.count
    assert tally.operations == items * tally.finished
    down = [frame for frame in pipe.of(Payload, up=False) if isinstance(frame, Payload)]
    assert sum(frame.next for frame in down) == tally.operations
    assert sum(frame.complete for frame in down) == tally.finished
    up = [frame for frame in pipe.of(Payload, up=True) if isinstance(frame, Payload)]
    if model == "channel":
        assert sum(frame.next for frame in up) == (items - 1) * tally.finished
        assert sum(frame.complete for frame in up) == (tally.finished if items > 1 else 0)
    else:
        assert not up
    assert pipe.overdrawn() == {}


def test_a_stream_goes_on_for_longer_than_its_first_credit() -> None:
    pipe = joined("stream", in_flight=1, items=1000, credit=10)
    pipe.calls.begin()
    pipe.deliver(until=lambda: pipe.tally.operations >= 500)
    assert {frame.n for frame in pipe.of(RequestN, up=True) if isinstance(frame, RequestN)} == {5}


@pytest.mark.parametrize("end", [Cancel(1), Error(1, 0x203, "gone")])
def test_a_responder_forgets_a_stream_that_was_ended(end: Cancel | Error) -> None:
    pipe = joined("stream", in_flight=1, items=10, credit=2)
    pipe.inject(RequestStream(1, None, DATA, 1), into=pipe.responder)
    pipe.inject(end, into=pipe.responder)
    pipe.inject(RequestN(1, 5), into=pipe.responder)
    pipe.deliver()
    assert len(pipe.of(Payload, up=False)) == 1


def test_an_error_is_counted_and_made_up_for_later() -> None:
    pipe = joined("rr", in_flight=2)
    pipe.calls.begin()
    pipe.inject(Error(1, 0x202, "no route"))
    tally = pipe.tally
    assert (tally.errors, tally.begun, tally.finished) == (1, 2, 1)
    assert tally.texts == ["0x202 no route"]
    assert tally.owing == [pipe.calls]
    pipe.calls.make_up()
    assert tally.begun == 3
    tally.running = False
    pipe.deliver()
    assert (tally.operations, tally.finished) == (2, 3)


def test_what_was_not_asked_for_is_an_error() -> None:
    pipe = joined("rr", in_flight=1)
    pipe.calls.begin()
    pipe.inject(Payload(77, None, DATA, complete=True, next=True))
    pipe.inject(Payload(1, None, DATA + b"!", complete=True, next=True))
    pipe.inject(Payload(1, None, DATA, complete=True, next=True))
    assert pipe.tally.texts == ["answer to a request that was not sent", "answer of 17 bytes, not 16"]
    assert pipe.tally.errors == 3


def test_stream_ids_wrap_and_leave_out_those_in_use() -> None:
    """P20: ids rise to 2^31-1, then begin again without those that are open."""
    pipe = joined("rr", in_flight=2)
    pipe.calls.begin()
    pipe.inject(Payload(3, None, DATA, complete=True, next=True))
    pipe.calls.next_id = MAX_STREAM_ID
    for answered in (5, MAX_STREAM_ID):
        pipe.inject(Payload(answered, None, DATA, complete=True, next=True))
    assert pipe.tally.errors == 0, pipe.tally.texts
    pipe.tally.running = False
    pipe.deliver()
    assert [frame.stream_id for frame in pipe.of(RequestResponse, up=True)] == [1, 3, 5, MAX_STREAM_ID, 3]


def test_keepalives_are_answered_and_sent() -> None:
    pipe = joined("rr", in_flight=1)
    pipe.inject(KeepAlive(True, 0, b"ping"))
    pipe.calls.keep_alive()
    pipe.deliver()
    assert pipe.of(KeepAlive, up=True) == [KeepAlive(False, 0, b"ping"), KeepAlive(False)]


def test_the_end_of_a_connection_is_an_error_unless_it_was_meant() -> None:
    pipe = joined("rr", in_flight=1)
    pipe.inject(Error(0, 0x102, "draining"))
    pipe.calls.connection_lost(None)
    pipe.tally.ending = True
    pipe.responder.connection_lost(None)
    assert pipe.tally.texts == [
        "the broker ended the connection: 0x102 draining",
        "connection lost: closed by the broker",
    ]
