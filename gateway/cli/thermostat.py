"""A simulated thermostat: a room that cools, a heater that works towards a target, and the device around them.

It speaks as the firmware of the ESP32 thermostat does: `telemetry.readings` by fire-and-forget, `set_target`, and a
`readings` stream. Must not know: how many there are, where tokens come from.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

from device_sdk import Device, RSocketError

OUTSIDE = 12.0
LOWEST, HIGHEST = 5.0, 30.0
# The firmware's own error codes.
NOT_A_NUMBER, OUT_OF_RANGE = 0x301, 0x302


class Room:
    """Temperatures are degrees Celsius, times seconds."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.temperature = chance.uniform(17.0, 22.0)
        self.target = 20.0
        self.heating = False

    def pass_time(self, seconds: float) -> None:
        """Let the room lose heat, the heater give it, and the switch decide with half a degree of play."""
        self.temperature += (OUTSIDE - self.temperature) * 0.002 * seconds
        if self.heating:
            self.temperature += 0.06 * seconds
        self.temperature += self._chance.gauss(0.0, 0.02)
        if self.temperature < self.target - 0.25:
            self.heating = True
        elif self.temperature > self.target + 0.25:
            self.heating = False

    def reading(self) -> bytes:
        return json.dumps(
            {"temperature": round(self.temperature, 2), "target": self.target, "heating": self.heating}
        ).encode()


class Thermostat:
    """One device. `token` gives a fresh credential; `interval` is the time between readings."""

    def __init__(
        self,
        url: str,
        name: str,
        token: Callable[[], str],
        *,
        interval: float,
        tls: dict[str, Any] | None = None,
        on_state: Callable[[str, str, str], None] | None = None,
    ) -> None:
        self.name = name
        self.room = Room(random.Random(name))
        self._interval = interval
        self._token = token
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self.device = Device(url, name, token(), tls=tls)
        if on_state is not None:
            self.device.on_state = lambda state, reason: on_state(name, state, reason)
        self.device.on("set_target")(self._set_target)
        self.device.on_stream("readings")(self._readings)

    def start(self) -> None:
        """Connect, and stay connected, in the background."""
        self.device.start()
        self._task = asyncio.create_task(self._live(), name=self.name)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.device.close()

    async def _live(self) -> None:
        # Devices that start together must not report together for ever.
        await asyncio.sleep(random.uniform(0, self._interval))
        while True:
            self.room.pass_time(self._interval)
            self._changed.set()
            self._changed.clear()
            if self.device.up.is_set():
                try:
                    await self.device.fire_and_forget("telemetry.readings", self.room.reading())
                except OSError:
                    # Lost just now; the device reconnects by itself, and with a fresh token.
                    self.device.token = self._token().encode()
            await asyncio.sleep(self._interval)

    async def _set_target(self, data: bytes, meta: bytes | None) -> bytes:
        try:
            target = float(data)
        except ValueError:
            raise RSocketError(NOT_A_NUMBER, "not a number") from None
        if not LOWEST <= target <= HIGHEST:
            raise RSocketError(OUT_OF_RANGE, f"target must be {LOWEST:g} to {HIGHEST:g}")
        self.room.target = target
        return self.room.reading()

    async def _readings(self, data: bytes, meta: bytes | None, out: Any) -> None:
        while True:
            await out.send(self.room.reading())
            await self._changed.wait()
