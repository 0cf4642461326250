"""Stay connected, whatever the peer does, and tell how much of the heap is used. MicroPython only."""

import asyncio
import gc

from program import device, run


async def main():
    dev = device(backoff_ms=(5, 20))
    stop = asyncio.Event()

    @dev.on("used")
    async def used(data, meta):
        gc.collect()
        gc.collect()
        return b"%d" % gc.mem_alloc()

    @dev.on("stop")
    async def end(data, meta):
        stop.set()

    dev.start()
    await stop.wait()
    await dev.close()


run(main)
