"""Requests that are cancelled from outside, some of them inside a write."""

import asyncio

from program import device, fails, run, say


async def main():
    dev = device(timeout_ms=300, keepalive_ms=100, backoff_ms=(10, 20), max_inflight=2)
    dev.start()
    await dev.wait_up()
    cut = 0
    for i in range(1000):
        task = asyncio.create_task(fails(dev.request_response("echo", b"%05d" % i + b"x" * 100)))
        await asyncio.sleep(0)
        task.cancel()
        cut += 1
        # Each cancelled request has a CANCEL waiting to be sent: a small heap has room for a few.
        while dev.ws and dev.ws.waiting > 2:
            await asyncio.sleep(0)
    say(cut=cut)
    answered = 0
    while answered < 10:
        await dev.wait_up()
        if not await fails(dev.request_response("echo", b"whole")):
            answered += 1
    say(answered=answered, open=len(dev.asking))
    await dev.close()


run(main)
