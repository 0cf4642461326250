"""Frames across two connections: what goes through, what is patched, what is ignored, what ends a connection."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from gateway.forwarding.closing import CloseReason
from gateway.policy.principal import Kind
from gateway.session.stream_ids import SERVER_FIRST, StreamIds
from gateway.wire.frames import (
    COMPLETE,
    FOLLOWS,
    IGNORE,
    METADATA,
    NEXT,
    Cancel,
    Error,
    Extension,
    Frame,
    FrameType,
    KeepAlive,
    Lease,
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
    encode,
)
from tests.forwarding.plane_of import TCP, WEBSOCKET, Peer, Site, complete, entries_of, item, stamp, to_route

FRAMINGS = [
    pytest.param((WEBSOCKET, WEBSOCKET), id="websocket-websocket"),
    pytest.param((WEBSOCKET, TCP), id="websocket-tcp"),
    pytest.param((TCP, WEBSOCKET), id="tcp-websocket"),
    pytest.param((TCP, TCP), id="tcp-tcp"),
]
SIZES = [0, 1, 50, 125, 126, 300, 65_535, 65_536, 200_000]


@pytest.fixture(params=FRAMINGS)
def pair(request: pytest.FixtureRequest, site: Site) -> tuple[Peer, Peer]:
    """A caller and a service, `echo`, over each combination of framings."""
    caller, responder = request.param
    return site.connect("caller", prefixed=caller), site.service("echo", prefixed=responder)


def payload(stream_id: int, flags: int, body: bytes = b"") -> bytes:
    """A PAYLOAD with these very flags."""
    return struct.pack(">IH", stream_id, FrameType.PAYLOAD << 10 | flags) + body


# The interaction models


@pytest.mark.parametrize("size", SIZES)
def test_request_response(pair: tuple[Peer, Peer], size: int) -> None:
    caller, responder = pair
    stream_id = caller.respond("echo.it", b"a" * size)
    request = responder.one()
    assert request == RequestResponse(2, request.metadata, b"a" * size)
    assert entries_of(request.metadata) == [*entries_of(to_route("echo.it")), stamp()]
    responder.send(item(2, b"b" * size, complete=True))
    assert caller.one() == item(stream_id, b"b" * size, complete=True)
    assert responder.got() == []


@pytest.mark.parametrize("size", [0, 300])
def test_fire_and_forget(pair: tuple[Peer, Peer], site: Site, size: int) -> None:
    """P35: nothing comes back and nothing is kept."""
    caller, responder = pair
    caller.fire("echo.it", b"a" * size)
    request = responder.one()
    assert request == RequestFnf(2, request.metadata, b"a" * size)
    assert entries_of(request.metadata)[-1] == stamp()
    assert caller.got() == []
    assert site.open_streams() == 0
    assert site.counters.fire_and_forget == 1


def test_request_stream(pair: tuple[Peer, Peer]) -> None:
    """P31: credit goes through as it came, and so do items."""
    caller, responder = pair
    stream_id = caller.stream("echo.it", 2)
    request = responder.one()
    assert request == RequestStream(2, request.metadata, b"?", 2)
    responder.send(item(2, b"1"), item(2, b"2"))
    assert caller.got() == [item(stream_id, b"1"), item(stream_id, b"2")]
    caller.send(RequestN(stream_id, 3))
    assert responder.got() == [RequestN(2, 3)]
    responder.send(item(2, b"3"), complete(2))
    assert caller.got() == [item(stream_id, b"3"), complete(stream_id)]


def test_request_channel(pair: tuple[Peer, Peer]) -> None:
    """P32, P33: credit and items both ways; it ends when both sides have completed."""
    caller, responder = pair
    stream_id = caller.channel("echo.it", 1, b"first")
    request = responder.one()
    assert request == RequestChannel(2, request.metadata, b"first", 1)
    responder.send(RequestN(2, 2), item(2, b"a"))
    assert caller.got() == [RequestN(stream_id, 2), item(stream_id, b"a")]
    caller.send(item(stream_id, b"second"), RequestN(stream_id, 1), item(stream_id, b"last", complete=True))
    assert responder.got() == [item(2, b"second"), RequestN(2, 1), item(2, b"last", complete=True)]
    assert caller.connection.requesting
    responder.send(item(2, b"b", complete=True))
    assert caller.got() == [item(stream_id, b"b", complete=True)]
    assert not caller.connection.requesting


def test_the_request_goes_the_other_way_too(site: Site) -> None:
    """A service that is asked may itself ask: both sides of one connection request and serve."""
    one, other = site.service("one"), site.service("other", prefixed=TCP)
    first, second = one.respond("other.x", turn=False), other.respond("one.x", turn=False)
    site.turn()
    assert isinstance(one.one(), RequestResponse)
    assert isinstance(other.one(), RequestResponse)
    one.send(item(2, b"from one", complete=True))
    other.send(item(2, b"from other", complete=True))
    assert one.one() == item(first, b"from other", complete=True)
    assert other.one() == item(second, b"from one", complete=True)


def test_a_connection_may_call_itself(site: Site) -> None:
    peer = site.service("echo")
    stream_id = peer.respond("echo.it")
    assert peer.one().stream_id == 2
    peer.send(item(2, b"me", complete=True))
    assert peer.one() == item(stream_id, b"me", complete=True)
    peer.stream("echo.it", 1)
    peer.channel("echo.it", 1)
    peer.fire("echo.it")
    assert site.open_streams() == 2


def test_streams_interleave(pair: tuple[Peer, Peer]) -> None:
    """P41."""
    caller, responder = pair
    ids = [caller.respond("echo.it", b"%d" % number, turn=False) for number in range(10)]
    caller.site.turn()
    requests = responder.got()
    responder.send(*(item(frame.stream_id, frame.data, complete=True) for frame in reversed(requests)))
    assert caller.got() == [item(ids[number], b"%d" % number, complete=True) for number in reversed(range(10))]


@pytest.mark.parametrize("code", [0x201, 0x202, 0x203, 0x204, 0x300, 0x301, 0xABCDEF, 0xFFFFFFFE, 0xFFFFFFFF])
@pytest.mark.parametrize("kind", [RequestResponse, RequestStream, RequestChannel])
def test_errors_are_relayed_as_they_are(site: Site, kind: type[Frame], code: int) -> None:
    """Codes from 0x301 on are the application's own; texts are not touched either."""
    caller, responder = site.connect(), site.service("echo")
    ask = {RequestResponse: caller.respond, RequestStream: caller.stream, RequestChannel: caller.channel}[kind]
    stream_id = ask("echo.it")
    (request,) = responder.got()
    assert isinstance(request, kind)
    responder.send(encode(Error(2, code, "größer")) + b"\xff")
    assert caller.raw() == [encode(Error(stream_id, code, "größer")) + b"\xff"]
    assert site.open_streams() == 0


