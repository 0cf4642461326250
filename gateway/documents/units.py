"""Sizes, times and shares as documents write them: `1GiB`, `7d`, `10%`.

A number without a unit is refused, but for 0: nobody can see whether `maxAge: 7` is days.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z%]+)")
_SIZES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "kB": 10**3, "MB": 10**6, "GB": 10**9}
_TIMES = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def bytes_of(text: object) -> int:
    """Bytes. Raises ValueError."""
    return int(_quantity(text, _SIZES, "256KiB"))


def seconds_of(text: object) -> float:
    """Seconds. Raises ValueError."""
    return _quantity(text, _TIMES, "30s")


def share_of(text: object) -> float:
    """From 0 to 1. Raises ValueError."""
    share = _quantity(text, {"%": 0.01}, "10%")
    if share > 1:
        raise ValueError("is more than 100%")
    return share


def _quantity(text: object, units: dict[str, float] | dict[str, int], example: str) -> float:
    if isinstance(text, int | float) and not isinstance(text, bool) and text == 0:
        return 0.0
    match = _QUANTITY.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"must be a number with one of the units {', '.join(units)}, as in {example}")
    return float(match[1]) * units[match[2]]


def size_text(size: float) -> str:
    """As a document would say it."""
    unit = next(name for name in ("TiB", "GiB", "MiB", "KiB", "B") if size % _SIZES[name] == 0)
    return f"{int(size) // _SIZES[unit]}{unit}"


def time_text(seconds: float) -> str:
    """As a document would say it, to the millisecond."""
    thousandths = round(seconds * 1000)
    unit = next(name for name in ("d", "h", "m", "s", "ms") if thousandths % round(_TIMES[name] * 1000) == 0)
    return f"{thousandths // round(_TIMES[unit] * 1000)}{unit}"


def share_text(share: float) -> str:
    """As a document would say it."""
    return f"{share * 100:g}%"


#: As JSON Schema says what the texts are.
SIZE_PATTERN = rf"^[0-9]+(\.[0-9]+)? *({'|'.join(_SIZES)})$"
TIME_PATTERN = rf"^[0-9]+(\.[0-9]+)? *({'|'.join(_TIMES)})$"
SHARE_PATTERN = r"^[0-9]+(\.[0-9]+)? *%$"
_Zero = Literal[0]
SizeText = Annotated[str, Field(pattern=SIZE_PATTERN)]
TimeText = Annotated[str, Field(pattern=TIME_PATTERN)]
ShareText = Annotated[str, Field(pattern=SHARE_PATTERN)]

Size = Annotated[int, BeforeValidator(bytes_of, json_schema_input_type=SizeText | _Zero)]
Duration = Annotated[float, BeforeValidator(seconds_of, json_schema_input_type=TimeText | _Zero)]
Share = Annotated[float, BeforeValidator(share_of, json_schema_input_type=ShareText | _Zero)]
