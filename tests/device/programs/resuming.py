"""Ask and serve while the connection is cut again and again; whatever is missing, twice or out of order ends it.

Arguments: url, rounds, settings.
"""

import asyncio
import json
import sys

from program import device, run, say

from device_sdk import ConnectionLost


async def begun(dev, ask, *args):
    """What `ask` gives, once there is a connection to ask on."""
    while True:
        try:
            return ask(*args)
        except ConnectionLost:
            await dev.wait_up()


async def respond(dev, n):
    while True:
        try:
            stream, sending = dev.request(4, "api.add", b"%d" % n, b"")
            break
        except ConnectionLost:
            await dev.wait_up()
    await sending
    (data, _) = await stream.__anext__()
    assert data == b"sum %d" % n, data


async def forget(dev, n):
    while True:
        try:
            stream, sending = dev.request(5, "api.note", b"%d" % n, b"")
            break
        except ConnectionLost:
            await dev.wait_up()
    await sending
    stream.close()


async def stream(dev):
    i = 0
    async for data, _ in await begun(dev, dev.request_stream, "api.count", b"12", b"", 4):
        assert data == b"%d" % i, (data, i)
        i += 1
    assert i == 12, i


async def channel(dev):
    out = await begun(dev, dev.request_channel, "api.echo", b"0", b"", 3)
    for i in range(6):
        data, _ = await out.__anext__()
        assert data == b"%d" % i, (data, i)
        if i < 5:
            await out.send(b"%d" % (i + 1))
    await out.complete()
    async for _ in out:
        raise AssertionError


async def main():
    rounds = int(sys.argv[2])
    dev = device(backoff_ms=(5, 20), **json.loads(sys.argv[3]))
    stop = asyncio.Event()

    @dev.on_stream("numbers")
    async def numbers(data, meta, out):
        for i in range(int(data)):
            await out.send(b"%d" % i)

    @dev.on("echo")
    async def echo(data, meta):
        return data

    @dev.on("stop")
    async def end(data, meta):
        stop.set()

    dev.start()
    await dev.wait_up()
    say(resume=dev.ready["resume"])
    for n in range(rounds):
        await asyncio.gather(respond(dev, n), forget(dev, n), stream(dev), channel(dev))
    say(rounds=rounds, asking=len(dev.asking))
    await stop.wait()
    await dev.close()
    await asyncio.sleep(0.1)
    say(connects=dev.stats["connects"], errors=dev.stats["errors"], ws=dev.ws is not None)


run(main)
