"""Long answers in small pieces, so that the data plane, which shares the loop, gets its turn between them."""

from __future__ import annotations

import asyncio
import csv
import io
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from typing import Final, TypeVar

CSV: Final = "text/csv"
JSON_LINES: Final = "application/x-ndjson"
#: How long one piece of work may hold the loop.
SLICE_S: Final = 0.001

#: What a spreadsheet takes for the start of a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")

Item = TypeVar("Item")


async def spaced(items: AsyncIterable[Item] | Iterable[Item]) -> AsyncIterator[Item]:
    """The items, with a turn of the loop for others after each millisecond of work on them."""
    since = time.perf_counter()
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
            since = await _breathe(since)
    else:
        for item in items:
            yield item
            since = await _breathe(since)


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
