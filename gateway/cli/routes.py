"""`gateway routes`: who is registered, and who comes and goes."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gateway.cli import target
from gateway.cli.target import target as settle
from gateway.errors import FrameError, GatewayError
from gateway.wire import brokering

if TYPE_CHECKING:
    from gateway.client import Gateway

Listing = Annotated[Literal["table", "json", "jsonl"], typer.Option("-o", "--output", help="How to print.")]
IMPLICIT = ("io.rsocket.broker.ServiceName", "io.rsocket.broker.RouteId", "sub")
WINDOW = 100_000


def attach(app: typer.Typer) -> None:
    app.command()(routes)


def routes(
    url: target.Url = None,
    token: target.TokenText = None,
    directory: target.Data = None,
    ca: target.Authority = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with joins and leaves as they happen.")] = False,
    output: Listing = "table",
) -> None:
    """List the routes that this caller may call."""

    async def call() -> None:
        async with settle(url, token, directory, ca, lasting=follow).link() as gw:
            feed = Feed(gw)
            try:
                standing = await feed.standing()
                _print_listing(list(standing.values()), "jsonl" if follow and output == "json" else output)
                sys.stdout.flush()
                while follow:
                    _print_event(apply(standing, read(await feed.next())), output)
            except StopAsyncIteration:
                raise GatewayError("the node ended the list of routes") from None
            finally:
                await feed.close()

    asyncio.run(call())


class Feed:
    """The items of `gateway.routes`: first what stands, then changes.

    The stream does not say where the one ends and the other begins, but a node answers in order: what stood when the
    stream began has arrived before the answer to a request that was sent after it.
    """

    def __init__(self, gw: Gateway) -> None:
        self._gw = gw
        self._items = gw.stream("gateway.routes", n=WINDOW)
        self._next: asyncio.Task[bytes] | None = None

    async def standing(self) -> dict[str, Entry]:
        """Return the routes that stand, by route id."""
        found: dict[str, Entry] = {}
        fence: asyncio.Task[bytes] | None = None
        while fence is None or not fence.done() or await self._waits():
            following = self._follow()
            if fence is None:
                # The stream's request goes out with the first step of its iterator.
                await asyncio.sleep(0)
                fence = asyncio.create_task(self._gw.request("gateway.time"))
            await asyncio.wait((following, fence), return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                apply(found, read(await self.next()))
        await fence
        return found

    async def next(self) -> bytes:
        """Return the next item. Raises StopAsyncIteration when the node ends the stream."""
        try:
            return await self._follow()
        finally:
            self._next = None

    async def close(self) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)
        await self._items.aclose()

    def _follow(self) -> asyncio.Task[bytes]:
        if self._next is None:
            self._next = asyncio.create_task(anext(self._items))
        return self._next

    async def _waits(self) -> bool:
        """Whether an item has arrived already; its task may need some turns of the loop to see it."""
        following = self._follow()
        for _ in range(4):
            if following.done():
                return True
            await asyncio.sleep(0)
        return False


@dataclass(frozen=True, slots=True)
class Entry:
    """One route as a listing shows it. `tags` are without those that the node adds."""

    event: str
    route_id: str
    service: str = ""
    subject: str = ""
    tags: dict[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, object]:
        return {
            "service": self.service,
            "subject": self.subject,
            "tags": self.tags,
            "route_id": self.route_id,
        }


def read(item: bytes) -> Entry:
    """Read a ROUTE_JOIN or ROUTE_REMOVE frame. Raises FrameError for anything else."""
    frame = brokering.decode(item)
    match frame:
        case brokering.RouteJoin():
            tags = dict(frame.tags)
            own = {key: value for key, value in tags.items() if key not in IMPLICIT}
            route_id = str(uuid.UUID(bytes=frame.route_id))
            return Entry("join", route_id, frame.service, tags.get("sub", ""), own)
        case brokering.RouteRemove():
            return Entry("leave", str(uuid.UUID(bytes=frame.route_id)))
    raise FrameError(f"gateway.routes sent {type(frame).__name__}")


def apply(standing: dict[str, Entry], entry: Entry) -> Entry:
    """Enter a join or a leave; answer the entry with what is known of the route that left."""
    if entry.event == "join":
        standing[entry.route_id] = entry
        return entry
    known = standing.pop(entry.route_id, None)
    return entry if known is None else replace(known, event="leave")


def _print_listing(entries: list[Entry], style: str) -> None:
    entries = sorted(entries, key=lambda entry: (entry.service, entry.subject, entry.route_id))
    match style:
        case "json":
            typer.echo(json.dumps([entry.document() for entry in entries], ensure_ascii=False))
        case "jsonl":
            for entry in entries:
                typer.echo(json.dumps({"event": "join", **entry.document()}, ensure_ascii=False))
        case _:
            rows = [("SERVICE", "SUBJECT", "TAGS", "ROUTE ID")]
            rows += [(entry.service or "-", entry.subject or "-", _tags(entry), entry.route_id) for entry in entries]
            widths = [max(len(row[column]) for row in rows) for column in range(3)]
            for row in rows:
                typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, (*widths, 0), strict=True)))


def _print_event(entry: Entry, style: str) -> None:
    if style == "table":
        sign = "+" if entry.event == "join" else "-"
        typer.echo(
            f"{datetime.now():%H:%M:%S}  {sign} {entry.service or '-'}  {entry.subject or '-'}  {_tags(entry)}  "
            f"{entry.route_id}"
        )
    else:
        typer.echo(json.dumps({"event": entry.event, **entry.document()}, ensure_ascii=False))
    sys.stdout.flush()


def _tags(entry: Entry) -> str:
    return " ".join(f"{key.removeprefix('io.rsocket.broker.')}={value}" for key, value in entry.tags.items()) or "-"
