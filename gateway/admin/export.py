"""Long answers in small pieces, so that the data plane, which shares the loop, gets its turn between them."""

from __future__ import annotations

import asyncio
import csv
import io
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from typing import Final, TypeVar

CSV: Final = "text/csv"
JSON: Final = "application/json"
JSON_LINES: Final = "application/x-ndjson"
#: How long one piece of work may hold the loop, about as long as a request through the node takes there and back.
SLICE_S: Final = 0.0002
#: For how many times as long as it has worked an export rests, and for how long at most, in seconds.
REST: Final = 5
LONGEST_REST_S: Final = 0.02

#: What a spreadsheet takes for the start of a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")

Item = TypeVar("Item")


async def spaced(items: AsyncIterable[Item] | Iterable[Item]) -> AsyncIterator[Item]:
    """The items, with a turn of the loop for others after each `SLICE_S` of work on them."""
    since = time.perf_counter()
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
            since = await _breathe(since)
    else:
        for item in items:
            yield item
            since = await _breathe(since)


async def joined(lines: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The lines in pieces of one slice of work each: to send a piece costs more than to make a line.

    Nobody waits for the end of an export as a device waits for an answer, so it rests for longer than it works: one
    request in a hundred may meet a slice, and more should not.
    """
    since = time.perf_counter()
    held: list[bytes] = []
    async for line in lines:
        held.append(line)
        if time.perf_counter() - since >= SLICE_S:
            yield b"".join(held)
            held.clear()
            await asyncio.sleep(min(REST * (time.perf_counter() - since), LONGEST_REST_S))
            since = time.perf_counter()
    if held:
        yield b"".join(held)


async def _breathe(since: float) -> float:
    if time.perf_counter() - since < SLICE_S:
        return since
    await asyncio.sleep(0)
    return time.perf_counter()


def csv_line(cells: Sequence[object]) -> bytes:
    """One line. A cell that a spreadsheet would run as a formula gets an apostrophe in front."""
    out = io.StringIO(newline="")
    csv.writer(out).writerow([_harmless(str(cell)) for cell in cells])
    return out.getvalue().encode()


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
