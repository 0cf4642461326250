"""With lines in LINE: try each (an argument has at most 255 bytes on MicroPython). Without: connect, and forget."""

import os
import sys

from program import fails, run, say

from device_sdk.provision import enrol, erase, save
from device_sdk.settings import load


async def main():
    if os.getenv("LINE"):
        save(wifi=["ssid", "key"])
        for line in os.getenv("LINE").split("\n"):
            failed = await fails(enrol(line, *sys.argv[1:]))
            say(failed=failed, kept=sorted(load()))
    else:
        from device_sdk import Device

        settings = load()
        tls = {"ca": settings["ca"]} if "ca" in settings else None
        device = Device(settings["url"], settings["device_id"], settings["token"], tls=tls)
        await device.connect()
        say(sub=device.ready["sub"], services=device.ready["services"], wifi=settings["wifi"])
        await device.close()
        erase()
        say(left=os.listdir("."))


run(main)
