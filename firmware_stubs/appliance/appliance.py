"""A device with all that keeps it alive, made from its settings: what a board's firmware begins with."""

import asyncio
import sys
import time

import machine

from device_sdk import Device
from device_sdk.watchdog import watch
from device_sdk.wifi import Wifi


def set_clock(unix_ms):
    """Set the board's clock by the gateway's."""
    epoch = 946684800 if time.gmtime(0)[0] == 2000 else 0  # some boards count from 2000
    t = time.gmtime(unix_ms // 1000 - epoch)
    machine.RTC().datetime((t[0], t[1], t[2], t[6], t[3], t[4], t[5], 0))


async def appliance(settings, board, version):
    """The Device of a `board` that runs `version` of its firmware. Add handlers to it, then `start` it.

    Without a credential it asks for one first, and restarts. It looks after its Wi-Fi, its clock and its watchdog; with
    the secret of its enrolment also after its token, and after its firmware where `slots.boot` has started it.
    """
    net = Wifi(*settings["wifi"])
    if "url" not in settings:
        from first_boot import FirstBoot

        await FirstBoot(settings, net).run(board, settings.get("label"))
        machine.reset()
    tls = {"ca": settings["ca"]} if settings.get("ca") else None
    device = Device(settings["url"], settings["device_id"], settings["token"], tls=tls, net=net, clock=set_clock)
    if settings.get("secret"):
        from device_sdk.provision import save
        from device_sdk.renew import keep

        keep(device, settings["secret"], lambda token: save(token=token))
        if "slots" in sys.modules:
            from slots import Slots

            from device_sdk.ota import ota

            asyncio.create_task(ota(device, Slots(), board, version, settings["secret"]))
    asyncio.create_task(watch(device, machine.WDT(timeout=8000)))
    return device
