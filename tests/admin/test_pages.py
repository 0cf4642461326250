"""Pages of what lives in memory."""

from __future__ import annotations

import pytest

from gateway.admin.pages import slice_page
from gateway.admin.problem import Problem

Row = tuple[int, str, float]
ROWS: list[Row] = [(number, f"name-{number % 7}", number % 3 / 2) for number in range(50)]
KEYS = {"id": lambda row: row[0], "name": lambda row: row[1], "size": lambda row: row[2]}


async def page(rows: list[Row], sort: str, limit: int, cursor: str | None = None) -> tuple[list[Row], str | None]:
    return await slice_page(rows, sort=sort, keys=KEYS, identity=lambda row: row[0], limit=limit, cursor=cursor)


@pytest.mark.parametrize("sort", ["id", "-id", "name", "-name", "size", "-size"])
@pytest.mark.parametrize("limit", [1, 7, 49, 50, 51])
async def test_pages_put_together_are_the_whole_list_in_order(sort: str, limit: int) -> None:
    found: list[Row] = []
    cursor: str | None = None
    while True:
        rows, cursor = await page(ROWS, sort, limit, cursor)
        found += rows
        if cursor is None:
            break
        assert len(rows) == limit
    key = KEYS[sort.removeprefix("-")]
    assert found == sorted(ROWS, key=lambda row: (key(row), row[0]), reverse=sort.startswith("-"))


async def test_rows_that_come_and_go_shift_nothing() -> None:
    first, cursor = await page(ROWS, "id", 10)
    changed = [row for row in ROWS if row[0] not in (3, 9)] + [(-1, "new", 0.0)]
    second, _ = await page(changed, "id", 10, cursor)
    assert [row[0] for row in first + second] == list(range(20))


@pytest.mark.parametrize(
    "cursor", ["", "x", "bm9uZQ", "W10", "WyJuYW1lIiwxLDJd", "WyJpZCIsImEiLDJd", "WyJpZCIsbnVsbCwyXQ"]
)
async def test_a_cursor_that_is_none_is_422(cursor: str) -> None:
    with pytest.raises(Problem) as caught:
        await page(ROWS, "id", 10, cursor)
    assert caught.value.errors[0]["pointer"] == "#query/cursor"


async def test_an_unknown_order_is_422() -> None:
    with pytest.raises(Problem) as caught:
        await page(ROWS, "colour", 10)
    assert "id, name, size" in caught.value.errors[0]["detail"]
