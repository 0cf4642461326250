"""A session that outlives its connections: `Device(resume=bytes)`; RSocket 1.0, "Resuming Operation".

What is sent has its place in a ring of so many bytes until the gateway has it; who sends more waits. Streams stay when
the connection is lost, and go on over the next one, for as long as `lifetime_ms`. A new request needs a connection.
"""

import asyncio
from os import urandom

from . import ConnectionLost, const, ticks_add, ticks_ms
from .device import Device
from .fragment import fragments
from .stream import number

_KEEPALIVE = const(3)
_ERROR = const(11)
_RESUME_OK = const(14)
_RESPOND = const(0x80)
_COST = const(32)  # of a frame on the heap, on top of its bytes


def attach(device):
    """Get in front of the device's own methods."""
    lock = asyncio.Lock()
    event = asyncio.Event()
    live = parked = False  # there is a session; it has no connection
    busy = False  # there is a writer, or nothing to write to
    ring = ()
    # Bytes, as RSocket counts them: received; that the gateway has; in the ring. And frames of the ring that have left.
    got = first = size = left = 0
    token = None

    def setup():
        nonlocal ring, got, first, size, left, busy, token
        if parked:
            device._keeper.cancel()  # there will be another
            # Stream 0, RESUME, version 1.0, a token of 16 bytes
            return b"\0\0\0\0\x34\0\0\1\0\0\0\x10" + token + got.to_bytes(8, "big") + first.to_bytes(8, "big")
        ring = []
        got = first = size = left = 0
        busy = False
        token = urandom(16)
        b = Device.setup(device)
        return b[:5] + b"\x80" + b[6:18] + b"\0\x10" + token + b[18:]

    async def wait():
        nonlocal live
        ws = device.ws
        if not parked:
            await Device.wait(device)
            live = True
        while parked:
            if ws.done:
                raise ConnectionLost
            event.clear()
            await event.wait()

    def _frame(b):
        nonlocal got, first, size, left, busy, live, parked
        kind = b[4] >> 2
        try:
            if kind == _KEEPALIVE or kind == _RESUME_OK:
                n = number(b, 6, 8) - first
                while left and n >= len(ring[0]):
                    i = len(ring.pop(0))
                    n -= i
                    first += i
                    size -= i + _COST
                    left -= 1
                event.set()
                if kind == _RESUME_OK:
                    left = 0
                    busy = parked = False
                    go()
            Device._frame(device, b)
        except Exception:
            live = False  # it would come again
            raise
        if _KEEPALIVE < kind <= _ERROR and number(b, 0):
            got += len(b)

    async def send(kind, sid, flags=0, data=b"", meta=None, n=0):
        nonlocal size
        if not sid:
            await Device.send(device, kind, 0, flags, got.to_bytes(8, "big") + data[8:])
            return
        mine = ring
        async with lock:
            for b in fragments(device.max_tx_frame, kind, sid, flags, data, meta, n):
                while size and size + len(b) + _COST > device.resume:
                    device.post(_KEEPALIVE, 0, _RESPOND, bytes(8))  # the answer says what has come
                    event.clear()
                    await event.wait()
                if mine is not ring:
                    raise ConnectionLost
                ring.append(b)
                size += len(b) + _COST
                go()

    def go():
        nonlocal busy
        if not busy:
            busy = True
            # Who sends may be cancelled; what is in the ring goes out.
            device.ws.post(write(device.ws))

    async def write(ws):
        nonlocal busy, left
        while left < len(ring):
            left += 1
            await ws.send(ring[left - 1])
            if ws.done:
                return
        busy = False

    def lose(err):
        nonlocal ring, size, live, parked, busy
        ws = device.ws
        if parked and ws.done and err in ("timeout", "closed"):
            ws.done = live = False
        if not ws or ws.done:
            return device.error
        event.set()
        parked = live and err != "closed" and not 0 < getattr(err, "code", 0) < 5
        if parked:
            busy = True
            streams = device.asking, device.serving
            device.asking = device.serving = {}
        else:
            live = False
            ring = ()
            size = 0
        err = Device.lose(device, err)
        if parked:
            device.asking, device.serving = streams
            device.ws = ws
            ws.read = None  # and its buffers with it
            ws.rx_at = ticks_ms()
            device._ping = ticks_add(ws.rx_at, device.lifetime_ms)
            device._keeper = asyncio.create_task(device._keep(ws))
        return err

    device.setup = setup
    device.wait = wait
    device._frame = _frame
    device.send = send
    device.lose = lose
