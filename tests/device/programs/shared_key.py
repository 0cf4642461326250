"""Connect by a key that both sides know. Arguments: url, identity, key in hex."""

import asyncio
import sys
from binascii import unhexlify

from program import device, fails, run, say, text


async def main():
    dev = device(tls={"psk": (sys.argv[2].encode(), unhexlify(sys.argv[3]))})
    error = None
    for _ in range(50):  # until the server listens
        error = await fails(dev.connect())
        if error != ["OSError"] or dev.error.errno != 111:
            break
        await asyncio.sleep(0.1)
    if error:
        say(error=error)
        return
    data, _ = await dev.request_response("echo", b"hello")
    say(echo=text(data))
    await dev.close()


run(main)
