"""The application in an image of the tests. `release.py` beside it says VERSION and KIND:

"well", "deaf" (finds no gateway), "ill" (its health check says so), "dies" (resets before it
reached the gateway), "hangs" (until the watchdog bites).
"""

import asyncio
import json
import os
import sys

import machine
from release import KIND, VERSION
from slots import Slots

from device_sdk import Device
from device_sdk.ota import ota


async def ill():
    raise ValueError("fever")


async def main():
    store = Slots()
    print(json.dumps({"runs": VERSION, "state": store.state["state"]}))
    if KIND == "dies":
        machine.reset()
    if KIND == "hangs":
        machine.WDT(timeout=100)
        while True:
            pass
    url = "ws://127.0.0.1:1/" if KIND == "deaf" else sys.argv[1]
    dev = Device(url, "dev-1", os.getenv("DEVICE_TOKEN", "").encode(), backoff_ms=(10, 50))
    dev.start()
    trial_s = 0.2 if KIND == "deaf" else 300
    await ota(dev, store, "host", VERSION, os.getenv("DEVICE_SECRET"), ill if KIND == "ill" else None, trial_s)


asyncio.run(main())
