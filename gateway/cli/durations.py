"""Durations as people write them: `90`, `500ms`, `15m`, `1h30m`, `1d`."""

from __future__ import annotations

import re

import typer

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_WHOLE = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+|\d+(?:\.\d+)?")


def duration(text: str | float) -> float:
    """Return seconds. Raises a usage error for anything else than the forms above."""
    if isinstance(text, int | float):
        return float(text)
    if not _WHOLE.fullmatch(text):
        raise typer.BadParameter(f"{text!r} is no duration; write 90, 500ms, 15m, 1h30m or 1d")
    if text[-1].isdigit():
        return float(text)
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
