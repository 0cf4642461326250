"""Ask as much as is lent, and no more. Arguments: url, settings, requests."""

import asyncio
import json
import sys

from program import device, run, say

from device_sdk import Busy


async def main():
    dev = device(lease=True, backoff_ms=(5, 20), **json.loads(sys.argv[2]))
    stop = asyncio.Event()

    @dev.on("echo")
    async def echo(data, meta):
        return data

    @dev.on("ask")
    async def ask(data, meta):
        await dev.wait_lease()
        await dev.request_response("api.it", data)
        say(asked=True)

    @dev.on("stop")
    async def end(data, meta):
        stop.set()

    dev.start()
    await dev.wait_up()
    say(lease=dev.ready["lease"])
    busy = answered = 0
    while answered < int(sys.argv[3]):
        try:
            data, _ = await dev.request_response("api.it", b"%d" % answered)
            assert data == b"%d" % answered
            answered += 1
        except Busy:
            busy += 1
            await dev.wait_lease()
    say(answered=answered, busy=busy)
    await stop.wait()
    await dev.close()


run(main)
