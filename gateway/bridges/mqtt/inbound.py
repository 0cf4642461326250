"""What comes from the broker goes into the data plane; the broker is told when somebody has it, and not before.

QoS 0 becomes fire-and-forget. QoS 1 and 2 become a request, which is acknowledged after its answer, or a message in the
spool that the rule names, which is acknowledged after the fsync. Where nobody takes it for now the message is held and
tried again: the broker, which has no acknowledgement, sends no more than fits in its window. What cannot be taken at
all is refused with a reason code (MQTT 5), counted, and acknowledged: it would come for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from gateway.bridges.mqtt import packets
from gateway.bridges.mqtt.asking import Asker, Done
from gateway.bridges.mqtt.client import Arrival, Client
from gateway.bridges.mqtt.gate import Gate
from gateway.bridges.mqtt.loop_guard import LoopGuard
from gateway.bridges.mqtt.properties import metadata_of
from gateway.bridges.mqtt.rpc import Rpc
from gateway.bridges.mqtt.sparkplug import Births
from gateway.errors import FrameError, GatewayError, NoRoute, RequestError, RequestInvalid
from gateway.forwarding.stream import REQUEST_FNF
from gateway.observe.bridges import BridgeCounters, Loop
from gateway.policy.principal import Principal
from gateway.topics.rules import InRule, Matched, Rules
from gateway.wire.frames import ErrorCode
from gateway.wire.metadata import encode_composite
from gateway.wire.mimetypes import IDEMPOTENCY_KEY

if TYPE_CHECKING:
    from gateway.spool.message import MessageId

#: Metadata of messages that came before: so many.
_KNOWN: Final = 8192
#: How long a message is held that nobody takes, before it is tried again: from, up to, in seconds.
AGAIN_S: Final = (0.1, 5.0)
#: Answers that say that nobody has had it, or that nobody knows.
_NOT_HAD: Final = frozenset({int(ErrorCode.REJECTED), int(ErrorCode.CANCELED)})

#: Why a spool takes no more; all else passes.
_FULL: Final = frozenset({"spool_full", "volume_full", "storage_full"})


Stored = list["MessageId | GatewayError | None"]


class Parcel(NamedTuple):
    """What is to wait, as `spooling.depot` takes it. `key`: what keeps its order."""

    principal: Principal
    interaction: int
    metadata: bytes
    data: bytes
    key: bytes
    ttl_s: float | None


class Store(Protocol):
    """Where messages wait on disk. Each is answered by its number, by None where the spool's rules drop it, or by why
    it is refused; the future raises nothing."""

    def put(self, document: str, parcels: Sequence[Parcel]) -> asyncio.Future[Stored]: ...


class _Held:
    """A message on its way. `asked`: the stream that carries it, while one does; `tries`: in vain."""

    __slots__ = ("arrival", "asked", "matched", "metadata", "timer", "tries")

    def __init__(self, arrival: Arrival, matched: Matched, metadata: bytes) -> None:
        self.arrival = arrival
        self.matched = matched
        self.metadata = metadata
        self.asked = 0
        self.tries = 0
        self.timer: asyncio.TimerHandle | None = None


class Inbound:
    """`waiting_for`: why messages are held, empty where none is."""

    def __init__(
        self,
        name: str,
        rules: Rules,
        asker: Asker,
        client: Client,
        guard: LoopGuard,
        counters: BridgeCounters,
        store: Callable[[], Store | None],
        principal: Principal,
        rpc: Rpc,
        births: Births | None,
        gate: Gate,
        *,
        cached: bool,
        version: int,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """`births`: where it is aware of Sparkplug. `cached`: repetitions of what was sent are echoes. `store` says
        where messages can wait, None for nowhere."""
        self.waiting_for = ""
        self._name = name
        self._rules = rules
        self._asker = asker
        self._client = client
        self._guard = guard
        self._counters = counters
        self._store = store
        self._principal = principal
        self._cached = cached
        self._version = version
        self._clock = clock
        self._wall = wall
        self._rpc = rpc
        self._births = births
        self._gate = gate
        self._loop = asyncio.get_running_loop()
        self._known: dict[object, bytes] = {}
        self._held: set[_Held] = set()
        #: In the order in which they came, which is the one that they are tried in again.
        self._stuck: dict[_Held, None] = {}
        self._parcels: dict[str, list[_Held]] = {}
        self._storing: dict[str, asyncio.Future[Stored]] = {}

    def arrived(self, arrival: Arrival) -> None:
        message = arrival.message
        counters = self._counters
        reason = self._guard.arriving(message, self._clock(), cached=self._cached)
        if reason is not None:
            counters.looped(Loop(self._wall(), message.topic, reason))
            self._client.acknowledge(arrival)
            return
        if self._births is not None and not self._is_news(arrival):
            return
        matched = None
        try:
            if message.properties.response_topic is not None:
                matched = self._rules.calling(message.topic)
            if matched is None:
                matched = self._rules.incoming(message.topic)
        except RequestInvalid as error:
            self.drop(arrival, error.reason)
            return
        if matched is None:
            counters.unmatched += 1
            self._client.acknowledge(arrival)
            return
        rule = matched.rule
        if not self._gate.takes(message.topic):
            self._counters.dropped["access_denied"] += 1
            self._client.acknowledge(arrival, packets.NOT_AUTHORIZED)
            return
        try:
            metadata = self._metadata(arrival, matched)
        except ValueError:
            # A route or a tag that no metadata can hold.
            self.drop(arrival, "mqtt_unmappable")
            return
        if not isinstance(rule, InRule):
            self._rpc.begin(arrival, matched, metadata)
            return
        counters.rule(rule.number).matched += 1
        # A subscription that it shares with another rule may have a higher QoS than it asks for.
        if not message.qos or not rule.qos:
            try:
                self._asker.fire(metadata, message.payload)
            except RequestInvalid as error:
                self.drop(arrival, error.reason)
                return
            counters.forwarded += 1
            counters.rule(rule.number).forwarded += 1
            self._client.acknowledge(arrival)
            return
        held = _Held(arrival, matched, metadata)
        self._held.add(held)
        self._go(held)

    def _metadata(self, arrival: Arrival, matched: Matched) -> bytes:
        message = arrival.message
        key = (message.topic, message.qos, message.retain, message.duplicate, message.properties)
        metadata = self._known.get(key)
        if metadata is None:
            metadata = metadata_of(message, matched)
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[key] = metadata
        if not arrival.id:
            return metadata
        return metadata + encode_composite([(IDEMPOTENCY_KEY, f"mqtt/{self._name}/{arrival.id}".encode())])

    def _is_news(self, arrival: Arrival) -> bool:
        """What Sparkplug says of a message; it is acknowledged here where it goes no further."""
        assert self._births is not None
        try:
            verdict = self._births.arrived(arrival.message, self._wall())
        except FrameError:
            return True
        if verdict.rebirth is not None:
            with contextlib.suppress(RequestError):
                self._client.publish(verdict.rebirth)
        if not verdict.forward:
            self._counters.dropped[verdict.reason or "sparkplug"] += 1
            self._client.acknowledge(arrival)
        return verdict.forward

    def drop(self, arrival: Arrival, reason: str) -> None:
        """It can go nowhere, ever."""
        self._counters.dropped[reason] += 1
        self._client.acknowledge(arrival, packets.IMPLEMENTATION)

    # One message on its way

    def _go(self, held: _Held) -> None:
        rule = held.matched.rule
        if held.tries and not self._gate.takes(held.arrival.message.topic):
            self._refuse(held, "access_denied", packets.NOT_AUTHORIZED)
            return
        if isinstance(rule, InRule) and rule.spool is not None:
            if not self._parcels:
                self._loop.call_soon(self._store_all)
            self._parcels.setdefault(rule.spool, []).append(held)
            return
        try:
            held.asked = self._asker.ask(
                held.metadata, held.arrival.message.payload, Done(partial(self._answered, held))
            )
        except RequestInvalid as error:
            self._refuse(held, error.reason, packets.IMPLEMENTATION)
            return
        held.timer = self._loop.call_later(rule.timeout_s, self._took_too_long, held)

    def _answered(self, held: _Held, error: tuple[int, str] | None) -> None:
        self._forget_timer(held)
        held.asked = 0
        if held not in self._held:
            return
        if error is None:
            self._forwarded(held)
        elif error[0] in _NOT_HAD:
            self._hold(held, error[1])
        else:
            # Whoever it is for has had it and says no.
            self._refuse(held, "responder", packets.UNSPECIFIED)

    def _took_too_long(self, held: _Held) -> None:
        held.timer = None
        self._asker.cancel(held.asked)
        held.asked = 0
        self._counters.refused["timeout"] += 1
        self._hold(held, f"{held.matched.route} does not answer")

    def _forwarded(self, held: _Held) -> None:
        self._held.discard(held)
        self._counters.forwarded += 1
        self._counters.rule(held.matched.rule.number).forwarded += 1
        self._client.acknowledge(held.arrival)
        self._unstick(held)

    def _refuse(self, held: _Held, reason: str, code: int) -> None:
        self._held.discard(held)
        self._counters.refused[reason] += 1
        self._counters.rule(held.matched.rule.number).refused += 1
        self._client.acknowledge(held.arrival, code)
        self._unstick(held)

    def _hold(self, held: _Held, why: str) -> None:
        """Nobody takes it for now."""
        self.waiting_for = why
        self._stuck[held] = None
        held.tries += 1
        delay = min(AGAIN_S[1], AGAIN_S[0] * 2.0 ** min(held.tries - 1, 16))
        held.timer = self._loop.call_later(delay, self._try_again, held)

    def _try_again(self, held: _Held) -> None:
        held.timer = None
        if held in self._held:
            self._go(held)

    def _unstick(self, held: _Held) -> None:
        if held in self._stuck:
            del self._stuck[held]
            if not self._stuck:
                self.waiting_for = ""
                self._client.resume("full")

    @staticmethod
    def _forget_timer(held: _Held) -> None:
        if held.timer is not None:
            held.timer.cancel()
            held.timer = None

    def joined(self) -> None:
        """Somebody came who may be whom messages wait for."""
        for held in self._stuck:
            if held.timer is not None and not held.asked:
                held.tries = 1
                held.timer.cancel()
                held.timer = self._loop.call_later(0, self._try_again, held)

    # Through a spool

    def _store_all(self) -> None:
        """Give the spools what has come: one piece at a time each, so that nothing overtakes what came before it."""
        for document in list(self._parcels):
            if document in self._storing:
                continue
            many = self._parcels.pop(document)
            store = self._store()
            if store is None:
                self._stored(many, [NoRoute("nothing can wait here", reason="spool_unavailable")] * len(many))
                continue
            future = self._storing[document] = store.put(document, [self._parcel(held) for held in many])
            future.add_done_callback(partial(self._on_disk, document, many))

    def _parcel(self, held: _Held) -> Parcel:
        message = held.arrival.message
        expiry = message.properties.expiry_s
        return Parcel(
            self._principal,
            REQUEST_FNF,
            held.metadata,
            message.payload,
            message.topic.encode(),
            float(expiry) if expiry else None,
        )

    def _on_disk(self, document: str, many: list[_Held], future: asyncio.Future[Stored]) -> None:
        del self._storing[document]
        if not future.cancelled():
            self._stored(many, future.result())
            self._store_all()

    def _stored(self, many: list[_Held], results: Sequence[MessageId | GatewayError | None]) -> None:
        for held, result in zip(many, results, strict=True):
            if held not in self._held:
                continue
            if not isinstance(result, GatewayError):
                self._forwarded(held)
            elif isinstance(result, RequestInvalid):
                self._refuse(held, result.reason, packets.IMPLEMENTATION)
            elif result.reason not in _FULL:
                self._hold(held, str(result))
            elif self._version == packets.VERSION_5:
                self._refuse(held, result.reason, packets.QUOTA_EXCEEDED)
            else:
                # 3.1.1 has no word for it: the broker feels it.
                self._client.pause("full")
                self._hold(held, str(result))

    def forget(self) -> None:
        """The broker's session is over, or the bridge: nothing of this can be acknowledged any more."""
        for held in self._held:
            self._forget_timer(held)
            if held.asked:
                self._asker.cancel(held.asked)
        self._held.clear()
        self._stuck.clear()
        self._parcels.clear()
        self.waiting_for = ""

    def __len__(self) -> int:
        return len(self._held)
