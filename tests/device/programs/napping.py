"""Wakes, says what it has to, gets what waits, sleeps. Arguments: address, time budget in seconds."""

import sys

import machine
from program import device, run, say

from device_sdk.outbox import Outbox
from device_sdk.sleep import nap


async def main():
    kept = machine.RTC().memory()
    say(cause=machine.reset_cause(), kept=len(kept))
    dev = device(backoff_ms=(10, 50))
    box = Outbox(dev)

    @dev.on("set")
    async def command(data, meta):
        say(set=data.decode())
        return b""

    await box.post("telemetry", b"%d" % len(kept))
    await nap(dev, 600, box, budget_s=float(sys.argv[2]), linger_s=0.3, kept=kept + b"x")


run(main)
