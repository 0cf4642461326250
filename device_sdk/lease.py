"""Ask only what the gateway has lent: `Device(lease=True)`; RSocket 1.0, "Lease Semantics".

Without a lease a request raises Busy; `await device.wait_lease()` waits for one.
"""

import asyncio

from . import Busy, ConnectionLost, ticks_add, ticks_diff, ticks_ms
from .stream import number


def attach(device):
    plain = device.setup, device.wait, device._frame, device.request
    n = until = 0  # requests left, and until when

    async def wait_lease():
        ws = device.ws
        while not n or ticks_diff(until, ticks_ms()) <= 0:
            if not ws or ws.done:
                raise ConnectionLost("not connected")
            await asyncio.sleep(0.05)

    def setup():
        nonlocal n
        n = 0
        b = plain[0]()
        return b[:5] + bytes((b[5] | 0x40,)) + b[6:] if b[4] == 5 else b  # a session that goes on has said so

    async def wait():
        await wait_lease()
        # The gateway may ask as much as it likes: `max_serving` bounds it.
        await device.ws.send(b"\0\0\0\0\x08\0\x7f\xff\xff\xff\x7f\xff\xff\xff")
        await plain[1]()

    def _frame(b):
        nonlocal n, until
        if b[4] >> 2 == 2:
            until = ticks_add(ticks_ms(), min(number(b, 6), 1 << 28))  # what ticks can count
            n = number(b, 10)
        plain[2](b)

    def request(*args):
        nonlocal n
        if not n or ticks_diff(until, ticks_ms()) <= 0:
            raise Busy
        asked = plain[3](*args)
        n -= 1
        return asked

    device.setup = setup
    device.wait = wait
    device._frame = _frame
    device.request = request
    device.wait_lease = wait_lease
