"""A device that stays connected, and tells what happens to it. Its settings are the second argument."""

import asyncio
import json
import sys

from program import device, run, say


async def main():
    settings = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    dev = device(**settings)
    stop = asyncio.Event()
    dev.on_state = lambda state, reason: say(state=state, reason=reason)

    @dev.on("echo")
    async def echo(data, meta):
        return data

    @dev.on("stop")
    async def end(data, meta):
        stop.set()

    dev.start()
    dev.start()
    await stop.wait()
    await dev.close()
    await asyncio.sleep(0.1)
    say(stats=dev.stats, ws=dev.ws is not None)


run(main)
