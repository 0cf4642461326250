"""What is asked of a bridge goes to the broker: requests on the routes of its out rules, and on its service `publish`.

Request/response is answered when the broker has confirmed the message; its reason code is the error. Fire-and-forget
goes out under the QoS that the rule says, and counts as had by a spool behind it when all before has been confirmed
(`sound`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from gateway.bridges.mqtt import packets
from gateway.bridges.mqtt.client import Client
from gateway.bridges.mqtt.gate import Gate
from gateway.bridges.mqtt.loop_guard import LoopGuard
from gateway.bridges.mqtt.message import Message, Properties
from gateway.bridges.mqtt.outgoing import LOST, UNSENT
from gateway.bridges.mqtt.properties import Asked, asked_of
from gateway.bridges.mqtt.sparkplug import NAMESPACE, Lives, historical, may_replay
from gateway.errors import (
    BrokerRefused,
    FrameError,
    NoRoute,
    NotPermitted,
    Overloaded,
    RequestError,
    RequestInvalid,
    ResponderGone,
)
from gateway.forwarding.connection import Connection
from gateway.forwarding.exchange import Exchange
from gateway.observe.bridges import BridgeCounters
from gateway.topics.rules import OutRule, Retain, Rules
from gateway.wire.frames import FrameType
from gateway.wire.metadata import iter_composite
from gateway.wire.mimetypes import IDEMPOTENCY_KEY, PRINCIPAL, SPOOLED

#: The user property by which whoever gets a message twice can tell.
ID = "gateway-id"


class Outbound:
    """`node`: this node's name, for templates."""

    def __init__(
        self,
        name: str,
        node: str,
        rules: Rules,
        client: Client,
        guard: LoopGuard,
        counters: BridgeCounters,
        gate: Gate,
        *,
        cached: bool,
        lives: Lives | None,
        clock: Callable[[], float],
    ) -> None:
        """`cached`: what goes out is remembered, for what comes back. `lives`: where it is aware of Sparkplug."""
        self._name = name
        self._node = node
        self._rules = rules
        self._client = client
        self._guard = guard
        self._counters = counters
        self._gate = gate
        self._cached = cached
        self._lives = lives
        self._clock = clock
        self._unconfirmed = 0
        self._failed = False
        self._heard: list[Callable[[bool], None]] = []

    # By a rule

    def exchange(self, exchange: Exchange) -> None:
        """A request on a route of an out rule. Raises RequestError."""
        metadata = exchange.request.metadata or b""
        message, _ = self._mapped(metadata, exchange.data, answered=exchange.interaction is FrameType.REQUEST_RESPONSE)
        self._gate.check(lambda: self._gate.caller(exchange), message.topic)
        if exchange.interaction is FrameType.REQUEST_FNF:
            exchange.cancel()
            self._fire(message, metadata)
        else:
            self.confirm(message, exchange)

    def fired(self, metadata: bytes, data: bytes, connection: Connection | None = None) -> None:
        """The same of a fire-and-forget that came in one piece, over `connection` where that is known."""
        try:
            message, _ = self._mapped(metadata, data, answered=False)
            self._gate.check(lambda: self._gate.named(metadata, connection), message.topic)
        except RequestError as error:
            self._counters.dropped[error.reason] += 1
            return
        self._fire(message, metadata)

    def _mapped(self, metadata: bytes, data: bytes, *, answered: bool) -> tuple[Message, OutRule]:
        asked = asked_of(metadata)
        facts = _facts(metadata)
        values = {**asked.tags, "sub": facts.get("subject", ""), "node": self._node}
        found = self._rules.outgoing(asked.route, values)
        if found is None:
            raise NoRoute(f"bridge {self._name} has no rule for {asked.route}")
        rule = found.rule
        qos = max(rule.qos, asked.qos if asked.qos is not None else int(answered))
        retain = asked.retain or False
        if rule.retain is not Retain.PRESERVE:
            retain = rule.retain is Retain.ALWAYS
        properties = asked.properties
        if properties.expiry_s is None and rule.expiry_s is not None:
            properties = properties._replace(expiry_s=rule.expiry_s)
        if self._lives is not None:
            if "spooled" in facts:
                data = _replayed(found.topic, data)
            self._lives.went(found.topic, data, facts.get("subject", ""))
        return Message(found.topic, data, qos, retain, False, self._signed(properties, facts)), rule

    def signed(self, properties: Properties, metadata: bytes) -> Properties:
        """The properties of what goes out for a request with this metadata."""
        return self._signed(properties, _facts(metadata))

    def _signed(self, properties: Properties, facts: Mapping[str, str]) -> Properties:
        user = tuple(pair for pair in properties.user if pair[0] != ID)
        if "id" in facts:
            user = (*user, (ID, facts["id"]))
        expiry_s = properties.expiry_s
        if expiry_s is not None and "age_ms" in facts:
            expiry_s = _left(expiry_s, facts["age_ms"])
        return properties._replace(user=self._guard.leaving(user), response_topic=None, expiry_s=expiry_s)

    # By the service `publish`

    def publish(self, exchange: Exchange) -> None:
        """Raises RequestError."""
        metadata = exchange.request.metadata or b""
        message = self._asked_for(metadata, exchange.data, exchange.interaction)
        self._gate.check(lambda: self._gate.caller(exchange), message.topic)
        if exchange.interaction is FrameType.REQUEST_FNF:
            exchange.cancel()
            self._fire(message, metadata)
        else:
            self.confirm(message, exchange)

    def fired_publish(self, metadata: bytes, data: bytes, connection: Connection | None = None) -> None:
        try:
            message = self._asked_for(metadata, data, FrameType.REQUEST_FNF)
            self._gate.check(lambda: self._gate.named(metadata, connection), message.topic)
        except RequestError as error:
            self._counters.dropped[error.reason] += 1
            return
        self._fire(message, metadata)

    def _asked_for(self, metadata: bytes, data: bytes, interaction: FrameType) -> Message:
        asked = asked_of(metadata)
        topic, payload, qos, retain = asked.topic, data, asked.qos, asked.retain
        if topic is None:
            topic, payload, qos, retain = in_json(data, asked)
        self.check_topic(topic)
        if qos is None:
            qos = int(interaction is FrameType.REQUEST_RESPONSE)
        return Message(topic, payload, qos, bool(retain), False, self._signed(asked.properties, _facts(metadata)))

    def check_topic(self, topic: str) -> None:
        """Raises NotPermitted where services may not publish there."""
        if not self._rules.may_publish(topic):
            raise NotPermitted(f"bridge {self._name} publishes nothing to {topic!a}", reason="mqtt_topic")

    # Out

    def confirm(self, message: Message, exchange: Exchange) -> None:
        """Publish, and answer when the broker has it. QoS 0 is answered when it is on its way."""
        self._publish(message, lambda reason: self._confirmed(exchange, message, reason))

    def _confirmed(self, exchange: Exchange, message: Message, reason: int) -> None:
        if not exchange.open:
            return
        error = refusal(self._name, reason)
        if error is None:
            exchange.reply(b"")
        else:
            self._counters.refused[error.reason] += 1
            exchange.fail(error)

    def _fire(self, message: Message, metadata: bytes) -> None:
        # Only a spool waits for what it sends.
        waits = "spooled" in _facts(metadata)
        self._unconfirmed += waits
        try:
            self._publish(message, lambda reason: self._fired(reason, waits))
        except RequestError as error:
            self._counters.dropped[error.reason] += 1
            if waits:
                self._unconfirmed -= 1
                self._failed = self._failed or not isinstance(error, RequestInvalid)
                self._tell()

    def _fired(self, reason: int, waits: bool) -> None:
        error = refusal(self._name, reason)
        if error is not None:
            self._counters.refused[error.reason] += 1
        if waits:
            self._unconfirmed -= 1
            self._failed = self._failed or reason >= LOST
            self._tell()

    def _publish(self, message: Message, done: Callable[[int], None]) -> None:
        if self._cached:
            self._guard.sent(message, self._clock())
        self._client.publish(message, done)

    def sound(self, heard: Callable[[bool], None]) -> None:
        """Tell `heard` once: whether all that was fired before has been confirmed."""
        self._heard.append(heard)
        self._tell()

    def _tell(self) -> None:
        if self._heard and (self._failed or not self._unconfirmed):
            heard, self._heard = self._heard, []
            failed, self._failed = self._failed, False
            for each in heard:
                each(not failed)


