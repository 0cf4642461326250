"""A device that sleeps most of the time: it wakes, connects, says what it has to, gets what waits, and sleeps again."""

import asyncio

import machine

from . import ticks_diff, ticks_ms


async def nap(dev, sleep_s, outbox=None, budget_s=30, linger_s=1, kept=None):
    """Stay awake until nothing waits here or there, `budget_s` at most; then sleep for `sleep_s`. Does not return.

    The gateway has nothing left when it was silent for `linger_s`. The bytes `kept` survive the sleep: the next start
    finds them in `machine.RTC().memory()`.
    """

    async def visit():
        dev.start()
        await dev.wait_up()
        if outbox:
            outbox.start()
            await outbox.empty.wait()
        while dev.serving or ticks_diff(ticks_ms(), dev.ws.rx_at) < linger_s * 1000:
            await asyncio.sleep(0.05)
        await dev.close()

    try:
        await asyncio.wait_for(visit(), budget_s)
    except Exception:
        pass  # the next time will do
    if outbox:
        outbox.flush()
    if kept is not None:
        machine.RTC().memory(kept)
    machine.deepsleep(sleep_s * 1000)
