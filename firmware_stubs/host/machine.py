"""`machine` for running firmware on a PC; what is on its pins is in `pins`.

`reset` and a watchdog that was not fed end the process with exit code 42: whoever started it may start it again.
"""

import os
import sys
import time

from pins import ADC, I2S, Pin  # noqa: F401

_ticks_ms = getattr(time, "ticks_ms", None) or (lambda: int(time.monotonic() * 1000))
REBOOT = 42


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
