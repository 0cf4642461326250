"""Lists: `{"data": […], "meta": {"limit", "next"}}`, a page at a time, with opaque cursors.

For what lives in memory, a page is cut from what is there now: `slice_page` sorts by a key and an id that breaks ties,
and the cursor holds both of the last row shown, so that rows which come and go between two pages shift nothing. What
control stores has cursors of its own.
"""

from __future__ import annotations

import heapq
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Final, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel

from gateway.admin.problem import Problem

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 1000
_MAX_CURSOR: Final = 1024

Row = TypeVar("Row")
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


def slice_page(
    rows: Iterable[Row],
    *,
    sort: str,
    keys: Mapping[str, Callable[[Row], Any]],
    identity: Callable[[Row], Any],
    limit: int,
    cursor: str | None,
) -> tuple[list[Row], str | None]:
    """The page behind `cursor`, and the cursor of the next one. `sort` names a key, with `-` in front for descending.

    The keys' values are numbers or strings, never None. Raises Problem (422) for a sort or cursor that is none.
    """
    name = sort.removeprefix("-")
    if name not in keys:
        allowed = ", ".join(keys)
        raise Problem("invalid", errors=[{"pointer": "#query/sort", "detail": f"must be one of {allowed}"}])
    key = keys[name]
    descending = sort.startswith("-")

    def place(row: Row) -> tuple[Any, Any]:
        return key(row), identity(row)

    if cursor is not None:
        after = _decoded(cursor, sort)
        sample = next(iter(rows := list(rows)), None)
        if sample is not None and [type(_plain(part)) for part in place(sample)] != [type(part) for part in after]:
            raise _no_cursor()
        behind = tuple(after)
        rows = [row for row in rows if (place(row) < behind if descending else place(row) > behind)]
    pick = heapq.nlargest if descending else heapq.nsmallest
    page = pick(limit + 1, rows, key=place)
    if len(page) <= limit:
        return page, None
    page.pop()
    return page, _encoded(sort, *place(page[-1]))


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


def stored_page(view: type[View], page: Any, limit: int, count: int | None = None) -> PageOf[View]:
    """A page of what control has listed (`control.paging.Page`)."""
    data = [view.of(record) for record in page.items]  # type: ignore[attr-defined]
    return PageOf[view](data=data, meta=Meta(limit=limit, next=page.next, count=count))  # type: ignore[valid-type]
