"""`Wifi` with an interface that does as it is told, in a time that passes when it is slept."""

import asyncio
import sys

import network
from program import fails, run, say

import device_sdk.wifi


class World:
    now = 0
    up_at = 0  # when it connects, after it was asked to
    calls = []


class Interface:
    up = False

    def __init__(self, interface):
        self.asked = False

    def active(self, on):
        if not on:
            World.calls.append("off")
        self.asked = self.asked and on

    def connect(self, *login):
        World.calls.append(login[0])
        self.asked = True
        if World.up_at < 0:
            raise OSError("Wifi Internal Error")

    def isconnected(self):
        return Interface.up or self.asked and 0 <= World.up_at <= World.now


class Asyncio:
    @staticmethod
    async def sleep(s):
        World.now += int(s * 1000)
        await asyncio.sleep(0)


class Machine:
    @staticmethod
    def reset():
        World.calls.append("reset")


async def main():
    network.WLAN = Interface
    sys.modules["machine"] = Machine
    device_sdk.wifi.asyncio = Asyncio
    device_sdk.wifi.ticks_ms = lambda: World.now
    wifi = device_sdk.wifi.Wifi("home", "key", reset_after_s=60)

    World.up_at = 3000
    await wifi.ensure_up()
    say(calls=World.calls, ms=World.now)

    # Gone for a moment, back by itself: it was not asked to connect again.
    World.calls = []
    wifi.wlan.asked = False
    World.up_at = 1 << 30
    coming = asyncio.create_task(wifi.ensure_up())
    while World.now < 4000:
        await asyncio.sleep(0)
    Interface.up = True
    await coming
    say(calls=World.calls)

    # Gone for good; the driver says that it is busy.
    Interface.up = False
    World.up_at = -1
    errors = []
    for _ in range(5):
        errors.append(await fails(wifi.ensure_up()))
    say(calls=World.calls, errors=errors)


run(main)
