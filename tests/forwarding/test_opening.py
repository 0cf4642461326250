"""A REQUEST_* frame: what opens a stream, what is refused, what waits for more of itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.principal import Kind
from gateway.routing.tags import LB_METHOD, SHARD_KEY
from gateway.wire.brokering import Cast
from gateway.wire.frames import (
    COMPLETE,
    FOLLOWS,
    IGNORE,
    MAX_FRAME_BYTES,
    METADATA,
    Cancel,
    Error,
    Fragmentable,
    FrameType,
    Payload,
    Reassembly,
    RequestChannel,
    RequestFnf,
    RequestN,
    RequestResponse,
    RequestStream,
    decode,
    encode,
    fragment,
)
from gateway.wire.metadata import encode_bearer, encode_composite, encode_routing
from gateway.wire.mimetypes import AUTHENTICATION, PRINCIPAL, ROUTING
from tests.forwarding.plane_of import TCP, Peer, Site, complete, entries_of, item, stamp, to_route, to_tags

FORGED = (PRINCIPAL, b'{"subject":"admin","kind":"admin","node":"edge-1"}')
STAMP = encode_composite([stamp()])
KINDS: list[tuple[type[Any], dict[str, int]]] = [
    (RequestResponse, {}),
    (RequestFnf, {}),
    (RequestStream, {"initial_n": 5}),
    (RequestChannel, {"initial_n": 5}),
]


@pytest.fixture
def caller(site: Site) -> Peer:
    return site.connect()


@pytest.fixture
def echo(site: Site) -> Peer:
    return site.service("echo", prefixed=TCP)


def refused(peer: Peer, stream_id: int) -> tuple[int, str]:
    """Code and text of the one frame that came."""
    error = peer.one()
    assert isinstance(error, Error)
    assert error.stream_id == stream_id
    return error.code, error.text


def closed_by(site: Site, reason: str) -> bool:
    return bool(site.counters.refusals == {reason: 1})


# Refusals


@pytest.mark.parametrize(
    ("metadata", "code", "text"),
    [
        (None, 0x204, "no route in metadata"),
        (b"", 0x204, "no route in metadata"),
        (encode_composite([("text/plain", b"x")]), 0x204, "no route in metadata"),
        (to_route("nobody.x"), 0x202, "no route to nobody.x"),
        (to_tags(room="9"), 0x202, "no route to room=9"),
        (b"\xfe\0\0", 0x204, "metadata: composite metadata: length is cut short"),
        (encode_composite([(ROUTING, b"\x05abc")]), 0x204, "metadata: routing metadata: tag is cut short"),
        (encode_composite([("message/x.rsocket.broker.frame.v0", b"\0")]), 0x204, "metadata: "),
        (to_route("echo.x", "ShardKey="), 0x204, "shard address without a key"),
    ],
)
@pytest.mark.parametrize("make", KINDS, ids=lambda make: make[0].__name__)
def test_a_request_that_leads_nowhere(
    site: Site,
    caller: Peer,
    echo: Peer,
    make: tuple[type[Any], dict[str, int]],
    metadata: bytes | None,
    code: int,
    text: str,
) -> None:
    """X01, X02, P35: refused on its stream and counted; fire-and-forget is only counted; the connection lives."""
    kind, more = make
    caller.send(kind(1, metadata, b"?", **more))
    if kind is RequestFnf:
        assert caller.got() == []
    else:
        got_code, got_text = refused(caller, 1)
        assert got_code == code
        assert got_text.startswith(text)
    assert caller.open
    assert echo.got() == []
    assert sum(site.counters.refusals.values()) == 1


def test_what_the_token_does_not_allow(site: Site, echo: Peer) -> None:
    caller = site.connect("me", routes=("other.*",))
    assert refused(caller, caller.respond("echo.x")) == (0x202, "me may not call echo.x")
    assert closed_by(site, "not_permitted")


def test_open_streams_are_limited(site_with: Callable[..., Site]) -> None:
    """Fault 24: limit, and limit and one; REJECTED promises that nobody processed it."""
    site = site_with(max_streams=3)
    caller, echo = site.connect(), site.service("echo")
    streams = [caller.stream("echo.x") for _ in range(3)]
    assert refused(caller, caller.respond("echo.x")) == (0x202, "over the limit of 3 open streams")
    echo.send(complete(2))
    assert caller.one() == complete(streams[0])
    caller.respond("echo.x")
    assert caller.got() == []


def test_the_rate_of_requests_is_limited(site_with: Callable[..., Site]) -> None:
    """Faults 23 and 24: a burst, then so many a second; limit, and limit and one."""
    site = site_with(requests_per_second=10, request_burst=3)
    caller, echo = site.connect(), site.service("echo")
    for _ in range(3):
        caller.respond("echo.x")
    assert len(echo.got()) == 3
    assert refused(caller, caller.respond("echo.x")) == (0x202, "over the limit of 10 requests a second")
    caller.fire("echo.x")
    assert echo.got() == caller.got() == []
    site.clock.now += 0.1
    caller.fire("echo.x")
    assert len(echo.got()) == 1
    site.clock.now += 1000
    for _ in range(4):
        caller.fire("echo.x")
    assert len(echo.got()) == 3
    assert site.counters.refusals == {"requests_per_second": 3}


def test_a_service_has_no_such_limits(site: Site, caller: Peer, echo: Peer) -> None:
    for _ in range(1000):
        caller.stream("echo.x", turn=False)
    site.turn()
    assert len(echo.got()) == 1000


@pytest.mark.parametrize("kind", [Kind.DEVICE, Kind.SERVICE])
def test_the_size_of_metadata_is_limited(site: Site, echo: Peer, kind: Kind) -> None:
    """Fault 40: limit, and limit and one."""
    caller = site.connect("me", kind)
    limit = caller.connection.grant.limits.max_metadata_bytes
    route = to_route("echo.x")

    def metadata(size: int) -> bytes:
        return route + encode_composite([("text/plain", bytes(size - len(route) - 4))])

    caller.fire("", metadata=metadata(limit))
    assert len(echo.got()) == 1
    code, text = refused(caller, caller.respond("", metadata=metadata(limit + 1)))
    assert (code, text) == (0x204, f"metadata is over the limit of {limit} bytes")


def test_the_number_of_entries_is_limited(site: Site, echo: Peer) -> None:
    """Fault 40: limit, and limit and one."""
    caller = site.connect("me", Kind.DEVICE)
    caller.fire("", metadata=to_route("echo.x", entries=[("text/plain", b"")] * 15))
    assert len(echo.got()) == 1
    code, text = refused(caller, caller.respond("", metadata=to_route("echo.x", entries=[("text/plain", b"")] * 16)))
    assert (code, text) == (0x204, "metadata has more than 16 entries")


def test_the_length_of_a_route_is_limited(site_with: Callable[..., Site]) -> None:
    """Fault 40: in bytes; limit, and limit and one."""
    site = site_with(max_route_bytes=10)
    caller, echo = site.connect(), site.service("echo")
    caller.fire("echo.éxyz")
    assert len(echo.got()) == 1
    assert refused(caller, caller.respond("echo.éxyz0")) == (0x204, "route is over the limit of 10 bytes")


def test_a_draining_node_refuses_new_requests(site: Site, caller: Peer, echo: Peer) -> None:
    site.plane.drain()
    site.turn()
    assert caller.one().code == 0x102
    code, text = refused(caller, caller.respond("echo.x"))
    assert code == 0x202
    assert "draining" in text


# What is chosen


def test_requests_take_turns_among_idle_responders(site: Site, caller: Peer) -> None:
    peers = [site.service("pool", f"pool-{number}") for number in range(3)]
    for _ in range(6):
        caller.fire("pool.x")
    assert [len(peer.got()) for peer in peers] == [2, 2, 2]


def test_the_least_busy_responder_is_asked(site: Site, caller: Peer) -> None:
    peers = [site.service("pool", f"pool-{number}") for number in range(3)]
    for _ in range(7):
        caller.respond("pool.x")
    counts = [len(peer.got()) for peer in peers]
    assert sorted(counts) == [2, 2, 3]
    busiest = counts.index(3)
    for number in range(3):
        if number != busiest:
            peers[number].send(item(2, b"!", complete=True))
    for _ in range(4):
        caller.respond("pool.x")
    assert peers[busiest].got() == []


@pytest.mark.parametrize("hint", [f"{LB_METHOD}=round-robin", "LBMethod=RoundRobin"])
def test_a_hint_reaches_the_balancer(site: Site, caller: Peer, hint: str) -> None:
    """It chooses among candidates and never narrows them."""
    peers = [site.service("pool", f"pool-{number}") for number in range(3)]
    for _ in range(6):
        caller.respond("", metadata=to_route("pool.x", hint))
        peers[0].send(*[item(frame.stream_id, b"!", complete=True) for frame in peers[0].got()])
    # Least pending would have gone back to the one that answers.
    assert site.metrics.services["pool"].ok == 2


def test_a_random_hint_reaches_the_balancer(site: Site, caller: Peer) -> None:
    peers = [site.service("pool", f"pool-{number}") for number in range(2)]
    for _ in range(60):
        caller.fire("", metadata=to_route("pool.x", "LBMethod=random"))
    counts = [len(peer.got()) for peer in peers]
    assert sum(counts) == 60
    assert counts != [30, 30]


def test_a_shard_keeps_its_keys(site: Site, caller: Peer) -> None:
    """Rendezvous hashing: keys stay put when an instance comes or goes."""
    peers = [site.service("pool", f"pool-{number}") for number in range(3)]

    def owners() -> dict[str, int]:
        found = {}
        for key in (f"user-{number}" for number in range(30)):
            caller.fire("", metadata=to_tags(Cast.SHARD, ServiceName="pool", **{SHARD_KEY: key}))
            caller.fire("", metadata=to_route("pool.x", f"ShardKey={key}"))
            (found[key],) = [number for number, peer in enumerate(peers) if peer.open and len(peer.got()) == 2]
        return found

    before = owners()
    assert set(before.values()) == {0, 1, 2}
    peers[1].vanish()
    after = owners()
    assert {key: owner for key, owner in before.items() if owner != 1}.items() <= after.items()


# Metadata on its way


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make[0].__name__)
def test_the_caller_is_named_once_and_nobody_is_believed(
    site: Site, caller: Peer, echo: Peer, make: tuple[type[Any], dict[str, int]]
) -> None:
    """DESIGN 3, step 5; fault 68: whoever the caller says it is."""
    kind, more = make
    metadata = encode_composite(
        [
            FORGED,
            (AUTHENTICATION, encode_bearer(b"secret")),
            (ROUTING, encode_routing(["echo.x"])),
            ("text/plain", b"kept"),
            FORGED,
        ]
    )
    caller.send(kind(1, metadata, b"data", **more))
    request = echo.one()
    assert isinstance(request, kind)
    assert entries_of(request.metadata) == [
        (ROUTING, encode_routing(["echo.x"])),
        ("text/plain", b"kept"),
        stamp(),
    ]
    assert request.data == b"data"


def test_the_stamp_names_each_caller(site: Site, echo: Peer) -> None:
    """The same bytes from two callers are two requests."""
    device, user = site.connect("thermo-1", Kind.DEVICE), site.connect("anna", Kind.USER)
    for caller in (device, user, device):
        caller.fire("echo.x")
    assert [entries_of(frame.metadata)[-1] for frame in echo.got()] == [  # type: ignore[union-attr]
        stamp("thermo-1", "device"),
        stamp("anna", "user"),
        stamp("thermo-1", "device"),
    ]


def test_the_largest_frame_that_its_stamp_makes_too_large(caller: Peer, echo: Peer) -> None:
    """P43: it goes on in two, of which the first keeps the request's type."""
    metadata = to_route("echo.x")
    data = bytes(range(256)) * 65_536
    for number, (kind, more) in enumerate(KINDS):
        room = MAX_FRAME_BYTES - 9 - len(metadata) - 4 * len(more)
        caller.send(kind(2 * number + 1, metadata, data[:room], **more))
        first, rest = echo.raw()
        assert len(first) == MAX_FRAME_BYTES
        assert len(rest) == 6 + len(STAMP)
        whole = together(first, rest)
        assert isinstance(whole, kind)
        assert whole.metadata == metadata + STAMP
        assert whole.data == data[:room]
        assert caller.got() == []


