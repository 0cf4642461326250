"""Streams that the device asks for."""

from program import device, fails, run, say


async def main():
    dev = device()
    await dev.connect()
    n = 0
    async for data, _ in dev.request_stream("count", b"50", n=8):
        assert int(data) == n
        n += 1
    say(items=n)
    stream = dev.request_stream("count", b"1000", n=4)
    async for data, _ in stream:
        if data == b"10":
            break
    await stream.cancel()
    say(after_cancel=await fails(stream.__anext__()))
    say(error=await fails(dev.request_stream("fail.0x303").__anext__()))
    say(timeout=await fails(dev.request_stream("silent", timeout_ms=100).__anext__()))
    say(open=len(dev.asking))
    await dev.close()


run(main)
