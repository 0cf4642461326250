"""What importing the SDK costs in bytes of heap. MicroPython only; few names, because names take heap, too."""

import asyncio
import gc

# Loaded before the measurement: these belong to the interpreter, not to the SDK.
a = (asyncio.Event, asyncio.Lock, asyncio.StreamWriter, asyncio.wait_for)
gc.collect()
a = gc.mem_alloc()
import device_sdk  # noqa: E402, F401

gc.collect()
print(gc.mem_alloc() - a)