def test_one_byte_less_is_not_cut(caller: Peer, echo: Peer) -> None:
    """P43: the boundary."""
    metadata = to_route("echo.x")
    room = MAX_FRAME_BYTES - 9 - len(metadata) - len(STAMP)
    caller.fire("", bytes(room), metadata=metadata)
    assert [len(frame) for frame in echo.raw()] == [MAX_FRAME_BYTES]
    caller.fire("", bytes(room + 1), metadata=metadata)
    assert [len(frame) for frame in echo.raw()] == [MAX_FRAME_BYTES, 7]


@pytest.mark.parametrize("last", [True, False])
def test_a_channel_that_its_stamp_makes_too_large(caller: Peer, echo: Peer, last: bool) -> None:
    """P43: COMPLETE rides on what is behind the cut, and so does FOLLOWS."""
    metadata = to_route("echo.x")
    room = MAX_FRAME_BYTES - 13 - len(metadata)
    stream_id = caller.channel("", 5, bytes(room), metadata=metadata, complete=last, follows=not last)
    first, rest = echo.raw()
    assert first[5] & (FOLLOWS | COMPLETE) == FOLLOWS
    assert rest[5] & (FOLLOWS | COMPLETE) == (COMPLETE if last else FOLLOWS)
    if not last:
        caller.send(item(stream_id, b"end"))
        assert echo.one() == item(2, b"end")


