"""Read a stream slowly."""

import asyncio

from program import device, run, say


async def main():
    dev = device()
    await dev.connect()
    stream = dev.request_stream("feed", n=8)
    items = 0
    async for data, _ in stream:
        assert int(data) == items
        items += 1
        if items % 5 == 0:
            await asyncio.sleep(0.01)
        if items == 30:
            break
    await stream.cancel()
    say(items=items)
    await dev.close()


run(main)
