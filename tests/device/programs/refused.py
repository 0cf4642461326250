"""A connection attempt that fails."""

import sys

from program import device, fails, run, say


async def main():
    dev = device()
    say(error=await fails(dev.connect(timeout_ms=int(sys.argv[2]) if len(sys.argv) > 2 else 5000)), up=dev.up.is_set())


run(main)
