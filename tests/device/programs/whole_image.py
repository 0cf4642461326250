"""The firmware in an image for a partition. In front of it is a line with VERSION and KIND ("well", "ill", "dies")."""

import asyncio
import json
import os
import sys

import machine
from partitions import Partitions

from device_sdk import Device
from device_sdk.ota import ota


async def ill():
    raise ValueError("fever")


async def start(version, kind):
    store = Partitions()
    print(json.dumps({"runs": version, "state": store.state["state"]}))
    if kind == "dies":
        machine.reset()
    dev = Device(sys.argv[1], "dev-1", b"", backoff_ms=(10, 50))
    dev.start()
    await ota(dev, store, "host", version, os.getenv("DEVICE_SECRET"), ill if kind == "ill" else None)


def run(version, kind):
    asyncio.run(start(version, kind))
