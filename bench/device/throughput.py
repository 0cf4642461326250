"""What `bench/device_sdk.py` runs on each interpreter. Prints [what, how many a second] a line."""

import asyncio
import json
import sys
import time

from device_sdk import Device

try:
    from time import ticks_diff, ticks_us
except ImportError:

    def ticks_us():
        return time.perf_counter_ns() // 1000

    def ticks_diff(end, start):
        return end - start


def report(what, count, start):
    print(json.dumps([what, count * 1000000 / ticks_diff(ticks_us(), start)]))


async def ask(device, count, data):
    for _ in range(count):
        await device.request_response("echo", data)


async def main():
    count = int(sys.argv[2])
    device = Device(sys.argv[1], "bench", max_inflight=10)
    await device.connect()
    await ask(device, count // 10, b"0123456789abcdef")
    start = ticks_us()
    await ask(device, count, b"0123456789abcdef")
    report("request 16 B", count, start)
    start = ticks_us()
    await ask(device, count, b"x" * 1024)
    report("request 1 KiB", count, start)
    start = ticks_us()
    await asyncio.gather(*[ask(device, count // 10, b"0123456789abcdef") for _ in range(10)])
    report("request 16 B x 10", count, start)
    start = ticks_us()
    for _ in range(count):
        await device.fire_and_forget("log", b"0123456789abcdef")
    report("fire and forget", count, start)
    stream = device.request_stream("items", n=32)
    start = ticks_us()
    for _ in range(count * 2):
        await stream.__anext__()
    report("stream item", count * 2, start)
    await stream.cancel()
    await device.close()


asyncio.run(main())
