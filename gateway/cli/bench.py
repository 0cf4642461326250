"""`gateway bench`: how much a gateway takes, with both ends of the load in this process.

One line a run, in the same form for every shape, so that runs can be compared; `-o json` for programs. Ends with 1 when
anything went wrong or nothing came back.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Coroutine
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import target
from gateway.cli.catalogue import application
from gateway.cli.data_directory import data_directory, has_identity
from gateway.cli.durations import duration
from gateway.cli.printing import TextOrJson
from gateway.cli.target import target as settle
from gateway.errors import GatewayError

if TYPE_CHECKING:
    from gateway.load.shape import Access, Model, Result

SERVICE = "bench"
TOKEN_TTL_S = 3600.0
MASK_BYTES = 4

Requesters = Annotated[int, typer.Option("--requesters", "-r", min=1, help="Connections that ask.")]
InFlight = Annotated[int, typer.Option("--in-flight", "-w", min=1, help="Operations under way on each of them.")]
Responders = Annotated[
    int, typer.Option("--responders", "-s", min=0, help="Connections that answer; 0: somebody else serves the route.")
]
PayloadBytes = Annotated[
    int, typer.Option("--payload", "-b", min=0, max=16_000_000, help="Bytes of data in each request and answer.")
]
Items = Annotated[int, typer.Option("--items", "-n", min=1, help="Items of a stream.")]
Credit = Annotated[int, typer.Option("--credit", min=1, max=2**31 - 1, help="Items that may be under way.")]
Idle = Annotated[int, typer.Option("--idle", "-c", min=0, help="Further connections that only keep alive.")]
Seconds = Annotated[float, typer.Option("--duration", "-d", parser=duration, metavar="TIME", help="How long to count.")]
WarmUp = Annotated[
    float, typer.Option("--warm-up", parser=duration, metavar="TIME", help="How long to run before counting.")
]
RouteText = Annotated[str, typer.Option("--route", help="What requests ask for.")]
Masked = Annotated[
    bool,
    typer.Option("--masked", help="Mask WebSocket frames with a random key, as browsers do, in place of the key zero."),
]


def attach(app: typer.Typer) -> None:
    group = application(help="Measure how much a gateway takes.")
    for command in (rr, fnf, stream, channel, connect, storm):
        group.command()(command)
    app.add_typer(group, name="bench")


def rr(
    url: target.Url = None,
    token: target.TokenText = None,
    directory: target.Data = None,
    ca: target.Authority = None,
    requesters: Requesters = 1,
    in_flight: InFlight = 64,
    responders: Responders = 1,
    payload: PayloadBytes = 32,
    idle: Idle = 0,
    seconds: Seconds = 3.0,
    warm_up: WarmUp = 0.5,
    route: RouteText = "bench.echo",
    masked: Masked = False,
    output: TextOrJson = "text",
) -> None:
    """Requests that are answered: whole round trips a second."""
    from gateway.load.shape import Model

    _run_shape(
        _access(url, token, directory, ca, route, masked),
        output,
        model=Model.RESPONSE,
        requesters=requesters,
        in_flight=in_flight,
        responders=responders,
        payload=payload,
        idle=idle,
        seconds=seconds,
        warm_up=warm_up,
    )


def fnf(
    url: target.Url = None,
    token: target.TokenText = None,
    directory: target.Data = None,
    ca: target.Authority = None,
    requesters: Requesters = 1,
    responders: Responders = 1,
    payload: PayloadBytes = 32,
    idle: Idle = 0,
    seconds: Seconds = 3.0,
    warm_up: WarmUp = 0.5,
    route: RouteText = "bench.echo",
    masked: Masked = False,
    output: TextOrJson = "text",
) -> None:
    """Fire-and-forget as fast as it is taken: requests a second that arrive at the responders.

    With --responders 0 those that are sent.
    """
    from gateway.load.shape import Model

    _run_shape(
        _access(url, token, directory, ca, route, masked),
        output,
        model=Model.FNF,
        requesters=requesters,
        in_flight=1,
        responders=responders,
        payload=payload,
        idle=idle,
        seconds=seconds,
        warm_up=warm_up,
    )


def stream(
    url: target.Url = None,
    token: target.TokenText = None,
    directory: target.Data = None,
    ca: target.Authority = None,
    requesters: Requesters = 1,
    in_flight: InFlight = 64,
    responders: Responders = 1,
    payload: PayloadBytes = 32,
    items: Items = 1000,
    credit: Credit = 64,
    idle: Idle = 0,
    seconds: Seconds = 3.0,
    warm_up: WarmUp = 0.5,
    route: RouteText = "bench.echo",
    masked: Masked = False,
    output: TextOrJson = "text",
) -> None:
    """Streams: items a second that arrive. The latencies are those of whole streams."""
    from gateway.load.shape import Model

    _run_shape(
        _access(url, token, directory, ca, route, masked),
        output,
        model=Model.STREAM,
        requesters=requesters,
        in_flight=in_flight,
        responders=responders,
        payload=payload,
        items=items,
        credit=credit,
        idle=idle,
        seconds=seconds,
        warm_up=warm_up,
    )


def channel(
    url: target.Url = None,
    token: target.TokenText = None,
    directory: target.Data = None,
    ca: target.Authority = None,
    requesters: Requesters = 1,
    in_flight: InFlight = 64,
    responders: Responders = 1,
    payload: PayloadBytes = 32,
    items: Items = 1000,
    credit: Credit = 64,
    idle: Idle = 0,
    seconds: Seconds = 3.0,
    warm_up: WarmUp = 0.5,
    route: RouteText = "bench.echo",
    masked: Masked = False,
    output: TextOrJson = "text",
) -> None:
    """Channels that send back what they get: items a second that have gone there and back.

    The latencies are those of whole channels.
    """
    from gateway.load.shape import Model

    _run_shape(
        _access(url, token, directory, ca, route, masked),
        output,
        model=Model.CHANNEL,
        requesters=requesters,
        in_flight=in_flight,
        responders=responders,
        payload=payload,
        items=items,
        credit=credit,
        idle=idle,
        seconds=seconds,
        warm_up=warm_up,
    )


def connect(
    url: target.Url = None,
    token: target.TokenText = None,
    directory: target.Data = None,
    ca: target.Authority = None,
    at_once: Annotated[int, typer.Option("--at-once", "-w", min=1, help="Connections being opened at a time.")] = 64,
    register: Annotated[bool, typer.Option(help="Whether each registers a service of its own.")] = True,
    seconds: Seconds = 3.0,
    masked: Masked = False,
    output: TextOrJson = "text",
) -> None:
    """Open connections and close them when they are ready: how many a second. The latencies are those to ready."""
    from gateway.load.arrivals import connects

    access = _access(url, token, directory, ca, f"{SERVICE}.echo", masked)
    _run(connects(access, at_once, seconds, register=register), output)


def storm(
    url: target.Url = None,
    token: target.TokenText = None,
    directory: target.Data = None,
    ca: target.Authority = None,
    devices: Annotated[int, typer.Option("--devices", "-n", min=1, help="Devices that reconnect.")] = 2000,
    first: Annotated[
        float, typer.Option(parser=duration, metavar="TIME", help="Longest wait before the first try; doubles a try.")
    ] = 1.0,
    longest: Annotated[
        float, typer.Option(parser=duration, metavar="TIME", help="Longest wait before any try.")
    ] = 30.0,
    masked: Masked = False,
    output: TextOrJson = "text",
) -> None:
    """Connect devices, drop them all at once, and see how long until the last one is ready again.

    Each device has a token of its own, minted with the node's key, so that --data must name its directory. The
    latencies are those from the drop to ready. A request at a time goes on meanwhile: healthy_p99_ms, and before,
    quiet_p99_ms.
    """
    from gateway.load.arrivals import BackOff
    from gateway.load.arrivals import storm as measure_storm

    access = _access(url, token, directory, ca, f"{SERVICE}.echo", masked)
    tokens = _device_tokens(data_directory(directory), devices)
    _run(measure_storm(access, tokens, BackOff(first, longest), Random()), output)


def _access(
    url: str | None, token: str | None, directory: Path | None, ca: Path | None, route: str, masked: bool
) -> Access:
    """Settle where the load goes, and as whom: as a service that may serve and call what a run needs."""
    from gateway.load.opening import Address
    from gateway.load.shape import Access
    from gateway.load.templates import NO_MASK

    found = settle(url, token, directory, ca)
    bearer = found.token if isinstance(found.token, str) else _service_token(data_directory(directory))
    mask = os.urandom(MASK_BYTES) if masked else NO_MASK
    return Access(Address.of(found.url, None if found.ca is None else str(found.ca)), bearer, SERVICE, route, mask)


def _service_token(directory: Path) -> str:
    from gateway.control.identity import Identity
    from gateway.policy.principal import Kind

    services = (SERVICE, f"{SERVICE}.*")
    return Identity.open(directory).mint(SERVICE, Kind.SERVICE, services, ("*",), TOKEN_TTL_S, time.time())


def _device_tokens(directory: Path, devices: int) -> list[tuple[str, str]]:
    from gateway.control.identity import Identity
    from gateway.policy.principal import Kind

    if not has_identity(directory):
        raise typer.BadParameter(
            f"a token for each device is minted with the node's key: {directory} has none; use --data"
        )
    identity = Identity.open(directory)
    now = time.time()
    subjects = [f"{SERVICE}-device-{number}" for number in range(devices)]
    return [(subject, identity.mint(subject, Kind.DEVICE, ("{sub}",), (), TOKEN_TTL_S, now)) for subject in subjects]


def _run_shape(access: Access, output: str, *, model: Model, **options: Any) -> None:
    from gateway.load.run import measure
    from gateway.load.shape import Shape

    _run(measure(access, Shape(model=model, **options)), output)


def _run(measurement: Coroutine[Any, Any, Result], output: str) -> None:
    from gateway.load.run import complete

    result = complete(measurement)
    typer.echo(json.dumps(result.document()) if output == "json" else str(result))
    for text in result.texts:
        typer.echo(f"gateway: {text}", err=True)
    if not result.good:
        raise GatewayError("nothing came back" if not result.operations else "not every operation ended well")
