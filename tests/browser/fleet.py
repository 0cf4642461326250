"""Who lives at a node of these tests: thermostats, the service that hears them, and a caller. A process of its own.

python -m tests.browser.fleet URL DATA DEVICES
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

from gateway.cli.children import until_signalled
from gateway.cli.simulate import Fleet, device_credentials, start_in_process
from gateway.client import Gateway, Service
from gateway.control.identity import Identity
from gateway.errors import GatewayError

INTERVAL_S = 2.0
ASK_EVERY_S = 0.5


async def main(url: str, data: Path, devices: int) -> None:
    identity = Identity.open(data)

    def token(subject: str, *services: str) -> str:
        return identity.mint(subject, "service", services, ("*",), 86_400, time.time())

    telemetry = Service(url, lambda: token("telemetry", "telemetry"), name="telemetry")

    @telemetry.fire_and_forget("*")
    async def reading(data: bytes) -> None:
        pass

    async with until_signalled() as stopped, AsyncExitStack() as stack:
        await stack.enter_async_context(telemetry)
        # Somebody who was here and has gone.
        async with Gateway(url, lambda: token("visitor")) as visitor:
            await visitor.request("gateway.time", b"")
        names = [f"thermostat-{number}" for number in range(1, devices + 1)]
        await start_in_process(
            Fleet(url, None, names, device_credentials(data)), INTERVAL_S, stack, lambda name, state, reason: None
        )
        caller = await stack.enter_async_context(Gateway(url, lambda: token("building")))
        # Nobody serves it: they wait.
        for number in range(12):
            await caller.fire_and_forget("historian.write", b'{"number": %d}' % number)
        asking = asyncio.create_task(ask(caller, names))
        stack.callback(asking.cancel)
        await stopped.wait()


async def ask(caller: Gateway, names: list[str]) -> None:
    for name in itertools.cycle(names):
        try:
            await caller.request(f"{name}.set_target", b"21", timeout=5)
        except (GatewayError, TimeoutError):
            # It is not there yet, or does not come any more.
            pass
        await asyncio.sleep(ASK_EVERY_S)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
