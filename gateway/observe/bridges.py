"""What a bridge to an MQTT broker counts, and how it is: plain figures that the bridge writes and others read.

A leaf: knows no broker. Health is how long ago the far side last acknowledged something, not whether a socket is open.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

#: Messages that came round of which a bridge remembers more than the number.
LOOPS: Final = 32


class BridgeState(StrEnum):
    CONNECTING = "connecting"
    CONNECTED = "connected"
    WAITING = "waiting"
    """For the next try."""
    STOPPED = "stopped"
    """By an operator, until the node or the document says otherwise."""
    DISABLED = "disabled"
    """By its document."""
    FAILED = "failed"
    """In a way that another try cannot help."""


@dataclass(slots=True)
class RuleCounters:
    """Of one rule of the document. `refused`: not taken by who was to get it."""

    matched: int = 0
    forwarded: int = 0
    refused: int = 0


class Loop(NamedTuple):
    """A message that came round and was dropped. `at`: Unix seconds; `reason`: `via`, `hops` or `repeat`."""

    at: float
    topic: str
    reason: str


@dataclass(slots=True)
class BridgeCounters:
    """Everything only ever grows. By QoS (`received`, `published`), or by reason (`dropped`, `refused`, `loops`).

    `received`: PUBLISH packets of the broker; `acknowledged`: those that it was told to forget; `duplicates`: those
    that had been here before; `copies`: those that came by another filter, too; `unmatched`: those that no rule takes.
    `confirmed`: what the broker has acknowledged to us."""

    received: Counter[int] = field(default_factory=Counter)
    published: Counter[int] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    loops: Counter[str] = field(default_factory=Counter)
    forwarded: int = 0
    acknowledged: int = 0
    confirmed: int = 0
    duplicates: int = 0
    copies: int = 0
    unmatched: int = 0
    connects: int = 0
    failed_connects: int = 0
    rpc: int = 0
    rpc_failed: int = 0
    rules: dict[int, RuleCounters] = field(default_factory=dict)
    """By the rule's place among the document's `topics`."""
    last_loops: deque[Loop] = field(default_factory=lambda: deque(maxlen=LOOPS))
    """The latest of `loops`, oldest first."""

    on_loop: Callable[[Loop], None] | None = field(default=None, repr=False, compare=False)

    def looped(self, loop: Loop) -> None:
        self.loops[loop.reason] += 1
        self.last_loops.append(loop)
        if self.on_loop is not None:
            self.on_loop(loop)

    def rule(self, number: int) -> RuleCounters:
        found = self.rules.get(number)
        if found is None:
            found = self.rules[number] = RuleCounters()
        return found


@dataclass(slots=True)
class BridgeStatus:
    """How a bridge is now. Times are Unix seconds; `last_ack_age_s`: seconds since the broker, or who got a message of
    it, last acknowledged anything; None when nothing has been yet. `reason`: why it is not connected."""

    name: str
    state: BridgeState
    counters: BridgeCounters
    service: str = ""
    client_id: str = ""
    address: str = ""
    version: int = 5
    since: float | None = None
    session_present: bool | None = None
    reason: str = ""
    retry_in_s: float | None = None
    last_ack_age_s: float | None = None
    in_flight_in: int = 0
    in_flight_out: int = 0
    receive_maximum: int | None = None
    queued: int = 0


@dataclass(frozen=True, slots=True)
class BridgeTest:
    """What a try to connect has shown. `reason`: why not; `refused`: filters that the broker did not grant."""

    reachable: bool
    address: str
    reason: str = ""
    session_present: bool | None = None
    maximum_qos: int | None = None
    retain_available: bool | None = None
    receive_maximum: int | None = None
    took_s: float = 0.0
    refused: tuple[str, ...] = ()
