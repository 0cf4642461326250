"""A data plane without a loop, a socket or a clock of its own, and peers that talk to it in bytes.

Everything in it is real but for three seams that the data plane is given from outside: the carrier, which here keeps
what it is told to write; the schedule, which here is a list that `Site.turn` works off; the clock, which stands still
until a test moves it. A peer deframes what it got with code of its own, so that framing is not tested against itself.

When a test ends, the fixture `site` closes every peer and checks that nothing is left (`Site.finish`): no hop, no
merge, no exchange, no route, no listener, and every request that was counted has ended. So each test that uses it
checks that too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from random import Random
from typing import Any

from gateway.errors import TokenError
from gateway.forwarding import acceptor
from gateway.forwarding.closing import CloseReason
from gateway.forwarding.connection import Connection
from gateway.forwarding.mirroring import Mirrors
from gateway.forwarding.multicast import Multicast
from gateway.forwarding.nowhere import Nowhere
from gateway.forwarding.outbox import Outbox
from gateway.forwarding.plane import Plane, Snapshot
from gateway.forwarding.resuming import PARKED_LOAD
from gateway.forwarding.services import NodeServices
from gateway.forwarding.waiting import Waiting
from gateway.observe.metrics import Metrics
from gateway.policy.limits import LimitsProfile, profile_for
from gateway.policy.principal import Kind, Principal
from gateway.session.setup import SetupRules
from gateway.wire import brokering
from gateway.wire.brokering import Address, Cast, RouteSetup
from gateway.wire.frames import (
    Frame,
    Payload,
    RequestChannel,
    RequestFnf,
    RequestResponse,
    RequestStream,
    Setup,
    decode,
    encode,
)
from gateway.wire.metadata import decode_composite, encode_bearer, encode_composite, encode_routing
from gateway.wire.mimetypes import AUTHENTICATION, BROKER_FRAME, COMPOSITE, PRINCIPAL, ROUTING
from gateway.wire.sink import FrameSink
from tests.forwarding.timers import Timers

NODE = "edge-1"
NODE_ID = bytes(range(16))
#: What a carrier takes before it says that it is blocked, and what must be left before it says that it is not.
CARRIER_HIGH, CARRIER_LOW = 64 * 1024, 16 * 1024
NEVER = float("inf")

#: How a peer's frames are framed: `Outbox.prefixed`.
WEBSOCKET, TCP = False, True


class Clock:
    """Seconds; `wall` is Unix time, which moves along."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + 1_700_000_000.0


