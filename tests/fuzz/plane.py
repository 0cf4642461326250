"""Fuzz target of the data plane: three connections that do anything, a fourth that is new, and two bystanders.

An input is a list of steps. A step is a byte (two bits for the peer, the rest for what it does) and what that takes:
a frame as it is, a frame made of a few bytes on a stream that is open, no longer reading, going away, time that passes.
After each step what every peer got is held against `PeerRules`; at the end the bystanders must still be served, and
when all have gone nothing may be left (`Site.finish`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from zlib import crc32

from gateway.wire import brokering
from gateway.wire.brokering import RouteSetup
from gateway.wire.frames import (
    COMPLETE,
    FOLLOWS,
    METADATA,
    NEXT,
    FrameType,
    Payload,
    RequestResponse,
    decode,
    encode,
    peek_stream_id,
    peek_type,
)
from gateway.wire.metadata import encode_bearer, encode_composite, encode_routing
from gateway.wire.mimetypes import AUTHENTICATION, BROKER_FRAME, COMPOSITE, PRINCIPAL, ROUTING
from tests.fuzz.peer_rules import PeerRules
from tests.fuzz.site import PRINCIPALS, Peer, Site, setup_frame, to_route
from tests.fuzz.target import check

_MAX_STEPS = 60
_T = FrameType
_REQUESTS = (_T.REQUEST_RESPONSE, _T.REQUEST_FNF, _T.REQUEST_STREAM, _T.REQUEST_CHANNEL)
_FORGED = b'{"subject":"forged","kind":"admin","node":"edge-1"}'


# Metadata that steps choose from


def _address(cast: brokering.Cast, **tags: str) -> tuple[str, bytes]:
    return BROKER_FRAME, brokering.encode(brokering.Address(bytes(16), tuple(tags.items()), cast))


_METADATA: tuple[bytes | None, ...] = (
    to_route("echo.it"),
    encode_composite([_address(brokering.Cast.MULTICAST, ServiceName="echo")]),
    to_route("other"),
    to_route("gateway.routes"),
    to_route("gateway.register"),
    to_route("gateway.unregister"),
    to_route("gateway.ready"),
    to_route("plain.a"),
    to_route("echo", entries=[(PRINCIPAL, _FORGED), (AUTHENTICATION, encode_bearer(b"caller"))]),
    to_route("nobody.home"),
    encode_composite([_address(brokering.Cast.SHARD, ServiceName="echo", ShardKey="k")]),
    to_route("echo", "sub=both"),
    to_route("caller.x"),
    None,
    b"",
    encode_routing(["echo"]),
)


class _Actor:
    """One peer with the rules for what it is sent."""

    def __init__(self, site: Site, name: str, *, prefixed: bool, mime: str, serves: tuple[str, ...]) -> None:
        self.site = site
        self.name = name
        self._prefixed = prefixed
        self._mime = mime
        self._serves = serves
        #: What it was sent, but for the order (there are sets of streams) and the contents (there are random ids).
        self.written = 0
        self.dial()

    def dial(self) -> None:
        self.peer: Peer = self.site.dial(prefixed=self._prefixed)
        self.rules = PeerRules(self.name, set(PRINCIPALS), composite=self._mime == COMPOSITE)
        self.opened: list[int] = []
        self._next_id = 1

    def next_id(self) -> int:
        self._next_id += 2
        return self._next_id - 2

    def set_up(self) -> None:
        # Route ids that others know: whoever lists the routes sees them.
        ids = [(self.name + service).encode().ljust(16, b".") for service in self._serves]
        serves = [RouteSetup(*each, (("zone", "eu"),)) for each in zip(ids, self._serves, strict=True)]
        self.send(setup_frame(self.name.encode(), self._mime, serves))

    def send(self, frame: bytes) -> None:
        if not self.peer.open:
            return
        self.rules.sent(frame)
        if len(frame) >= 6 and peek_type(frame) in _REQUESTS:
            self.opened.append(peek_stream_id(frame))
        self.peer.send(frame)

    def read(self) -> None:
        for frame in self.peer.raw():
            self.rules.got(frame)
            self.written += crc32(frame[:6], len(frame))


class _Reader:
    """Bytes, of which there are always more: zeros behind the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        return self._at < len(self._data)

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def bytes(self) -> bytes:
        length = self.byte() << 8 | self.byte()
        found = self._data[self._at : self._at + length]
        self._at += length
        return found


