"""`mqtt.<bridge>.call`: a request to a device of MQTT, and its answer.

Under MQTT 5 the request says where the answer goes and by what it is known (response topic, correlation data). For a
device of 3.1.1 a `call` rule says so: on which topic it answers, and which member of its JSON names the call; without
one, the next message there is the answer, so calls go one after the other.
"""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any, Final

from gateway.bridges.mqtt import packets
from gateway.bridges.mqtt.client import Client
from gateway.bridges.mqtt.gate import Gate
from gateway.bridges.mqtt.message import Message
from gateway.bridges.mqtt.outbound import Outbound, refusal
from gateway.bridges.mqtt.properties import END, ERROR, ERROR_TEXT, Asked, asked_of, payload_metadata
from gateway.bridges.mqtt.session import Filter
from gateway.errors import (
    BridgeError,
    BrokerRefused,
    DeadlineExceeded,
    NoRoute,
    Overloaded,
    RequestError,
    RequestInvalid,
    ResponderGone,
)
from gateway.forwarding.exchange import Exchange
from gateway.observe.bridges import BridgeCounters
from gateway.policy.authorization import Act
from gateway.topics.rules import CallRule, Rules
from gateway.wire.frames import FrameType

#: How long an answer may take where nobody says, and at most, in seconds.
TIMEOUT_S: Final = 10.0
MAX_TIMEOUT_S: Final = 300.0
#: Calls of one bridge that wait for their answers.
MAX_CALLS: Final = 4096
#: PUBACK: nobody subscribes to the topic.
_NO_SUBSCRIBERS: Final = 0x10


class _Call:
    __slots__ = ("exchange", "key", "timer")

    def __init__(self, exchange: Exchange, key: tuple[str, bytes], timer: asyncio.TimerHandle) -> None:
        self.exchange = exchange
        self.key = key
        self.timer = timer