# Stream ids


def test_the_node_hands_out_even_ids_and_the_client_odd_ones(site: Site) -> None:
    """P20."""
    caller, responder = site.connect(), site.service("echo")
    for expected in (2, 4, 6):
        caller.respond("echo.it")
        assert responder.one().stream_id == expected
    caller.fire("echo.it")
    assert responder.one().stream_id == 8


def test_ids_of_the_node_wrap_and_skip_those_in_use(site: Site) -> None:
    """P20."""
    caller, responder = site.connect(), site.service("echo")
    caller.respond("echo.it")
    assert responder.one().stream_id == 2
    responder.connection.ids = StreamIds(SERVER_FIRST, 0x7FFFFFFE)
    for expected in (0x7FFFFFFE, 4, 6):
        caller.respond("echo.it")
        assert responder.one().stream_id == expected


def test_the_largest_id_of_a_client_serves(site: Site) -> None:
    """P20."""
    caller, responder = site.connect(), site.service("echo")
    caller.send(RequestResponse(0x7FFFFFFF, to_route("echo.it"), b"?"))
    responder.send(item(responder.one().stream_id, b"!", complete=True))
    assert caller.one() == item(0x7FFFFFFF, b"!", complete=True)


def test_the_reserved_bit_of_an_id_means_nothing(site: Site) -> None:
    """P20, P22."""
    caller, responder = site.connect(), site.service("echo")
    frame = encode(RequestResponse(1, to_route("echo.it"), b"?"))
    caller.send(b"\x80" + frame[1:])
    responder.send(b"\x80" + encode(item(responder.one().stream_id, b"!", complete=True))[1:])
    assert caller.one() == item(1, b"!", complete=True)


def test_a_request_on_an_id_in_use_is_ignored(site: Site) -> None:
    """P21, fault 41: the stream that has the id goes on."""
    caller, responder = site.connect(), site.service("echo")
    stream_id = caller.stream("echo.it", 1)
    responder.got()
    for frame in (
        RequestResponse(stream_id, to_route("echo.it"), b"again"),
        RequestFnf(stream_id, to_route("echo.it"), b"again"),
        RequestStream(stream_id, to_route("echo.it"), b"again", 1),
        RequestChannel(stream_id, to_route("echo.it"), b"again", 1),
    ):
        caller.send(frame)
    assert responder.got() == caller.got() == []
    assert site.counters.ignored_frames == 4
    responder.send(item(2, b"1", complete=True))
    assert caller.one() == item(stream_id, b"1", complete=True)


