"""Serve every model, with handlers that answer, fail, refuse and hang."""

import asyncio

from program import device, run, say, text

from device_sdk import RSocketError


async def main():
    dev = device(services=("dev-1", "plant/7/thermo"), max_serving=2)
    stop = asyncio.Event()

    @dev.on("led.set")
    async def led(data, meta):
        return b"led:" + data

    @dev.on("with_metadata")
    async def with_metadata(data, meta):
        return data, b"\xfa\0\0\1\x85"

    @dev.on("nothing")
    async def nothing(data, meta):
        pass

    @dev.on("dev-1.exact")
    async def exact(data, meta):
        return b"exact"

    @dev.on("")
    async def alone(data, meta):
        return b"alone"

    @dev.on("fail")
    async def fail(data, meta):
        raise RSocketError(0x301, "as asked")

    @dev.on("crash")
    async def crash(data, meta):
        return 1 // 0

    @dev.on("hang")
    async def hang(data, meta):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            say(hang="cancelled")
            raise

    @dev.on_fnf("note")
    async def note(data, meta):
        say(note=text(data))
        if data == b"crash":
            raise ValueError

    @dev.on_stream("numbers")
    async def numbers(data, meta, out):
        for i in range(int(data)):
            await out.send(b"%d" % i)

    @dev.on_stream("broken")
    async def broken(data, meta, out):
        await out.send(b"1")
        raise RSocketError(0x302, "broke")

    @dev.on_channel("sum")
    async def add(data, meta, channel):
        total = int(data)
        await channel.send(b"%d" % total)
        async for item, _ in channel:
            total += int(item)
            await channel.send(b"%d" % total)

    @dev.on("stop")
    async def end(data, meta):
        stop.set()

    await dev.connect()
    await stop.wait()
    await asyncio.sleep(0)
    say(open=len(dev.serving), errors=dev.stats["errors"])
    await dev.close()


run(main)
