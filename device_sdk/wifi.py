"""The Wi-Fi as a device's `net`, which brings itself back to life."""

import asyncio

import network

from . import ticks_diff, ticks_ms


class Wifi:
    """`Device(..., net=Wifi("name", "password"))`. `reset_after_s`: the board restarts after so long without Wi-Fi."""

    wait_s = 15  # longest wait in one attempt; after three that failed the interface is switched off and on
    idle = failed = 0

    def __init__(self, *login, reset_after_s=0):
        self.login = login
        self.limit = reset_after_s * 1000
        self.wlan = network.WLAN(network.STA_IF)
        self.seen = ticks_ms()

    async def ensure_up(self):
        """Returns when there is Wi-Fi; OSError when there is none for `wait_s`."""
        wlan = self.wlan
        wlan.active(True)
        for i in range(self.wait_s * 10):
            if wlan.isconnected():
                self.failed = 0
                self.idle = 20  # a board that loses it is idle for a moment, and mostly comes back by itself
                self.seen = ticks_ms()
                return
            if i == self.idle:
                try:
                    wlan.connect(*self.login)
                except OSError:
                    pass  # it is at it
            await asyncio.sleep(0.1)
        self.idle = 0
        self.failed += 1
        if not self.failed % 3:
            wlan.active(False)
        if self.limit and ticks_diff(ticks_ms(), self.seen) > self.limit:
            import machine

            machine.reset()
        raise OSError("no Wi-Fi")