@pytest.mark.parametrize("make", [RequestResponse, RequestFnf])
def test_a_request_with_an_id_of_the_other_side_ends_the_connection(site: Site, make: Callable[..., Frame]) -> None:
    """P20, fault 41."""
    caller = site.connect()
    caller.send(make(2, to_route("echo.it"), b"?"))
    error = caller.one()
    assert (error.stream_id, error.code) == (0, 0x101)
    assert caller.carrier.closed is not None
    assert caller.carrier.closed[0] == 1002


def test_a_request_on_stream_0_is_ignored(site: Site) -> None:
    """P22, fault 41."""
    caller, responder = site.connect(), site.service("echo")
    frame = encode(RequestResponse(1, to_route("echo.it"), b"?"))
    caller.send(bytes(4) + frame[4:])
    assert responder.got() == caller.got() == []
    assert caller.open


# What is ignored


STRAYS: list[Frame] = [
    Payload(9, None, b"x", next=True),
    Payload(8, b"meta", b"x", complete=True, next=True),
    RequestN(9, 5),
    Cancel(9),
    Error(9, 0x201, "no"),
    Payload(0, None, b"x", next=True),
    RequestN(0, 5),
    Cancel(0),
    Setup(1000, 1000, "a", "b"),
    Lease(1000, 1),
    ResumeOk(0),
    MetadataPush(b"push"),
    Error(0, 0x001, "no"),
    Error(0, 0x301, "no"),
    Extension(0, True, False, 1, b""),
    Extension(9, True, True, 1, b""),
]


@pytest.mark.parametrize("frame", STRAYS, ids=lambda frame: f"{type(frame).__name__}-{getattr(frame, 'stream_id', 0)}")
def test_strays_are_ignored_and_counted(site: Site, frame: Frame) -> None:
    """P07, P22, P23, faults 22, 42, 43, 45."""
    caller = site.connect()
    caller.send(frame)
    assert caller.got() == []
    assert caller.open
    assert site.counters.ignored_frames == 1


@pytest.mark.parametrize("kind", [FrameType.KEEPALIVE, FrameType.METADATA_PUSH, FrameType.LEASE, FrameType.SETUP])
def test_frames_of_stream_0_are_ignored_elsewhere(site: Site, kind: FrameType) -> None:
    """P22: METADATA_PUSH on another stream, and the like."""
    caller = site.connect()
    caller.send(struct.pack(">IH", 7, kind << 10) + bytes(20))
    assert caller.got() == []
    assert caller.open


@pytest.mark.parametrize("stream_id", [0, 1, 2])
@pytest.mark.parametrize("kind", [0x00, 0x0F, 0x3E, 0x3F])
def test_unknown_types(site: Site, stream_id: int, kind: int) -> None:
    """P23, fault 44: ignored with IGNORE, the end of the connection without it, on whatever stream."""
    caller = site.connect()
    frame = struct.pack(">IH", stream_id, kind << 10 | IGNORE)
    caller.send(frame)
    assert caller.open
    assert caller.got() == []
    caller.send(struct.pack(">IH", stream_id, kind << 10))
    error = caller.one()
    assert (error.stream_id, error.code) == (0, 0x101)
    assert not caller.open


def test_flag_bits_without_a_meaning_go_through(site: Site) -> None:
    """P22."""
    caller, responder = site.connect(), site.service("echo")
    stream_id = caller.respond("echo.it")
    responder.got()
    responder.send(payload(2, NEXT | COMPLETE | 0x1F, b"!"))
    assert caller.raw() == [payload(stream_id, NEXT | COMPLETE | 0x1F, b"!")]


def test_resume_behind_setup_ends_the_connection(site: Site) -> None:
    """P52, fault 49."""
    caller = site.connect()
    caller.send(Resume(b"token", 0, 0))
    assert caller.one().code == 0x101
    assert not caller.open


# Malformed frames


@pytest.mark.parametrize("size", range(6))
def test_a_frame_without_a_header_ends_the_connection(site: Site, size: int) -> None:
    """Fault 8."""
    caller = site.connect()
    caller.send(bytes(size))
    error = caller.one()
    assert (error.stream_id, error.code) == (0, 0x101)
    assert "shorter than its header" in error.text
    assert caller.carrier.closed is not None


def test_a_first_frame_without_a_header_is_refused(site: Site) -> None:
    """Fault 8."""
    stranger = site.dial()
    stranger.send(b"")
    assert stranger.one().code == 0x101
    assert stranger.carrier.closed is not None


