"""A device that posts numbers. Arguments: url, the first, and the one behind the last. Says which are safe."""

import asyncio
import os
import sys

from program import device, run, say

from device_sdk.outbox import Outbox


async def main():
    name = os.getenv("DEVICE_ID")
    dev = device(backoff_ms=(50, 1000), timeout_ms=3000, keepalive_ms=500, lifetime_ms=3000)
    box = Outbox(dev, name)
    box.retry_s = 0.2
    first, last = int(sys.argv[2]), int(sys.argv[3])
    dev.start()
    box.start()
    for n in range(first, last):
        await box.post("ledger.write", b"%s %d" % (name.encode(), n), ttl_s=3600)
        if n % 5 == 4:
            assert box.flush()
            say(safe=n + 1)
        await asyncio.sleep(0.02)
    assert box.flush()
    say(safe=last)
    await box.empty.wait()
    say(lost=box.lost)
    await dev.close()


run(main)
