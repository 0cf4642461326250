"""A thermostat on an ESP32: TMP36 sensor on pin 34, heater relay on pin 5, the BOOT button for a factory reset.

device.json (`gateway device sdk` writes it) has wifi: [name, password], and `label`, the password of the access point
at its first boot. Serves `set_target` (a number, °C) and the stream `readings`.
"""

import asyncio
import json
import time

import machine

from device_sdk import Busy, Device, RSocketError
from device_sdk.provision import erase
from device_sdk.settings import load
from device_sdk.watchdog import watch
from device_sdk.wifi import Wifi

settings = load(wifi=("", ""), token="", period_s=2)
sensor = machine.ADC(machine.Pin(34), atten=machine.ADC.ATTN_11DB)
heater = machine.Pin(5, machine.Pin.OUT, value=0)
button = machine.Pin(0, machine.Pin.IN, machine.Pin.PULL_UP)
state = {"temperature": 0.0, "target": 20.0, "heating": False}


def set_clock(unix_ms):
    epoch = 946684800 if time.gmtime(0)[0] == 2000 else 0  # boards count from 2000
    t = time.gmtime(unix_ms // 1000 - epoch)
    machine.RTC().datetime((t[0], t[1], t[2], t[6], t[3], t[4], t[5], 0))


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
    net = Wifi(*settings["wifi"])
    if "url" not in settings:
        from first_boot import FirstBoot

        await FirstBoot(settings, net).run("thermostat", settings.get("label"))
        machine.reset()
    tls = settings.get("ca") and {"ca": settings["ca"]}
    device = Device(settings["url"], settings["device_id"], settings["token"], tls=tls, net=net, clock=set_clock)
    device.on("set_target")(set_target)
    device.on_stream("readings")(readings)
    device.start()
    asyncio.create_task(watch(device, machine.WDT(timeout=8000)))
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