def torn(stream_id: int, kind: FrameType, flags: int, length: bytes) -> bytes:
    credit = b"\0\0\0\1" if kind in (FrameType.REQUEST_STREAM, FrameType.REQUEST_CHANNEL) else b""
    return struct.pack(">IH", stream_id, kind << 10 | flags | METADATA) + credit + length


TORN = [b"", b"\0", b"\0\0", b"\0\0\1", b"\0\0\5four", b"\xff\xff\xff"]
REQUESTS = [
    FrameType.REQUEST_RESPONSE,
    FrameType.REQUEST_FNF,
    FrameType.REQUEST_STREAM,
    FrameType.REQUEST_CHANNEL,
]


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("length", TORN)
def test_a_request_whose_metadata_goes_beyond_it(site: Site, kind: FrameType, length: bytes) -> None:
    """P24, fault 39: CONNECTION_ERROR and close; with IGNORE only the request is refused."""
    caller = site.connect()
    caller.send(torn(1, kind, IGNORE, length))
    answers = caller.got()
    if kind is FrameType.REQUEST_FNF:
        assert answers == []
    else:
        (error,) = answers
        assert (error.stream_id, error.code) == (1, 0x204)
    assert caller.open
    caller.send(torn(3, kind, 0, length))
    error = caller.one()
    assert (error.stream_id, error.code) == (0, 0x101)
    assert not caller.open


@pytest.mark.parametrize("kind", [FrameType.REQUEST_STREAM, FrameType.REQUEST_CHANNEL])
@pytest.mark.parametrize("size", range(4))
def test_a_request_without_its_credit(site: Site, kind: FrameType, size: int) -> None:
    caller = site.connect()
    caller.send(struct.pack(">IH", 1, kind << 10) + bytes(size))
    assert caller.one().code == 0x101
    assert not caller.open


@pytest.mark.parametrize("length", TORN)
def test_torn_metadata_of_an_answer_costs_the_responder_its_connection_and_nobody_else(
    site: Site, length: bytes
) -> None:
    """P24: passed on as it is, it would cost the caller its connection instead."""
    caller, responder = site.connect(), site.service("echo")
    stream_id = caller.respond("echo.it")
    responder.got()
    responder.send(torn(2, FrameType.PAYLOAD, NEXT | COMPLETE, length))
    assert responder.got()[-1].code == 0x101
    assert not responder.open
    error = caller.one()
    assert (error.stream_id, error.code) == (stream_id, 0x203)
    assert caller.open


@pytest.mark.parametrize("length", TORN)
def test_torn_metadata_of_a_channel_item_costs_the_caller_its_connection_and_nobody_else(
    site: Site, length: bytes
) -> None:
    """P24."""
    caller, responder = site.connect(), site.service("echo")
    stream_id = caller.channel("echo.it")
    responder.send(RequestN(2, 9))
    responder.got()
    caller.got()
    caller.send(torn(stream_id, FrameType.PAYLOAD, NEXT, length))
    assert caller.one().code == 0x101
    assert not caller.open
    assert responder.one() == Cancel(2)
    assert responder.open


def test_torn_metadata_with_ignore_ends_its_stream(site: Site) -> None:
    """P24: from either side; whoever waits learns of it."""
    caller, responder = site.connect(), site.service("echo")
    first, second = caller.respond("echo.it"), caller.channel("echo.it")
    responder.got()
    responder.send(torn(2, FrameType.PAYLOAD, NEXT | COMPLETE | IGNORE, b"\0\0\5four"))
    error = caller.one()
    assert (error.stream_id, error.code) == (first, 0x204)
    assert responder.one() == Cancel(2)
    caller.send(torn(second, FrameType.PAYLOAD, NEXT | IGNORE, b"\0\0\5four"))
    error = caller.one()
    assert (error.stream_id, error.code) == (second, 0x204)
    assert responder.one() == Cancel(4)
    assert caller.open
    assert responder.open


def test_metadata_of_answers_goes_through(site: Site) -> None:
    caller, responder = site.connect(), site.service("echo")
    stream_id = caller.respond("echo.it")
    responder.got()
    responder.send(Payload(2, b"meta", b"data", complete=True, next=True))
    assert caller.one() == Payload(stream_id, b"meta", b"data", complete=True, next=True)


