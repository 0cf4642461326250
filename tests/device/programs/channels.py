"""Channels that the device opens."""

from program import device, fails, run, say, text


async def main():
    dev = device()
    await dev.connect()
    channel = dev.request_channel("sum", b"1", n=8)
    for i in range(2, 7):
        await channel.send(b"%d" % i)
    await channel.complete()
    totals = []
    async for data, _ in channel:
        totals.append(int(data))
    say(totals=totals, after=await fails(channel.send(b"7")))

    # The responder wants no more, but goes on sending.
    channel = dev.request_channel("half", b"x")
    await channel.send(b"y")
    say(half=await fails(channel.send(b"z")), rest=text((await channel.__anext__())[0]))
    say(end=await fails(channel.__anext__()), open=len(dev.asking))

    channel = dev.request_channel("error", b"x")
    say(error=await fails(channel.send(b"y")), receive=await fails(channel.__anext__()))
    await dev.close()


run(main)
