"""One subscription of a broker's as a stream, for one consumer or for a group that shares it.

What is unacknowledged and what waits together are never more than its consumers asked for, as far as the broker goes by
its Receive Maximum; from one that does not, nothing is read for a while. In a group a message goes to who has the least
pending, idle ones in turn, as a request does to the instances of a service (`routing.balancer`), among those that have
credit; what somebody who leaves has not paid for goes to another.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from gateway.bridges.mqtt import packets
from gateway.bridges.mqtt.gate import Gate
from gateway.bridges.mqtt.message import Message
from gateway.bridges.mqtt.packets import Acknowledged, Arriving
from gateway.bridges.mqtt.properties import payload_metadata
from gateway.bridges.mqtt.session import Filter, Session
from gateway.errors import BridgeError, Overloaded, ResponderGone
from gateway.forwarding.exchange import Exchange
from gateway.observe.bridges import BridgeCounters
from gateway.policy.mqtt_filters import SHARE, matches

Connect = Callable[
    [int, Callable[[Arriving], None], Callable[[int, Acknowledged], None], Callable[[Session], None]],
    Awaitable[Session],
]

#: Consumers of one group.
MAX_MEMBERS: Final = 1024


class _Member:
    """One consumer. `pending`: what it got and has not paid for."""

    __slots__ = ("exchange", "pending")

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.pending = 0


class _Held:
    """A message that is not acknowledged, or waits. `packet_id` 0: QoS 0."""

    __slots__ = ("member", "message", "packet_id")

    def __init__(self, message: Message, packet_id: int = 0) -> None:
        self.message = message
        self.packet_id = packet_id
        self.member: _Member | None = None


class Stream:
    """`join` it, let it `live`; `empty` is called when its last consumer has gone."""

    def __init__(
        self,
        topic: str,
        counters: BridgeCounters,
        window: int,
        gate: Gate,
        empty: Callable[[], None],
    ) -> None:
        """`window`: the Receive Maximum of its connection. `gate`: who may have which topic."""
        self._topic = topic
        self._counters = counters
        self._window = window
        self._empty = empty
        self._gate = gate
        self._session: Session | None = None
        self._members: set[_Member] = set()
        #: Those that have credit; the last one's turn was at `_turn`.
        self._ready: list[_Member] = []
        self._turn = -1
        self._credit = 0
        self._open: deque[_Held] = deque()
        self._waiting: deque[_Held] = deque()
        self._begun = False

    def join(self, exchange: Exchange) -> None:
        """Raises Overloaded."""
        if len(self._members) >= MAX_MEMBERS:
            raise Overloaded(f"{MAX_MEMBERS} consumers share {self._topic} already", reason="mqtt_streams")
        member = _Member(exchange)
        self._members.add(member)
        exchange.on_credit = lambda: self._paid(member)
        exchange.on_end = lambda: self._leave(member)
        self._paid(member)

    def _paid(self, member: _Member) -> None:
        if member.exchange.credit > 0 and member not in self._ready:
            self._ready.append(member)
        self._credit = sum(each.exchange.credit for each in self._members)
        self._pump()

    def _leave(self, member: _Member) -> None:
        self._members.discard(member)
        if member in self._ready:
            self._ready.remove(member)
        self._credit = sum(each.exchange.credit for each in self._members)
        if not self._members:
            self._empty()
            return
        unpaid = [held for held in self._open if held.member is member]
        for held in reversed(unpaid):
            held.member = None
            held.message = held.message._replace(duplicate=True)
            self._waiting.appendleft(held)
        self._pump()

    async def live(
        self, connect: Connect, asked: Filter, group: str, name: str, before: Callable[[], Sequence[Message]]
    ) -> None:
        """`before`: what comes before all else."""
        try:
            session = await connect(self._window, self._arrived, self._answered, self._opened)
            if group and session.limits.shared and session.dial.version == packets.VERSION_5:
                asked = asked._replace(topic=f"{SHARE}{group}/{asked.topic}")
            codes = await session.subscribe([asked])
            if codes[0] >= packets.REFUSED:
                text = f"bridge {name}: the broker refuses {asked.topic}, reason code 0x{codes[0]:02x}"
                raise BridgeError(text, reason="mqtt_topic")
            self._waiting.extendleft(_Held(message) for message in reversed(before()))
            self._begun = True
            self._pump()
            while not session.ended.done():
                session.tick(asyncio.get_running_loop().time())
                await asyncio.wait([session.ended], timeout=min(1.0, session.dial.keepalive_s / 4))
            raise session.ended.result()
        except BridgeError as error:
            self._counters.refused[error.reason] += 1
            self._begun = False
            for member in list(self._members):
                member.exchange.fail(ResponderGone(str(error), reason=error.reason))
        finally:
            if self._session is not None:
                self._session.disconnect()

    def _opened(self, session: Session) -> None:
        self._session = session

    def _arrived(self, arriving: Arriving) -> None:
        message = arriving.message
        self._counters.received[message.qos] += 1
        if not matches(self._topic, message.topic):
            # A broker may send what nobody asked for: amqtt does, to whoever connects.
            self._counters.unmatched += 1
            if arriving.packet_id and self._session is not None:
                kind = packets.PUBACK if message.qos == 1 else packets.PUBREC
                version = self._session.dial.version
                self._session.send(packets.encode_acknowledgement(kind, arriving.packet_id, version))
            return
        held = _Held(message, arriving.packet_id)
        if arriving.packet_id:
            self._open.append(held)
        self._waiting.append(held)
        self._pump()

    def _answered(self, kind: int, answer: Acknowledged) -> None:
        if kind == packets.PUBREL and self._session is not None:
            version = self._session.dial.version
            self._session.send(packets.encode_acknowledgement(packets.PUBCOMP, answer.packet_id, version))

    def _pump(self) -> None:
        if not self._begun:
            return
        while self._waiting and self._ready:
            ready, topic = self._ready, self._waiting[0].message.topic
            if self._gate.judges:
                ready = [each for each in ready if self._gate.gives(each.exchange, topic)]
            if ready:
                self._give(self._waiting.popleft(), self._next(ready))
            elif any(self._gate.gives(each.exchange, topic) for each in self._members):
                break  # whoever may have it has no credit for now
            else:
                self._counters.dropped["access_denied"] += 1
                self._waiting.popleft()
        session = self._session
        if session is None or not self._members:
            return
        version = session.dial.version
        # An acknowledgement lets the broker send another one, for which there must be credit. Mosquitto 2.0 sends more
        # than that; it waits here.
        while self._open and max(0, self._window - len(self._open)) + 1 + len(self._waiting) <= self._credit:
            held = self._open.popleft()
            if held.member is not None:
                held.member.pending -= 1
            kind = packets.PUBACK if held.message.qos == 1 else packets.PUBREC
            self._counters.acknowledged += 1
            session.send(packets.encode_acknowledgement(kind, held.packet_id, version))
        if self._waiting:
            session.link.pause()
        else:
            session.link.resume()

    def _give(self, held: _Held, member: _Member) -> None:
        if held.packet_id:
            held.member = member
            member.pending += 1
        self._credit -= 1
        if member.exchange.credit <= 1:
            self._ready.remove(member)
        self._counters.forwarded += 1
        member.exchange.send(held.message.payload, payload_metadata(held.message))

    def _next(self, ready: list[_Member]) -> _Member:
        turn = self._turn = (self._turn + 1) % len(ready)
        best = ready[turn]
        for member in (*ready[turn + 1 :], *ready[:turn]) if best.pending else ():
            if member.pending < best.pending:
                best = member
                if not best.pending:
                    break
        return best
