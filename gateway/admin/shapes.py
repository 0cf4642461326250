"""What the shapes of the admin API have in common: how they are read and shown.

Times go out in RFC 3339 and UTC, and are Unix seconds inside. A body with a field that is not known is refused, so that
nobody sets what they may not (fault 98) and no misspelt field is passed over.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from fastapi import Query
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Strict

#: The last second of the year 9999; what lies behind it is no time anybody meant.
_LAST = 253_402_300_799.0

DryRun = Annotated[bool, Query(description="Check and answer as if it were done, but change nothing.")]


def moment(seconds: Any) -> Any:
    """Unix seconds as a time; no time for what never comes."""
    if isinstance(seconds, int | float):
        return datetime.fromtimestamp(seconds, UTC) if math.isfinite(seconds) and 0 <= seconds <= _LAST else None
    return seconds


Time = Annotated[datetime, BeforeValidator(moment)]


def _written(text: object) -> object:
    if not isinstance(text, str) or text[4:5] != "-":
        raise ValueError("must be a time as RFC 3339 writes it, as 2026-01-31T12:00:00Z")
    return text


#: A time in a request.
GivenTime = Annotated[AwareDatetime, Strict(False), BeforeValidator(_written)]
MaybeTime = Annotated[datetime | None, BeforeValidator(moment)]


class Shown(BaseModel):
    """What goes out."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    @classmethod
    def of(cls, record: Any) -> Self:
        """Of a record that has at least these attributes."""
        return cls.model_validate(record, from_attributes=True)


class Taken(BaseModel):
    """What comes in. Nothing is taken for something else: `"5"` is no number, 0 no truth value."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def seconds(moment: datetime | None) -> float | None:
    """A time as Unix seconds."""
    return None if moment is None else moment.timestamp()
