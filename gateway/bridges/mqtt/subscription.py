"""`mqtt.<bridge>.subscribe`: a filter of the broker as a stream, and `last`: what is retained of one topic, or the
birth of a Sparkplug node that is alive.

Each stream has a connection to the broker of its own, whose Receive Maximum is what its caller has asked for: so its
caller's credit is the broker's window, acknowledgements are paid by REQUEST_N, and one that is slow keeps nobody else
waiting. First comes who is born and alive, where the bridge is aware of Sparkplug, and what is retained. When the
connection is lost the stream ends: whoever subscribes again gets what is retained again.

With the tag `group`, or as `$share/<group>/<filter>`, those that name the same group share one connection, and each
message goes to one of them; at the broker the subscription is a shared one, so that groups of several nodes are one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Final

from gateway.bridges.mqtt import packets
from gateway.bridges.mqtt.gate import Gate
from gateway.bridges.mqtt.message import Message
from gateway.bridges.mqtt.packets import Acknowledged, Arriving
from gateway.bridges.mqtt.properties import asked_of, payload_metadata
from gateway.bridges.mqtt.session import Dial, Filter, PacketIds, Session
from gateway.bridges.mqtt.sparkplug import Births
from gateway.bridges.mqtt.stream import Stream
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
from gateway.policy.authorization import Act
from gateway.policy.mqtt_filters import SHARE, is_filter, is_group, is_topic
from gateway.topics.rules import Rules

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
        gate: Gate,
        births: Births | None = None,
    ) -> None:
        """`births`: where the bridge is aware of Sparkplug, whose births no broker retains."""
        self._births = births
        self._gate = gate
        self._name = name
        self._rules = rules
        self._places = places
        self._prepare = prepare
        self._counters = counters
        self._receive_maximum = receive_maximum
        self._number = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._groups: dict[tuple[str, str, int], Stream] = {}

    def subscribe(self, exchange: Exchange) -> None:
        """Raises RequestError."""
        asked = asked_of(exchange.request.metadata or b"")
        pattern = asked.topic if asked.topic is not None else exchange.data.decode("utf-8", "replace").strip()
        group = asked.tags.get("group", "")
        if pattern.startswith(SHARE):
            group, _, pattern = pattern.removeprefix(SHARE).partition("/")
            if not group:
                raise RequestInvalid("a shared filter is $share/<group>/<filter>", reason="mqtt_topic")
        if not is_filter(pattern):
            raise RequestInvalid("name a filter: routing tag topic=…, or the data", reason="mqtt_topic")
        if group and not is_group(group):
            raise RequestInvalid(f"{group!a} is no name of a group: no / + #", reason="mqtt_topic")
        qos = 1 if asked.qos is None else asked.qos
        self._check(pattern)
        self._gate.admit(exchange, Act.SUBSCRIBE, pattern, wide=True)
        if group:
            self._share(exchange, group, Filter(pattern, qos, no_local=False, retained=0))
        else:
            window = min(self._receive_maximum, exchange.credit)
            self._begin(exchange, window, "", Filter(pattern, qos, no_local=False, retained=0))

    def _share(self, exchange: Exchange, group: str, asked: Filter) -> None:
        key = (group, asked.topic, asked.qos)
        stream = self._groups.get(key)
        if stream is not None:
            stream.join(exchange)
            return
        self._groups[key] = self._begin(exchange, self._receive_maximum, group, asked, lambda: self._groups.pop(key))

    def _begin(
        self,
        exchange: Exchange,
        window: int,
        group: str,
        asked: Filter,
        over: Callable[[], object] = lambda: None,
    ) -> Stream:
        def empty() -> None:
            over()
            if asyncio.current_task() is not task:
                task.cancel()

        def before() -> Sequence[Message]:
            return () if group or self._births is None else list(self._births.known(asked.topic))

        stream = Stream(asked.topic, self._counters, window, self._gate, empty)
        task = self._run(stream.live(self._connect, asked, group, self._name, before))
        stream.join(exchange)
        return stream

    def last(self, exchange: Exchange) -> None:
        """Raises RequestError."""
        asked = asked_of(exchange.request.metadata or b"")
        topic = asked.topic if asked.topic is not None else exchange.data.decode("utf-8", "replace").strip()
        if not is_topic(topic):
            raise RequestInvalid("name a topic: routing tag topic=…, or the data", reason="mqtt_topic")
        self._check(topic)
        self._gate.admit(exchange, Act.SUBSCRIBE, topic)
        for birth in () if self._births is None else self._births.known(topic):
            exchange.reply(birth.payload, payload_metadata(birth))
            return
        task = self._run(self._last(exchange, topic))

        def end() -> None:
            if asyncio.current_task() is not task:
                task.cancel()

        exchange.on_end = end

    def _check(self, pattern: str) -> None:
        if not self._rules.may_subscribe(pattern):
            raise NotPermitted(f"bridge {self._name} subscribes to nothing in {pattern!a}", reason="mqtt_topic")
        if len(self._tasks) >= MAX_STREAMS:
            raise Overloaded(f"bridge {self._name} has {MAX_STREAMS} streams already", reason="mqtt_streams")

    def _run(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=f"mqtt: stream of {self._name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

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
            # A broker may send what nobody asked for: amqtt does, to whoever connects.
            if arriving.message.topic == topic and not found.done():
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
