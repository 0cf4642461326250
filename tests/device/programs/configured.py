"""A device that is configured by its gateway, and says what it is given. Documents make it do what goes wrong."""

import asyncio
import os
import sys

from program import device, run, say

from device_sdk.config import follow


async def main():
    dev = device(backoff_ms=(10, 100))
    url = dev.url
    go = asyncio.Event()
    stop = asyncio.Event()

    async def apply(document):
        say(given=document)
        document = document or {}
        if dev.url != url:
            dev.url = url
            dev._dns.clear()
        if "fail" in document:
            raise ValueError(document["fail"])
        if "reset" in document:
            # At once, as a board does.
            (os._exit if hasattr(os, "_exit") else sys.exit)(42)
        if "wait" in document:
            await go.wait()
        if "astray" in document:
            dev.url = "ws://127.0.0.1:1/"
            dev._dns.clear()
            dev.lose("")

    @dev.on("go")
    async def release(data, meta):
        go.set()

    @dev.on("stop")
    async def end(data, meta):
        stop.set()

    dev.start()
    task = asyncio.create_task(follow(dev, apply, trial=3, pause_s=0.2))
    await stop.wait()
    task.cancel()
    await dev.close()


run(main)
