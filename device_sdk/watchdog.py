"""A watchdog that is fed only while the device is well."""

import asyncio

from . import ticks_diff, ticks_ms


async def watch(dev, wdt, link_s=0):
    """Feed `wdt` for ever: `asyncio.create_task(watch(dev, machine.WDT(timeout=8000)))`.

    Not when the loop stands still, nor when nobody notices that a link is silent, nor, with `link_s`, when nothing came
    for so long. A handshake may hold the loop for seconds: the watchdog is fed before and after it.
    """
    plain = dev._connect
    seen = ticks_ms()

    def feed():
        nonlocal seen
        if dev.up.is_set():
            seen = dev.ws.rx_at
        elif not link_s:
            seen = ticks_ms()
        if ticks_diff(ticks_ms(), seen) < (link_s * 1000 or dev.lifetime_ms * 2):
            wdt.feed()

    async def connect():
        feed()
        await plain()
        feed()

    dev._connect = connect
    while True:
        feed()
        await asyncio.sleep(1)