def together(*frames: bytes) -> Fragmentable:
    """What a responder makes of fragments."""
    reassembly = Reassembly(1 << 26, 1 << 16)
    whole = None
    for frame in frames:
        assert whole is None
        part = decode(frame)
        assert isinstance(part, Fragmentable)
        whole = reassembly.add(part)
    assert whole is not None
    return whole


# Fragments


@pytest.mark.parametrize("mtu", [64, 65, 100, 128, 500, 2000])
@pytest.mark.parametrize("make", KINDS, ids=lambda make: make[0].__name__)
def test_a_request_in_fragments_arrives_whole(
    site: Site, caller: Peer, echo: Peer, make: tuple[type[Any], dict[str, int]], mtu: int
) -> None:
    """P40: metadata over several fragments, then data over several; stamped behind the last of the metadata."""
    kind, more = make
    metadata = encode_composite([FORGED, (ROUTING, encode_routing(["echo.x"])), ("text/plain", bytes(300)), FORGED])
    data = bytes(range(256)) * 4
    caller.send(*fragment(kind(1, metadata, data, **more), mtu))
    whole = together(*echo.raw())
    assert isinstance(whole, kind)
    assert whole.data == data
    assert entries_of(whole.metadata) == [
        (ROUTING, encode_routing(["echo.x"])),
        ("text/plain", bytes(300)),
        stamp(),
    ]
    assert caller.got() == []
    if kind is RequestFnf:
        assert site.open_streams() == 0
    else:
        echo.send(item(2, b"!", complete=True))
        assert caller.one() == item(1, b"!", complete=True)


