"""A write that is cancelled while the peer does not read."""

import asyncio
import sys

from program import device, run, say

# A board's socket holds little, a server's megabytes.
DATA = b"x" * (300 if sys.implementation.name == "micropython" else 1000)


async def main():
    dev = device(timeout_ms=60000, backoff_ms=(10, 20))
    dev.start()
    await dev.wait_up()
    while True:
        try:
            await asyncio.wait_for(dev.fire_and_forget("log", DATA), 0.3)
        except asyncio.TimeoutError:
            break
    say(cut=True)
    while True:
        await dev.wait_up()
        try:
            data, _ = await dev.request_response("echo", b"whole")
            break
        except OSError:
            pass
    say(echo=data == b"whole")
    await dev.close()


run(main)
