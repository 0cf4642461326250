"""When the watchdog is fed, in a time that passes when it is slept."""

import asyncio

from program import run, say

import device_sdk.watchdog


class World:
    now = 0
    fed = 0


class Asyncio:
    @staticmethod
    async def sleep(s):
        World.now += int(s * 1000)
        await asyncio.sleep(0)


class Socket:
    rx_at = 0


class Device:
    lifetime_ms = 90000
    ws = Socket

    def __init__(self):
        self.up = asyncio.Event()

    async def _connect(self):
        World.now += 5000  # a handshake


class Watchdog:
    def feed(self):
        World.fed += 1


async def fed_for(link_s, s, up=None):
    """How often it is fed in so many seconds, after `up` seconds with a link on which nothing comes any more."""
    World.now = World.fed = Socket.rx_at = 0
    dev = Device()
    if up is not None:
        dev.up.set()
    task = asyncio.create_task(device_sdk.watchdog.watch(dev, Watchdog(), link_s))
    while World.now < s * 1000:
        if up is not None and World.now < up * 1000:
            Socket.rx_at = World.now
        await asyncio.sleep(0)
    fed = World.fed
    await dev._connect()
    task.cancel()
    return fed, World.fed - fed


async def main():
    device_sdk.watchdog.asyncio = Asyncio
    device_sdk.watchdog.ticks_ms = lambda: World.now
    say(down=await fed_for(0, 1000))
    say(silent=await fed_for(0, 1000, up=100))
    say(no_link=await fed_for(300, 1000))
    say(lost=await fed_for(300, 1000, up=100))


run(main)