@given(
    tags=st.lists(st.text(max_size=40).filter(lambda text: len(text.encode()) < 200), max_size=3),
    extra=st.lists(st.tuples(st.just("text/plain"), st.binary(max_size=300)), max_size=4),
    forged=st.lists(st.integers(0, 9), max_size=3),
    data=st.binary(max_size=600),
    mtu=st.integers(64, 900),
)
def test_wherever_it_is_cut_no_forged_identity_comes_through(
    tags: list[str], extra: list[tuple[str, bytes]], forged: list[int], data: bytes, mtu: int
) -> None:
    """P40, fault 68."""
    site = Site()
    caller, echo = site.connect(), site.service("echo")
    entries = [*extra, (ROUTING, encode_routing(["echo.x", *(tag.replace("=", "") for tag in tags)]))]
    for at in forged:
        entries.insert(at, FORGED)
    caller.send(*fragment(RequestResponse(1, encode_composite(entries), data), mtu))
    whole = together(*echo.raw())
    assert whole.data == data
    kept = [entry for entry in entries if entry != FORGED]
    assert entries_of(whole.metadata) == [*kept, stamp()]
    site.finish()


def test_metadata_behind_the_stamp_ends_the_request(site: Site, caller: Peer, echo: Peer) -> None:
    """P40, faults 38 and 68: it would be a second identity behind the first."""
    for follows in (True, False):
        stream_id = caller.respond("echo.x", bytes(64), follows=True)
        responder_id = echo.one().stream_id
        caller.send(Payload(stream_id, encode_composite([FORGED]), b"x", follows=follows))
        assert refused(caller, stream_id) == (0x204, "metadata after data")
        assert echo.one() == Cancel(responder_id)
        caller.send(item(stream_id, b"rest"))
        assert caller.got() == echo.got() == []
    assert site.counters.refusals == {"metadata_after_data": 2}
    assert site.counters.ignored_frames == 2