@pytest.mark.parametrize("size", range(4))
@pytest.mark.parametrize("who", ["caller", "responder"])
def test_an_error_without_a_code_costs_its_sender_the_connection(site: Site, who: str, size: int) -> None:
    caller, responder = site.connect(), site.service("echo")
    stream_id = caller.channel("echo.it")
    responder.got()
    sender = caller if who == "caller" else responder
    sender.send(encode(Error(stream_id if who == "caller" else 2, 0x201, ""))[: 6 + size])
    assert sender.got()[-1].code == 0x101
    assert not sender.open
    other = responder if who == "caller" else caller
    assert other.one() == (Cancel(2) if who == "caller" else Error(stream_id, 0x203, "responder disconnected"))
    assert other.open


# PAYLOAD


def test_an_answer_without_complete_is_complete(site: Site) -> None:
    """P34."""
    caller, responder = site.connect(), site.service("echo")
    stream_id = caller.respond("echo.it")
    responder.got()
    responder.send(item(2, b"!"))
    assert caller.one() == item(stream_id, b"!")
    assert site.open_streams() == 0


def test_an_answer_of_complete_alone_is_an_answer(site: Site) -> None:
    caller, responder = site.connect(), site.service("echo")
    stream_id = caller.respond("echo.it")
    responder.got()
    responder.send(complete(2))
    assert caller.one() == complete(stream_id)
    assert site.metrics.services["echo"].ok == 1


@pytest.mark.parametrize("ask", ["respond", "stream", "channel"])
def test_an_answer_with_neither_next_nor_complete_is_illegal(site: Site, ask: str) -> None:
    """P34, fault 38."""
    caller, responder = site.connect(), site.service("echo")
    stream_id = getattr(caller, ask)("echo.it")
    responder.got()
    responder.send(payload(2, 0, b"!"))
    error = caller.one()
    assert (error.stream_id, error.code) == (stream_id, 0x204)
    told = responder.one()
    assert told == Cancel(2) if ask != "channel" else (told.stream_id, told.code) == (2, 0x204)
    assert site.counters.refusals == {"empty_payload": 1}
    assert site.metrics.services["echo"].failed == 1


def test_an_item_with_neither_next_nor_complete_is_illegal(site: Site) -> None:
    """P34, fault 38."""
    caller, responder = site.connect(), site.service("echo")
    stream_id = caller.channel("echo.it")
    responder.send(RequestN(2, 9))
    responder.got()
    caller.got()
    caller.send(payload(stream_id, 0, b"!"))
    error = caller.one()
    assert (error.stream_id, error.code) == (stream_id, 0x204)
    assert responder.one() == Cancel(2)


@pytest.mark.parametrize("ask", ["respond", "stream", "channel"])
@pytest.mark.parametrize("last", [NEXT | COMPLETE, NEXT, COMPLETE, 0])
def test_the_last_fragment_of_an_answer_may_have_any_flags(site: Site, ask: str, last: int) -> None:
    """P34, P40: clients differ in which fragments carry NEXT."""
    caller, responder = site.connect(), site.service("echo")
    stream_id = getattr(caller, ask)("echo.it")
    responder.got()
    responder.send(payload(2, NEXT | FOLLOWS, b"a" * 64), payload(2, FOLLOWS, b"b" * 64), payload(2, last, b"c"))
    assert caller.raw() == [
        payload(stream_id, NEXT | FOLLOWS, b"a" * 64),
        payload(stream_id, FOLLOWS, b"b" * 64),
        payload(stream_id, last, b"c"),
    ]
    assert site.open_streams() == (0 if ask == "respond" or (last & COMPLETE and ask == "stream") else 1)


@pytest.mark.parametrize("ask", ["respond", "stream"])
def test_follows_with_complete_is_complete(site: Site, ask: str) -> None:
    """P34, fault 38: F is ignored, and not passed on."""
    caller, responder = site.connect(), site.service("echo")
    stream_id = getattr(caller, ask)("echo.it")
    responder.got()
    responder.send(payload(2, FOLLOWS | COMPLETE | NEXT, b"!"))
    assert caller.raw() == [payload(stream_id, COMPLETE | NEXT, b"!")]
    assert site.open_streams() == 0


def test_follows_with_complete_of_a_requester_is_complete(site: Site) -> None:
    """P34: of a channel's item, and of REQUEST_CHANNEL itself."""
    caller, responder = site.connect(), site.service("echo")
    first = caller.channel("echo.it")
    responder.send(RequestN(2, 9))
    responder.got()
    caller.got()
    caller.send(payload(first, FOLLOWS | COMPLETE | NEXT, b"!"))
    assert responder.raw() == [payload(2, COMPLETE | NEXT, b"!")]
    frame = bytearray(encode(RequestChannel(3, to_route("echo.it"), b"only", 1, complete=True)))
    frame[5] |= FOLLOWS
    caller.send(bytes(frame))
    request = responder.one()
    assert request == RequestChannel(4, request.metadata, b"only", 1, complete=True)
    responder.send(complete(2), complete(4))
    assert site.open_streams() == 0


