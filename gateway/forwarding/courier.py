"""Sends what has waited, in the name of who sent it: one internal connection a principal.

To the data plane its requests are anybody's: the same decision, the same permissions as they stand now, the same
identity for the responder. It chooses the responder by the message's key, so that keys keep their order among several
instances, and says which one it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.errors import NoRoute, Overloaded, TokenError
from gateway.forwarding import leasing
from gateway.forwarding.decision import CAPACITY
from gateway.forwarding.internal import InternalConnection
from gateway.forwarding.links import LOCAL
from gateway.forwarding.opening import decide_on
from gateway.forwarding.stamp import Form, principal_entry, rewrite
from gateway.forwarding.stream import REQUEST_RESPONSE, new_stream
from gateway.policy.asking import UNKNOWN, Caller
from gateway.wire.frames import (
    FOLLOWS,
    Cancel,
    FrameType,
    encode,
    peek_error_code,
    peek_flags,
    peek_stream_id,
    peek_type,
)

if TYPE_CHECKING:
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.decision import Decision
    from gateway.forwarding.plane import Plane, Snapshot
    from gateway.policy.principal import Principal
    from gateway.routing.route import Route

#: Keys whose responder is remembered.
KEYS = 1024
#: Told once how a request ended: None for an answer, else the code of the error.
Ended = Callable[[int | None], None]


class Courier(InternalConnection):
    """`revoked`: its principal may not be here any more."""

    __slots__ = ("_asked", "_node", "_rewritten", "_sharded", "_sharded_at", "_shards", "revoked")

    def __init__(self, plane: Plane, principal: Principal, *, side: int = LOCAL, node: str = "") -> None:
        """`side`: which side of this node its messages came from; `node`: the name of the one they were accepted by."""
        super().__init__(plane, "spool")
        self._asked: dict[int, Ended] = {}
        self._rewritten: dict[tuple[bytes, int], bytes] = {}
        #: Who a key's messages go to, as long as one decision holds.
        self._shards: dict[bytes, Route] = {}
        self._sharded: Decision | None = None
        self._sharded_at = -1
        self.revoked = False
        # Where its requests may go depends on where they came from, as for any request.
        self.side = side
        self.reached = UNKNOWN
        self._node = node or plane.node
        # It is the requester, and a requester's requests are counted.
        self.counters = plane.counters
        stamp = principal_entry(principal, node or plane.node)
        self.adopt(principal, plane.snapshot.grant_elsewhere(principal), Form.COMPOSITE, stamp)
        self.judge_again(plane.snapshot)

    def judge_again(self, snapshot: Snapshot) -> None:
        """Its token may have run out since: what was accepted in time is delivered. It may not have been revoked."""
        try:
            if self.side != LOCAL:
                snapshot.access.judge_guest(self.principal, self.plane.wall())
                grant = snapshot.grant_elsewhere(self.principal)
            else:
                self.principal = snapshot.access.judge(self.principal, self.plane.wall())
                self.stamp = principal_entry(self.principal, self._node)
                self._rewritten.clear()
                grant = snapshot.grant(self.principal)
        except TokenError:
            self.revoked = True
            grant = self.plane.nobody
        else:
            self.revoked = False
        self.hold(grant)

    @property
    def caller(self) -> Caller:
        """Who sent what it carries; how is forgotten."""
        return Caller.of(self.principal, self._node)

    @property
    def busy(self) -> bool:
        return bool(self._asked)

    def way(self, metadata: bytes, key: bytes, kind: int) -> tuple[Decision, Route]:
        """Where a request of a frame type goes as things stand; by its key, where it has one and there are several.

        Raises NoRoute, NotPermitted or Overloaded (nobody gets it), and RequestInvalid.
        """
        intake = self.plane.intake
        assert intake is not None
        intake.passing = True
        try:
            decision = decide_on(self, metadata, kind)
        finally:
            intake.passing = False
        if decision.multicast:
            raise NoRoute(f"no route to {decision.address}")
        if not key:
            return decision, decision.pick(self.plane)
        if decision is not self._sharded or decision.generation != self._sharded_at:
            self._sharded, self._sharded_at = decision, decision.generation
            self._shards.clear()
        route = self._shards.get(key)
        if route is None:
            if len(self._shards) >= KEYS:
                self._shards.clear()
            route = self._shards[key] = decision.pick_by(self.plane, key)
        return decision, route

    def carry(
        self,
        way: tuple[Decision, Route],
        interaction: int,
        metadata: bytes,
        data: bytes,
        entry: bytes,
        key: bytes,
        ended: Ended | None,
    ) -> Connection:
        """Send one request on its way, with `entry` behind its metadata; return who it went to. `ended`: for
        request/response.

        Raises Overloaded: nobody got it.
        """
        decision, route = way
        target: Connection = route.owner  # type: ignore[assignment]
        if target.outbox.slow:
            raise Overloaded("what serves this takes in too little; try again", reason="responder_slow")
        if key and decision.leased and not leasing.may_send(target, self.plane.monotonic()):
            raise leasing.exhausted()
        section = self._section(metadata, target.form, entry)
        stats = decision.stats or self.plane.stats_of(route, self)
        stats.requests += 1
        responder_id = target.ids.allocate(target.serving)
        if ended is None:
            self.counters.fire_and_forget += 1
            stats.ok += 1
        else:
            self.counters.request_response += 1
            number = self.leg_ids.allocate(self.requesting)
            stream = new_stream(REQUEST_RESPONSE, self, number, target, responder_id, stats, self.plane.now)
            self.requesting.insert(number, stream)
            target.serving.insert(responder_id, stream)
            target.pending += 1
            self.counters.streams_open += 1
            self._asked[number] = ended
        target.send_request(responder_id, interaction, interaction << 10, 0, section, data, 0, len(data))
        return target

    def _section(self, metadata: bytes, form: int, entry: bytes) -> bytes:
        """The metadata for a responder, its length in front."""
        rewritten = self._rewritten.get((metadata, form))
        if rewritten is None:
            if len(self._rewritten) >= CAPACITY:
                self._rewritten.clear()
            rewritten = self._rewritten[metadata, form] = rewrite(metadata, self.form, form, self.stamp)
        if form == Form.COMPOSITE:
            return b"".join(((len(rewritten) + len(entry)).to_bytes(3, "big"), rewritten, entry))
        return len(rewritten).to_bytes(3, "big") + rewritten if rewritten else b""

    def give_up(self) -> None:
        """Nobody waits for the answers any more."""
        for number in list(self._asked):
            del self._asked[number]
            self.send(encode(Cancel(number)))

    def deliver(self, frame: bytes) -> None:
        number = peek_stream_id(frame)
        kind = peek_type(frame)
        if kind == FrameType.ERROR:
            self._over(number, peek_error_code(frame, 0, len(frame)))
        elif kind == FrameType.PAYLOAD and not peek_flags(frame) & FOLLOWS:
            self._over(number, None)

    def _over(self, number: int, code: int | None) -> None:
        ended = self._asked.pop(number, None)
        if ended is not None:
            ended(code)