def test_only_the_first_fragment_opens_a_stream(site: Site, caller: Peer, echo: Peer) -> None:
    """P40: the data of a request is never held back, only its metadata."""
    stream_id = caller.respond("echo.x", bytes(64), follows=True)
    assert echo.one().follows
    caller.send(item(stream_id, bytes(70), follows=True))
    assert echo.one() == item(2, bytes(70), follows=True)
    caller.send(Payload(stream_id, None, b"end"))
    assert echo.one() == Payload(2, None, b"end")


def test_metadata_that_ends_with_its_frame_may_go_on(site: Site, caller: Peer, echo: Peer) -> None:
    """P40: so the request waits for the next one."""
    metadata = to_route("echo.x")
    caller.send(RequestResponse(1, metadata, b"", follows=True))
    assert echo.got() == []
    caller.send(item(1, b"data"))
    request = echo.one()
    assert request == RequestResponse(2, metadata + STAMP, b"data")


def test_fragments_of_several_requests_interleave(site: Site, caller: Peer, echo: Peer) -> None:
    """P41."""
    requests = [RequestResponse(number, to_route("echo.x"), bytes([number]) * 200) for number in (1, 3, 5)]
    series = [fragment(request, 64) for request in requests]
    for parts in zip(*series, strict=True):
        caller.send(*parts)
    by_stream: dict[bytes, list[bytes]] = {}
    for frame in echo.raw():
        by_stream.setdefault(frame[:4], []).append(frame)
    assert [together(*frames).data for frames in by_stream.values()] == [request.data for request in requests]


def test_cancel_drops_a_request_that_is_not_complete(site: Site, caller: Peer, echo: Peer) -> None:
    """P41: before its metadata is complete nobody has heard of it; afterwards the responder is told."""
    caller.send(RequestResponse(1, to_route("echo.x"), b"", follows=True), Cancel(1), item(1, b"late"))
    assert echo.got() == caller.got() == []
    caller.send(RequestResponse(3, to_route("echo.x"), bytes(64), follows=True), Cancel(3))
    assert echo.got()[1:] == [Cancel(2)]
    assert not caller.connection.partials
    caller.send(RequestFnf(5, to_route("echo.x"), bytes(64), follows=True), Cancel(5))
    assert echo.got()[1:] == [Cancel(4)]
    assert site.metrics.services["echo"].canceled == 2


def test_credit_may_come_before_the_request_is_complete(caller: Peer, echo: Peer) -> None:
    """P30: it adds to what the request starts with."""
    caller.send(RequestStream(1, to_route("echo.x"), b"", 5, follows=True), RequestN(1, 7), item(1, b""))
    assert echo.one().initial_n == 12
    caller.send(RequestStream(3, to_route("echo.x"), b"", 5, follows=True))
    caller.send(encode(RequestN(3, 1))[:6] + bytes(4))
    assert refused(caller, 3)[0] == 0x204
    caller.send(item(3, b""))
    assert caller.got() == echo.got() == []
    caller.send(RequestStream(5, to_route("echo.x"), b"", 5, follows=True), encode(RequestN(5, 1))[:9])
    assert caller.one() == Error(0, 0x101, "REQUEST_N is cut short")


def test_a_request_id_that_waits_for_its_metadata_is_in_use(site: Site, caller: Peer, echo: Peer) -> None:
    """P21."""
    caller.send(RequestResponse(1, to_route("echo.x"), b"", follows=True))
    caller.send(RequestResponse(1, to_route("echo.y"), b"again"))
    caller.send(item(1, b"data"))
    assert echo.one().data == b"data"
    assert site.counters.ignored_frames == 1


def test_unfinished_metadata_is_bounded(site: Site, echo: Peer) -> None:
    """P42, faults 34 and 36: in number, in bytes, in fragments; limit, and limit and one."""
    device = site.connect("d", Kind.DEVICE)
    half = encode_composite([("text/plain", bytes(2000))])
    for number in range(8):
        device.send(RequestResponse(2 * number + 1, half, b"", follows=True))
    assert device.got() == []
    device.send(RequestResponse(17, half, b"", follows=True))
    assert refused(device, 17) == (0x202, "over the limit of 8 unfinished messages")
    device.send(Payload(1, half, b"", follows=True))
    device.send(Payload(1, half, b"", follows=True))
    assert refused(device, 1) == (0x204, "metadata is over the limit of 4096 bytes")
    device.send(RequestResponse(19, encode_composite([("text/plain", bytes(4093))]), b"", follows=True))
    assert refused(device, 19) == (0x204, "metadata is too long")
    device.send(*[Payload(3, b"\x21\0\0\0" + bytes(60), b"", follows=True)] * 63)
    assert refused(device, 3)[0] == 0x204
    assert set(device.connection.partials or ()) == {5, 7, 9, 11, 13, 15}
    device.send(*[item(stream_id, b"rest") for stream_id in (1, 3, 17, 19)])
    assert device.got() == echo.got() == []


