"""Requests from MQTT: a message with a response topic, on a pattern of an `rpc` rule, and the answers to it.

One answer, or with the user property `gateway-stream: n` up to n of them. The last one says so (`gateway-end: 1`), an
error says what it is (`gateway-error`). The request is acknowledged when it is over.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from gateway.bridges.mqtt import packets
from gateway.bridges.mqtt.asking import Asker
from gateway.bridges.mqtt.client import Arrival, Client
from gateway.bridges.mqtt.gate import Gate
from gateway.bridges.mqtt.loop_guard import LoopGuard
from gateway.bridges.mqtt.message import Message, Properties
from gateway.bridges.mqtt.properties import answer_properties, error_properties
from gateway.errors import RequestError, RequestInvalid
from gateway.forwarding.ending import RIGHTS_CHANGED
from gateway.observe.bridges import BridgeCounters
from gateway.policy.authorization import Act
from gateway.policy.mqtt_filters import is_topic
from gateway.wire.frames import MAX_REQUEST_N, ErrorCode

if TYPE_CHECKING:
    from gateway.topics.rules import Matched, Rules

STREAM: Final = "gateway-stream"
#: Answers that are asked for before the broker has confirmed one.
AHEAD: Final = 32
#: Requests of one bridge that are open.
MAX_OPEN: Final = 4096
_WORDS: Final = {int(code): code.name.lower() for code in ErrorCode}


class Rpc:
    """The requests of one bridge."""

    def __init__(
        self, rules: Rules, asker: Asker, client: Client, guard: LoopGuard, gate: Gate, counters: BridgeCounters
    ) -> None:
        self._rules = rules
        self._asker = asker
        self._client = client
        self._guard = guard
        self._gate = gate
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._open: set[_Open] = set()

    def begin(self, arrival: Arrival, matched: Matched, metadata: bytes) -> None:
        """Ask for what a message asks for."""
        self._counters.rpc += 1
        properties = arrival.message.properties
        topic = properties.response_topic or ""
        may = is_topic(topic) and self._rules.may_publish(topic) and self._gate.takes(topic, Act.PUBLISH)
        if not may or len(self._open) >= MAX_OPEN:
            # There is nowhere to say so.
            self._counters.rpc_failed += 1
            self._counters.dropped["mqtt_response_topic"] += 1
            self._client.acknowledge(arrival, packets.IMPLEMENTATION)
            return
        wanted = properties.of_user(STREAM)
        items = 0
        if wanted is not None and wanted.isdecimal():
            items = min(max(1, int(wanted)), MAX_REQUEST_N)
        each = _Open(self, arrival, topic, items)
        self._open.add(each)
        seconds = matched.rule.timeout_s
        if properties.expiry_s:
            seconds = min(seconds, properties.expiry_s)
        each.timer = self._loop.call_later(seconds, each.too_late)
        try:
            each.number = self._asker.ask(
                metadata, arrival.message.payload, each, items=min(items, AHEAD) if items else 0
            )
        except RequestInvalid as error:
            each.over((error.code, str(error)))

    def judge(self) -> None:
        """End what came on topics that the bridge may not take any more."""
        for each in list(self._open):
            if not self._gate.takes(each.arrival.message.topic):
                self.cancel(each.number)
                each.over((int(ErrorCode.REJECTED), RIGHTS_CHANGED))

    def more(self, number: int) -> None:
        self._asker.more(number, 1)

    def cancel(self, number: int) -> None:
        self._asker.cancel(number)

    def answer(self, each: _Open, payload: bytes, properties: Properties, confirmed: bool = False) -> None:
        message = each.arrival.message
        properties = properties._replace(user=self._guard.leaving(properties.user))
        answer = Message(each.topic, payload, min(message.qos, 1) if not confirmed else 1, False, False, properties)
        try:
            self._client.publish(answer, each.confirmed if confirmed else None)
        except RequestError as error:
            self._counters.dropped[error.reason] += 1

    def close(self, each: _Open, failed: bool) -> None:
        self._open.discard(each)
        self._counters.rpc_failed += failed
        self._counters.forwarded += 1
        self._client.acknowledge(each.arrival)

    def stop(self) -> None:
        for each in self._open:
            if each.timer is not None:
                each.timer.cancel()
            if each.number:
                self._asker.cancel(each.number)
        self._open.clear()


class _Open:
    """One request. `left`: answers that may still be asked for."""

    __slots__ = ("_rpc", "_stream", "arrival", "left", "number", "timer", "topic")

    def __init__(self, rpc: Rpc, arrival: Arrival, topic: str, items: int) -> None:
        self._rpc = rpc
        self._stream = bool(items)
        self.arrival = arrival
        self.topic = topic
        self.left = max(0, items - AHEAD)
        self.number = 0
        self.timer: asyncio.TimerHandle | None = None

    @property
    def _correlation(self) -> bytes | None:
        return self.arrival.message.properties.correlation

    def item(self, data: bytes, metadata: bytes | None) -> None:
        self._stop_clock()
        properties = answer_properties(metadata, self._correlation, end=not self._stream)
        self._rpc.answer(self, data, properties, confirmed=self._stream)

    def confirmed(self, reason: int) -> None:
        if self.left and reason < packets.REFUSED:
            self.left -= 1
            self._rpc.more(self.number)

    def over(self, error: tuple[int, str] | None) -> None:
        self._stop_clock()
        if error is not None:
            word = _WORDS.get(error[0], f"0x{error[0]:x}")
            self._rpc.answer(self, b"", error_properties(word, error[1], self._correlation))
        elif self._stream:
            self._rpc.answer(self, b"", answer_properties(None, self._correlation, end=True))
        self._rpc.close(self, error is not None)

    def too_late(self) -> None:
        self.timer = None
        self._rpc.cancel(self.number)
        self.over((int(ErrorCode.CANCELED), "no answer in time"))

    def _stop_clock(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
