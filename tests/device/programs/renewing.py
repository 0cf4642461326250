"""Stay connected with a token that has little time left, or none. Arguments: url, secret."""

import asyncio
import sys

from program import device, fails, run, say

from device_sdk.renew import keep


async def main():
    dev = device(backoff_ms=(10, 50))
    keep(dev, sys.argv[2], lambda token: say(token=token))
    stop = asyncio.Event()

    @dev.on("echo")
    async def echo(data, meta):
        return data

    @dev.on("stop")
    async def end(data, meta):
        stop.set()

    error = await fails(dev.connect())
    if error:
        say(error=error)
        return
    say(renew=dev.ready["renew"], sub=dev.ready["sub"])
    await stop.wait()
    await dev.close()
    say(connects=dev.stats["connects"])


run(main)
