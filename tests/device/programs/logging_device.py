"""A device that logs before it is connected and after, and what it is told to."""

import asyncio

from program import device, run, say

from device_sdk import ticks_add, ticks_ms
from device_sdk.clock import Clock
from device_sdk.log import Log


async def main():
    clock = Clock()
    clock.k = ticks_add(ticks_ms(), -60000)
    say(unset=clock.base, up=60000 <= clock.up() < 90000)
    stop = asyncio.Event()
    dev = device(clock=clock)
    log = Log(dev, clock, size=4)
    log("booted")

    @dev.on("log.this")
    async def this(data, meta):
        for line in data.decode().split("|"):
            log(line)

    @dev.on("stop")
    async def end(data, meta):
        stop.set()

    dev.start()
    await dev.wait_up()
    log("up")
    say(now=clock.now())
    await stop.wait()
    await dev.close()


run(main)