def in_json(data: bytes, asked: Asked) -> tuple[str, bytes, int | None, bool | None]:
    """`{"topic", "payload", "qos", "retain"}` for callers without tags. Raises RequestInvalid."""
    try:
        told: Any = json.loads(data)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict) or not isinstance(told.get("topic"), str):
        raise RequestInvalid("name the topic: routing tag topic=…, or JSON data with topic", reason="mqtt_topic")
    payload = told.get("payload", "")
    text = payload if isinstance(payload, str) else json.dumps(payload, separators=(",", ":"))
    qos = told.get("qos", asked.qos)
    if qos is not None and (isinstance(qos, bool) or qos not in (0, 1, 2)):
        raise RequestInvalid("qos is 0, 1 or 2", reason="mqtt_metadata")
    return told["topic"], text.encode(), qos, bool(told.get("retain", asked.retain))


def refusal(name: str, reason: int) -> RequestError | None:
    """What a broker's reason code is to whoever asked."""
    if reason < packets.REFUSED:
        return None
    if reason == UNSENT:
        return Overloaded(f"bridge {name}: its broker is not connected", reason="mqtt_not_connected")
    if reason == LOST:
        text = f"bridge {name}: the connection was lost before the broker confirmed it"
        return ResponderGone(text, reason="mqtt_lost")
    return BrokerRefused(f"bridge {name}: the broker refuses it, reason code 0x{reason:02x}")


def _left(expiry_s: int, age_ms: str) -> int:
    """Of its life, when it has waited so long. Raises RequestInvalid where that is over."""
    left_s = expiry_s - int(age_ms) / 1000
    if left_s <= 0:
        raise RequestInvalid(f"its {expiry_s} s are over", reason="mqtt_expired")
    return math.ceil(left_s)


def _replayed(topic: str, payload: bytes) -> bytes:
    """What has waited, as history. Raises RequestInvalid for what says nothing any more."""
    if not may_replay(topic):
        raise RequestInvalid(f"{topic} says who is there, and said it a while ago", reason="mqtt_stale_birth")
    if not topic.startswith(NAMESPACE):
        return payload
    try:
        return historical(payload)
    except FrameError:
        return payload


def _facts(metadata: bytes) -> dict[str, str]:
    """Who asks (`subject`), and by which `id` a repetition can be told, as far as a node says."""
    facts: dict[str, str] = {}
    for entry in iter_composite(metadata, 0, len(metadata)):
        if entry.mime == PRINCIPAL:
            facts["subject"] = str(json.loads(metadata[entry.content_start : entry.end]).get("subject", ""))
        elif entry.mime == SPOOLED:
            told = json.loads(metadata[entry.content_start : entry.end])
            facts["spooled"] = f"{told['node']}/{told['epoch']:x}/{told['seq']}"
            facts["age_ms"] = str(told["age_ms"])
            facts.setdefault("id", facts["spooled"])
        elif entry.mime == IDEMPOTENCY_KEY:
            facts["id"] = metadata[entry.content_start : entry.end].decode("utf-8", "replace")
    return facts
