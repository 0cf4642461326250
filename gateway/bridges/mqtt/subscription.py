"""`mqtt.<bridge>.subscribe`: a filter of the broker as a stream, and `last`: what is retained of one topic, or the
birth of a Sparkplug node that is alive.

Each stream has a connection to the broker of its own, whose Receive Maximum is what its caller has asked for: so its
caller's credit is the broker's window, acknowledgements are paid by REQUEST_N, and one that is slow keeps nobody else
waiting. First comes who is born and alive, where the bridge is aware of Sparkplug, and what is retained. When the
connection is lost the stream ends: whoever subscribes again gets what is retained again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Final

from gateway.bridges.mqtt import packets
from gateway.bridges.mqtt.message import Message
from gateway.bridges.mqtt.packets import Acknowledged, Arriving
from gateway.bridges.mqtt.properties import asked_of, payload_metadata
from gateway.bridges.mqtt.session import Dial, Filter, PacketIds, Session
from gateway.bridges.mqtt.sparkplug import Births
from gateway.documents.broker import Endpoint
from gateway.errors import (
    BridgeError,
    NoRoute,
    NotPermitted,
    Overloaded,
    RequestError,
    RequestInvalid,
    ResponderGone,
)
from gateway.forwarding.exchange import Exchange
from gateway.observe.bridges import BridgeCounters
from gateway.topics.filters import is_filter, is_topic
from gateway.topics.rules import Rules

Connect = Callable[
    [int, Callable[[Arriving], None], Callable[[int, Acknowledged], None], Callable[[Session], None]],
    Awaitable[Session],
]

#: Streams of one bridge, and connections for `last`.
MAX_STREAMS: Final = 256
#: How long what is retained may come behind the answer to UNSUBSCRIBE, in seconds.
LATE_S: Final = 0.2


class Subscriptions:
    """Those of one bridge."""

    def __init__(
        self,
        name: str,
        rules: Rules,
        places: Sequence[Endpoint],
        prepare: Callable[[], Dial],
        counters: BridgeCounters,
        receive_maximum: int,
        births: Births | None = None,
    ) -> None:
        """`births`: where the bridge is aware of Sparkplug, whose births no broker retains."""
        self._births = births
        self._name = name
        self._rules = rules
        self._places = places
        self._prepare = prepare
        self._counters = counters
        self._receive_maximum = receive_maximum
        self._number = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def subscribe(self, exchange: Exchange) -> None:
        """Raises RequestError."""
        asked = asked_of(exchange.request.metadata or b"")
        pattern = asked.topic if asked.topic is not None else exchange.data.decode("utf-8", "replace").strip()
        if not is_filter(pattern):
            raise RequestInvalid("name a filter: routing tag topic=…, or the data", reason="mqtt_topic")
        self._check(pattern)
        stream = _Stream(exchange, self._counters, min(self._receive_maximum, exchange.credit), self._births)
        qos = 1 if asked.qos is None else asked.qos
        self._run(stream.live(self._connect, Filter(pattern, qos, no_local=False, retained=0), self._name), exchange)

    def last(self, exchange: Exchange) -> None:
        """Raises RequestError."""
        asked = asked_of(exchange.request.metadata or b"")
        topic = asked.topic if asked.topic is not None else exchange.data.decode("utf-8", "replace").strip()
        if not is_topic(topic):
            raise RequestInvalid("name a topic: routing tag topic=…, or the data", reason="mqtt_topic")
        self._check(topic)
        for birth in () if self._births is None else self._births.known(topic):
            exchange.reply(birth.payload, payload_metadata(birth))
            return
        self._run(self._last(exchange, topic), exchange)

    def _check(self, pattern: str) -> None:
        if not self._rules.may_subscribe(pattern):
            raise NotPermitted(f"bridge {self._name} subscribes to nothing in {pattern!a}", reason="mqtt_topic")
        if len(self._tasks) >= MAX_STREAMS:
            raise Overloaded(f"bridge {self._name} has {MAX_STREAMS} streams already", reason="mqtt_streams")

    def _run(self, work: Coroutine[None, None, None], exchange: Exchange) -> None:
        task = asyncio.get_running_loop().create_task(work, name=f"mqtt: stream of {self._name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

        def end() -> None:
            if asyncio.current_task() is not task:
                task.cancel()

        exchange.on_end = end

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connect(
        self,
        receive_maximum: int,
        on_message: Callable[[Arriving], None],
        on_acknowledgement: Callable[[int, Acknowledged], None],
        on_open: Callable[[Session], None],
    ) -> Session:
        """A session of its own, which ends with its connection. Raises BridgeError."""
        dial = await asyncio.get_running_loop().run_in_executor(None, self._prepare)
        self._number += 1
        dial = replace(
            dial,
            client_id=f"{dial.client_id}-s{self._number}",
            clean_start=True,
            session_expiry_s=0,
            receive_maximum=receive_maximum,
            will=None,
        )
        error: BridgeError | None = None
        for where in self._places:
            try:
                return await Session.connect(dial, where, PacketIds(), on_message, on_acknowledgement, on_open)
            except BridgeError as failure:
                error = failure
        assert error is not None
        raise error

    async def _last(self, exchange: Exchange, topic: str) -> None:
        found: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        def arrived(arriving: Arriving) -> None:
            if not found.done():
                found.set_result(arriving.message)

        session = None
        try:
            session = await self._connect(1, arrived, lambda kind, answer: None, lambda session: None)
            codes = await session.subscribe([Filter(topic, 0, no_local=False, retained=0)])
            if codes[0] >= packets.REFUSED:
                raise BridgeError(f"the broker refuses {topic}", reason="mqtt_topic")
            # Its answer comes behind what is retained, or not long before it.
            await session.unsubscribe([topic])
            if not found.done():
                await asyncio.wait([found], timeout=LATE_S)
            if found.done():
                message = found.result()
                exchange.reply(message.payload, payload_metadata(message))
            else:
                self._fail(exchange, NoRoute(f"nothing is retained of {topic}", reason="mqtt_nothing_retained"))
        except BridgeError as error:
            self._fail(exchange, ResponderGone(str(error), reason=error.reason))
        finally:
            if session is not None:
                session.disconnect()

    def _fail(self, exchange: Exchange, error: RequestError) -> None:
        self._counters.refused[error.reason] += 1
        exchange.fail(error)


class _Stream:
    """One subscription. What is unacknowledged and what waits together are never more than its caller asked for, as
    far as the broker goes by its Receive Maximum; from one that does not, nothing is read for a while."""

    def __init__(self, exchange: Exchange, counters: BridgeCounters, window: int, births: Births | None) -> None:
        self._exchange = exchange
        self._births = births
        self._begun = births is None
        self._counters = counters
        self._window = window
        self._session: Session | None = None
        self._open: deque[tuple[int, int]] = deque()
        self._waiting: deque[Message] = deque()
        exchange.on_credit = self._pump

    async def live(self, connect: Connect, asked: Filter, name: str) -> None:
        exchange = self._exchange
        try:
            session = await connect(self._window, self._arrived, self._answered, self._opened)
            codes = await session.subscribe([asked])
            if codes[0] >= packets.REFUSED:
                text = f"bridge {name}: the broker refuses {asked.topic}, reason code 0x{codes[0]:02x}"
                raise BridgeError(text, reason="mqtt_topic")
            if self._births is not None:
                # Before what has come since.
                self._waiting.extendleft(reversed(list(self._births.known(asked.topic))))
                self._begun = True
                self._pump()
            while not session.ended.done():
                session.tick(asyncio.get_running_loop().time())
                await asyncio.wait([session.ended], timeout=min(1.0, session.dial.keepalive_s / 4))
            raise session.ended.result()
        except BridgeError as error:
            self._counters.refused[error.reason] += 1
            exchange.fail(ResponderGone(str(error), reason=error.reason))
        finally:
            if self._session is not None:
                self._session.disconnect()

    def _opened(self, session: Session) -> None:
        self._session = session

    def _arrived(self, arriving: Arriving) -> None:
        message = arriving.message
        self._counters.received[message.qos] += 1
        if arriving.packet_id:
            self._open.append((arriving.packet_id, message.qos))
        self._waiting.append(message)
        self._pump()

    def _answered(self, kind: int, answer: Acknowledged) -> None:
        if kind == packets.PUBREL and self._session is not None:
            version = self._session.dial.version
            self._session.send(packets.encode_acknowledgement(packets.PUBCOMP, answer.packet_id, version))

    def _pump(self) -> None:
        exchange, session = self._exchange, self._session
        if not self._begun:
            return
        while self._waiting and exchange.open and exchange.credit > 0:
            message = self._waiting.popleft()
            self._counters.forwarded += 1
            exchange.send(message.payload, payload_metadata(message))
        if session is None or not exchange.open:
            return
        version = session.dial.version
        # An acknowledgement lets the broker send another one, for which there must be credit. Mosquitto 2.0 sends more
        # than that; it waits here.
        while self._open and max(0, self._window - len(self._open)) + 1 + len(self._waiting) <= exchange.credit:
            packet_id, qos = self._open.popleft()
            kind = packets.PUBACK if qos == 1 else packets.PUBREC
            self._counters.acknowledged += 1
            session.send(packets.encode_acknowledgement(kind, packet_id, version))
        if self._waiting:
            session.link.pause()
        else:
            session.link.resume()
