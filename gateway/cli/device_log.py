"""`gateway device log`: the last lines that a device logged, as it serves them itself."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from gateway.cli import printing, target
from gateway.cli.table import printable
from gateway.cli.target import target as settle

#: Before it a clock was not set: what counts from there is how long the device has run.
SET_MS = 1_000_000_000_000
CREDIT = 16


def log(
    name: Annotated[str, typer.Argument(help="Id of the device.", show_default=False)],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
    url: target.Url = None,
    token: target.TokenText = None,
    directory: target.Data = None,
    ca: target.Authority = None,
    output: printing.TextOrJson = "text",
) -> None:
    """Print the last lines that a device logged (device_sdk.log), with the time of each in UTC."""

    async def call() -> None:
        seen = 0
        async with settle(url, token, directory, ca, lasting=follow).link() as gw:
            async for item in gw.stream(f"{name}.log", b"follow" if follow else b"", n=CREDIT):
                number, at, text = _read(item)
                if seen and number > seen + 1:
                    typer.echo(f"gateway: {number - seen - 1} lines were lost", err=True)
                seen = number
                typer.echo(_line(number, at, text, output))

    asyncio.run(call())


def _read(item: bytes) -> tuple[int, int, str]:
    number, at, text = [*item.decode(errors="replace").split(" ", 2), "", ""][:3]
    return (int(number), int(at), text) if number.isdecimal() and at.isdecimal() else (0, 0, item.decode("latin-1"))


def _line(number: int, at: int, text: str, style: str) -> str:
    """A line with its time in UTC, or how long the device had run where its clock was not set."""
    when = None
    if at >= SET_MS:
        when = datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if style == "json":
        shown = {"number": number, "at": when, "up_ms": None if when else at, "text": text}
        return json.dumps(shown, ensure_ascii=False)
    return f"{when or f'up {at / 1000:.3f} s'} {printable(text)}"