def test_a_fragment_that_is_torn(site: Site, caller: Peer, echo: Peer) -> None:
    """P24: costs the connection, or with IGNORE the request."""
    caller.send(RequestResponse(1, to_route("echo.x"), b"", follows=True))
    caller.send(_payload(1, METADATA | FOLLOWS | IGNORE, b"\0\0\5four"))
    assert refused(caller, 1) == (0x204, "metadata length goes beyond the frame")
    assert not caller.connection.partials
    caller.send(RequestResponse(3, to_route("echo.x"), b"", follows=True))
    caller.send(_payload(3, METADATA, b"\0\0"))
    assert caller.one() == Error(0, 0x101, "metadata length is cut short")
    assert not caller.open
    assert echo.got() == []


def _payload(stream_id: int, flags: int, body: bytes) -> bytes:
    return stream_id.to_bytes(4, "big") + (FrameType.PAYLOAD << 10 | flags).to_bytes(2, "big") + body


def test_a_request_that_is_refused_once_its_metadata_is_complete(site: Site, caller: Peer) -> None:
    """P41: what still comes of it is dropped."""
    caller.send(RequestResponse(1, to_route("nobody"), b"", follows=True))
    caller.send(item(1, bytes(64), follows=True))
    assert refused(caller, 1)[0] == 0x202
    caller.send(item(1, bytes(64), follows=True), item(1, b"end"))
    assert caller.got() == []


@pytest.mark.parametrize("last", [COMPLETE, COMPLETE | FOLLOWS])
def test_the_last_fragment_of_held_metadata_may_complete(caller: Peer, echo: Peer, last: int) -> None:
    """P34, P40: for a channel it does; on another request the bit means nothing and is not passed on."""
    caller.send(RequestChannel(1, to_route("echo.x"), b"", 5, follows=True))
    caller.send(_payload(1, last, b"data"))
    request = echo.one()
    assert request == RequestChannel(2, request.metadata, b"data", 5, complete=True)
    echo.send(complete(2))
    assert caller.one() == complete(1)
    caller.send(RequestResponse(3, to_route("echo.x"), b"", follows=True))
    caller.send(_payload(3, last, b"data"))
    (frame,) = echo.raw()
    assert not frame[5] & (COMPLETE | FOLLOWS)


def test_a_channel_that_completes_with_a_later_fragment(caller: Peer, echo: Peer) -> None:
    """P33, P40."""
    stream_id = caller.channel("echo.x", 5, bytes(64), follows=True)
    caller.send(item(stream_id, b"rest", complete=True))
    assert echo.got()[1:] == [item(2, b"rest", complete=True)]
    echo.send(complete(2))
    assert caller.one() == complete(stream_id)


def test_flags_that_go_through_with_a_request(caller: Peer, echo: Peer) -> None:
    """P22: IGNORE does, bits without a meaning do not."""
    frame = bytearray(encode(RequestResponse(1, to_route("echo.x"), b"?")))
    frame[4] |= IGNORE >> 8
    frame[5] |= 0x1F
    caller.send(bytes(frame))
    (forwarded,) = echo.raw()
    assert (forwarded[4] << 8 | forwarded[5]) & 0x3FF == IGNORE | METADATA


def test_requests_are_counted_by_model(site: Site, caller: Peer, echo: Peer) -> None:
    caller.respond("echo.x")
    caller.fire("echo.x")
    caller.fire("echo.x", bytes(64), follows=True)
    caller.stream("echo.x")
    caller.channel("echo.x")
    caller.respond("nobody")
    counters = site.counters
    assert (counters.request_response, counters.fire_and_forget) == (1, 2)
    assert (counters.request_stream, counters.request_channel) == (1, 1)
    stats = site.metrics.services["echo"]
    assert (stats.requests, stats.ok, stats.open) == (5, 1, 4)
    assert echo.connection.pending == 4
