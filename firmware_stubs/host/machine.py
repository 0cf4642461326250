"""`machine` for running firmware on a PC; what is on its pins is in `pins`, what survives a reset in $HOST_STATE.

`reset` and a watchdog that was not fed end the process with exit code 42: whoever started it may start it again. So
does a deep sleep that is over; where there is $HOST_STATE it is not slept, and the exit code is 43.
"""

import os
import sys
import time
from binascii import hexlify, unhexlify

import world
from pins import ADC, I2S, Pin  # noqa: F401

PWRON_RESET = 1
HARD_RESET = 2
WDT_RESET = 3
DEEPSLEEP_RESET = 4
REBOOT = 42
ASLEEP = 43

_ticks_ms = getattr(time, "ticks_ms", None) or (lambda: int(time.monotonic() * 1000))


class RTC:
    moment = (2000, 1, 1, 5, 0, 0, 0, 0)

    def datetime(self, moment=None):
        if moment is None:
            return RTC.moment
        RTC.moment = moment

    def memory(self, data=None):
        if data is None:
            return unhexlify(world.said("rtc") or "")
        if len(data) > 2048:
            raise ValueError("buffer too long")
        world.do("rtc", hexlify(data).decode())


class WDT:
    """Bites when it is fed too late. One that is never fed again is killed from outside: `watchdog` says when."""

    def __init__(self, id=0, timeout=5000):
        self.timeout = timeout
        self.fed = _ticks_ms()
        self.feed()

    def feed(self):
        late = _ticks_ms() - self.fed
        self.fed += late
        if late > self.timeout:
            world.do("starved", late)
            _end(REBOOT, WDT_RESET)
        world.do("watchdog", time.time() + self.timeout / 1000)


def unique_id():
    return b"\x02host\x00"


def reset_cause():
    return int(world.said("reset-cause") or PWRON_RESET)


def reset():
    _end(REBOOT, HARD_RESET)


def deepsleep(ms=0):
    if world.path(""):
        world.do("sleep", ms)
        _end(ASLEEP, DEEPSLEEP_RESET)
    time.sleep(ms / 1000)
    _end(REBOOT, DEEPSLEEP_RESET)


def _end(code, cause):
    """Stop at once, as a board does: nothing is closed. MicroPython has no way to do without the `finally` blocks."""
    world.do("reset-cause", cause)
    if hasattr(os, "_exit"):
        sys.stdout.flush()
        os._exit(code)
    raise SystemExit(code)
