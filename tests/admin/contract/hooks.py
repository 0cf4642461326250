"""What schemathesis has to know of the admin API beyond its description.

Streams end at once instead of after a day, and bodies in CSV and JSON lines are written as such.
"""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import schemathesis


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    if "/stream/" in case.operation.path:
        query = case.query if isinstance(case.query, dict) else {}
        case.query = {**query, "ttl": 0}


@schemathesis.serializer("application/x-ndjson")
def json_lines(context: Any, value: Any) -> bytes:
    if isinstance(value, list):
        return b"".join(json.dumps(each).encode() + b"\n" for each in value)
    return value.encode(errors="replace") if isinstance(value, str) else json.dumps(value).encode()


@schemathesis.serializer("text/csv")
def comma_separated(context: Any, value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode(errors="replace")
    out = io.StringIO()
    rows = value if isinstance(value, list) else [value]
    csv.writer(out).writerows([[row] if not isinstance(row, list) else row for row in rows])
    return out.getvalue().encode(errors="replace")
