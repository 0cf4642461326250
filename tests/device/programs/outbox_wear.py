"""What 64-byte posts cost: erases of flash a record, and heap. MicroPython only; argument: how many of them."""

import asyncio
import gc
import sys

from flash import Flash
from program import say

import device_sdk.supervise  # noqa: F401


def used():
    gc.collect()
    return gc.mem_alloc()


flash = Flash(32)
flash.format("/f")
before = used()
from device_sdk.outbox import Outbox  # noqa: E402

imported = used() - before


class Gateway:
    got = 0

    def __init__(self):
        self.up = asyncio.Event()

    async def request_response(self, route, data, meta):
        self.got += 1


async def main():
    gateway = Gateway()
    worn = flash.wear
    box = Outbox(gateway, "/f/outbox")
    box.segments = 100
    empty = used()
    count = int(sys.argv[1])
    data = bytes(range(64))
    for _ in range(11):
        await box.post("telemetry", data)
    full = used()
    for _ in range(count - 11):
        await box.post("telemetry", data)
    box.start()
    gateway.up.set()
    await asyncio.wait_for(box.empty.wait(), 60)
    box.task.cancel()
    say(erases=flash.wear - worn, got=gateway.got, imported=imported, page=full - empty)

    # Flash that fails loses nothing but what memory does not hold.
    gateway.up.clear()
    flash.fails = True
    for _ in range(30):
        await box.post("telemetry", data)
    kept, lost = len(box.items), box.lost
    flash.fails = False
    box.flush()
    say(kept=kept, lost=lost, left=len(box.items))


asyncio.run(main())