def test_an_empty_item_is_an_item(site: Site) -> None:
    """P34."""
    caller, responder = site.connect(), site.service("echo")
    stream_id = caller.stream("echo.it", 2)
    responder.got()
    responder.send(item(2), item(2))
    assert caller.got() == [item(stream_id), item(stream_id)]
    responder.send(item(2))
    assert caller.one().code == 0x204


# How streams end


def test_the_requester_cancels(site: Site) -> None:
    """P33."""
    caller, responder = site.connect(), site.service("echo")
    for number, ask in enumerate((caller.respond, caller.stream, caller.channel), 1):
        stream_id = ask("echo.it")
        responder.got()
        caller.send(Cancel(stream_id))
        assert responder.got() == [Cancel(2 * number)]
        assert caller.got() == []
    assert site.open_streams() == 0
    assert site.metrics.services["echo"].canceled == 3


def test_a_channels_requester_may_fail(site: Site) -> None:
    """P33: an ERROR ends both halves."""
    caller, responder = site.connect(), site.service("echo")
    stream_id = caller.channel("echo.it")
    responder.got()
    caller.send(Error(stream_id, 0x201, "gave up"))
    assert responder.got() == [Error(2, 0x201, "gave up")]
    assert site.open_streams() == 0


@pytest.mark.parametrize("ask", ["respond", "stream"])
def test_an_error_of_another_requester_cancels(site: Site, ask: str) -> None:
    """Stock responders overlook an ERROR there and would go on for nobody."""
    caller, responder = site.connect(), site.service("echo")
    stream_id = getattr(caller, ask)("echo.it")
    responder.got()
    caller.send(Error(stream_id, 0x201, "gave up"))
    assert responder.got() == [Cancel(2)]
    assert site.open_streams() == 0


def test_the_responder_of_a_channel_may_cancel_its_half(site: Site) -> None:
    """P33: it wants no more items; its own may still come."""
    caller, responder = site.connect(), site.service("echo")
    stream_id = caller.channel("echo.it", 5)
    responder.send(RequestN(2, 5))
    responder.got()
    caller.got()
    responder.send(Cancel(2))
    assert caller.got() == [Cancel(stream_id)]
    caller.send(item(stream_id, b"under way"), complete(stream_id))
    assert responder.got() == []
    responder.send(item(2, b"a"))
    assert caller.got() == [item(stream_id, b"a")]
    responder.send(item(2, b"b", complete=True))
    assert caller.got() == [item(stream_id, b"b", complete=True)]
    assert site.open_streams() == 0


def test_a_responder_may_complete_and_then_cancel(site: Site) -> None:
    """P33."""
    caller, responder = site.connect(), site.service("echo")
    stream_id = caller.channel("echo.it", 5)
    responder.got()
    responder.send(complete(2), Cancel(2))
    assert caller.got() == [complete(stream_id), Cancel(stream_id)]
    assert site.open_streams() == 0


def test_a_responder_cancels_once(site: Site) -> None:
    """P33: what the requester has ended already is not ended again."""
    caller, responder = site.connect(), site.service("echo")
    stream_id = caller.channel("echo.it", 5)
    responder.got()
    responder.send(Cancel(2), Cancel(2))
    assert caller.got() == [Cancel(stream_id)]


@pytest.mark.parametrize("ask", ["respond", "stream"])
def test_a_responder_has_nothing_to_cancel_elsewhere(site: Site, ask: str) -> None:
    """P22: CANCEL is the requester's, but on a channel; a requester that got one would not know what to do with it."""
    caller, responder = site.connect(), site.service("echo")
    stream_id = getattr(caller, ask)("echo.it")
    responder.got()
    responder.send(Cancel(2))
    assert caller.got() == []
    responder.send(item(2, b"!", complete=True))
    assert caller.one() == item(stream_id, b"!", complete=True)


def test_the_responder_of_a_channel_may_complete_first(site: Site) -> None:
    """P33: the requester's half stays open."""
    caller, responder = site.connect(), site.service("echo")
    stream_id = caller.channel("echo.it")
    responder.send(RequestN(2, 5), complete(2))
    responder.got()
    assert caller.got() == [RequestN(stream_id, 5), complete(stream_id)]
    caller.send(item(stream_id, b"x"))
    assert responder.got() == [item(2, b"x")]
    responder.send(item(2, b"too late"))
    assert caller.got() == []
    caller.send(complete(stream_id))
    assert responder.got() == [complete(2)]
    assert site.open_streams() == 0


