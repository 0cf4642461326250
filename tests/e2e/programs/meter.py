"""A device that posts 1, 2, 3, … to the historian, each until its node has acknowledged it, and prints what was."""

from __future__ import annotations

import asyncio
import os
import ssl
import struct

from gateway.client import Gateway
from gateway.errors import GatewayError
from gateway.wire.mimetypes import POST


async def main() -> None:
    epoch = int.from_bytes(os.urandom(4), "big")
    trusting = ssl.create_default_context(cafile="/ca.pem")
    async with Gateway("wss://edge:7878/rsocket", os.environ["GATEWAY_TOKEN"], tls=trusting) as node:
        number = 0
        while True:
            number += 1
            entry = [(POST, struct.pack(">II", epoch, number))]
            while True:
                try:
                    await node.request("historian.write", b"%d" % number, metadata=entry, timeout=5)
                    break
                except (GatewayError, TimeoutError, OSError):
                    await asyncio.sleep(0.1)
            print(number, flush=True)
            await asyncio.sleep(0.05)


asyncio.run(main())