class _World:
    def __init__(self) -> None:
        self.site = site = Site()
        self.actors = [
            _Actor(site, "caller", prefixed=False, mime=COMPOSITE, serves=()),
            _Actor(site, "serving", prefixed=True, mime=COMPOSITE, serves=("echo", "other")),
            _Actor(site, "both", prefixed=False, mime=COMPOSITE, serves=("echo", "both")),
            _Actor(site, "serving", prefixed=False, mime=ROUTING, serves=()),
        ]
        self.bystander = _Actor(site, "watching", prefixed=True, mime=COMPOSITE, serves=())
        for actor in (*self.actors[:3], self.bystander):
            actor.set_up()
        site.turn()
        self.drained = False

    # Steps

    def frame(self, actor: _Actor, reader: _Reader) -> None:
        actor.send(reader.bytes())
        self.site.turn()

    def frame_without_turn(self, actor: _Actor, reader: _Reader) -> None:
        actor.send(reader.bytes())

    def request(self, actor: _Actor, reader: _Reader) -> None:
        """Flags (METADATA by the choice), which metadata, how much credit, what data."""
        choice, flags, n, data = reader.byte(), reader.byte(), reader.byte(), reader.byte()
        kind = _REQUESTS[choice & 3]
        metadata = _METADATA[choice >> 2 & 15]
        body = n.to_bytes(4, "big") if kind >= _T.REQUEST_STREAM else b""
        head = flags & (FOLLOWS | COMPLETE)
        if metadata is not None:
            head |= METADATA
            body += len(metadata).to_bytes(3, "big") + metadata
        body += self._data(data)
        actor.send(actor.next_id().to_bytes(4, "big") + (kind << 10 | head).to_bytes(2, "big") + body)
        self.site.turn()

    def _data(self, choice: int) -> bytes:
        """Data that the node's own services take, and plain bytes."""
        routes = list(self.site.plane.table)
        if choice & 0x80 and routes:
            route = routes[choice % len(routes)]
            if choice & 0x40:
                return brokering.encode(brokering.RouteRemove(bytes(16), route.route_id, 0))
            service = ("echo", "caller.x", "n" * 200, "gateway.mine")[choice >> 4 & 3]
            return brokering.encode(brokering.RouteSetup(route.route_id, service, (("zone", "us"),)))
        return bytes(choice & 0x7F)

    def on_own_stream(self, actor: _Actor, reader: _Reader) -> None:
        choice = reader.byte()
        stream_id = actor.opened[-1 - choice % len(actor.opened)] if actor.opened else 1
        self._on_stream(actor, stream_id, reader)

    def on_served_stream(self, actor: _Actor, reader: _Reader) -> None:
        choice = reader.byte()
        served = list(actor.peer.connection.serving)
        self._on_stream(actor, served[-1 - choice % len(served)] if served else 2, reader)

    def _on_stream(self, actor: _Actor, stream_id: int, reader: _Reader) -> None:
        choice, flags = reader.byte(), reader.byte()
        kind = (_T.PAYLOAD, _T.PAYLOAD, _T.REQUEST_N, _T.CANCEL, _T.ERROR)[choice % 5]
        body = bytes(choice >> 3)
        head = 0
        if kind is _T.PAYLOAD:
            head = flags & (METADATA - 1 & ~0x1F) | (METADATA if flags & 1 else 0)
            if flags & 1:
                body = (flags >> 1 & 15).to_bytes(3, "big") + body
        elif kind is _T.REQUEST_N:
            body = flags.to_bytes(4, "big") + body
        elif kind is _T.ERROR:
            body = (0x0321).to_bytes(4, "big")[: flags & 7] + body
        actor.send(stream_id.to_bytes(4, "big") + (kind << 10 | head).to_bytes(2, "big") + body)
        self.site.turn()

    def stall(self, actor: _Actor, reader: _Reader) -> None:
        """It stops reading; much may wait already, as if it had been long."""
        size = (1, 1 << 17, 1 << 19, 5 << 20)[reader.byte() & 3]
        if actor.peer.open:
            actor.peer.carrier.stall(size)

    def resume(self, actor: _Actor, reader: _Reader) -> None:
        if actor.peer.open:
            actor.peer.carrier.read()
            self.site.turn()

    def vanish(self, actor: _Actor, reader: _Reader) -> None:
        """It goes; another connection of the same client comes, with or without its SETUP."""
        if actor.peer.open:
            actor.peer.vanish()
            self.site.turn()
        if reader.byte() & 1:
            actor.read()
            actor.dial()
            actor.set_up()
            self.site.turn()

    def wait(self, actor: _Actor, reader: _Reader) -> None:
        seconds = reader.byte() / 16
        self.bystander.peer.connection.session.last_received = self.site.clock.now + seconds
        self.site.wait(seconds)

    def again(self, actor: _Actor, reader: _Reader) -> None:
        """A frame many times over: budgets, windows, limits."""
        times, frame = reader.byte(), reader.bytes()
        for _ in range(times):
            actor.send(frame)
        self.site.turn()

    def republish(self, actor: _Actor, reader: _Reader) -> None:
        """A new snapshot; rarely, the node drains."""
        if reader.byte() == 0xFF:
            self.drained = True
            self.site.plane.drain()
        else:
            self.site.plane.publish(self.site.snapshot(2))
        self.site.turn()

    def set_up(self, actor: _Actor, reader: _Reader) -> None:
        if actor.peer.open and not actor.peer.connection.accepted:
            actor.set_up()
            self.site.turn()

    STEPS = (
        frame,
        request,
        on_served_stream,
        on_own_stream,
        frame,
        request,
        on_served_stream,
        on_own_stream,
        frame_without_turn,
        stall,
        resume,
        vanish,
        wait,
        again,
        republish,
        set_up,
    )

    # A run

    def step(self, reader: _Reader) -> str:
        code = reader.byte()
        actor = self.actors[code & 3]
        do = self.STEPS[code >> 2 & 15]
        do(self, actor, reader)
        for each in self.actors:
            each.read()
        self.site.check()
        return do.__name__

    def finish(self) -> None:
        for actor in self.actors:
            if actor.peer.open:
                actor.peer.carrier.read()
        self.site.turn()
        for actor in self.actors:
            actor.read()
        if not self.drained:
            self._serve_bystander()
        self.site.finish()

    def _serve_bystander(self) -> None:
        peer = self.bystander.peer
        check(peer.open, "a bystander was closed")
        list(peer.raw())
        peer.send(encode(RequestResponse(1, to_route("gateway.ready"), b"")))
        self.site.turn()
        answers = [decode(frame) for frame in peer.raw()]
        served = len(answers) == 1 and isinstance(answers[0], Payload) and answers[0].data
        check(served, f"gateway.ready was answered with {answers}")


