"""Is memory freed before each connection attempt, with nothing of the old connection left?"""

import gc

from program import device, fails, run, say

import device_sdk.device

try:
    import weakref
except ImportError:
    weakref = None


class Collector:
    old = None
    collections = 0
    left = 0

    def collect(self):
        gc.collect()
        Collector.collections += 1
        if weakref and Collector.old and Collector.old() is not None:
            Collector.left += 1


device_sdk.device.gc = Collector()


async def main():
    dev = device(backoff_ms=(1, 2))
    for i in range(5):
        await fails(dev.connect())
        if weakref:
            Collector.old = weakref.ref(dev.ws) if dev.ws else None
        if i % 2:
            await dev.close()
        elif dev.ws:
            await fails(dev.request_response("drop"))
    say(collections=Collector.collections, left=Collector.left, connects=dev.stats["connects"])


run(main)
