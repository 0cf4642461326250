"""A bridge's connection to its broker, for as long as the bridge is: dial, take up the session, lose it, dial again.

Between tries it waits for a random time below a bound that doubles with each failure, so that bridges that lost one
broker together do not come back together; a connection that has held for a while begins anew. Whether the far side is
there is known by acknowledgements, not by the socket: `acknowledged_at`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

from gateway.bridges.mqtt import packets
from gateway.bridges.mqtt.memory import Memory
from gateway.bridges.mqtt.message import Message
from gateway.bridges.mqtt.outgoing import Done, Outgoing
from gateway.bridges.mqtt.packets import Acknowledged, Arriving
from gateway.bridges.mqtt.session import Dial, Filter, Session
from gateway.documents.broker import Endpoint
from gateway.errors import BridgeError, Overloaded, RequestInvalid
from gateway.observe.bridges import BridgeCounters, BridgeState

#: How long what was on its way waits for the session to come back, in seconds.
RESEND_S: Final = 30.0
#: How long goodbye may take, in seconds.
GOODBYE_S: Final = 1.0
#: A password is renewed so long before it runs out, in seconds, or after half its time where that is shorter.
RENEW_S: Final = 30.0
#: So many windows of messages may be unacknowledged before nothing more is read. A broker that keeps to one is not
#: held back, and its acknowledgements of what goes out are read.
WINDOWS: Final = 2
#: How often it is looked whether a PINGREQ is due, in seconds.
TICK_S: Final = 1.0
#: What a packet has beside topic and payload: its head, and properties of the usual size.
ROOM: Final = 64
#: What another try soon cannot help: wait as long as it goes.
_HOPELESS: Final = frozenset({"mqtt_not_authorized", "mqtt_taken_over", "mqtt_certificate", "mqtt_refused"})


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds; see `documents.bridge.Backoff`."""

    base_s: float = 1.0
    cap_s: float = 120.0
    stable_s: float = 30.0

    def bound_s(self, failures: int) -> float:
        """Of the wait behind so many failures in a row."""
        return min(self.cap_s, self.base_s * 2.0 ** min(max(0, failures - 1), 32))


class Arrival:
    """A message of the broker's that is being dealt with. `id`: the number that it goes on under, empty with QoS 0."""

    __slots__ = ("id", "message", "packet_id", "subscriptions")

    def __init__(self, arriving: Arriving, id: str) -> None:
        self.message = arriving.message
        self.packet_id = arriving.packet_id
        self.subscriptions = arriving.subscriptions
        self.id = id


class Listener(Protocol):
    """Whose client it is; called in the event loop."""

    def connected(self) -> None:
        """The broker has taken this client, and its subscriptions."""
        ...

    def disconnected(self, why: BridgeError) -> None: ...

    def arrived(self, arrival: Arrival) -> None:
        """`Client.acknowledge` must follow, but for QoS 0."""
        ...


