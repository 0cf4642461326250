"""The time from the gateway: UTC, whatever epoch the board counts from."""

from . import ticks_diff, ticks_ms


class Clock:
    """`Device(clock=Clock())`: set each time the device is connected. `base`: Unix ms when it began, 0 until then."""

    base = t = 0
    k = ticks_ms()

    def up(self):
        """Milliseconds since it began. Asked less than once in six days it loses twelve."""
        k = ticks_ms()
        self.t += ticks_diff(k, self.k)
        self.k = k
        return self.t

    def now(self):
        """Unix milliseconds; before the clock is set, those since it began."""
        return self.base + self.up()

    def __call__(self, ms):
        self.base = ms - self.up()