def test_items_behind_complete_are_ignored(site: Site) -> None:
    """P22."""
    caller, responder = site.connect(), site.service("echo")
    stream_id = caller.channel("echo.it")
    responder.send(RequestN(2, 5))
    responder.got()
    caller.send(complete(stream_id), item(stream_id, b"x"), complete(stream_id))
    assert responder.got() == [complete(2)]
    assert site.counters.ignored_frames == 2


def test_a_payload_on_a_request_that_takes_none_is_ignored(site: Site) -> None:
    """P22: the requester of a stream has no items."""
    caller, responder = site.connect(), site.service("echo")
    first, second = caller.stream("echo.it"), caller.respond("echo.it")
    responder.got()
    caller.send(item(first, b"x"), item(second, b"x"))
    assert responder.got() == caller.got() == []


# The connection itself


def test_keepalive(site: Site) -> None:
    """P10."""
    caller = site.connect()
    caller.send(KeepAlive(True, 5, b"beat"))
    assert caller.one() == KeepAlive(False, 0, b"beat")
    caller.send(KeepAlive(False, 5, b"beat"))
    assert caller.got() == []
    assert site.counters.keepalives == 2


def test_keepalive_data_is_bounded(site: Site) -> None:
    """Fault 31: limit, and limit and one."""
    caller = site.connect()
    caller.send(KeepAlive(True, 0, bytes(64)))
    assert caller.one() == KeepAlive(False, 0, bytes(64))
    caller.send(KeepAlive(True, 0, bytes(65)))
    assert caller.one().code == 0x101
    assert caller.carrier.closed is not None
    assert caller.carrier.closed[0] == 1008


def test_a_peer_that_fails_is_gone(site: Site) -> None:
    caller, responder = site.connect(), site.service("echo")
    stream_id = caller.respond("echo.it")
    responder.got()
    responder.send(Error(0, 0x101, "crashed"))
    assert responder.got() == []
    assert responder.carrier.closed is not None
    assert caller.one() == Error(stream_id, 0x203, "responder disconnected")
    assert site.counters.closes == {"peer_failed": 1}


def test_a_peer_that_drains_gets_no_more_requests_and_closes_when_it_is_done(site: Site) -> None:
    """CONNECTION_CLOSE: streams that are open may finish."""
    caller, responder = site.connect(), site.service("echo")
    stream_id = caller.respond("echo.it")
    responder.got()
    responder.send(Error(0, 0x102, "going"))
    caller.respond("echo.it")
    assert caller.one().code == 0x202
    site.wait(1)
    assert responder.open
    responder.send(item(2, b"last", complete=True))
    assert caller.one() == item(stream_id, b"last", complete=True)
    site.wait(1)
    assert responder.got() == [Error(0, 0x102, "drained")]
    assert site.counters.closes == {"drained": 1}


def test_nothing_is_served_behind_the_end(site: Site) -> None:
    """P03: frames that were read together with the one that ended the connection."""
    caller, responder = site.connect(), site.service("echo")
    caller.send(
        RequestResponse(2, to_route("echo.it"), b"wrong id"),
        RequestResponse(3, to_route("echo.it"), b"?"),
        RequestFnf(5, to_route("echo.it"), b"?"),
        KeepAlive(True),
        b"",
    )
    assert responder.got() == []
    assert [frame.code for frame in caller.got()] == [0x101]
    assert site.open_streams() == 0
    assert site.counters.refusals == {"stream_id_parity": 1}


def test_the_last_frame_says_why(site: Site) -> None:
    """Behind it nothing goes out, not even the ends of the connection's own streams."""
    peer = site.service("echo")
    peer.respond("echo.it")
    peer.got()
    peer.connection.close(CloseReason.POLICY, "enough")
    site.turn()
    assert peer.got()[-1] == Error(0, 0x101, "enough")
    assert peer.carrier.closed == (1008, "enough")


def test_a_connection_closes_once(site: Site) -> None:
    peer = site.connect()
    peer.connection.close(CloseReason.POLICY, "enough")
    peer.connection.close(CloseReason.BUG, "again")
    peer.connection.lost(CloseReason.PEER_RESET)
    peer.connection.tick(site.clock.now + 1000, site.clock.wall())
    assert peer.carrier.closed == (1008, "enough")
    assert site.counters.closes == {"policy": 1}


