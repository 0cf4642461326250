"""Keeps a message from going round: by what it says of its way, and for brokers that carry no such word by what it is.

Under MQTT 5 a message says in user properties how many bridges it has passed (`gateway-hops`) and which (`gateway-via`,
once each). HiveMQ's count (`hmq-bridge-hop-count`) is honoured, and kept up where it is there. Under 3.1.1 what was
sent and comes back within some seconds is taken for an echo, which may be a true repetition: so that is on only where
rules go both ways.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b

from gateway.bridges.mqtt.message import Message

HOPS, VIA, HIVEMQ_HOPS = "gateway-hops", "gateway-via", "hmq-bridge-hop-count"
_COUNTS = (HOPS, HIVEMQ_HOPS)
#: More than anybody means: what says so is refused like what passed as many.
_MANY = 1 << 30

User = tuple[tuple[str, str], ...]


class LoopGuard:
    """`via`: this bridge's name among all nodes, as `<node id>/<bridge>`."""

    def __init__(self, via: str, max_hops: int = 1, window_s: float = 10.0, entries: int = 65_536) -> None:
        self.via = via
        self._max_hops = max_hops
        self._window_s = window_s
        self._entries = entries
        self._sent: OrderedDict[bytes, float] = OrderedDict()

    def arriving(self, message: Message, now: float, *, cached: bool = False) -> str | None:
        """None where a message may pass; else why not: `via` (it was here), `hops`, or `repeat` (it was sent from here;
        asked only where `cached`)."""
        user = message.properties.user
        if user:
            hops = 0
            for name, value in user:
                if name == VIA and value == self.via:
                    return "via"
                if name in _COUNTS:
                    hops = max(hops, _count(value))
            if hops >= self._max_hops:
                return "hops"
        return "repeat" if cached and self._was_sent(message, now) else None

    def leaving(self, user: User) -> User:
        """The user properties of what goes out: one hop more, by this bridge."""
        hops, hivemq = 0, False
        kept = []
        for pair in user:
            name, value = pair
            if name in _COUNTS:
                hops = max(hops, _count(value))
                hivemq = hivemq or name == HIVEMQ_HOPS
            elif pair != (VIA, self.via):
                kept.append(pair)
        count = str(min(hops + 1, _MANY))
        if hivemq:
            kept.append((HIVEMQ_HOPS, count))
        return (*kept, (HOPS, count), (VIA, self.via))

    def sent(self, message: Message, now: float) -> None:
        """Remember what goes out to a broker that would send it back."""
        sent = self._sent
        key = _digest(message)
        sent[key] = now
        sent.move_to_end(key)
        self._forget(now)

    def _was_sent(self, message: Message, now: float) -> bool:
        self._forget(now)
        return _digest(message) in self._sent

    def _forget(self, now: float) -> None:
        sent = self._sent
        while sent:
            key, at = next(iter(sent.items()))
            if now - at < self._window_s and len(sent) <= self._entries:
                return
            del sent[key]

    def __len__(self) -> int:
        return len(self._sent)


def _count(value: str) -> int:
    # A count that is none must not let a message go round for ever.
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 10 else _MANY


def _digest(message: Message) -> bytes:
    # Not the retain flag: a broker clears it when it sends on to who had subscribed before.
    hashed = blake2b(message.topic.encode(), digest_size=16)
    hashed.update(b"\0")
    hashed.update(message.payload)
    return hashed.digest()
