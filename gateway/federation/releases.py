"""Which of two versions of the gateway is the newer one."""

from __future__ import annotations

import re
from typing import Final

_NUMBERS: Final = re.compile(r"[0-9]{1,9}(?![0-9])(?:\.[0-9]{1,9}(?![0-9])){0,5}")


def is_newer(version: str, than: str) -> bool:
    """By their leading numbers: 0.10 is newer than 0.9.3, and 0.10.0rc1 is as new as 0.10. What has none is newer than
    nothing, nor is anything newer than that."""
    mine, other = _numbers(version), _numbers(than)
    length = max(len(mine), len(other))
    return bool(mine and other) and _padded(mine, length) > _padded(other, length)


def _numbers(version: str) -> tuple[int, ...]:
    found = _NUMBERS.match(version)
    return tuple(map(int, found[0].split("."))) if found else ()


def _padded(numbers: tuple[int, ...], length: int) -> tuple[int, ...]:
    return numbers + (0,) * (length - len(numbers))
