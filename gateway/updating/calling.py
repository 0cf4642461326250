"""Tells connected devices that there may be an update: a fire-and-forget to `<device>.firmware.check`.

It goes out when a rollout begins, goes on or grows, a few devices a second, so that they do not all come at once. A
device that serves no such route hears nothing and asks by itself some time later.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final

from gateway.control.rollout_steps import Rollout
from gateway.control.rollouts import Rollouts
from gateway.errors import StorageError
from gateway.forwarding.console import Console
from gateway.forwarding.plane import Plane
from gateway.observe.updates import UpdateCounters
from gateway.policy.principal import Kind, Principal
from gateway.wire.frames import FrameType

CALLS_A_SECOND: Final = 100
#: Devices that are told in one go.
_AT_ONCE: Final = 5
ROUTE: Final = "firmware.check"


class Calling:
    """Of one node, at its first process, whose routing table has the devices of all processes."""

    def __init__(self, plane: Plane, rollouts: Rollouts, counters: UpdateCounters) -> None:
        self._plane = plane
        self._rollouts = rollouts
        self._counters = counters
        self._waiting: dict[str, Rollout] = {}
        self._task: asyncio.Task[None] | None = None
        self._principal = Principal(plane.node, Kind.SERVICE, "", 0.0, math.inf, (), (f"*.{ROUTE}",))

    def call(self, rollout: Rollout) -> None:
        """Tell the devices that it reaches."""
        self._waiting[rollout.id] = rollout
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._go(), name="firmware calls")

    def forget(self, rollout_id: str) -> None:
        self._waiting.pop(rollout_id, None)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _go(self) -> None:
        while self._waiting:
            rollout = next(iter(self._waiting.values()))
            told = 0
            try:
                async for devices in self._rollouts.reached(rollout):
                    for device in devices:
                        if self._waiting.get(rollout.id) is not rollout:
                            break
                        if self._tell(device):
                            told += 1
                            if not told % _AT_ONCE:
                                await asyncio.sleep(_AT_ONCE / CALLS_A_SECOND)
            except StorageError:
                # Devices ask by themselves.
                pass
            if self._waiting.get(rollout.id) is rollout:
                del self._waiting[rollout.id]

    def _tell(self, device: str) -> bool:
        table = self._plane.table
        if not any(table.service(name) for name in (f"{device}.{ROUTE}", f"{device}.firmware", device)):
            return False
        Console(self._plane, self._principal, lambda: None).ask(FrameType.REQUEST_FNF, f"{device}.{ROUTE}", {}, b"")
        self._counters.calls += 1
        return True
