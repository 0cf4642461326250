"""Who is let in, before anybody knows who it is: how many, how fast, and from which addresses not for now.

Decisions only: `now` (seconds of a monotonic clock) is passed in, and sockets are the listener's. An address is a host
of version 4, or a network of 64 bits of version 6, which is what one customer gets. Loopback is spared from everything
that goes by rate or by address, unless the rules say otherwise: whoever is there is behind every other defence already.

An address is barred for a while when connections from it came to nothing too often in one minute (fault 16), or when
its tokens were refused too often (fault 63). Connections that were accepted and ended in peace never count, so that a
site whose devices share one address can reconnect at once after a power cut.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

#: The time over which what an address does wrong is counted.
WINDOW_S: Final = 60.0
#: Addresses that are remembered for what they did, besides those that have connections.
MAX_ADDRESSES: Final = 10_000


@dataclass(frozen=True, slots=True)
class AdmissionRules:
    """Limits of one node (faults 2). 0 means "no limit"; `ban_s` is in seconds."""

    max_connections: int = 5_000
    accept_rate: int = 100
    accept_burst: int = 200
    max_unauthenticated: int = 20
    max_flaps: int = 15
    max_token_failures: int = 10
    ban_s: float = 300.0
    loopback: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why somebody is not let in: a counter label, the HTTP status before an upgrade, and a text for a person."""

    reason: str
    status: int
    text: str


FULL = Refusal("max_connections", 503, "this node has as many connections as it takes; try again later")
TOO_FAST = Refusal("accept_rate", 503, "too many connections at once; try again later")
CROWDED = Refusal("max_unauthenticated", 429, "too many connections from your address are not set up yet")
FLAPPING = Refusal("flapping", 429, "too many connections from your address came to nothing; try again later")
TOKENS_REFUSED = Refusal("token_failures", 429, "too many tokens from your address were refused; try again later")
NO_DESCRIPTORS = Refusal("descriptors", 503, "this node has no room for another socket; try again later")
NO_MEMORY = Refusal("memory", 503, "this node is short of memory; try again later")
LATE = Refusal("lag_shed_ms", 503, "this node is overloaded; try again later")


class _Address:
    __slots__ = ("barred", "barred_until", "failures", "failures_since", "flaps", "flaps_since", "visitors", "waiting")

    def __init__(self) -> None:
        self.visitors = 0
        self.waiting: set[Visitor] = set()
        self.flaps = 0
        self.flaps_since = 0.0
        self.failures = 0
        self.failures_since = 0.0
        self.barred: Refusal | None = None
        self.barred_until = 0.0

    def matters(self, now: float) -> bool:
        """Whether anything about it is worth remembering."""
        return bool(
            self.visitors
            or now < self.barred_until
            or (self.flaps and now - self.flaps_since < WINDOW_S)
            or (self.failures and now - self.failures_since < WINDOW_S)
        )


class Visitor:
    """One connection that was let in. `accepted`: its SETUP was. `carrier`: whatever its listener keeps here."""

    __slots__ = ("_address", "accepted", "carrier", "key")

    def __init__(self, key: str, address: _Address | None) -> None:
        self.key = key
        self.accepted = False
        self.carrier: Any = None
        self._address = address