@pytest.mark.parametrize("ask", ["respond", "stream", "channel"])
def test_a_responder_that_goes_is_told_to_its_requesters(site: Site, ask: str) -> None:
    """Protocol 1: ERROR[CANCELED] "responder disconnected"."""
    caller, responder = site.connect(), site.service("echo")
    stream_id = getattr(caller, ask)("echo.it")
    responder.vanish()
    assert caller.one() == Error(stream_id, 0x203, "responder disconnected")
    assert site.metrics.services["echo"].failed == 1


@pytest.mark.parametrize("ask", ["respond", "stream", "channel"])
def test_a_requester_that_goes_is_told_to_its_responders(site: Site, ask: str) -> None:
    """Protocol 1: CANCEL."""
    caller, responder = site.connect(), site.service("echo")
    getattr(caller, ask)("echo.it")
    responder.got()
    caller.vanish()
    assert responder.one() == Cancel(2)
    assert site.metrics.services["echo"].canceled == 1


def test_an_unfinished_fire_and_forget_ends_without_a_word_to_its_requester(site: Site) -> None:
    """P35."""
    caller, responder = site.connect(), site.service("echo")
    caller.fire("echo.it", bytes(64), follows=True)
    responder.vanish()
    assert caller.got() == []
    caller.send(payload(1, NEXT, b"rest"))
    assert caller.got() == []
    assert site.metrics.services["echo"].failed == 1


@pytest.mark.parametrize(
    "broken",
    [
        bytes.fromhex("00000001200000000000"),
        payload(1, METADATA | FOLLOWS, b"\0\0\1m"),
        payload(1, METADATA | IGNORE, b"\xff\xff\xff"),
    ],
    ids=["credit of 0", "metadata behind data", "torn"],
)
def test_a_broken_fire_and_forget_ends_without_a_word_to_its_requester(site: Site, broken: bytes) -> None:
    """P35: the responder gets CANCEL."""
    caller, responder = site.connect(), site.service("echo")
    caller.fire("echo.it", bytes(64), follows=True)
    responder.got()
    caller.send(broken)
    assert caller.got() == []
    assert responder.one() == Cancel(2)
    assert site.open_streams() == 0


@pytest.mark.parametrize("answer", [Error(2, 0x201, "no"), Cancel(2), item(2, b"!"), complete(2), RequestN(2, 1)])
def test_an_unfinished_fire_and_forget_is_not_answered(site: Site, answer: Frame) -> None:
    """P35: not even with an ERROR of the responder, which ends it."""
    caller, responder = site.connect(), site.service("echo")
    caller.fire("echo.it", bytes(64), follows=True)
    responder.send(answer)
    caller.send(payload(1, NEXT, b"rest"))
    assert caller.got() == []
    assert site.open_streams() == 0


def test_traffic_is_counted(site: Site) -> None:
    caller, responder = site.connect(), site.service("echo", prefixed=TCP)
    before = {name: getattr(site.counters, name) for name in ("frames_in", "frames_out", "bytes_in", "bytes_out")}
    request = encode(RequestResponse(1, to_route("echo.it"), b"?"))
    caller.send(request)
    (forwarded,) = responder.raw()
    answer = item(2, b"!", complete=True)
    responder.send(answer)
    caller.got()
    counted = {name: getattr(site.counters, name) - count for name, count in before.items()}
    assert counted["frames_in"] == counted["frames_out"] == 2
    assert counted["bytes_in"] == len(request) + len(encode(answer))
    assert counted["bytes_out"] >= len(forwarded) + len(encode(answer))
    assert (site.counters.request_response, site.counters.streams_open) == (1, 0)


def test_what_the_node_says_to_itself_is_no_traffic(site: Site) -> None:
    """Frames in and out are those that crossed a socket."""
    caller = site.connect()
    before = site.counters.frames_in, site.counters.frames_out
    caller.respond("gateway.time")
    caller.got()
    assert (site.counters.frames_in, site.counters.frames_out) == (before[0] + 1, before[1] + 1)


def test_latency_is_observed(site: Site) -> None:
    caller, responder = site.connect(), site.service("echo")
    caller.respond("echo.it")
    site.clock.now += 0.25
    responder.send(item(2, b"!", complete=True))
    stats = site.metrics.services["echo"]
    assert stats.count == 1
    assert stats.sum_seconds == pytest.approx(0.25)


def test_devices_share_a_label(site: Site) -> None:
    """No label holds a device's id."""
    caller, device = site.connect(), site.connect("thermo-7", Kind.DEVICE, serves=["thermo-7.temperature"])
    caller.respond("thermo-7.temperature")
    device.send(item(2, b"21", complete=True))
    assert {name for name, stats in site.metrics.services.items() if stats.requests} == {"(devices)"}
