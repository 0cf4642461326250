"""What several kinds of document say in the same words: who asks, what is asked for, shares, times."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from gateway.documents.units import Duration, TimeText, seconds_of
from gateway.policy.access import is_pattern
from gateway.routing.tags import HINTS, canonical_key
from gateway.wire.brokering import MAX_TAG_BYTES
from gateway.wire.header import FrameType

#: The longest time that a rule about requests may name: a day.
MAX_TIME_S = 86_400.0


class Interaction(StrEnum):
    FIRE_AND_FORGET = "fireAndForget"
    REQUEST_RESPONSE = "requestResponse"
    REQUEST_STREAM = "requestStream"
    REQUEST_CHANNEL = "requestChannel"


FRAMES = MappingProxyType(
    {
        Interaction.FIRE_AND_FORGET: FrameType.REQUEST_FNF,
        Interaction.REQUEST_RESPONSE: FrameType.REQUEST_RESPONSE,
        Interaction.REQUEST_STREAM: FrameType.REQUEST_STREAM,
        Interaction.REQUEST_CHANNEL: FrameType.REQUEST_CHANNEL,
    }
)


def told(text: str, default: Any = ..., **more: Any) -> Any:
    """A field with what the schema says of it."""
    return Field(default, description=text, **more)


def _some_time(seconds: float) -> float:
    if not 0 < seconds <= MAX_TIME_S:
        raise ValueError("must be more than 0 and at most 1d")
    return seconds


def _some_time_or_none(seconds: float) -> float:
    return seconds if seconds == 0 else _some_time(seconds)


def _names(text: str) -> str:
    if not is_pattern(text) or "{" in text:
        raise ValueError("is no name in which only * stands for others")
    return text


def _who(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable")
    return text


def _label(text: str) -> str:
    key = canonical_key(text)
    if not 0 < len(text.encode(errors="replace")) <= MAX_TAG_BYTES or "=" in text or not text.isprintable():
        raise ValueError(f"the name of a label has 1 to {MAX_TAG_BYTES} printable bytes, and no =")
    if key in HINTS:
        raise ValueError(f"{text} says how to choose and is no label")
    return key


def _quoted(value: Any) -> Any:
    # `version: 1` is a number and `on` a truth to YAML: whoever wrote it meant text, and must say which.
    if isinstance(value, bool | int | float):
        raise ValueError('is text: write it in quotes, as in "1"')
    return value


Time = Annotated[float, BeforeValidator(seconds_of, json_schema_input_type=TimeText), AfterValidator(_some_time)]
TimeOrNone = Annotated[Duration, AfterValidator(_some_time_or_none)]
Percent = Annotated[float, Field(ge=0, le=100, strict=True)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000, strict=True)]
#: Services or routes.
Names = Annotated[str, AfterValidator(_names)]
#: Subjects or groups.
Who = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_who)]
Value = Annotated[str, Field(max_length=255), BeforeValidator(_quoted, json_schema_input_type=str)]
#: Of a registration, by canonical keys.
Labels = Annotated[dict[Annotated[str, AfterValidator(_label)], Value], Field(max_length=32)]
#: Of a principal, as its token has them.
OwnLabels = Annotated[dict[Who, Value], Field(max_length=32)]


def shares(percent: float) -> float:
    return percent / 100


def pairs(labels: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Sorted, so that equal documents make equal rules."""
    return tuple(sorted(labels.items()))


def frames(interactions: tuple[Interaction, ...]) -> frozenset[FrameType]:
    return frozenset(FRAMES[each] for each in interactions)
