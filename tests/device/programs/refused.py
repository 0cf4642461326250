"""A connection attempt that fails."""

from program import device, fails, run, say


async def main():
    dev = device()
    say(error=await fails(dev.connect(timeout_ms=5000)), up=dev.up.is_set())


run(main)
