"""Connect over TLS. Arguments: url, CA file or "", what to try."""

import os
import sys

from program import fails, run, say, text

from device_sdk import Device


def ca():
    with open(sys.argv[2], "rb") as f:
        return f.read()


async def main():
    how = sys.argv[3]
    url = sys.argv[1]
    if how == "nothing":
        try:
            Device(url, "dev-1")
        except ValueError as e:
            say(refused=str(e))
        return
    if how == "insecure":
        dev = Device(url, "dev-1", insecure=True)
    elif how == "client certificate":
        dev = Device(url, "dev-1", tls={"ca": ca(), "cert": sys.argv[4], "key": sys.argv[5]})
    else:
        dev = Device(url, "dev-1", os.getenv("DEVICE_TOKEN") or "", tls={"ca": ca()})
    if how == "ready":
        error = await fails(dev.connect())
        say(error=error, up=dev.up.is_set(), sub=dev.ready and dev.ready["sub"])
        await dev.close()
        return
    for _ in range(2):
        error = await fails(dev.connect())
        if error:
            say(error=error, up=dev.up.is_set())
            return
        await dev.request_response("echo", b"x" * 500)
        data, _ = await dev.request_response("echo", b"hello")
        say(echo=text(data))
        await dev.close()


run(main)
