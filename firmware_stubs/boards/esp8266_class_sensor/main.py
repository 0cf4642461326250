"""A battery sensor on the smallest board: measures, sleeps, and goes on air only with every `batch`th reading.

Readings wait in the memory of the clock, which a deep sleep leaves alone; a waking that only measures loads neither
Wi-Fi nor SDK. What could not be delivered waits on flash. Plain ws://, or wss:// with `psk`: [identity, key in
hexadecimal], which takes no certificates; a heap of 36 KB has no room for those. Connect pin 16 to RST, or it does
not wake.
"""

import gc
import struct

import machine

from device_sdk.settings import load

settings = load(wifi=("", ""), token="", period_s=60, batch=10, budget_s=20)
rtc = machine.RTC()


def measure():
    """Centidegrees of a TMP36 on the only converter, whose range is one volt."""
    return (machine.ADC(0).read_u16() * 1000 // 65535 - 500) * 10


async def main(readings):
    import json

    from device_sdk import Device
    from device_sdk.outbox import Outbox
    from device_sdk.sleep import nap
    from device_sdk.wifi import Wifi

    tls = None
    if settings.get("psk"):
        from binascii import unhexlify

        identity, key = settings["psk"]
        tls = {"psk": (identity.encode(), unhexlify(key))}
    device = Device(settings["url"], settings["device_id"], settings["token"], tls=tls, net=Wifi(*settings["wifi"]))
    device.max_rx = 2048
    box = Outbox(device)
    box.page = 512
    box.max_bytes = 16384

    @device.on("period")
    async def period(data, meta):
        """A command that waits at the gateway finds the device when it is awake."""
        from device_sdk.provision import save

        settings["period_s"] = int(data)
        save(period_s=int(data))
        return data

    values = struct.unpack(">%dh" % (len(readings) // 2), readings)
    document = {"centidegrees": values, "period_s": settings["period_s"]}
    await box.post("telemetry.batch", json.dumps(document).encode(), 86400)
    rtc.memory(b"")
    await nap(device, settings["period_s"], box, settings["budget_s"])


readings = rtc.memory() + struct.pack(">h", measure())
if len(readings) < 2 * settings["batch"]:
    rtc.memory(readings)
    machine.deepsleep(settings["period_s"] * 1000)
gc.collect()
import asyncio  # noqa: E402

asyncio.run(main(readings))
