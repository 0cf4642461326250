"""A thermostat on an ESP32: TMP36 sensor on pin 34, heater relay on pin 5.

Copy this file, `device_sdk/` and `device.json` to the board: url, device_id, token, wifi: [name, password], and for
wss:// ca, the name of a PEM or DER file. Serves `set_target` (a number, °C) and the stream `readings`.
"""

import asyncio
import json
import time

import machine
import network

from device_sdk import Busy, Device, RSocketError
from device_sdk.settings import load

settings = load(wifi=("", ""), token="", period_s=2)
sensor = machine.ADC(machine.Pin(34), atten=machine.ADC.ATTN_11DB)
heater = machine.Pin(5, machine.Pin.OUT, value=0)
state = {"temperature": 0.0, "target": 20.0, "heating": False}


class Wifi:
    async def ensure_up(self):
        wlan = network.WLAN(network.STA_IF)
        wlan.active(True)
        if not wlan.isconnected():
            wlan.connect(*settings["wifi"])
            for _ in range(100):
                if wlan.isconnected():
                    return
                await asyncio.sleep(0.1)
            raise OSError("no Wi-Fi")


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
    tls = {"ca": settings["ca"]} if settings.get("ca") else None
    device = Device(settings["url"], settings["device_id"], settings["token"], tls=tls, net=Wifi(), clock=set_clock)
    device.on("set_target")(set_target)
    device.on_stream("readings")(readings)
    device.start()
    watchdog = machine.WDT(timeout=8000)
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
        watchdog.feed()
        await asyncio.sleep(settings["period_s"])


asyncio.run(main())
