"""What the SDK costs in bytes of heap. MicroPython only."""

import asyncio
import gc
import json
import sys

import device_sdk


def used():
    gc.collect()
    return gc.mem_alloc()


async def settled(dev, count):
    while len(dev.asking) != count or dev.ws.waiting:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    return used()


async def main():
    dev = device_sdk.Device(sys.argv[1], "dev-1", "token")
    await dev.connect()
    idle = used()
    one = asyncio.create_task(dev.request_response("silent"))
    base = await settled(dev, 1)
    tasks = [asyncio.create_task(dev.request_response("silent")) for _ in range(7)]
    pending = (await settled(dev, 8) - base) // 7
    one.cancel()
    while tasks:
        tasks.pop().cancel()
    await settled(dev, 0)
    streams = [dev.request_stream("silent")]
    base = await settled(dev, 1)
    streams += [dev.request_stream("silent") for _ in range(7)]
    stream = (await settled(dev, 8) - base) // 7
    print(json.dumps({"idle": idle, "request": pending, "stream": stream}))
    await dev.close()


asyncio.run(main())
