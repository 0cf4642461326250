"""A device just unpacked: its first boot, its page on the port in PORT, and a reset when it has a credential."""

import asyncio
import os

import machine
import network
from first_boot import FirstBoot
from portal import access_point, serve

from device_sdk.settings import load

settings = load(wifi=("", ""))


class Wifi:
    async def ensure_up(self):
        wlan = network.WLAN(network.STA_IF)
        wlan.active(True)
        wlan.connect(*settings["wifi"])
        if not wlan.isconnected():
            raise OSError("no Wi-Fi")


async def main():
    boot = FirstBoot(settings, Wifi(), "lamp-7")
    access_point("lamp-7", "on the label")
    server = await serve(boot, "lamp <7>", "127.0.0.1", int(os.getenv("PORT")))
    await boot.run()
    server.close()


asyncio.run(main())
machine.reset()
