"""Pins, converters and sampled inputs of `machine`, for running firmware on a PC.

Without a script: a room with a heater on pin 5 and a TMP36 thermometer on any ADC pin, and a sine of 50 Hz on any I2S.
"""

import asyncio
import math
import time

import world

_ticks_ms = getattr(time, "ticks_ms", None) or (lambda: int(time.monotonic() * 1000))
HEATER_PIN = 5


class Room:
    """Cools to 15 °C and is heated to 30 °C, each with a time constant of five minutes."""

    temperature = 19.0
    since = _ticks_ms()

    @classmethod
    def measure(cls):
        now = _ticks_ms()
        goal = 30.0 if Pin.levels.get(HEATER_PIN) else 15.0
        cls.temperature += (goal - cls.temperature) * min((now - cls.since) / 300000, 1)
        cls.since = now
        return cls.temperature


class Pin:
    IN = 0
    OUT = 1
    PULL_UP = 2
    levels = {}

    def __init__(self, id, mode=IN, pull=None, value=None):
        self.id = id
        self.mode = mode
        self.idle = int(pull == self.PULL_UP)
        if value is not None:
            self.value(value)

    def value(self, level=None):
        if level is not None:
            self.levels[self.id] = int(bool(level))
            world.do("pin-%s" % self.id, int(bool(level)))
        elif self.mode == self.IN:
            return int(world.said("pin-%s" % self.id) or self.idle)
        else:
            return self.levels.get(self.id, 0)

    def on(self):
        self.value(1)

    def off(self):
        self.value(0)


class ADC:
    ATTN_11DB = 3

    def __init__(self, pin, atten=None):
        self.pin = getattr(pin, "id", pin)
        # A bare number is the one converter of an ESP8266.
        self.range_uv = 1000000 if pin == self.pin else 3300000

    def read_uv(self):
        given = world.said("adc-%s" % self.pin)
        return int(given) if given else int((Room.measure() * 10 + 500) * 1000)

    def read_u16(self):
        return min(self.read_uv() * 65535 // self.range_uv, 65535)


class I2S:
    """Samples of 16 bits at `rate`, not faster than that: from the file `i2s-0` (numbers, over and over), or a sine."""

    RX = 0
    MONO = 0

    def __init__(self, id, rate=8000, **rest):
        self.id = id
        self.rate = rate
        self.at = 0
        self.began = _ticks_ms()
        self.called = None

    def irq(self, handler):
        self.called = handler

    def readinto(self, buf):
        given = [int(number) for number in (world.said("i2s-%s" % self.id) or "").split()]
        for i in range(0, len(buf), 2):
            n = self.at % len(given) if given else self.at
            sample = given[n] if given else int(8000 * math.sin(2 * math.pi * 50 * n / self.rate))
            buf[i : i + 2] = (sample & 0xFFFF).to_bytes(2, "little")
            self.at += 1
        early = max(self.at * 1000 // self.rate - (_ticks_ms() - self.began), 0)
        if not early:  # nobody has read for a while: what came then is lost
            self.began = _ticks_ms() - self.at * 1000 // self.rate
        if self.called:
            self.filling = asyncio.create_task(self._full(early / 1000))
        else:
            time.sleep(early / 1000)
        return len(buf)

    async def _full(self, seconds):
        await asyncio.sleep(seconds)
        if self.called:
            self.called(self)

    def deinit(self):
        self.called = None
