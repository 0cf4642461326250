"""A node's data plane without a loop, a socket or a clock that moves by itself, and peers at its ends.

Everything in it is real but for what the data plane is given from outside: the carrier, here a list of what was
written; the schedule, here worked off by `Site.turn`; the clock. Peers take their frames apart with code of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from random import Random

from gateway.errors import TokenError
from gateway.forwarding.closing import CloseReason
from gateway.forwarding.connection import Connection
from gateway.forwarding.multicast import Multicast
from gateway.forwarding.outbox import Outbox
from gateway.forwarding.plane import Plane, Snapshot
from gateway.forwarding.resuming import PARKED_LOAD
from gateway.forwarding.services import NodeServices
from gateway.observe.metrics import Metrics
from gateway.policy.limits import profile_for
from gateway.policy.principal import Kind, Principal
from gateway.session.setup import SetupRules
from gateway.wire import brokering
from gateway.wire.brokering import RouteSetup
from gateway.wire.frames import Setup, encode
from gateway.wire.metadata import encode_bearer, encode_composite, encode_routing
from gateway.wire.mimetypes import AUTHENTICATION, BROKER_FRAME, COMPOSITE, ROUTING
from gateway.wire.sink import FrameSink
from tests.forwarding.timers import Timers
from tests.fuzz.target import check

NODE_ID = bytes(range(16))
_PROFILES = {kind: profile_for(kind) for kind in Kind}
_RULES = SetupRules()
_HOLD_S = 1 + max(profile.resume_hold_s for profile in _PROFILES.values())
_MAX_TURNS = 10_000

#: Who there is. A token is a principal's whose name it begins with, so that a captured one can stand for any.
PRINCIPALS = {
    "caller": Principal("caller", Kind.DEVICE, "", 0.0, float("inf"), ("caller.*",), ("*",)),
    "serving": Principal("serving", Kind.SERVICE, "", 0.0, float("inf"), ("*",), ("*",)),
    "both": Principal("both", Kind.USER, "", 0.0, float("inf"), ("*",), ("echo*", "both.*")),
    "watching": Principal("watching", Kind.DEVICE, "", 0.0, float("inf"), (), ()),
}


def token_of(name: str, size: int) -> bytes:
    """A token of this principal with so many bytes, to put where a real one was."""
    return name.encode().ljust(size, b".")[: max(size, len(name))]


def _authenticate(token: bytes | None, now: float) -> Principal:
    for name, principal in PRINCIPALS.items():
        if token is not None and token.startswith(name.encode()):
            return principal
    raise TokenError("token not accepted", reason="token_invalid")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + 1_700_000_000.0


class Carrier:
    """Keeps what is written. While `waiting` is above 0 the peer does not read, and the outbox is told so."""

    outbox: Outbox
    connection: Connection
    sink: FrameSink

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.written: list[bytes] = []
        self.waiting = 0
        self.ended = False

    def write(self, data: bytes) -> int:
        check(not self.ended, "written behind the end of a connection")
        self.written.append(data)
        if self.waiting:
            self.waiting += len(data)
        return self.buffered()

    def buffered(self) -> int:
        return self.waiting

    def held(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def allow(self, max_frame_bytes: int) -> None: ...

    def close(self, code: int, text: str) -> None:
        check(not self.ended, "closed twice")
        check(1000 <= code < 5000, f"close code {code}")
        self.ended = True

    def abort(self) -> None:
        self.ended = True

    def attach(self, connection: Connection, sink: FrameSink) -> None:
        self.outbox = connection.outbox
        self.connection = connection
        self.sink = sink

    def detach(self) -> None:
        self.ended = True

    def stall(self, size: int) -> None:
        """The peer reads no more; `size` bytes wait already."""
        self.waiting += size
        self.outbox.size += size
        if not self.outbox.blocked:
            self.connection.block(self.clock.now)

    def read(self) -> None:
        """The peer reads everything."""
        self.waiting = 0
        if self.outbox.blocked:
            self.outbox.unblock()


class Peer:
    """The other end of one connection. Nothing happens unasked."""

    def __init__(self, site: Site, *, prefixed: bool) -> None:
        self.site = site
        self.prefixed = prefixed
        self.carrier = Carrier(site.clock)
        limits = site.plane.first_limits
        outbox = Outbox(
            self.carrier,
            site.plane.flusher,
            site.plane.counters,
            limits.high_water_bytes,
            limits.hard_water_bytes,
            prefixed=prefixed,
        )
        self.carrier.outbox = outbox
        self.connection = Connection(site.plane, self.carrier, outbox, peer="test")
        self.carrier.attach(self.connection, self.connection)
        self._read = 0
        self._sent = 0

    @property
    def open(self) -> bool:
        return not self.connection.closed and not self.carrier.ended

    def send(self, frame: bytes) -> None:
        """Every other frame arrives inside a larger buffer, as those of a busy connection do: a look before or behind
        a frame shows either in what comes of it, or as one out of bounds."""
        self.site.plane.wake()
        self.connection.session.last_received = self.site.clock.now
        self._sent += 1
        if self._sent & 1:
            self.carrier.sink.frame_received(b"\xff\xff\xff" + frame + b"\xff", 3, 3 + len(frame))
        else:
            self.carrier.sink.frame_received(frame, 0, len(frame))

    def raw(self) -> Iterator[bytes]:
        """The frames that came since the last call."""
        new, self._read = self.carrier.written[self._read :], len(self.carrier.written)
        return _frames(b"".join(new), self.prefixed)

    def vanish(self) -> None:
        """The socket is gone."""
        self.carrier.ended = True
        self.connection.lost(CloseReason.PEER_RESET)


def _frames(written: bytes, prefixed: bool) -> Iterator[bytes]:
    at = 0
    while at < len(written):
        if prefixed:
            length, at = int.from_bytes(written[at : at + 3], "big"), at + 3
        else:
            check(written[at] == 0x82, "not one whole, unmasked binary message")
            length, at = written[at + 1], at + 2
            if length >= 126:
                size = 2 if length == 126 else 8
                length, at = int.from_bytes(written[at : at + size], "big"), at + size
        check(at + length <= len(written), "half a frame")
        yield written[at : at + length]
        at += length


class Site:
    """One node's data plane and whoever is connected to it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self._turns: list[Callable[[], None]] = []
        self.metrics = Metrics()
        self.plane = Plane(
            node="edge-1",
            node_id=NODE_ID,
            snapshot=self.snapshot(1),
            metrics=self.metrics,
            monotonic=self.clock.monotonic,
            wall=self.clock.wall,
            schedule=self._turns.append,
            random=Random(7),
            later=Timers(self.clock.monotonic).later,
        )
        self.services = NodeServices(self.plane)
        self.multicast = Multicast(self.plane)
        self.plane.multicast = self.multicast
        self.peers: list[Peer] = []

    def snapshot(self, generation: int) -> Snapshot:
        return Snapshot(generation, _authenticate, _PROFILES, _RULES, setup_timeout_s=5.0)

    def dial(self, *, prefixed: bool = False) -> Peer:
        """A peer that has said nothing yet."""
        peer = Peer(self, prefixed=prefixed)
        self.peers.append(peer)
        return peer

    def turn(self) -> None:
        """Turn the loop until it has nothing to do."""
        for _ in range(_MAX_TURNS):
            if not self._turns:
                return
            turns, self._turns[:] = self._turns[:], []
            for callback in turns:
                callback()
        check(False, "the loop does not come to rest")

    def wait(self, seconds: float) -> None:
        """Time passes, with a tick at its end."""
        self.clock.now += seconds
        self.plane.tick()
        self.turn()

    # What holds

    def check(self) -> None:
        """What holds between any two turns of the loop: both ends of every stream know each other."""
        connections = set(self.plane.connections.values())
        hops = 0
        for connection in connections:
            check(not connection.closed, f"{connection.peer} is closed and still there")
            check(connection.pending % PARKED_LOAD == len(connection.serving), "pending is not what is served")
            hops += len(connection.requesting)
            for stream_id, stream in connection.requesting.items():
                check(stream.requester is connection and stream.requester_id == stream_id, "another's stream")
                check(stream.responder.serving.get(stream.responder_id) is stream, "a hop without its other half")
                check(stream.responder in connections, "a hop to a connection that is gone")
            for stream_id, stream in connection.serving.items():
                check(stream.responder is connection and stream.responder_id == stream_id, "another's stream")
                check(stream.requester.requesting.get(stream.requester_id) is stream, "a hop without its other half")
        check(self.plane.counters.streams_open == hops, "streams_open is wrong")
        for internal in (self.services, self.multicast):
            check(internal in connections, f"{internal.peer} was closed")

    def finish(self) -> None:
        """Everybody goes; nothing may be left (fault 51)."""
        for peer in self.peers:
            if peer.open:
                peer.vanish()
        # Nobody comes back to a session either.
        self.wait(_HOLD_S)
        self.check()
        check(set(self.plane.connections.values()) == {self.services, self.multicast}, "a connection is left")
        check([route.owner for route in self.plane.table] == [self.services], "a route is left")
        check(all(stats.open == 0 for stats in self.metrics.services.values()), "a request was counted and never ended")
        check(not self.services._exchanges, "an exchange is left")
        check(not self.plane.table._listeners, "somebody listens to the table still")
        for left in (self.multicast._merges, self.multicast._merges_by_leg, self.multicast._routes):
            check(not left, "a multicast request is left")
        for peer in self.peers:
            connection = peer.connection
            check(not connection.partials and not connection.decisions, "something is kept for a closed connection")
            check(not connection.paused_by and not connection.outbox.feeders, "somebody waits for a closed connection")
            check(
                not connection.outbox.throttled and not connection.outbox.frames, "frames wait on a closed connection"
            )


# Frames


def setup_frame(token: bytes, mime: str = COMPOSITE, serves: Iterable[RouteSetup] = ()) -> bytes:
    """A SETUP; with routing metadata its token is in the data, and nothing can be registered."""
    if mime != COMPOSITE:
        return encode(Setup(20_000, 90_000, mime, "application/json", None, b'{"token": "%s"}' % token))
    entries = [(AUTHENTICATION, encode_bearer(token)), *((BROKER_FRAME, brokering.encode(each)) for each in serves)]
    return encode(Setup(20_000, 90_000, mime, "application/json", encode_composite(entries)))


def to_route(*tags: str, entries: Iterable[tuple[str, bytes]] = ()) -> bytes:
    """Composite metadata with a routing entry, then `entries`."""
    return encode_composite([(ROUTING, encode_routing(tags)), *entries])
