"""`machine` for running firmware on a PC: a room with a heater on pin 5 and a TMP36 thermometer on any ADC pin.

`reset` and a watchdog that was not fed end the process with exit code 42: whoever started it may start it again.
"""

import os
import sys
import time

_ticks_ms = getattr(time, "ticks_ms", None) or (lambda: int(time.monotonic() * 1000))
REBOOT = 42
HEATER_PIN = 5


class Room:
    """Cools to 15 °C and is heated to 30 °C, each with a time constant of five minutes."""

    temperature = 19.0
    since = _ticks_ms()

    @classmethod
    def measure(cls):
        now = _ticks_ms()
        goal = 30.0 if Pin.levels.get(HEATER_PIN) else 15.0
        cls.temperature += (goal - cls.temperature) * min((now - cls.since) / 300000, 1)
        cls.since = now
        return cls.temperature


class Pin:
    IN = 0
    OUT = 1
    PULL_UP = 2
    levels = {}

    def __init__(self, id, mode=IN, pull=None, value=None):
        self.id = id
        if value is not None:
            self.value(value)

    def value(self, level=None):
        if level is None:
            return self.levels.get(self.id, 0)
        self.levels[self.id] = int(bool(level))

    def on(self):
        self.value(1)

    def off(self):
        self.value(0)


class ADC:
    ATTN_11DB = 3

    def __init__(self, pin, atten=None):
        self.pin = pin

    def read_uv(self):
        return int((Room.measure() * 10 + 500) * 1000)

    def read_u16(self):
        return self.read_uv() * 65535 // 3300000


class RTC:
    moment = (2000, 1, 1, 5, 0, 0, 0, 0)

    def datetime(self, moment=None):
        if moment is None:
            return RTC.moment
        RTC.moment = moment


class WDT:
    def __init__(self, id=0, timeout=5000):
        self.timeout = timeout
        self.fed = _ticks_ms()

    def feed(self):
        late = _ticks_ms() - self.fed
        self.fed += late
        if late > self.timeout:
            reset()


def unique_id():
    return b"\x02host\x00"


def reset():
    _end(REBOOT)


def _end(code):
    """Stop at once, as a board does: nothing is closed. MicroPython has no way to do without the `finally` blocks."""
    if hasattr(os, "_exit"):
        sys.stdout.flush()
        os._exit(code)
    raise SystemExit(code)
