"""Lists: `{"data": […], "meta": {"limit", "next"}}`, a page at a time, with opaque cursors.

Rows are sorted and written in slices of time (`export.spaced`): a page of 1,000 rows must not hold up the data plane.

For what lives in memory, a page is cut from what is there now: `slice_page` sorts by a key and an id that breaks ties,
and the cursor holds both of the last row shown, so that rows which come and go between two pages shift nothing. What
control stores has cursors of its own.
"""

from __future__ import annotations

import heapq
import itertools
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Final, Generic, Protocol, TypeVar

from fastapi import Query
from fastapi.responses import Response
from pydantic import BaseModel

from gateway.admin.export import JSON, spaced
from gateway.admin.problem import Problem
from gateway.admin.shapes import Shown
from gateway.control.paging import Page

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 1000
_MAX_CURSOR: Final = 1024

Row = TypeVar("Row")


class Elsewhere(Protocol):
    """Rows of the same list that are not here: the first `limit` behind a place, each as its place and the row."""

    async def __call__(self, *, sort: str, descending: bool, after: Any, limit: int) -> Iterable[Any]: ...


View = TypeVar("View")

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Rows of a page.")]
Cursor = Annotated[str | None, Query(max_length=_MAX_CURSOR, description="`meta.next` of the page before.")]
Search = Annotated[str | None, Query(max_length=128, description="Text that a row must contain.")]


class Meta(BaseModel):
    """`next` is the cursor of the page that follows; null on the last one. `count` only where it was asked for."""

    limit: int
    next: str | None = None
    count: int | None = None


class PageOf(BaseModel, Generic[View]):
    data: list[View]
    meta: Meta


async def slice_page(
    rows: Iterable[Row],
    *,
    sort: str,
    keys: Mapping[str, Callable[[Row], Any]],
    identity: Callable[[Row], Any],
    limit: int,
    cursor: str | None,
    elsewhere: Elsewhere | None = None,
) -> tuple[list[Row], str | None]:
    """The page behind `cursor`, and the cursor of the next one. `sort` names a key, with `-` in front for descending.

    The keys' values are numbers or strings, never None. `elsewhere` has more
    rows. Raises Problem (422) for a sort or cursor that is none.
    """
    name = sort.removeprefix("-")
    if name not in keys:
        allowed = ", ".join(keys)
        raise Problem("invalid", errors=[{"pointer": "#query/sort", "detail": f"must be one of {allowed}"}])
    key = keys[name]
    descending = sort.startswith("-")

    # The number keeps rows themselves from being compared.
    number = itertools.count()
    placed: list[tuple[tuple[Any, Any], int, Row]] = [
        ((key(row), identity(row)), next(number), row) async for row in spaced(rows)
    ]
    behind = None
    if cursor is not None:
        after = _decoded(cursor, sort)
        if placed and [type(_plain(part)) for part in placed[0][0]] != [type(part) for part in after]:
            raise _no_cursor()
        behind = (after[0], after[1])
        placed = [each for each in placed if (each[0] < behind if descending else each[0] > behind)]
    if elsewhere is not None:
        more = await elsewhere(sort=name, descending=descending, after=behind, limit=limit + 1)
        placed += [((value, tie), next(number), row) for (value, tie), row in more]
    pick = heapq.nlargest if descending else heapq.nsmallest
    page = pick(limit + 1, placed)
    following = None
    if len(page) > limit:
        page.pop()
        following = _encoded(sort, *page[-1][0])
    return [row for _, _, row in page], following


def _plain(part: Any) -> Any:
    return float(part) if isinstance(part, int | float) else part


def _encoded(sort: str, value: Any, identity: Any) -> str:
    text = json.dumps([sort, _plain(value), _plain(identity)], separators=(",", ":"))
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decoded(cursor: str, sort: str) -> list[Any]:
    try:
        parts = json.loads(urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError):
        raise _no_cursor() from None
    if not isinstance(parts, list) or len(parts) != 3 or parts[0] != sort:
        raise _no_cursor()
    return parts[1:]


def _no_cursor() -> Problem:
    return Problem("invalid", errors=[{"pointer": "#query/cursor", "detail": "is no cursor of this list and order"}])


async def written(
    rows: Iterable[Row],
    view: Callable[[Row], BaseModel],
    limit: int,
    following: str | None = None,
    count: int | None = None,
) -> Response:
    """The answer: each row as `view` shows it. `following` is the next page's cursor."""
    data = ",".join([view(row).model_dump_json() async for row in spaced(rows)])
    meta = Meta(limit=limit, next=following, count=count).model_dump_json()
    return Response(f'{{"data":[{data}],"meta":{meta}}}', media_type=JSON)


async def stored_page(view: type[Shown], page: Page[Any], limit: int, count: int | None = None) -> Response:
    """The answer with a page of what control has listed."""
    return await written(page.items, view.of, limit, page.next, count)
