"""What a value must look like before it is stored. Each function returns the value in the form that is kept.

Raises InvalidChange with the pointer of the value (RFC 6901) for whatever does not fit.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import TypeVar

from gateway.control.roles import SCOPES, Role
from gateway.errors import InvalidChange
from gateway.policy.access import is_pattern
from gateway.policy.principal import Kind

E = TypeVar("E", bound=StrEnum)

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
MAX_TEXT = 128
MAX_NOTES = 4096
MAX_ENTRIES = 64
#: What a token of a registered device can be. People and nodes are not devices, and nobody's token is an operator's.
DEVICE_KINDS = frozenset({Kind.DEVICE, Kind.SERVICE, Kind.USER})


def identifier(value: object, pointer: str) -> str:
    """An id that can be a token's subject (fault 65)."""
    if not isinstance(value, str) or _ID.fullmatch(value) is None:
        raise InvalidChange("an id has 1 to 64 of A-Z a-z 0-9 _ -", pointer)
    return value


def text(value: object, pointer: str, *, most: int = MAX_TEXT, empty: bool = True) -> str:
    """Printable text; line ends only in notes."""
    if not isinstance(value, str) or len(value) > most or not (value or empty):
        raise InvalidChange(f"this is text of {0 if empty else 1} to {most} characters", pointer)
    printable = value.replace("\n", "") if most > MAX_TEXT else value
    if printable and not printable.isprintable():
        raise InvalidChange("this text holds characters that cannot be printed", pointer)
    return value


def texts(value: object, pointer: str) -> tuple[str, ...]:
    entries = _entries(value, pointer)
    return tuple(dict.fromkeys(text(entry, f"{pointer}/{at}", empty=False) for at, entry in enumerate(entries)))


def labels(value: object, pointer: str) -> dict[str, str]:
    if not isinstance(value, Mapping) or len(value) > MAX_ENTRIES:
        raise InvalidChange(f"labels are a map of at most {MAX_ENTRIES} texts", pointer)
    return {
        text(name, pointer, empty=False): text(entry, f"{pointer}/{name}", empty=False) for name, entry in value.items()
    }


def patterns(value: object, pointer: str) -> tuple[str, ...]:
    entries = _entries(value, pointer)
    for at, entry in enumerate(entries):
        if not isinstance(entry, str) or not is_pattern(entry):
            raise InvalidChange("this is a name in which only * and {sub} may stand for others", f"{pointer}/{at}")
    return tuple(dict.fromkeys(str(entry) for entry in entries))


def member(kind: type[E], value: object, pointer: str, among: Collection[E] | None = None) -> E:
    """One of the members of an enumeration, by its value."""
    allowed = tuple(kind) if among is None else tuple(entry for entry in kind if entry in among)
    if value not in allowed:
        raise InvalidChange(f"this is one of {', '.join(allowed)}", pointer)
    return kind(str(value))


def scopes(value: object, pointer: str, forbidden: Collection[str] = ()) -> tuple[str, ...]:
    entries = _entries(value, pointer)
    for at, entry in enumerate(entries):
        if entry not in SCOPES or entry in forbidden:
            allowed = ", ".join(scope for scope in SCOPES if scope not in forbidden)
            raise InvalidChange(f"scopes are among {allowed}", f"{pointer}/{at}")
    return tuple(scope for scope in SCOPES if scope in entries)


def role(value: object, pointer: str = "/role") -> Role:
    return member(Role, value, pointer)


def flag(value: object, pointer: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidChange("this is true or false", pointer)
    return value


def number(value: object, pointer: str, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise InvalidChange(f"this is a number from {least:g} to {most:g}", pointer)
    return value


def only(changes: Mapping[str, object], known: Iterable[str]) -> None:
    """Raises InvalidChange when a change names what cannot be changed (mass assignment, fault 98)."""
    allowed = tuple(known)
    for name in changes:
        if name not in allowed:
            raise InvalidChange(f"{name!r} cannot be changed; {', '.join(allowed)} can", f"/{name}")


def _entries(value: object, pointer: str) -> tuple[object, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InvalidChange("this is a list", pointer)
    entries = tuple(value)
    if len(entries) > MAX_ENTRIES:
        raise InvalidChange(f"this list has more than {MAX_ENTRIES} entries", pointer)
    return entries
