"""`gateway simulate`: a fleet of devices to try a gateway with."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gateway.cli import target
from gateway.cli.children import Child, end_all, until_signalled
from gateway.cli.children import start as start_child
from gateway.cli.data_directory import data_directory
from gateway.cli.durations import duration

DEVICE_TTL_S = 86_400.0
DEVICE_ROUTES = ("telemetry.*",)
SHOWN_STATES = 20


def attach(app: typer.Typer) -> None:
    app.command()(simulate)


def simulate(
    devices: Annotated[int, typer.Option(min=1, help="How many.")] = 3,
    as_: Annotated[
        str, typer.Option("--as", metavar="NAME", help="One device of this name, in place of --devices.")
    ] = "",
    profile: Annotated[Literal["thermostat"], typer.Option(help="What they are.")] = "thermostat",
    micropython: Annotated[
        bool, typer.Option("--micropython", help="A real MicroPython each, running the board's firmware.")
    ] = False,
    interval: Annotated[
        float, typer.Option(parser=duration, metavar="TIME", help="Time between the readings of a device.")
    ] = 2.0,
    url: target.Url = None,
    token: target.TokenText = None,
    data: target.Data = None,
    ca: target.Authority = None,
) -> None:
    """Run devices until Ctrl-C: thermostat-1, thermostat-2, …

    Each gets a token of its own, signed with the keys in the data directory, or all share the one of --token, which
    then must be a service's: a device may be in one place. --as is for a device that was added: it uses the
    credential in --url, or asks the node in --data for one.
    """
    names = (as_,) if as_ else tuple(f"{profile}-{number}" for number in range(1, devices + 1))
    to, directory = target.target(url, token, data, ca), data_directory(data)
    credential = to.token if isinstance(to.token, str) else None
    given: Callable[[str], str]
    if credential is not None:
        given = partial(_shared, credential)
    else:
        given = partial(_issued, directory) if as_ else device_credentials(directory)
    fleet = Fleet(to.url, to.ca, names, given)
    raise typer.Exit(asyncio.run(_simulate(fleet, micropython, interval)))


@dataclass(frozen=True, slots=True)
class Fleet:
    """The devices of one simulation: their names and where they go. `credential(name)` gives a token."""

    url: str
    ca: Path | None
    names: Sequence[str]
    credential: Callable[[str], str]


def _shared(token: str, name: str) -> str:
    return token


def _issued(directory: Path, name: str) -> str:
    """A token for a device that the node knows. Raises GatewayError where it does not, or none runs."""
    from gateway.cli.api import Api
    from gateway.cli.contexts import of_directory

    with Api(of_directory(directory)) as api:
        return str(api.send("POST", f"/devices/{name}/credentials", {"ttl_s": DEVICE_TTL_S})["token"])


def device_credentials(directory: Path) -> Callable[[str], str]:
    """Return a source of tokens with which a device may register its own name and send telemetry."""
    from gateway.control.identity import Identity
    from gateway.policy.principal import Kind

    identity = Identity.open(directory)

    def credential(name: str) -> str:
        return identity.mint(name, Kind.DEVICE, ("{sub}",), DEVICE_ROUTES, DEVICE_TTL_S, time.time())

    return credential


async def _simulate(fleet: Fleet, micropython: bool, interval: float) -> int:
    report = Report(fleet.names)
    async with until_signalled() as stopped, AsyncExitStack() as stack:
        if micropython:
            from gateway.cli.micropython import REBOOT, NoFirmware, find

            try:
                firmware = find()
            except NoFirmware as missing:
                typer.echo(f"gateway: {missing}", err=True)
                return 1
            children: list[Child] = []
            stack.push_async_callback(end_all, children)
            for name in fleet.names:
                environ = firmware.environment(fleet.url, name, fleet.credential(name), fleet.ca, verbose=True)
                child = await start_child(
                    name,
                    firmware.command,
                    environ=environ,
                    on_line=report.line,
                    directory=firmware.directory,
                    again=REBOOT,
                )
                children.append(child)
            typer.echo(f"{len(children)} thermostats on MicroPython at {fleet.url}; Ctrl-C ends them", err=True)
            await _first(stopped.wait(), _all_ended(children))
            return 0 if stopped.is_set() else 1
        await start_in_process(fleet, interval, stack, report.state)
        typer.echo(f"{len(fleet.names)} thermostats at {fleet.url}; Ctrl-C ends them", err=True)
        await stopped.wait()
    return 0


async def start_in_process(
    fleet: Fleet, interval: float, stack: AsyncExitStack, on_state: Callable[[str, str, str], None]
) -> None:
    """Start the devices as tasks of this process; `stack` closes them together."""
    from gateway.cli.thermostat import Thermostat

    # The SDK collects garbage before each connection, for boards without room; what stands by now is no garbage.
    gc.freeze()
    tls = None if fleet.ca is None else {"ca": fleet.ca.read_bytes()}
    thermostats = []
    for name in fleet.names:

        def fresh(name: str = name) -> str:
            return fleet.credential(name)

        thermostats.append(Thermostat(fleet.url, name, fresh, interval=interval, tls=tls, on_state=on_state))

    async def close() -> None:
        await asyncio.gather(*(thermostat.close() for thermostat in thermostats))

    stack.push_async_callback(close)
    for thermostat in thermostats:
        thermostat.start()


class Report:
    """Says what happens to the devices: each one's state while they are few, else how many are up."""

    def __init__(self, names: Sequence[str]) -> None:
        self._width = max(map(len, names))
        self._states = dict.fromkeys(names, "starting")

    def state(self, name: str, state: str, reason: str) -> None:
        self._states[name] = state
        if len(self._states) <= SHOWN_STATES:
            self.line(name, f"{state}: {reason}" if reason else state)
            return
        counts = Counter(self._states.values())
        if counts["up"] in (0, len(self._states)) or counts["up"] % (len(self._states) // 10) == 0:
            typer.echo(f"{time.strftime('%H:%M:%S')}  {counts['up']} of {len(self._states)} up")

    def line(self, name: str, text: str) -> None:
        typer.echo(f"{time.strftime('%H:%M:%S')}  {name:<{self._width}}  {text}")


async def _all_ended(children: Sequence[Child]) -> None:
    await asyncio.gather(*(child.wait() for child in children))


async def _first(*waiting: Coroutine[Any, Any, object]) -> None:
    """Wait until one of them is done; the others are given up."""
    tasks = [asyncio.create_task(one) for one in waiting]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