def plane(data: bytes) -> str:
    """Steps until the input or their number is used up."""
    world = _World()
    reader = _Reader(data)
    names: list[str] = []
    while reader.more and len(names) < _MAX_STEPS:
        names.append(world.step(reader))
    closed = "".join("-" if actor.peer.open else "x" for actor in world.actors)
    refused = ",".join(sorted(world.site.plane.counters.refusals))
    world.finish()
    written = sum(actor.written for actor in world.actors) & 0xFFFFFFFF
    return f"{closed} {refused}"[:120] + f"\n{written:08x}"


# Inputs


def steps_of(data: bytes) -> Iterator[bytes]:
    """The bytes of each step."""
    at = 0
    while at < len(data):
        kind = data[at] >> 2 & 15
        name = _World.STEPS[kind].__name__
        size = {"request": 5, "on_served_stream": 4, "on_own_stream": 4, "resume": 1, "set_up": 1}.get(name, 2)
        if name in ("frame", "frame_without_turn"):
            size = 3 + int.from_bytes(data[at + 1 : at + 3], "big")
        elif name == "again":
            size = 4 + int.from_bytes(data[at + 2 : at + 4], "big")
        yield data[at : at + size]
        at += size


def a_step(name: str, actor: int, *more: int | bytes) -> bytes:
    """A step by its name: `a_step("request", 0, 1, 0, 5, 0)`; bytes get their u16 length."""
    code = [step.__name__ for step in _World.STEPS].index(name) << 2 | actor
    parts = [len(each).to_bytes(2, "big") + each if isinstance(each, bytes) else bytes((each,)) for each in more]
    return bytes((code,)) + b"".join(parts)


def a_frame(actor: int, frame: bytes) -> bytes:
    return a_step("frame", actor, frame)


def mutate(data: bytes, max_bytes: int, random: Random) -> bytes:
    """Steps dropped, doubled, moved, made anew, or changed in a few bytes of a frame's header."""
    steps = list(steps_of(data))
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(steps) + 1)
        change = random.randrange(8)
        if change <= 2 or not steps:
            steps.insert(at, _random_step(random))
        elif change == 3:
            del steps[min(at, len(steps) - 1)]
        elif change == 4:
            steps.insert(at, random.choice(steps))
        elif change == 5:
            steps.insert(at, steps.pop(random.randrange(len(steps))))
        else:
            index = min(at, len(steps) - 1)
            steps[index] = _changed(steps[index], random)
    mutated = b""
    for step in steps:
        if len(mutated) + len(step) > max_bytes:
            break
        mutated += step
    return mutated