class Client:
    """`state`, `why`: how it is. `session` is the connection while there is one. Times are of `clock`, monotonic."""

    def __init__(
        self,
        name: str,
        places: Sequence[Endpoint],
        prepare: Callable[[], Dial],
        backoff: Backoff,
        memory: Memory,
        listener: Listener,
        counters: BridgeCounters,
        *,
        version: int,
        random: Random,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """`prepare` makes what to connect with; it may read files, and raises BridgeError."""
        self.name = name
        self.state = BridgeState.CONNECTING
        self.why = ""
        self.session: Session | None = None
        self.where = places[0]
        self.since: float | None = None
        self.retry_at: float | None = None
        self.acknowledged_at: float | None = None
        #: When the bridge last said that it is there.
        self.beat_at: float | None = None
        self.refused_filters: tuple[str, ...] = ()
        self._places = tuple(places)
        self._prepare = prepare
        self._filters: tuple[Filter, ...] = ()
        self._backoff = backoff
        self._memory = memory
        self._listener = listener
        self._counters = counters
        self._random = random
        self._clock = clock
        self._wall = wall
        self._version = version
        self._loop = asyncio.get_running_loop()
        self._outgoing = Outgoing(version, memory.unreleased)
        self._coming: dict[int, Arrival] = {}
        self._paused: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._again = asyncio.Event()
        self._giving_up: asyncio.TimerHandle | None = None

    # Life

    def want(self, filters: Sequence[Filter]) -> None:
        """What to subscribe to; before `start`."""
        self._filters = tuple(dict.fromkeys(filters))

    def start(self) -> None:
        self._task = self._loop.create_task(self._run(), name=f"mqtt: {self.name}")
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Only a bug ends it but `stop`: whoever looks must see it, and the loop says it."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.state, self.why = BridgeState.FAILED, "internal error"
            self._loop.call_exception_handler({"message": f"bridge {self.name}", "exception": error, "task": task})

    async def stop(self) -> None:
        """Say goodbye; the session stays with the broker for as long as the document says."""
        self._stopping = True
        session = self.session
        if session is not None:
            session.disconnect()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await asyncio.shield(session.ended)
            session.link.abort()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._outgoing.lost()
        self._outgoing.give_up()
        if self._giving_up is not None:
            self._giving_up.cancel()
        self.state = BridgeState.STOPPED

    def reconnect(self) -> None:
        """Leave the connection and take another at once."""
        if self.session is not None:
            self.session.disconnect()
        self._again.set()

    async def _run(self) -> None:
        failures = place = 0
        while not self._stopping:
            self._again.clear()
            where = self._places[place % len(self._places)]
            self.state, self.where, self.retry_at = BridgeState.CONNECTING, where, None
            began = self._clock()
            try:
                why = await self._live(where)
            except BridgeError as error:
                why = error
                self._counters.failed_connects += 1
                place += 1
            finally:
                self._part()
            self.state, self.why = BridgeState.WAITING, str(why)
            held = self.since is not None and self._clock() - began >= self._backoff.stable_s
            if held or why.reason == "mqtt_renewed":
                failures = 0
            if self._again.is_set() or why.reason == "mqtt_renewed":
                continue
            failures = 32 if why.reason in _HOPELESS else failures + 1
            delay = self._random.uniform(0, self._backoff.bound_s(failures))
            self.retry_at = self._clock() + delay
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._again.wait()

    async def _live(self, where: Endpoint) -> BridgeError:
        """One connection, from the dial to its end, and why it ended. Raises BridgeError where there is none."""
        dial = await self._loop.run_in_executor(None, self._prepare)
        self.since = None
        session = await Session.connect(dial, where, self._outgoing.ids, self._message, self._answer, self._opened)
        timers = [self._loop.call_soon(self._tick, session)]
        try:
            await self._agree(session)
            self.state, self.why = BridgeState.CONNECTED, ""
            self.since = self._wall()
            self._counters.connects += 1
            self._listener.connected()
            if dial.expires_at is not None:
                left = dial.expires_at - self._wall()
                timers.append(self._loop.call_later(max(1.0, left - min(RENEW_S, left / 2)), self._renew, session))
            return await asyncio.shield(session.ended)
        finally:
            for timer in timers:
                timer.cancel()
            session.link.abort()

    def _opened(self, session: Session) -> None:
        """CONNACK has come; what the broker had for this session may come right behind it."""
        self.session = session
        self.beat_at = None
        self._paused.clear()
        if not session.present:
            self._coming.clear()
            self._memory.arrivals.forget()
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None
        self._outgoing.connected(session.send, session.limits.receive_maximum, present=session.present)

    async def _agree(self, session: Session) -> None:
        """Have the broker's subscriptions be ours: no more, which a changed document may have left, and no fewer."""
        wanted = {each.topic: [each.qos, each.number] for each in self._filters}
        before = self._memory.filters() if session.present else {}
        stale = [topic for topic in before if topic not in wanted]
        # Noted before they are asked for, so that none of them is forgotten.
        if before != wanted:
            await self._loop.run_in_executor(None, self._memory.note_filters, before | wanted)
        await session.unsubscribe(stale)
        # A subscription that stands is left alone: 3.1.1 would send all that is retained once more.
        missing = [each for each in self._filters if before.get(each.topic) != wanted[each.topic]]
        codes = await session.subscribe(missing)
        refused = [each.topic for each, code in zip(missing, codes, strict=True) if code >= packets.REFUSED]
        self.refused_filters = tuple(refused)
        agreed = {topic: options for topic, options in wanted.items() if topic not in refused}
        if agreed != (before | wanted):
            await self._loop.run_in_executor(None, self._memory.note_filters, agreed)

    async def also(self, wanted: Filter) -> None:
        """Subscribe to this besides, for as long as the bridge is. Raises BridgeError."""
        session = self.session
        if session is None or not session.open:
            raise BridgeError(f"bridge {self.name}: its broker is not connected", reason="mqtt_not_connected")
        if wanted in self._filters:
            return
        self._filters = (*self._filters, wanted)
        noted = {each.topic: [each.qos, each.number] for each in self._filters}
        await self._loop.run_in_executor(None, self._memory.note_filters, noted)
        codes = await session.subscribe([wanted])
        if codes[0] >= packets.REFUSED:
            self._filters = tuple(each for each in self._filters if each != wanted)
            raise BridgeError(f"the broker refuses {wanted.topic}", reason="mqtt_topic")

    def _tick(self, session: Session) -> None:
        if session.open:
            session.tick(self._loop.time())
            self._loop.call_later(min(TICK_S, session.dial.keepalive_s / 4), self._tick, session)

    def _renew(self, session: Session) -> None:
        session.give_up(BridgeError("its password is renewed", reason="mqtt_renewed"))

    def _part(self) -> None:
        session, self.session = self.session, None
        if session is None:
            return
        why = session.ended.result() if session.ended.done() else BridgeError("gone", reason="mqtt_lost")
        self._outgoing.lost()
        if self._outgoing.in_flight and not self._stopping:
            self._giving_up = self._loop.call_later(RESEND_S, self._outgoing.give_up)
        if self.since is not None:
            self._listener.disconnected(why)

    # In

    def _message(self, arriving: Arriving) -> None:
        message, packet_id, _ = arriving
        counters = self._counters
        counters.received[message.qos] += 1
        if not packet_id:
            self._listener.arrived(Arrival(arriving, ""))
            return
        coming = self._coming.get(packet_id)
        if coming is not None and _is_same(coming.message, message):
            counters.duplicates += 1  # it is being dealt with
            return
        id, done = self._memory.arrivals.arrive(packet_id, message)
        if done:
            counters.duplicates += 1
            self._confirm(packet_id, message.qos, 0)
            return
        arrival = self._coming[packet_id] = Arrival(arriving, id)
        if self.session is not None:
            self._watch_window(self.session)
        self._listener.arrived(arrival)

    def acknowledge(self, arrival: Arrival, reason: int = 0) -> None:
        """It has been taken, or with `reason` from 0x80 on refused: the broker may forget it."""
        packet_id = arrival.packet_id
        if self._coming.get(packet_id) is not arrival:
            return  # of a session that is over
        del self._coming[packet_id]
        self._memory.arrivals.done(packet_id)
        self._counters.acknowledged += 1
        self._confirm(packet_id, arrival.message.qos, reason)

    def _confirm(self, packet_id: int, qos: int, reason: int) -> None:
        self.acknowledged_at = self._clock()
        if self.session is not None:
            self._watch_window(self.session)
            kind = packets.PUBACK if qos == 1 else packets.PUBREC
            self.session.send(packets.encode_acknowledgement(kind, packet_id, self._version, reason))

    def _answer(self, kind: int, answer: Acknowledged) -> None:
        if kind == packets.PUBREL:
            self._memory.arrivals.released(answer.packet_id)
            if self.session is not None:
                self.session.send(packets.encode_acknowledgement(packets.PUBCOMP, answer.packet_id, self._version))
        elif self._outgoing.acknowledged(kind, answer):
            self._counters.confirmed += 1
            self.acknowledged_at = self._clock()

    @property
    def in_flight_in(self) -> int:
        """Messages that came and are not acknowledged."""
        return len(self._coming)

    def pause(self, why: str) -> None:
        """Read nothing more from the broker until `resume` for the same reason, or until the connection is another."""
        self._paused.add(why)
        if self.session is not None:
            self.session.link.pause()

    def resume(self, why: str) -> None:
        self._paused.discard(why)
        if self.session is not None and not self._paused:
            self.session.link.resume()

    def _watch_window(self, session: Session) -> None:
        """Keep to what was said of Receive Maximum, where the broker does not: 3.1.1 has none, and Mosquitto 2.0 sends
        as many once more for each acknowledgement."""
        most = session.dial.receive_maximum
        if len(self._coming) > WINDOWS * most:
            self.pause("window")
        elif "window" in self._paused and len(self._coming) <= most:
            self.resume("window")

    # Out

    @property
    def in_flight_out(self) -> int:
        return self._outgoing.in_flight

    @property
    def queued(self) -> int:
        return self._outgoing.waiting

    def publish(self, message: Message, done: Done | None = None) -> None:
        """Send a message; `done` is told once what became of it, for QoS 0 that it was written.

        Raises:
            Overloaded: it was not sent, and may be later.
            RequestInvalid: this broker takes none such.
        """
        session = self.session
        if session is None or not session.open:
            raise Overloaded(f"bridge {self.name}: its broker is not connected", reason="mqtt_not_connected")
        limits = session.limits
        if message.qos > limits.maximum_qos or (message.retain and not limits.retain):
            message = message._replace(
                qos=min(message.qos, limits.maximum_qos), retain=message.retain and limits.retain
            )
        size = len(message.payload) + len(message.topic) + ROOM
        if limits.max_packet and size > limits.max_packet:
            text = f"a message of {len(message.payload)} bytes; the broker takes packets of {limits.max_packet}"
            raise RequestInvalid(text, reason="mqtt_packet_too_large")
        try:
            if message.qos:
                self._outgoing.publish(message, done or _never_mind)
            else:
                if not session.link.writable:
                    raise Overloaded("the broker takes in too little", reason="mqtt_broker_slow")
                session.send(packets.encode_publish(message, 0, self._version))
        except ValueError as error:
            raise RequestInvalid(f"no MQTT message: {error}", reason="mqtt_unmappable") from error
        self._counters.published[message.qos] += 1
        if not message.qos and done is not None:
            done(0)

    def forget(self, topic: str) -> None:
        """Send nothing again of what is on its way to this topic."""
        self._outgoing.forget(topic)


def _is_same(before: Message, message: Message) -> bool:
    return before.topic == message.topic and before.payload == message.payload


def _never_mind(reason: int) -> None: ...