class RecordingCarrier:
    """A socket's stand-in. While `reads` is false the peer reads nothing: what is written waits, and above
    `CARRIER_HIGH` the outbox is told to hold back, as asyncio's transports do."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.outbox: Outbox
        self.writes: list[bytes] = []
        self.reads = True
        self.waiting = 0
        self.paused = False
        self.pauses: list[str] = []
        self.max_frame_bytes = 0
        self.closed: tuple[int, str] | None = None
        self.aborted = False
        self.connection: Connection
        self.sink: FrameSink

    def write(self, data: bytes) -> int:
        assert self.closed is None, "written after close"
        self.writes.append(data)
        if not self.reads:
            self.waiting += len(data)
            if self.waiting > CARRIER_HIGH and not self.outbox.blocked:
                getattr(self, "connection", self.outbox).block(self.clock.now)
        return self.waiting

    def buffered(self) -> int:
        return self.waiting

    def held(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.paused = True
        self.pauses.append("pause")

    def resume_reading(self) -> None:
        self.paused = False
        self.pauses.append("resume")

    def allow(self, max_frame_bytes: int) -> None:
        self.max_frame_bytes = max_frame_bytes

    def close(self, code: int, text: str) -> None:
        assert self.closed is None, "closed twice"
        self.closed = (code, text)

    def abort(self) -> None:
        self.aborted = True

    def attach(self, connection: Connection, sink: FrameSink) -> None:
        self.connection = connection
        self.outbox = connection.outbox
        self.sink = sink

    def detach(self) -> None:
        del self.connection, self.outbox

    # The peer's side

    def stall(self) -> None:
        """The peer stops reading."""
        self.reads = False

    def read(self, size: int | None = None) -> None:
        """The peer reads `size` bytes, or everything and goes on reading."""
        if size is None:
            self.reads = True
            size = self.waiting
        self.waiting -= min(size, self.waiting)
        if self.outbox.blocked and self.waiting <= CARRIER_LOW:
            self.outbox.unblock()


def unframed(prefixed: bool, data: bytes) -> Iterator[bytes]:
    """The RSocket frames in what was written."""
    at = 0
    while at < len(data):
        if prefixed:
            length, at = int.from_bytes(data[at : at + 3], "big"), at + 3
        else:
            assert data[at] == 0x82, "not one whole, unmasked binary message"
            length, at = data[at + 1], at + 2
            if length >= 126:
                size = 2 if length == 126 else 8
                length, at = int.from_bytes(data[at : at + size], "big"), at + size
        yield data[at : at + length]
        at += length


class Peer:
    """A client at the other end of one connection. Nothing happens unasked."""

    def __init__(self, site: Site, prefixed: bool, limits: LimitsProfile) -> None:
        self.site = site
        self.prefixed = prefixed
        self.carrier = RecordingCarrier(site.clock)
        outbox = Outbox(
            self.carrier,
            site.plane.flusher,
            site.plane.counters,
            limits.high_water_bytes,
            limits.hard_water_bytes,
            prefixed=prefixed,
        )
        self.carrier.outbox = outbox
        connection = Connection(site.plane, self.carrier, outbox, peer="test")
        self.carrier.attach(connection, connection)
        self.connection = connection
        self.route_id = b""
        self._ids = itertools.count(1, 2)
        self._read = 0

    def send(self, *frames: Frame | bytes, turn: bool = True) -> None:
        """Each frame arrives inside a larger buffer, as those of a busy connection do; then the loop turns."""
        self.connection.session.last_received = self.site.plane.wake()
        for frame in frames:
            data = frame if isinstance(frame, bytes) else encode(frame)
            self.carrier.sink.frame_received(b"\xff\xff\xff" + data + b"\xff", 3, 3 + len(data))
        if turn:
            self.site.turn()

    def raw(self) -> list[bytes]:
        """The frames that came since the last call, as they are."""
        new, self._read = self.carrier.writes[self._read :], len(self.carrier.writes)
        return list(unframed(self.prefixed, b"".join(new)))

    def got(self) -> list[Frame]:
        """The frames that came since the last call."""
        return [decode(frame) for frame in self.raw()]

    def one(self) -> Any:
        """The only frame that came since the last call."""
        (frame,) = self.got()
        return frame

    @property
    def open(self) -> bool:
        return not self.connection.closed

    # Requests

    def next_id(self) -> int:
        return next(self._ids)

    def respond(self, to: str, data: bytes = b"?", **more: Any) -> int:
        return self._request(RequestResponse, to, data, **more)

    def fire(self, to: str, data: bytes = b"?", **more: Any) -> int:
        return self._request(RequestFnf, to, data, **more)

    def stream(self, to: str, n: int = 1, data: bytes = b"?", **more: Any) -> int:
        return self._request(RequestStream, to, data, initial_n=n, **more)

    def channel(self, to: str, n: int = 1, data: bytes = b"?", **more: Any) -> int:
        return self._request(RequestChannel, to, data, initial_n=n, **more)

    def _request(
        self,
        make: type[Any],
        to: str,
        data: bytes,
        *,
        metadata: bytes | None = None,
        turn: bool = True,
        **fields: Any,
    ) -> int:
        stream_id = self.next_id()
        frame = make(stream_id, to_route(to) if metadata is None else metadata, data, **fields)
        self.send(frame, turn=turn)
        return stream_id

    # Ends

    def vanish(self, reason: CloseReason = CloseReason.PEER_RESET) -> None:
        """The socket is gone."""
        self.connection.lost(reason)
        self.site.turn()


class Site:
    """One node's data plane and whoever is connected to it."""

    def __init__(self, **limits: int | float) -> None:
        self.clock = Clock()
        self.timers = Timers(self.clock.monotonic)
        self.turns: list[Callable[[], None]] = []
        self.metrics = Metrics()
        self.principals: dict[bytes, Principal] = {}
        self.profiles = {kind: profile_for(kind, limits or None) for kind in Kind}
        self.rules = SetupRules()
        self.plane = Plane(
            node=NODE,
            node_id=NODE_ID,
            snapshot=self.snapshot(),
            metrics=self.metrics,
            monotonic=self.clock.monotonic,
            wall=self.clock.wall,
            schedule=self.turns.append,
            random=Random(7),
            later=self.timers.later,
        )
        self.services = NodeServices(self.plane)
        self.multicast = Multicast(self.plane)
        self.plane.multicast = self.multicast
        self.nowhere = self.plane.nowhere = Nowhere(self.plane)
        self.mirrors = self.plane.mirrors = Mirrors(self.plane)
        self.waiting = self.plane.waiting = Waiting(self.plane)
        self.peers: list[Peer] = []
        self._routes = itertools.count(1)
        self._tokens = itertools.count(1)

    @property
    def counters(self) -> Any:
        return self.metrics.counters

    def snapshot(self, generation: int = 1, **limits: int | float) -> Snapshot:
        profiles = {kind: replace(profile, **limits) for kind, profile in self.profiles.items()}  # type: ignore[arg-type]
        return Snapshot(generation, self._authenticate, profiles, self.rules, setup_timeout_s=5.0)

    def _authenticate(self, token: bytes | None, now: float) -> Principal:
        if token is None:
            raise TokenError("no token: send it as bearer authentication in SETUP metadata", reason="token_missing")
        principal = self.principals.get(token)
        if principal is None:
            raise TokenError("token not accepted", reason="token_invalid")
        return principal

    def turn(self) -> None:
        """Turn the loop until it has nothing to do."""
        for _ in range(100_000):
            if not self.turns:
                return
            turns, self.turns[:] = self.turns[:], []
            for callback in turns:
                callback()
        raise AssertionError("the loop does not come to rest")

    def wait(self, seconds: float) -> None:
        """Let time pass: timers when they are due, a tick at its end."""
        until = self.clock.now + seconds
        while (timer := self.timers.next(until)) is not None:
            self.clock.now = max(self.clock.now, timer.at)
            self.plane.wake()
            timer.callback()
            self.turn()
        self.clock.now = until
        self.plane.tick()
        self.turn()

    # Peers

    def token(
        self,
        subject: str,
        kind: Kind = Kind.SERVICE,
        *,
        services: tuple[str, ...] = ("*",),
        routes: tuple[str, ...] = ("*",),
        expires_at: float = NEVER,
    ) -> bytes:
        token = f"token-{next(self._tokens)}-{subject}".encode()
        self.principals[token] = Principal(subject, kind, "", 0.0, expires_at, services, routes)
        return token

    def dial(self, prefixed: bool = WEBSOCKET) -> Peer:
        """A peer that has said nothing yet."""
        peer = Peer(self, prefixed, self.plane.first_limits)
        self.peers.append(peer)
        return peer

    def connect(
        self,
        subject: str = "caller",
        kind: Kind = Kind.SERVICE,
        *,
        serves: Iterable[str | RouteSetup] = (),
        prefixed: bool = WEBSOCKET,
        mime: str = COMPOSITE,
        keepalive_ms: int = 20_000,
        lifetime_ms: int = 90_000,
        **rights: Any,
    ) -> Peer:
        """A peer whose SETUP was accepted. `serves`: names to register, or whole registrations."""
        peer = self.dial(prefixed)
        token = self.token(subject, kind, **rights)
        registrations = [entry if isinstance(entry, RouteSetup) else self.registration(entry) for entry in serves]
        if registrations:
            peer.route_id = registrations[0].route_id
        setup = Setup(keepalive_ms, lifetime_ms, mime, "application/json")
        if mime == COMPOSITE:
            peer.send(replace(setup, metadata=credentials(token, registrations)))
        else:
            peer.send(replace(setup, data=b'{"token": "%s"}' % token))
            for registration in registrations:
                acceptor.register(peer.connection, registration)
        assert peer.got() == []
        assert peer.open
        return peer

    def service(self, name: str, subject: str = "", **more: Any) -> Peer:
        return self.connect(subject or f"{name}-1", serves=[name], **more)

    def registration(self, service: str, *, route_id: bytes | None = None, **tags: str) -> RouteSetup:
        return RouteSetup(route_id or next(self._routes).to_bytes(16, "big"), service, tuple(tags.items()))

    # What holds

    def open_streams(self) -> int:
        return int(self.counters.streams_open)

    def check(self) -> None:
        """What holds between any two turns of the loop."""
        plane = self.plane
        hops = 0
        connections = set(plane.connections.values())
        for connection in connections:
            assert not connection.closed
            assert connection.pending % PARKED_LOAD == len(connection.serving)
            for stream_id, stream in connection.requesting.items():
                hops += 1
                assert (stream.requester, stream.requester_id) == (connection, stream_id)
                assert stream.responder.serving[stream.responder_id] is stream
                assert stream.responder in connections
            for stream_id, stream in connection.serving.items():
                assert (stream.responder, stream.responder_id) == (connection, stream_id)
                assert stream.requester.requesting[stream.requester_id] is stream
        assert self.open_streams() == hops
        assert sum(stats.open for stats in self.metrics.services.values()) == sum(
            1 for connection in connections if connection.kind == "client" for _ in connection.requesting
        )

    def finish(self) -> None:
        """Everybody goes; nothing may be left."""
        self.turn()
        self.check()
        for peer in self.peers:
            peer.vanish()
        # Nobody comes back to a session either.
        self.wait(max(profile.resume_hold_s for profile in self.profiles.values()) + 1)
        assert self.open_streams() == 0
        assert all(stats.open == 0 for stats in self.metrics.services.values())
        apart = (self.nowhere, self.mirrors)
        here = [each for each in self.plane.connections.values() if not any(one.is_at(each) for one in apart)]
        assert here == [self.services, self.multicast]
        assert [route.owner for route in self.plane.table] == [self.services]
        for internal in (self.services, self.multicast):
            assert not internal.closed
            assert not internal.serving
            assert not internal.requesting
            assert internal.pending == 0
        assert not self.mirrors.open
        assert not len(self.waiting)
        assert not self.services._exchanges
        assert not self.multicast._merges
        assert not self.multicast._merges_by_leg
        assert not self.multicast._routes
        for peer in self.peers:
            connection = peer.connection
            assert not connection.requesting
            assert not connection.serving
            assert not connection.partials
            assert not connection.paused_by
            assert not connection.outbox.feeders
            assert not connection.outbox.throttled
            assert not connection.outbox.waiting


