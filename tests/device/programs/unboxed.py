"""A device just unpacked: its first boot, its page on the port in PORT, and a reset when it has a credential."""

import asyncio
import os

import machine
from first_boot import FirstBoot

from device_sdk.settings import load
from device_sdk.wifi import Wifi

settings = load(wifi=("", ""))
net = Wifi(*settings["wifi"])
net.wait_s = 3


async def main():
    boot = FirstBoot(settings, net, "lamp-7")
    await boot.run("lamp <7>", "on the label", int(os.getenv("PORT")))


asyncio.run(main())
machine.reset()
