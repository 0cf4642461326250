"""docs/governance.md: every function of the named systems has a row, and every test that a row names is there."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/governance.md").read_text()
TABLE = PAGE.partition("## What becomes of the functions that you know")[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TABLE.splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| function"))
]
NAMED = sorted({found for row in ROWS for found in re.findall(r"`(tests/[^`]+)`", row[-1])})


@cache
def _tests(path: str) -> frozenset[str]:
    return frozenset(re.findall(r"^\s*(?:async )?def (test_\w+)\(", (ROOT / path).read_text(), re.MULTILINE))


@pytest.mark.parametrize("named", NAMED)
def test_each_test_that_is_named_is_there(named: str) -> None:
    path, separator, name = named.partition("::")
    assert separator, f"{named}: path::name"
    assert name in _tests(path)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_each_row_is_whole(row: list[str]) -> None:
    assert len(row) in (3, 4), row
    assert all(row), row
    assert len(row) == 3 or "`tests/" in row[3], "which test holds it?"
