"""A camera on a Raspberry Pi, on CPython: `python3 main.py`, the first time with an enrolment line as its argument.

`snap` takes a picture with `command` (["rpicam-still", "-o", "picture.jpg"]; a stub without) and answers {"size",
"sha256"}; the stream `picture` is that file in chunks, as fast as there is credit for them, from {"offset": n} on.
"""

import asyncio
import hashlib
import json
import sys

from device_sdk import Device, RSocketError
from device_sdk.clock import Clock
from device_sdk.config import follow
from device_sdk.log import Log
from device_sdk.provision import enrol
from device_sdk.settings import load

settings = load(token="", picture="picture.jpg", command=[], chunk=1024)
taking = asyncio.Lock()


def described():
    with open(settings["picture"], "rb") as file:
        data = file.read()
    return json.dumps({"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}).encode()


async def configure(document):
    chunk = (document or {}).get("chunk", 1024)
    if not 256 <= chunk <= 8192:
        raise ValueError("chunk is from 256 to 8192 bytes")
    settings["chunk"] = chunk


async def snap(data, meta):
    async with taking:
        if settings["command"]:
            process = await asyncio.create_subprocess_exec(*settings["command"], stdin=asyncio.subprocess.DEVNULL)
            if await process.wait():
                log("the camera ended with %d" % process.returncode)
                raise RSocketError(0x301, "the camera takes no picture")
        try:
            return await asyncio.to_thread(described)
        except OSError as error:
            raise RSocketError(0x302, "no picture: %s" % error.strerror)


async def picture(data, meta, out):
    try:
        offset = int(json.loads(data or b"{}").get("offset", 0))
        file = open(settings["picture"], "rb")
    except (ValueError, TypeError, AttributeError):
        raise RSocketError(0x303, '{"offset": a number}')
    except OSError as error:
        raise RSocketError(0x302, "no picture: %s" % error.strerror)
    with file:
        file.seek(offset)
        # The file that is open stays the same when the next picture is renamed over it.
        while chunk := file.read(settings["chunk"]):
            await out.send(chunk)


async def main():
    if len(sys.argv) > 1:
        await enrol(sys.argv[1])
        settings.update(load())
    tls = {"ca": settings["ca"]} if settings.get("ca") else None
    clock = Clock()
    device = Device(settings["url"], settings["device_id"], settings["token"], tls=tls, clock=clock)
    global log
    log = Log(device, clock)
    device.on("snap")(snap)
    device.on_stream("picture")(picture)
    device.start()
    await follow(device, configure)


asyncio.run(main())
