"""JSON in the one form in which it is hashed and signed: RFC 8785 (JSON Canonicalization Scheme)."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any, Final

#: Beyond it a number is not the same for every reader (I-JSON, RFC 7493 2.2).
_LARGEST: Final = 2**53 - 1


def canonical(value: Any) -> str:
    """Raises ValueError for what JSON cannot say, or not to every reader alike."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        if abs(value) > _LARGEST:
            raise ValueError(f"{value} is beyond what every reader of JSON takes for the same number")
        return str(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("a name in a map is text")
        # RFC 8785 3.2.3: in the order of their UTF-16 code units.
        names = sorted(value, key=lambda key: key.encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(f"{_text(name)}:{canonical(value[name])}" for name in names) + "}"
    raise ValueError(f"{type(value).__name__} is nothing that JSON can say")


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError("half of a surrogate pair is no text") from error
    return json.dumps(value, ensure_ascii=False)


def _number(value: float) -> str:
    """As ECMAScript writes it (ECMA-262, Number::toString)."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is no number in JSON")
    if value == 0:
        return "0"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)
    figures = "".join(map(str, digits))
    point = len(figures) + exponent
    if 0 < point <= 21:
        whole = figures[:point].ljust(point, "0")
        text = whole + (f".{figures[point:]}" if figures[point:] else "")
    elif -6 < point <= 0:
        text = f"0.{'0' * -point}{figures}"
    else:
        rest = f".{figures[1:]}" if len(figures) > 1 else ""
        text = f"{figures[0]}{rest}e{'+' if point > 0 else '-'}{abs(point - 1)}"
    return "-" + text if sign else text
