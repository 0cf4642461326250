"""A vibration sensor on an ESP32: a digital accelerometer or microphone on I2S (pins 14, 15, 32), 16 bits at 8 kHz.

The stream `waveform` is what it measures, in blocks of 256 samples: number u32, lost u16, then the samples, all but
these little-endian. Whoever pulls it sets the pace by credit: blocks for which there is none are lost, and the next
one says how many. The stream `level` is the effective value, once a second.
"""

import asyncio
import json
import struct

import machine
from appliance import appliance

from device_sdk.settings import load

settings = load(wifi=("", ""), token="", rate=8000)
BLOCK = 256
# Set by the interrupt that says that a block is full. On a PC there are none, and an Event will do.
full = getattr(asyncio, "ThreadSafeFlag", asyncio.Event)()
block = bytearray(2 * BLOCK)
count = 0
news = asyncio.Event()


async def sample():
    global count
    pins = {"sck": machine.Pin(14), "ws": machine.Pin(15), "sd": machine.Pin(32)}
    form = {"mode": machine.I2S.RX, "bits": 16, "format": machine.I2S.MONO, "ibuf": 8 * len(block)}
    source = machine.I2S(0, rate=settings["rate"], **pins, **form)
    source.irq(lambda _: full.set())
    while True:
        full.clear()
        source.readinto(block)
        await full.wait()
        count += 1
        news.set()
        news.clear()
        await asyncio.sleep(0)


async def waveform(data, meta, out):
    last = count
    while True:
        await news.wait()
        head = struct.pack(">IH", count, min(count - last - 1, 65535))
        last = count
        await out.send(head + block)


async def level(data, meta, out):
    while True:
        await news.wait()
        samples = struct.unpack("<%dh" % BLOCK, block)
        rms = (sum([each * each for each in samples]) / BLOCK) ** 0.5
        await out.send(json.dumps({"rms": round(rms, 1), "block": count}).encode())
        await asyncio.sleep(1)


async def main():
    device = await appliance(settings, "esp32_vibration", "1.0.0")
    device.on_stream("waveform")(waveform)
    device.on_stream("level")(level)
    device.start()
    await sample()


asyncio.run(main())
