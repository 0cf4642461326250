"""A service that prints what it is sent, once for each message: its number and the id under which it waited."""

from __future__ import annotations

import asyncio
import json
import os
import ssl

from gateway.client import Request, Service
from gateway.wire.mimetypes import SPOOLED


async def main() -> None:
    trusting = ssl.create_default_context(cafile="/ca.pem")
    service = Service("wss://edge:7878/rsocket", os.environ["GATEWAY_TOKEN"], name="historian", tls=trusting)
    had: set[str] = set()

    @service.request_response("write")
    async def write(data: bytes, request: Request) -> bytes:
        said = json.loads(dict(request.metadata)[SPOOLED])
        identity = f"{said['node']}/{said['epoch']}/{said['seq']}"
        if identity not in had:
            had.add(identity)
            print(data.decode(), identity, flush=True)
        return b"had"

    async with service:
        await asyncio.Event().wait()


asyncio.run(main())
