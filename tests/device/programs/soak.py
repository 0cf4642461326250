"""Use the device hard and look whether memory is lost. Arguments: url, requests, reconnects."""

import gc
import sys

from program import device, run, say


def used():
    gc.collect()
    gc.collect()
    return gc.mem_alloc()


async def use(dev, requests):
    for i in range(requests):
        data, _ = await dev.request_response("echo", b"0123456789abcdef")
        assert data == b"0123456789abcdef"
        if i % 1000 == 999:
            say(done=i + 1)
        if i % 100 == 0:
            await dev.fire_and_forget("log", b"x")
            async for _ in dev.request_stream("count", b"20", n=4):
                pass


async def main():
    requests, reconnects = int(sys.argv[2]), int(sys.argv[3])
    dev = device()
    await dev.connect()
    await use(dev, 200)
    await dev.close()
    await dev.connect()
    await use(dev, 200)
    start = used()
    await use(dev, requests)
    after_requests = used()
    for _ in range(reconnects):
        await dev.close()
        await dev.connect()
        await use(dev, 1)
        say(done=dev.stats["connects"])
    after_reconnects = used()
    say(requests=after_requests - start, reconnects=after_reconnects - start, connects=dev.stats["connects"])
    await dev.close()


run(main)
