"""Ask another device for everything that it serves."""

from program import device, fails, run, say, text


async def main():
    dev = device()
    await dev.connect()
    say(sub=dev.ready["sub"], services=dev.ready["services"])
    data, _ = await dev.request_response("dev-1.led.set", b"on")
    say(answer=text(data))
    say(tagged=text((await dev.request_response(("dev-1.led.set", "sub=dev-1"), b"off"))[0]))
    say(error=await fails(dev.request_response("dev-1.fail")))
    say(nobody=(await fails(dev.request_response("nobody.there")))[:2])
    await dev.fire_and_forget("dev-1.note", b"forgotten")
    items = 0
    async for data, _ in dev.request_stream("dev-1.numbers", b"25", n=4):
        assert int(data) == items
        items += 1
    say(items=items)
    channel = dev.request_channel("dev-1.sum", b"1", n=4)
    totals = [int((await channel.__anext__())[0])]
    for i in range(2, 12):
        await channel.send(b"%d" % i)
        totals.append(int((await channel.__anext__())[0]))
    await channel.complete()
    say(totals=totals, end=await fails(channel.__anext__()))
    say(size=len((await dev.request_response("dev-1.with_metadata", b"x" * 600))[0]))
    await dev.close()


run(main)
