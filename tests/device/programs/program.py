"""What the test programs share: they talk JSON to the test that runs them."""

import asyncio
import gc
import json
import os
import sys

from device_sdk import Device


def say(**event):
    print(json.dumps(event))


def text(data):
    return data.decode() if data is not None else None


def device(**settings):
    """A device for the peer whose address is the first argument."""
    return Device(sys.argv[1], os.getenv("DEVICE_ID") or "dev-1", os.getenv("DEVICE_TOKEN") or b"token-1", **settings)


async def fails(awaitable):
    """What an awaitable raises, as [class, ...]."""
    try:
        await awaitable
    except asyncio.TimeoutError:
        return ["TimeoutError"]
    except Exception as e:
        name = type(e).__name__
        return [name, e.code, e.text] if name == "RSocketError" else [name]
    return None


def run(main):
    gc.collect()
    asyncio.run(main())
