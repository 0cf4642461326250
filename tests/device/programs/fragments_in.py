"""Receive payloads and requests in fragments."""

import asyncio

from program import device, fails, run, say

import device_sdk.fragment  # noqa: F401  early, because a module that loads late lands in the middle of a small heap


async def main():
    dev = device(max_payload=1300)
    done = asyncio.Event()

    @dev.on("size")
    async def size(data, meta):
        return str(len(data)).encode()

    @dev.on("stop")
    async def stop(data, meta):
        done.set()

    await dev.connect()
    data, meta = await dev.request_response("long")
    say(size=len(data), meta=len(meta))
    del data
    say(error=(await fails(dev.request_response("endless")))[0])
    say(error=(await fails(dev.request_response("empty")))[0])
    await done.wait()
    await dev.close()


run(main)
