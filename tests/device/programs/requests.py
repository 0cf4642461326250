"""Request/response and fire-and-forget, the device asking."""

import asyncio

from program import device, fails, run, say, text


async def main():
    dev = device(max_inflight=3)
    states = []
    times = []
    dev.on_state = lambda state, reason: states.append(state)
    dev.clock = times.append
    await dev.connect()
    say(node=dev.ready["node"], up=dev.up.is_set(), down=dev.down.is_set(), time=times == [dev.ready["time"]])

    data, meta = await dev.request_response("echo", b"hello")
    say(echo=text(data), meta=meta)
    say(empty=text((await dev.request_response("echo"))[0]))
    say(tags=text((await dev.request_response(("echo", "zone=eu"), b"tagged"))[0]))

    say(application=await fails(dev.request_response("fail.0x301")))
    say(rejected=await fails(dev.request_response("fail.0x202")))
    say(largest=await fails(dev.request_response("fail.0xfffffffe")))
    say(timeout=await fails(dev.request_response("silent", timeout_ms=100)), count=dev.stats["timeouts"])

    pending = [asyncio.create_task(dev.request_response("silent")) for _ in range(3)]
    await asyncio.sleep(0)
    say(busy=await fails(dev.request_response("echo")))
    while pending:
        pending.pop().cancel()
    await asyncio.sleep(0)
    say(free=text((await dev.request_response("echo", b"again"))[0]))

    await dev.fire_and_forget("log", b"forgotten")
    await dev.request_response("echo", b"the log was read")
    await dev.close()
    say(states=states, after=await fails(dev.request_response("echo")), stats=dev.stats)


run(main)
