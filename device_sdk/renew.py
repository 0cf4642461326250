"""The next token in time, over the connection that the device has."""

import asyncio
import json
from binascii import b2a_base64

from . import ConnectionLost
from .mac import mac


def keep(device, secret=None, on_token=None):
    """Ask for a token when four fifths of the time that the last one had left are over; and at once when the device
    connects with one that has run out, which takes its `secret`, the text that it got when it enrolled.

    `on_token(token)` keeps the new token for the next boot; `device.token` has it already. Returns a coroutine function
    that asks now, and tells how many seconds the new one is good for.
    """
    settle, connect = device.wait, device._connect
    last = task = None

    async def ask(data):
        return json.loads((await device.request_response("gateway.renew", data))[0])

    async def renew():
        answer = await ask(b"")
        text = answer.get("challenge")
        if text:
            proof = b2a_base64(mac(secret, b"gateway-renew\n" + text.encode()))[:-2].decode()
            proof = proof.replace("+", "-").replace("/", "_")
            answer = await ask(json.dumps({"challenge": text, "proof": proof}).encode())
        device.token = text = answer["token"]
        if on_token:
            on_token(text)
        return answer["expires_in"]

    async def run(left):
        while True:
            wait = max(min(left * 4 // 5, 400000), 1)  # MicroPython cannot sleep for longer than 6 days
            await asyncio.sleep(wait)
            left -= wait
            try:
                left = await renew()
            except Exception:
                pass

    async def wait():
        nonlocal last, task
        await settle()
        ready = device.ready
        if ready is last:
            return  # the session goes on
        last = ready
        if ready["renew"]:
            await renew()
            raise ConnectionLost("renewed")
        if task:
            task.cancel()
        if ready["expires"]:
            task = asyncio.create_task(run(ready["expires"] - ready["time"] // 1000))

    async def _connect():
        token = device.token
        try:
            await connect()
        except ConnectionLost:
            if device.token == token:
                raise
            # With a token that had run out nothing was registered.
            await connect()

    device.wait = wait
    device._connect = _connect
    return renew