class Admission:
    """The doors of one process, shared by its listeners. `closed_for`: a reason for which nobody is let in just now.
    `elsewhere`: connections that other processes of the same node have."""

    def __init__(self, rules: AdmissionRules, now: float) -> None:
        self.rules = rules
        self.connections = self.elsewhere = 0
        self.closed_for: Refusal | None = None
        self._addresses: dict[str, _Address] = {}
        self._accepts = _Bucket(rules.accept_rate, rules.accept_burst, now)
        self._answers = _Bucket(rules.accept_rate, rules.accept_burst, now)

    @property
    def addresses(self) -> int:
        """How many addresses are remembered."""
        return len(self._addresses)

    def arrive(self, host: str, now: float) -> Visitor | Refusal:
        """Somebody connected from `host`, an address of version 4 or 6. A visitor has to `leave` in the end."""
        rules = self.rules
        if rules.max_connections and self.connections + self.elsewhere >= rules.max_connections:
            return FULL
        if self.closed_for is not None:
            return self.closed_for
        key = _key(host, spare_loopback=not rules.loopback)
        if key is None:
            self.connections += 1
            return Visitor("", None)
        address = self._addresses.get(key)
        # What goes by address comes first: an address that is refused takes nothing from what all others share.
        if address is not None:
            if address.barred is not None and now < address.barred_until:
                return address.barred
            if rules.max_unauthenticated and len(address.waiting) >= rules.max_unauthenticated:
                return CROWDED
        if not self._accepts.take(now):
            return TOO_FAST
        if address is None:
            self._make_room(now)
            address = self._addresses[key] = _Address()
        visitor = Visitor(key, address)
        address.visitors += 1
        address.waiting.add(visitor)
        self.connections += 1
        return visitor

    def may_answer(self, now: float) -> bool:
        """Whether a refusal may be said, which costs a handshake, or the socket is closed without a word."""
        return self._answers.take(now)

    def accept(self, visitor: Visitor) -> None:
        """Its SETUP was accepted."""
        visitor.accepted = True
        if visitor._address is not None:
            visitor._address.waiting.discard(visitor)

    def leave(self, visitor: Visitor, now: float, *, in_peace: bool) -> None:
        """It is gone. `in_peace`: it came to something, and was not closed for what it did."""
        self.connections -= 1
        address = visitor._address
        if address is None:
            return
        address.visitors -= 1
        address.waiting.discard(visitor)
        if not in_peace:
            if now - address.flaps_since >= WINDOW_S:
                address.flaps, address.flaps_since = 0, now
            address.flaps += 1
            if self.rules.max_flaps and address.flaps >= self.rules.max_flaps:
                self._bar(address, FLAPPING, now)
        if not address.matters(now):
            self._addresses.pop(visitor.key, None)

    def token_refused(self, visitor: Visitor, now: float) -> list[Visitor]:
        """The token in its SETUP is no good. Returns who else from there is to be turned away now, before its SETUP."""
        address = visitor._address
        if address is None:
            return []
        if now - address.failures_since >= WINDOW_S:
            address.failures, address.failures_since = 0, now
        address.failures += 1
        if not self.rules.max_token_failures or address.failures < self.rules.max_token_failures:
            return []
        self._bar(address, TOKENS_REFUSED, now)
        return [other for other in address.waiting if other is not visitor]

    def sweep(self, now: float) -> None:
        """Forget addresses about which nothing is worth remembering. Call it every few seconds."""
        for key in [key for key, address in self._addresses.items() if not address.matters(now)]:
            del self._addresses[key]

    def _bar(self, address: _Address, refusal: Refusal, now: float) -> None:
        address.barred = refusal
        address.barred_until = now + self.rules.ban_s
        address.flaps = address.failures = 0

    def _make_room(self, now: float) -> None:
        if len(self._addresses) < MAX_ADDRESSES + self.connections:
            return
        idle: Iterator[str] = (key for key, address in self._addresses.items() if not address.visitors)
        oldest = next(idle, None)
        if oldest is not None:
            del self._addresses[oldest]


class _Bucket:
    """`burst` at once, `rate` a second; a rate of 0 is no limit."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: int, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = max(burst, 1)
        self._tokens = float(self._burst)
        self._at = now

    def take(self, now: float) -> bool:
        if not self._rate:
            return True
        self._tokens = min(float(self._burst), self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


def _key(host: str, *, spare_loopback: bool) -> str | None:
    """What an address is known by; None for one that is spared, or that is none."""
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        elif not found.is_loopback:
            return (int(found) >> 64).to_bytes(8, "big").hex()
    return None if spare_loopback and found.is_loopback else str(found)
