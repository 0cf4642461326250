"""A relay on a Pico W, pin 15, for what must not stay on by itself: a pump, a heater, a door.

`switch` takes {"on": true, "for_s": 30} and answers the state. The relay falls off when the time is over (`longest_s`
at most), when there was no gateway for `alone_s`, and at every start, also the one that the watchdog makes. Each
change is posted to `events.relay` and outlives an outage.
"""

import asyncio
import json

import machine
from appliance import appliance

from device_sdk import RSocketError, ticks_add, ticks_diff, ticks_ms
from device_sdk.outbox import Outbox
from device_sdk.settings import load

settings = load(wifi=("", ""), token="", longest_s=600, alone_s=10)
relay = machine.Pin(15, machine.Pin.OUT, value=0)


class Relay:
    ends = 0  # ticks

    def __init__(self, device):
        self.box = Outbox(device)
        self.box.start()
        device.on("switch")(self.switch)
        device.on("state")(self.state)

    async def state(self, data=b"", meta=None):
        left = max(ticks_diff(self.ends, ticks_ms()), 0) if relay.value() else 0
        return json.dumps({"on": bool(relay.value()), "left_s": (left + 999) // 1000}).encode()

    async def switch(self, data, meta):
        try:
            wish = json.loads(data)
            on, seconds = wish["on"], wish.get("for_s", settings["longest_s"])
            if on not in (True, False) or not 0 < seconds <= settings["longest_s"]:
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RSocketError(0x301, '{"on": true or false, "for_s": up to %d}' % settings["longest_s"])
        self.ends = ticks_add(ticks_ms(), int(seconds * 1000))
        await self.put(on, "asked")
        return await self.state()

    async def put(self, on, why):
        if bool(relay.value()) != on:
            relay.value(on)
            await self.box.post("events.relay", json.dumps({"on": on, "why": why}).encode(), 86400)


async def main():
    device = await appliance(settings, "pico_w_relay", "1.0.0")
    switch = Relay(device)
    device.start()
    seen = ticks_ms()
    while True:
        if device.up.is_set():
            seen = ticks_ms()
        if relay.value() and ticks_diff(ticks_ms(), switch.ends) >= 0:
            await switch.put(False, "time")
        if relay.value() and ticks_diff(ticks_ms(), seen) >= settings["alone_s"] * 1000:
            await switch.put(False, "alone")
        await asyncio.sleep(0.05)


asyncio.run(main())
