"""Keep a device connected. Loaded by `Device.start`."""

import asyncio
import os
import sys

from . import RSocketError, const

_STABLE_S = const(60)  # up for so long: the next outage starts with the shortest pause again
_FLOOR_MS = 1000 if sys.platform == "esp32" else 20  # its Wi-Fi needs a pause between attempts


def pause(backoff_ms, error, attempt):
    """Full jitter, in ms. After a refusal that haste does not cure, the upper half of the longest pause."""
    base, cap = backoff_ms
    jitter = int.from_bytes(os.urandom(3), "big")
    if isinstance(error, RSocketError):
        if error.code in (1, 2, 3, 401, 403):
            return cap - jitter % (cap // 2 + 1)
        wait = min(cap, getattr(error, "retry_s", 0) * 1000)
        if wait:
            return wait + jitter % (wait // 2 + 1)
    return max(_FLOOR_MS, jitter % (min(cap, base << attempt) + 1))


async def supervise(device):
    attempt = 0
    while True:
        try:
            if not device.up.is_set():
                if device.net:
                    await device.net.ensure_up()
                await device.connect()
            try:
                await asyncio.wait_for(device.down.wait(), _STABLE_S)
            except asyncio.TimeoutError:
                attempt = 0
                await device.down.wait()
            error = device.error
        except Exception as e:
            error = e
        ms = pause(device.backoff_ms, error, attempt)
        error = None
        await asyncio.sleep(ms / 1000)
        attempt = min(attempt + 1, 16)
