"""Clients and responders that throw whatever they like at each other, in any order, for any time.

After every step (`Site.check`): hops come in pairs, pending counts and the counters are exact, nothing has been raised.
At the end everybody goes, and nothing is left (`Site.finish`).
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.forwarding.closing import CloseReason
from gateway.policy.principal import Kind
from gateway.wire import brokering
from gateway.wire.brokering import Cast, RouteSetup
from gateway.wire.frames import (
    Cancel,
    Error,
    FrameType,
    KeepAlive,
    Payload,
    RequestChannel,
    RequestFnf,
    RequestResponse,
    RequestStream,
    encode,
)
from gateway.wire.metadata import encode_routing
from gateway.wire.mimetypes import PRINCIPAL, ROUTING
from tests.examples import examples
from tests.forwarding.plane_of import TCP, Peer, Site, to_all, to_route, to_tags

FORGED = (PRINCIPAL, b"{}")
METADATA = st.sampled_from(
    [
        None,
        b"",
        b"\xfe\0\0\x09torn",
        to_route("echo.x"),
        to_route("echo.y", entries=[("text/plain", b"varying"), FORGED]),
        to_route("nobody"),
        to_tags(ServiceName="echo"),
        to_tags(Cast.SHARD, ServiceName="echo", ShardKey="k"),
        to_tags(sub="responder-1"),
        to_all("echo"),
        to_all("echo", [("text/plain", b"varying")]),
        to_all("gateway", [(ROUTING, encode_routing(["gateway.routes"]))]),
        to_route("gateway.time"),
        to_route("gateway.routes"),
        to_route("gateway.register"),
        to_route("gateway.unregister"),
        to_route("gateway.nothing"),
    ]
)
DATA = st.sampled_from(
    [
        b"",
        b"x",
        bytes(64),
        bytes(2000),
        bytes(30_000),
        brokering.encode(RouteSetup(b"r" * 16, "echo")),
        brokering.encode(RouteSetup(b"s" * 16, "echo.x")),
        brokering.encode(brokering.RouteRemove(bytes(16), b"r" * 16, 0)),
    ]
)
CREDIT = st.sampled_from([1, 2, 5, 100, 257, 0x7FFFFFFF])
WHO = st.integers(0, 3)
LIMITS = {
    "max_streams": 12,
    "high_water_bytes": 70_000,
    "hard_water_bytes": 140_000,
    "ignored_frames": 30,
    "max_partials": 3,
    "max_fragments": 8,
    "max_reassembly_bytes": 40_000,
}


class Anything(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.site = Site(**LIMITS)
        self.peers = [self._new(number) for number in range(4)]

    def _new(self, who: int) -> Peer:
        if who < 2:
            return self.site.connect(f"caller-{who}", Kind.DEVICE if who else Kind.SERVICE, prefixed=bool(who))
        return self.site.connect(f"responder-{who}", serves=["echo"], prefixed=who == 3 and TCP)

    def _peer(self, who: int) -> Peer:
        """The peer; a new one when the old has been closed."""
        if not self.peers[who].open:
            self.peers[who] = self._new(who)
        return self.peers[who]

    def _stream_id(self, peer: Peer, choice: int) -> int:
        """Mostly one that is in use, on either side; else one that is not."""
        connection = peer.connection
        known = [*connection.requesting.keys(), *connection.serving.keys(), *(connection.partials or ())]
        return known[choice % len(known)] if known and choice < 900 else choice % 64

    # What is legal

    @rule(
        who=WHO,
        kind=st.sampled_from([RequestResponse, RequestFnf, RequestStream, RequestChannel]),
        metadata=METADATA,
        data=DATA,
        n=CREDIT,
        follows=st.booleans(),
        complete=st.booleans(),
        turn=st.booleans(),
    )
    def request(
        self,
        who: int,
        kind: type[Any],
        metadata: bytes | None,
        data: bytes,
        n: int,
        follows: bool,
        complete: bool,
        turn: bool,
    ) -> None:
        peer = self._peer(who)
        more: dict[str, Any] = {}
        if kind in (RequestStream, RequestChannel):
            more["initial_n"] = n
        if kind is RequestChannel and not follows:
            more["complete"] = complete
        peer.send(kind(peer.next_id(), metadata, data, follows=follows, **more), turn=turn)

    @rule(
        who=WHO,
        stream=st.integers(0, 999),
        flags=st.sampled_from([0x20, 0x20, 0x20, 0x60, 0x40, 0xA0, 0x80]),
        data=DATA,
        count=st.sampled_from([1, 1, 1, 3, 40]),
        turn=st.booleans(),
    )
    def payload(self, who: int, stream: int, flags: int, data: bytes, count: int, turn: bool) -> None:
        peer = self._peer(who)
        stream_id = self._stream_id(peer, stream)
        frame = stream_id.to_bytes(4, "big") + (FrameType.PAYLOAD << 10 | flags).to_bytes(2, "big") + data
        peer.send(*[frame] * count, turn=turn)

    @rule(who=WHO, stream=st.integers(0, 999), n=CREDIT, count=st.sampled_from([1, 1, 20]), turn=st.booleans())
    def request_n(self, who: int, stream: int, n: int, count: int, turn: bool) -> None:
        peer = self._peer(who)
        peer.send(*[_request_n(self._stream_id(peer, stream), n)] * count, turn=turn)

    @rule(who=WHO, stream=st.integers(0, 999), code=st.sampled_from([None, 0x201, 0x202, 0x999]), turn=st.booleans())
    def end(self, who: int, stream: int, code: int | None, turn: bool) -> None:
        peer = self._peer(who)
        stream_id = self._stream_id(peer, stream)
        peer.send(Cancel(stream_id) if code is None else Error(stream_id, code, "because"), turn=turn)

    @rule(who=WHO)
    def keep_alive(self, who: int) -> None:
        self._peer(who).send(KeepAlive(True, 0, b"beat"))

    @rule(
        who=WHO, metadata=st.sampled_from([b"", b"\xfe\0\0\0", to_route("echo.x"), bytes(100)]), follows=st.booleans()
    )
    def metadata_goes_on(self, who: int, metadata: bytes, follows: bool) -> None:
        peer = self._peer(who)
        stream_id = next(iter(peer.connection.partials or peer.connection.requesting.keys()), 1)
        peer.send(Payload(stream_id, metadata, b"", follows=follows))

    # What is not

    @rule(
        who=WHO,
        stream=st.integers(0, 999),
        kind=st.integers(0, 63),
        flags=st.integers(0, 0x3FF),
        body=st.one_of(st.binary(max_size=24), DATA),
        turn=st.booleans(),
    )
    def anything(self, who: int, stream: int, kind: int, flags: int, body: bytes, turn: bool) -> None:
        peer = self._peer(who)
        stream_id = self._stream_id(peer, stream)
        peer.send(stream_id.to_bytes(4, "big") + (kind << 10 | flags).to_bytes(2, "big") + body, turn=turn)

    @rule(who=WHO, stream=st.integers(0, 999), n=st.sampled_from([0, 0x80000000, 0xFFFFFFFF]))
    def bad_credit(self, who: int, stream: int, n: int) -> None:
        peer = self._peer(who)
        peer.send(_request_n(self._stream_id(peer, stream), n))

    @rule(who=WHO, noise=st.binary(max_size=20))
    def noise(self, who: int, noise: bytes) -> None:
        self._peer(who).send(noise)

    # What happens around it

    @rule(who=WHO)
    def stall(self, who: int) -> None:
        self._peer(who).carrier.stall()

    @rule(who=WHO, size=st.sampled_from([None, 1, 5000, 60_000]))
    def read(self, who: int, size: int | None) -> None:
        self._peer(who).carrier.read(size)

    @rule(seconds=st.sampled_from([0.1, 0.3, 1.1, 6, 11]))
    def time_passes(self, seconds: float) -> None:
        self.site.wait(seconds)

    @rule()
    def the_loop_turns(self) -> None:
        self.site.turn()

    @rule(who=WHO, turn=st.booleans())
    def goes(self, who: int, turn: bool) -> None:
        self._peer(who).connection.lost(CloseReason.PEER_RESET)
        if turn:
            self.site.turn()

    @rule(streams=st.integers(1, 20), high=st.sampled_from([1000, 70_000]))
    def snapshot(self, streams: int, high: int) -> None:
        self.site.plane.publish(
            self.site.snapshot(2, max_streams=streams, high_water_bytes=high, hard_water_bytes=2 * high)
        )

    @precondition(lambda self: not self.site.plane.draining)
    @rule(who=WHO)
    def drains(self, who: int) -> None:
        self._peer(who).connection.drain()

    # What holds

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "site"):
            self.site.check()

    def teardown(self) -> None:
        if hasattr(self, "site"):
            for peer in self.peers:
                peer.carrier.read()
            self.site.finish()


def _request_n(stream_id: int, n: int) -> bytes:
    return encode(Cancel(stream_id))[:4] + (FrameType.REQUEST_N << 10).to_bytes(2, "big") + n.to_bytes(4, "big")


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=examples(25), stateful_step_count=60, deadline=None)