# Metadata


def to_route(*tags: str, entries: Iterable[tuple[str, bytes]] = ()) -> bytes:
    """Composite metadata with a routing entry, then `entries`."""
    return encode_composite([(ROUTING, encode_routing(tags)), *entries])


def to_tags(cast: Cast = Cast.UNICAST, entries: Iterable[tuple[str, bytes]] = (), **tags: str) -> bytes:
    """Composite metadata with an ADDRESS frame, then `entries`."""
    frame = Address(bytes(16), tuple(tags.items()), cast)
    return encode_composite([(BROKER_FRAME, brokering.encode(frame)), *entries])


def to_all(service: str, entries: Iterable[tuple[str, bytes]] = ()) -> bytes:
    return to_tags(Cast.MULTICAST, entries, ServiceName=service)


def credentials(token: bytes | None, registrations: Iterable[RouteSetup] = ()) -> bytes:
    """SETUP metadata: the bearer token, then one entry a registration."""
    entries = [] if token is None else [(AUTHENTICATION, encode_bearer(token))]
    return encode_composite([*entries, *((BROKER_FRAME, brokering.encode(each)) for each in registrations)])


def stamp(subject: str = "caller", kind: str = "service") -> tuple[str, bytes]:
    """The entry that says who asks, written out by hand."""
    return PRINCIPAL, f'{{"subject":"{subject}","kind":"{kind}","node":"{NODE}"}}'.encode()


def entries_of(metadata: bytes | None) -> list[tuple[str, bytes]]:
    return decode_composite(metadata or b"")


# Short names of frames that tests send all the time


def item(stream_id: int, data: bytes = b"", *, complete: bool = False, follows: bool = False) -> Payload:
    return Payload(stream_id, None, data, follows, complete, next=True)


def complete(stream_id: int) -> Payload:
    return Payload(stream_id, None, b"", complete=True, next=False)
