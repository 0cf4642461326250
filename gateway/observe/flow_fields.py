"""What a record of the flow log says: the names of its fields, and which of them a reader gets.

Names are dotted as in Hubble's record. `source.labels.site` is one label, `source.labels` all of them. A record holds
no payload and no metadata, whatever is asked for. Must not know: where records come from, where they go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

VERDICTS: Final = ("FORWARDED", "DROPPED", "ERROR", "AUDIT", "QUEUED", "EXPIRED", "LOOP", "LOST")
FORWARDED, DROPPED, ERROR, AUDIT, QUEUED, EXPIRED, LOOP, LOST = range(8)
"""Their places in `VERDICTS`. `LOST` is no verdict: so many records were overwritten before they were read."""

HIDDEN: Final = "<hidden>"

Record = dict[str, Any]


class Type(StrEnum):
    TEXT = "a text"
    NUMBER = "a number"
    TRUTH = "true or false"
    TEXTS = "a list of texts"
    OBJECT = "an object"


FIELDS: Final[Mapping[str, Type]] = {
    "number": Type.NUMBER,
    "time": Type.TEXT,
    "uuid": Type.TEXT,
    "node": Type.TEXT,
    "verdict": Type.TEXT,
    "reason": Type.TEXT,
    "policy": Type.TEXT,
    "source": Type.OBJECT,
    "source.id": Type.TEXT,
    "source.kind": Type.TEXT,
    "source.groups": Type.TEXTS,
    "source.labels": Type.OBJECT,
    "source.node": Type.TEXT,
    "destination": Type.OBJECT,
    "destination.id": Type.TEXT,
    "destination.service": Type.TEXT,
    "destination.labels": Type.OBJECT,
    "destination.subset": Type.TEXT,
    "destination.node": Type.TEXT,
    "interaction": Type.TEXT,
    "route": Type.TEXT,
    "topic": Type.TEXT,
    "stream_id": Type.NUMBER,
    "direction": Type.TEXT,
    "is_reply": Type.TRUTH,
    "bytes": Type.NUMBER,
    "credits_left": Type.NUMBER,
    "latency_ns": Type.NUMBER,
    "trace_id": Type.TEXT,
    "spool": Type.OBJECT,
    "spool.name": Type.TEXT,
    "spool.seq": Type.TEXT,
    "attempt": Type.NUMBER,
    "lost": Type.NUMBER,
}
"""Every field of a record, with the type that a filter compares it as."""

ALWAYS: Final = frozenset({"number", "time", "verdict", "lost"})
"""What no mask leaves out and no redaction hides: without it a record is none."""

NEVER: Final = frozenset({"payload", "metadata"})
"""What no record holds; a redaction may name it all the same, as it would elsewhere."""

_LABELS: Final = ("source.labels.", "destination.labels.")


def type_of(name: str) -> Type | None:
    """The type of a field; None for a name that is none."""
    if name.startswith(_LABELS):
        return Type.TEXT if name.partition(".labels.")[2] else None
    return FIELDS.get(name)


def unknown(names: Iterable[str], *, redacting: bool = False) -> list[str]:
    """Those of these names that are no field of a record; for a redaction, those that cannot be hidden, too."""
    if redacting:
        return [name for name in names if name not in NEVER and (type_of(name) is None or name in ALWAYS)]
    return [name for name in names if type_of(name) is None]


def value_of(record: Record, name: str) -> Any:
    """What a record says under a name; None where it says nothing."""
    if name.startswith(_LABELS):
        side, _, key = name.partition(".labels.")
        labels = (record.get(side) or {}).get("labels") or {}
        return labels.get(key) if isinstance(labels, Mapping) else None
    outer, dot, inner = name.partition(".")
    value = record.get(outer)
    if not dot:
        return value
    return value.get(inner) if isinstance(value, Mapping) else None


@dataclass(frozen=True, slots=True)
class View:
    """How records are shown: without what is in `redact`, and of the rest those in `fields`; empty: all of it."""

    redact: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()

    def redacted(self, record: Record) -> Record:
        """A text that is hidden says so; a number, a truth, a list is left out."""
        if not self.redact:
            return record
        shown = _copied(record)
        for name in self.redact:
            _hide(shown, name)
        return shown

    def masked(self, record: Record) -> Record:
        if not self.fields:
            return record
        shown: Record = {name: record[name] for name in ALWAYS if name in record}
        for name in self.fields:
            _take(shown, record, name)
        # In the order in which a whole record has them.
        return {name: shown[name] for name in record if name in shown}


def _copied(record: Record) -> Record:
    return {name: _copied(value) if isinstance(value, dict) else value for name, value in record.items()}


def _hide(record: Record, name: str) -> None:
    if name in ALWAYS:
        return
    if name.startswith(_LABELS):
        side, _, key = name.partition(".labels.")
        labels = (record.get(side) or {}).get("labels")
        if isinstance(labels, dict) and key in labels:
            labels[key] = HIDDEN
        return
    outer, dot, inner = name.partition(".")
    holder = record.get(outer) if dot else record
    key = inner if dot else outer
    if isinstance(holder, dict) and holder.get(key) not in (None, ""):
        holder[key] = HIDDEN if FIELDS.get(name) is Type.TEXT else None


def _take(shown: Record, record: Record, name: str) -> None:
    outer, dot, inner = name.partition(".")
    value = record.get(outer)
    if value is None or not dot or not isinstance(value, dict):
        if outer in record and not dot:
            shown[outer] = value
        return
    inner, dot, key = inner.partition(".")
    held = shown.get(outer)
    if not isinstance(held, dict):
        held = shown[outer] = {}
    if not dot:
        if inner in value:
            held[inner] = value[inner]
    elif isinstance(value.get(inner), dict) and key in value[inner]:
        labels = dict(held.get(inner) or {})
        labels[key] = value[inner][key]
        held[inner] = labels
