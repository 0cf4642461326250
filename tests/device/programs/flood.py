"""Write to a peer that does not read, until the device gives up; then find it again."""

from program import device, fails, run, say


async def main():
    dev = device(timeout_ms=300, keepalive_ms=100, lifetime_ms=60000, backoff_ms=(10, 20))
    dev.start()
    await dev.wait_up()
    error = None
    while not error:
        error = await fails(dev.fire_and_forget("log", b"x" * 300))
    say(error=error)
    await dev.wait_up()
    data, _ = await dev.request_response("echo", b"back")
    say(echo=data == b"back", lost=dev.stats["lost"])
    await dev.close()


run(main)