class Calls:
    """Those of one bridge. `reply_topic`: where answers under MQTT 5 come."""

    def __init__(
        self,
        name: str,
        node_id: str,
        version: int,
        rules: Rules,
        client: Client,
        outbound: Outbound,
        gate: Gate,
        counters: BridgeCounters,
    ) -> None:
        self.reply_topic = f"gateway/reply/{node_id}/{name}"
        self._name = name
        self._version = version
        self._rules = rules
        self._client = client
        self._outbound = outbound
        self._counters = counters
        self._gate = gate
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[tuple[str, bytes], _Call] = {}
        self._topics: dict[str, int] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._number = 0

    @property
    def filters(self) -> tuple[tuple[str, int], ...]:
        """What the bridge has to subscribe to for it, with which QoS."""
        return ((self.reply_topic, 1),) if self._version == packets.VERSION_5 else ()

    def call(self, exchange: Exchange) -> None:
        """Raises RequestError."""
        metadata = exchange.request.metadata or b""
        asked = asked_of(metadata)
        if asked.topic is None:
            raise RequestInvalid("name the topic: routing tag topic=…", reason="mqtt_topic")
        self._outbound.check_topic(asked.topic)
        self._gate.admit(exchange, Act.PUBLISH, asked.topic)
        if len(self._waiting) >= MAX_CALLS:
            raise Overloaded(f"bridge {self._name} has {MAX_CALLS} calls open", reason="mqtt_calls")
        self._counters.rpc += 1
        found = self._rules.call_for(asked.topic)
        if found is not None:
            self._by_rule(exchange, asked, metadata, *found)
            return
        if self._version != packets.VERSION_5:
            text = (
                f"bridge {self._name} is of version 4, which has no response topic; a call rule says where answers come"
            )
            raise RequestInvalid(text, reason="mqtt_unsupported")
        self._number += 1
        correlation = self._number.to_bytes(8, "big")
        call = self._wait(exchange, asked, (self.reply_topic, correlation))
        signed = self._outbound.signed(asked.properties, metadata)
        # A device that comes back later must not do what nobody waits for any more.
        expiry_s = signed.expiry_s or math.ceil(_timeout(asked))
        properties = signed._replace(response_topic=self.reply_topic, correlation=correlation, expiry_s=expiry_s)
        self._send(call, Message(asked.topic, exchange.data, self._qos(asked), False, False, properties))

    def _by_rule(self, exchange: Exchange, asked: Asked, metadata: bytes, rule: CallRule, reply: str) -> None:
        assert asked.topic is not None
        key, payload = b"", exchange.data
        if rule.member:
            self._number += 1
            key = str(self._number).encode()
            payload = _named(payload, rule.member, self._number)
        elif (reply, b"") in self._waiting:
            raise Overloaded(
                f"another call waits for {reply}, and nothing tells their answers apart", reason="mqtt_calls"
            )
        call = self._wait(exchange, asked, (reply, key))
        properties = self._outbound.signed(asked.properties, metadata)
        message = Message(asked.topic, payload, rule.qos, False, False, properties)
        task = self._loop.create_task(self._ask(call, reply, message), name=f"mqtt: call by {self._name}")
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _ask(self, call: _Call, reply: str, message: Message) -> None:
        """Be there for the answer before it can come."""
        try:
            await self._client.also(Filter(reply, 1, retained=2))
            self._send(call, message)
        except BridgeError as error:
            self._fail(call, ResponderGone(str(error), reason=error.reason))
        except RequestError as error:
            self._fail(call, error)

    @staticmethod
    def _qos(asked: Asked) -> int:
        return 1 if asked.qos is None else asked.qos

    def _wait(self, exchange: Exchange, asked: Asked, key: tuple[str, bytes]) -> _Call:
        timer = self._loop.call_later(_timeout(asked), self._too_late, key)
        call = self._waiting[key] = _Call(exchange, key, timer)
        self._topics[key[0]] = self._topics.get(key[0], 0) + 1
        exchange.on_end = lambda: self._forget(call)
        return call

    def _send(self, call: _Call, message: Message) -> None:
        try:
            self._client.publish(message, lambda reason: self._sent(call, message, reason))
        except RequestError:
            self._forget(call)
            raise

    def _sent(self, call: _Call, message: Message, reason: int) -> None:
        error = refusal(self._name, reason)
        if reason == _NO_SUBSCRIBERS:
            error = NoRoute(f"nobody subscribes to {message.topic}", reason="mqtt_no_subscribers")
        if error is not None:
            self._fail(call, error)

    def take(self, message: Message) -> bool:
        """Whether a message is an answer; it is one, too, when nobody waits for it any more."""
        topic = message.topic
        if topic == self.reply_topic:
            self._answer((topic, message.properties.correlation or b""), message)
            return True
        if topic not in self._topics:
            return False
        if (topic, b"") in self._waiting:
            self._answer((topic, b""), message)
            return True
        key = self._key_in(message)
        if key is None:
            return False
        self._answer((topic, key), message)
        return True

    def _key_in(self, message: Message) -> bytes | None:
        try:
            told: Any = json.loads(message.payload)
        except (ValueError, RecursionError):
            return None
        if not isinstance(told, dict):
            return None
        for topic, key in self._waiting:
            if topic == message.topic and any(str(value).encode() == key for value in told.values()):
                return key
        return None

    def _answer(self, key: tuple[str, bytes], message: Message) -> None:
        call = self._waiting.get(key)
        if call is None:
            self._counters.dropped["mqtt_late_answer"] += 1
            return
        reason = message.properties.of_user(ERROR)
        if reason is not None:
            text = message.properties.of_user(ERROR_TEXT) or reason
            self._fail(call, BrokerRefused(text, reason="mqtt_answer"))
            return
        properties = message.properties._replace(correlation=None, response_topic=None)
        metadata = payload_metadata(message._replace(properties=properties))
        exchange = call.exchange
        if exchange.interaction is FrameType.REQUEST_RESPONSE:
            exchange.reply(message.payload, metadata)
            return
        # MQTT does not say that a stream is over: who calls and who answers agree on a user property.
        ended = properties.of_user(END) is not None
        if ended and not message.payload:
            exchange.complete()
        elif exchange.credit <= 0:
            # A device cannot be told to wait, and a stream with a hole in it is none.
            self._fail(
                call, Overloaded(f"more answers than were asked for, from {message.topic}", reason="mqtt_credit")
            )
        else:
            exchange.send(message.payload, metadata)
            if ended and exchange.open:
                exchange.complete()

    def _too_late(self, key: tuple[str, bytes]) -> None:
        call = self._waiting.get(key)
        if call is not None:
            self._fail(call, DeadlineExceeded("no answer in time", reason="mqtt_timeout"))

    def _fail(self, call: _Call, error: RequestError) -> None:
        if call.exchange.open:
            self._counters.rpc_failed += 1
            call.exchange.fail(error)

    def _forget(self, call: _Call) -> None:
        call.timer.cancel()
        if self._waiting.get(call.key) is call:
            del self._waiting[call.key]
            left = self._topics[call.key[0]] - 1
            if left:
                self._topics[call.key[0]] = left
            else:
                del self._topics[call.key[0]]

    def stop(self) -> None:
        for task in self._asking:
            task.cancel()
        for call in list(self._waiting.values()):
            self._fail(call, ResponderGone("the bridge is stopping", reason="mqtt_stopped"))


def _timeout(asked: Asked) -> float:
    """Raises RequestInvalid."""
    given = asked.tags.get("timeout")
    if given is None:
        return TIMEOUT_S
    try:
        timeout = float(given.removesuffix("s"))
    except ValueError:
        timeout = math.nan
    if not 0 < timeout <= MAX_TIMEOUT_S:
        raise RequestInvalid(f"timeout is in seconds, up to {MAX_TIMEOUT_S:g}", reason="mqtt_metadata")
    return timeout


def _named(payload: bytes, member: str, number: int) -> bytes:
    """The JSON object with the number of the call in it. Raises RequestInvalid."""
    try:
        told: Any = json.loads(payload) if payload else {}
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise RequestInvalid("this device takes a JSON object", reason="mqtt_payload")
    return json.dumps({**told, member: number}, separators=(",", ":")).encode()
