"""What somebody should hear of what waits: alarms and events, a few looks a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.control.plane import ControlPlane
    from gateway.forwarding.plane import Plane
    from gateway.spooling.outlet import Outlet

#: A spool that is fuller than this is an alarm, and none any more when it is emptier than that.
FULL, FULL_NO_MORE = 0.8, 0.7
#: How long a loss of messages stays an alarm, in seconds.
LOSS_S = 600.0
#: How long another node may refuse what is handed over before that is an alarm, in seconds.
REFUSED_S = 60.0
#: What is lost because somebody chose to lose it.
_CHOSEN = frozenset({"dropped", "conflated"})


class Watch:
    """`tell(kind, subject, **data)` is told of events."""

    def __init__(self, plane: Plane, control: ControlPlane, tell: Callable[..., None]) -> None:
        self._plane = plane
        self._control = control
        self._tell = tell
        self._lost: dict[str, int] = {}
        self._lost_at = float("-inf")
        self._full: set[str] = set()
        self._not_taken: set[str] = set()

    def begin(self, outlet: Outlet) -> None:
        """What was lost before is no news."""
        self._lost[f"{outlet.document}/{outlet.target}"] = sum(outlet.spool.lost.values())

    def look(self, outlets: Mapping[str, Outlet]) -> None:
        now = self._plane.monotonic()
        for name, outlet in outlets.items():
            share = outlet.spool.size / outlet.spool.rules.max_bytes
            if share > FULL and name not in self._full:
                self._full.add(name)
                self._tell("spool.filling", name, bytes=outlet.spool.size, max_bytes=outlet.spool.rules.max_bytes)
                self._control.raise_alarm("spool_filling", f"what waits for {name} fills {share:.0%} of its spool")
            elif share < FULL_NO_MORE and name in self._full:
                self._full.discard(name)
                self._tell("spool.drained", name, bytes=outlet.spool.size)
            lost = outlet.spool.lost
            total = sum(lost.values())
            if total > self._lost.get(name, 0):
                self._tell("spool.lost", name, messages=total - self._lost.get(name, 0), lost=dict(lost))
                if any(reason not in _CHOSEN for reason in lost):
                    self._lost_at = now
                    reasons = ", ".join(f"{count} {reason}" for reason, count in lost.items())
                    self._control.raise_alarm(
                        "spool_lost", f"messages for {name} left without being delivered: {reasons}"
                    )
            self._lost[name] = total
        self._look_beyond(outlets, now)
        if not self._full:
            self._control.calm("spool_filling")
        if now - self._lost_at > LOSS_S:
            self._control.calm("spool_lost")

    def _look_beyond(self, outlets: Mapping[str, Outlet], now: float) -> None:
        """Whether another node refuses what it is handed."""
        refusing = {name for name, outlet in outlets.items() if outlet.beyond.refused is not None}
        for name in refusing - self._not_taken:
            since, why = outlets[name].beyond.refused or (now, "")
            if now - since > REFUSED_S:
                self._not_taken.add(name)
                self._control.raise_alarm("spool_not_taken", f"what waits for {name} is not taken: {why}")
        if self._not_taken and not refusing:
            self._not_taken.clear()
            self._control.calm("spool_not_taken")
