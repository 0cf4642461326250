"""Some figures under the names that Mosquitto has for its own below `$SYS/broker`, for dashboards that read those.

Retained, and said again only when they change. Load is Mosquitto's: an average a minute over about 1, 5 and 15 minutes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from gateway import __version__
from gateway.bridges.mqtt.message import Message

if TYPE_CHECKING:
    from gateway.forwarding.plane import Plane
    from gateway.observe.bridges import BridgeCounters

#: How often they are looked at, in seconds; Mosquitto's `sys_interval`.
EVERY_S: Final = 10.0
_MINUTES: Final = (1, 5, 15)


class Figures:
    """`tell` them every `EVERY_S`. `prefix`: without the `/` at its end."""

    def __init__(self, prefix: str, plane: Plane, counters: BridgeCounters, publish: Callable[[Message], None]) -> None:
        self._prefix = prefix
        self._plane = plane
        self._counters = counters
        self._publish = publish
        self._said: dict[str, str] = {}
        self._load: dict[str, float] = {}
        self._before: dict[str, int] = {}

    def connected(self) -> None:
        """Whatever was said before may have been lost."""
        self._said.clear()

    def tell(self) -> None:
        for name, text in self._now().items():
            if self._said.get(name) != text:
                self._said[name] = text
                self._publish(Message(f"{self._prefix}/{name}", text.encode(), 0, True))

    def _now(self) -> dict[str, str]:
        counters = self._counters
        counted = {
            "messages/received": counters.received.total(),
            "messages/sent": counters.published.total(),
        }
        clients = self._plane.counters.connections_open.get("client", 0)
        now = {"version": f"gateway version {__version__}", "clients/connected": str(clients)}
        now |= {name: str(count) for name, count in counted.items()}
        for name, count in counted.items():
            a_minute = (count - self._before.get(name, count)) * 60 / EVERY_S
            self._before[name] = count
            for minutes in _MINUTES:
                key = f"load/{name}/{minutes}min"
                weight = math.exp(-EVERY_S / (60 * minutes))
                load = self._load[key] = a_minute + weight * (self._load.get(key, 0.0) - a_minute)
                now[key] = f"{load:.2f}"
        return now
