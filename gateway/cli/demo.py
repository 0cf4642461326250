"""`gateway demo`: everything on one machine, to look at: a node, three devices, one service.

The node is a child process, the devices are real MicroPython interpreters running the board's firmware, the service is
this process and prints what it is told. Ctrl-C ends all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway import __version__
from gateway.cli import target
from gateway.cli.children import Child, end_all, until_signalled
from gateway.cli.children import start as start_child
from gateway.cli.contexts import of_directory
from gateway.cli.data_directory import data_directory, default_directory
from gateway.cli.simulate import DEVICE_ROUTES, Fleet, device_credentials, start_in_process

if TYPE_CHECKING:
    from gateway.client import Service

PROFILE = "thermostat"
ORDER = ("temperature", "target", "heating")
NODE_LOG = "demo-node.log"
START_SECONDS = 20.0
#: Between two looks at whether the node has opened everything.
LOOK_SECONDS = 0.05
#: For how long the link that is printed logs in, if nobody uses it.
LINK_SECONDS = 12 * 3600
SERVICE_TTL_S = 86_400.0


def attach(app: typer.Typer) -> None:
    app.command()(demo)


def demo(
    data: target.Data = None,
    devices: Annotated[int, typer.Option(min=1, help="How many thermostats.")] = 3,
) -> None:
    """Run a development node, thermostats on MicroPython and a Python service, and say what to try."""
    raise typer.Exit(asyncio.run(_demo(data_directory(data), devices)))


async def _demo(directory: Path, devices: int) -> int:
    from gateway.config import load
    from gateway.control.identity import Identity

    identity = Identity.open(directory)
    url = _url(load(None, dev=True).listen.websocket)
    async with until_signalled() as stopped, AsyncExitStack() as stack:
        log = stack.enter_context((directory / NODE_LOG).open("wb"))
        node = await start_child(
            "node",
            (sys.executable, "-m", "gateway.cli", "run", "--dev", "--data", directory),
            environ={},
            log=log,
        )
        stack.push_async_callback(node.end)
        table = Readings()

        def token() -> str:
            return identity.mint("telemetry", "service", ("telemetry",), (), SERVICE_TTL_S, time.time())

        service = telemetry_service(url, token, table)
        stack.push_async_callback(service.close)
        failure = await _until_up(service, node, stopped)
        if failure:
            typer.echo(f"gateway: {failure}", err=True)
            typer.echo((directory / NODE_LOG).read_text(errors="replace"), err=True, nl=False)
            return 1
        if stopped.is_set():
            return 0
        names = tuple(f"{PROFILE}-{number}" for number in range(1, devices + 1))
        fleet = Fleet(url, None, names, device_credentials(directory))
        dashboard = await _dashboard(directory, node, names)
        kind = await _start_devices(fleet, stack, directory)
        _introduce(url, directory, fleet, kind, dashboard)
        table.begin(names)
        await _first_of(stopped, node)
        if not stopped.is_set():
            typer.echo(f"gateway: the node ended by itself; its log is {directory / NODE_LOG}", err=True)
            return 1
        typer.echo("\nending …")
    return 0


def telemetry_service(url: str, token: Callable[[], str], table: Readings) -> Service:
    """The service of the demonstration: takes what devices send to `telemetry.*` and prints it."""
    from gateway.client import Request, Service

    service = Service(url, token, name="telemetry")

    # A phone wants to know that it was taken.
    @service.request_response("*")
    @service.fire_and_forget("*")
    async def reading(data: bytes, request: Request) -> None:
        table.show(request.caller.subject if request.caller else "?", data)

    return service


class Readings:
    """The lines that scroll by."""

    def __init__(self) -> None:
        self._width = 0

    def begin(self, names: tuple[str, ...]) -> None:
        """Print the head of the table; before it nothing is shown."""
        self._width = max(map(len, names))
        typer.echo(f"  {'TIME':<8}  {'DEVICE':<{self._width}}  READING")

    def show(self, device: str, data: bytes) -> None:
        if self._width:
            typer.echo(f"  {time.strftime('%H:%M:%S')}  {device:<{self._width}}  {_readable(data)}")


def _readable(data: bytes) -> str:
    try:
        reading = json.loads(data)
    except ValueError:
        return data.decode("utf-8", "replace")
    if not isinstance(reading, dict):
        return str(reading)
    # MicroPython keeps no order in a dictionary.
    names = sorted(reading, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    return "   ".join(f"{name} {_value(reading[name])}" for name in names)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:5.2f} °C" if isinstance(value, float) else str(value)


async def _start_devices(fleet: Fleet, stack: AsyncExitStack, directory: Path) -> str:
    """Start the thermostats; answer what they run on."""
    from gateway.cli.micropython import REBOOT, NoFirmware, find

    try:
        firmware = find()
    except NoFirmware as missing:
        await start_in_process(fleet, 2.0, stack, lambda name, state, reason: None)
        typer.echo(f"gateway: {missing}; the thermostats run in this process", err=True)
        return "in this process"
    children: list[Child] = []
    stack.push_async_callback(end_all, children)
    for name in fleet.names:
        log = stack.enter_context((directory / f"demo-{name}.log").open("wb"))
        environ = firmware.environment(fleet.url, name, fleet.credential(name))
        child = await start_child(
            name, firmware.command, environ=environ, log=log, directory=firmware.directory, again=REBOOT
        )
        children.append(child)
    return "MicroPython, with the firmware of the ESP32 thermostat"


async def _until_up(service: Service, node: Child, stopped: asyncio.Event) -> str:
    """Wait for the node to take the service in; answer what is wrong, or nothing."""
    from gateway.errors import GatewayError

    starting = asyncio.create_task(service.start(wait=True))
    ending = asyncio.create_task(node.wait())
    stopping = asyncio.create_task(stopped.wait())
    try:
        done, _ = await asyncio.wait(
            (starting, ending, stopping), timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        if starting in done:
            starting.result()
            # The service may have met another gateway at that address, whose listener made ours give up.
            return "" if node.running else "the node did not start"
        if ending in done:
            return "the node did not start"
        return "" if stopping in done else f"the node is not ready after {START_SECONDS:g} s"
    except GatewayError as error:
        return f"the node refuses the service: {error}"
    finally:
        for task in (starting, ending, stopping):
            task.cancel()
        await asyncio.gather(starting, ending, stopping, return_exceptions=True)


async def _first_of(stopped: asyncio.Event, node: Child) -> None:
    tasks = (asyncio.create_task(stopped.wait()), asyncio.create_task(node.wait()))
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _dashboard(directory: Path, node: Child, names: tuple[str, ...]) -> str:
    """Register the devices, so that they are seen, and return a link that logs a browser in; nothing where the node
    opens no admin API.
    """
    from gateway.control.runtime import Runtime
    from gateway.errors import GatewayError

    runtime = None
    # The node writes it when it has opened everything.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            while node.running and (runtime is None or runtime.pid != node.pid):
                await asyncio.sleep(LOOK_SECONDS)
                runtime = Runtime.read(directory)
    if runtime is None or runtime.pid != node.pid or not runtime.admin:
        return ""
    try:
        return await asyncio.to_thread(_prepared, directory, names)
    except GatewayError as error:
        # All else goes on without: somebody may have changed who administers this data directory.
        typer.echo(f"gateway: there is no link to the dashboard: {error}", err=True)
        return ""


def _prepared(directory: Path, names: tuple[str, ...]) -> str:
    from gateway.cli.api import Api
    from gateway.cli.dashboard import linked

    bodies = [{"id": name, "profile": PROFILE, "routes": list(DEVICE_ROUTES)} for name in names]
    rows = "".join(f"{json.dumps(body)}\n" for body in bodies)
    with Api(of_directory(directory)) as api:
        # Those of an earlier run are told to be there already.
        api.send("POST", "/devices:bulk", content=rows.encode(), media="application/x-ndjson")
        return linked(api, None, LINK_SECONDS)[0]


def _introduce(url: str, directory: Path, fleet: Fleet, kind: str, dashboard: str) -> None:
    first = fleet.names[0]
    if dashboard:
        dashboard = f"\n  Look at it in a browser (this logs you in, once):\n\n    {dashboard}\n"
    here = _command(url, directory)
    last = f" … {fleet.names[-1]}" if len(fleet.names) > 1 else ""
    typer.echo(f"""
  gateway {__version__}, a development node

  node      {url}
  data      {directory}
  devices   {first}{last}, {kind}
  service   telemetry, in this process; prints what the devices send
{dashboard}
  Try, in another terminal:

    {here(f"request {first}.set_target 21.5")}
    {here(f"stream {first}.readings --count 5")}
    {here("routes")}

  Ctrl-C ends all of it.
""")


def _command(url: str, directory: Path) -> Callable[[str], str]:
    """Return how a command is typed so that it works as printed, here and now."""
    program = Path(sys.argv[0])
    on_path = shutil.which("gateway")
    if program.name == "__main__.py":
        typed = f"{shlex.quote(sys.executable)} -m gateway.cli"
    elif on_path is not None and Path(on_path).resolve() == program.resolve():
        typed = "gateway"
    else:
        here = Path(os.path.relpath(program))
        typed = shlex.quote(str(program if ".." in here.parts else here))
    options = ""
    if url != target.DEFAULT_URL:
        options += f" --url {shlex.quote(url)}"
    # The other terminal has not our environment.
    if directory != default_directory():
        options += f" --data {shlex.quote(str(directory))}"
    return lambda command: f"{typed} {command}{options}"


def _url(listen: str) -> str:
    return f"ws://{listen}/rsocket"