def _changed(step: bytes, random: Random) -> bytes:
    raw = bytearray(step)
    first = 3 if len(raw) > 8 else 0
    at = random.randrange(first, min(len(raw), first + 10)) if random.random() < 0.7 else random.randrange(len(raw))
    raw[at] = random.choice((raw[at] ^ 1 << random.randrange(8), random.randrange(256), 0, 1, 0x7F, 0x80, 0xFF))
    return bytes(raw)


def _random_step(random: Random) -> bytes:
    """Mostly requests and what goes on on their streams."""
    names = ("request", "on_served_stream", "on_own_stream")
    if random.random() < 0.85:
        name = random.choice(names)
        size = 4 if name == "request" else 3
        code = a_step(name, random.randrange(4))
        return code + random.randbytes(size)
    others: tuple[Callable[[], bytes], ...] = (
        lambda: a_step("stall", random.randrange(4), random.randrange(2)),
        lambda: a_step("resume", random.randrange(4)),
        lambda: a_step("vanish", random.randrange(4), random.randrange(2)),
        lambda: a_step("wait", 0, random.randrange(256)),
        lambda: a_step("republish", 0, random.choice((0, 0, 0, 0xFF))),
        lambda: a_step("set_up", 3),
        lambda: a_step("again", random.randrange(4), random.choice((60, 130, 250)), random.choice(_REPEATED)),
    )
    return random.choice(others)()


_REPEATED = (
    encode(Payload(1, None, b"", next=True)),
    encode(Payload(2, None, b"", next=True)),
    encode(Payload(2, None, bytes(70), follows=True, next=True)),
    bytes.fromhex("00000003240000"),
    bytes.fromhex("000000012000000000ff"),
    bytes.fromhex("000000000c800000000000000000"),
)


def seeds() -> list[bytes]:
    """One life of each interaction model, with the rest of what there is to do."""
    own, served = "on_own_stream", "on_served_stream"
    item, last = NEXT, NEXT | COMPLETE
    return [
        # The choice of a request is its kind, then the metadata; of a frame on a stream its kind, then its size.
        a_step("request", 0, 0, 0, 0, 9) + a_step(served, 1, 0, 8, last) + a_step(served, 2, 0, 8, last),
        a_step("request", 0, 2, 0, 2, 0) + a_step(served, 1, 0, 8, item) + a_step(own, 0, 0, 2, 3),
        a_step("request", 0, 3, 0, 2, 0)
        + a_step(served, 2, 0, 2, 5)
        + a_step(own, 0, 0, 8, item)
        + a_step(own, 0, 0, 8, last)
        + a_step(served, 2, 0, 8, last),
        a_step("request", 0, 1, FOLLOWS, 0, 70) + a_step(own, 0, 0, 80, FOLLOWS) + a_step(own, 0, 0, 8, item),
        a_step("request", 0, 4 | 2, 0, 9, 0) + a_step(served, 1, 0, 0, item) + a_step(served, 2, 0, 0, last),
        a_step("request", 0, 4 | 3, 0, 9, 0) + a_step(served, 1, 0, 2, 9) + a_step(served, 2, 0, 2, 9),
        a_step("request", 0, 12 | 2, 0, 200, 0) + a_step("vanish", 2, 1) + a_step(own, 0, 0, 4, 4),
        a_step("request", 1, 16, 0, 0, 0x80) + a_step("request", 1, 20, 0, 0, 0xC0),
        a_step("stall", 0, 1) + a_step("request", 0, 2, 0, 9, 0) + a_step("resume", 0) + a_step("wait", 0, 255),
        a_step("set_up", 3) + a_step("request", 0, 28, 0, 0, 1) + a_step(served, 3, 0, 0, last),
        a_step("request", 0, 52, FOLLOWS, 0, 0) + a_frame(0, bytes.fromhex("0000000129000000050000000000")),
        a_step("republish", 0, 0) + a_step("request", 0, 0, 0, 0, 0) + a_step("republish", 0, 255),
        a_step("request", 2, 44, 0, 0, 0) + a_step(served, 2, 0, 4, 4) + a_step("request", 2, 32, 0, 0, 0),
        a_step("again", 0, 250, _REPEATED[3]) + a_step("again", 1, 250, _REPEATED[1]),
    ]
