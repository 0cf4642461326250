"""ETags: an object that several people may edit is changed only by who has seen it as it is.

GET answers `ETag: "version"`; a change needs `If-Match` with it (428 without, 412 when it is another's), or `*`.
"""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Header

from gateway.admin.problem import Problem

IfMatch = Annotated[
    str | None, Header(max_length=128, description="The `ETag` that the object was read with, or `*` to overwrite.")
]
_TAG = re.compile(r'"([0-9]{1,18})"')


def etag(version: int) -> str:
    return f'"{version}"'


def expected(if_match: str | None) -> int | None:
    """The version that the object must have; None for any. Raises Problem (428, 412)."""
    if if_match is None:
        raise Problem("precondition-required")
    if if_match.strip() == "*":
        return None
    match = _TAG.fullmatch(if_match.strip())
    if match is None:
        raise Problem("precondition-failed", "If-Match holds no ETag of this API")
    return int(match[1])
