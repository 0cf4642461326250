"""A thermostat on an ESP32: TMP36 sensor on pin 34, heater relay on pin 5, the BOOT button for a factory reset.

device.json (`gateway device sdk` writes it) has wifi: [name, password], and `label`, the password of the access point
at its first boot. Serves `set_target` (a number, °C) and the stream `readings`.
"""

import asyncio
import json

import machine
from appliance import appliance

from device_sdk import Busy, RSocketError
from device_sdk.provision import erase
from device_sdk.settings import load

settings = load(wifi=("", ""), token="", period_s=2)
sensor = machine.ADC(machine.Pin(34), atten=machine.ADC.ATTN_11DB)
heater = machine.Pin(5, machine.Pin.OUT, value=0)
button = machine.Pin(0, machine.Pin.IN, machine.Pin.PULL_UP)
state = {"temperature": 0.0, "target": 20.0, "heating": False}


async def set_target(data, meta):
    try:
        target = float(data)
    except ValueError:
        raise RSocketError(0x301, "not a number")
    if not 5 <= target <= 30:
        raise RSocketError(0x302, "target must be 5 to 30")
    state["target"] = target
    return json.dumps(state).encode()


async def readings(data, meta, out):
    while True:
        await out.send(json.dumps(state).encode())
        await asyncio.sleep(settings["period_s"])


async def main():
    device = await appliance(settings, "esp32_thermostat", "1.0.0")
    device.on("set_target")(set_target)
    device.on_stream("readings")(readings)
    device.start()
    held = 0
    while True:
        state["temperature"] = round((sensor.read_uv() / 1000 - 500) / 10, 2)
        state["heating"] = state["temperature"] < state["target"] - (0 if heater.value() else 0.5)
        heater.value(state["heating"])
        if settings.get("verbose"):
            print("%s %.2f °C, target %.1f" % (settings["device_id"], state["temperature"], state["target"]))
        try:
            await device.fire_and_forget("telemetry.readings", json.dumps(state).encode())
        except (OSError, Busy):
            pass  # down: the next reading will do
        held = 0 if button.value() else held + 1
        if held == 3:
            erase()
            machine.reset()
        await asyncio.sleep(settings["period_s"])


asyncio.run(main())
