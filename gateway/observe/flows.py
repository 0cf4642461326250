"""The flow log's ring: what became of requests lately, a slot each; the data plane writes, whoever looks reads.

What is written is numbers and references: nothing is put into words before somebody reads it. The slots are made at
once and used again; a slot keeps who asked and what for, and no connection. Who reads too slowly is told how much was
overwritten (`LOST`) and holds up nobody. One loop writes and reads. Must not know: connections, streams, who reads.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final

from gateway.observe.flow_fields import LOST, VERDICTS, Record, View
from gateway.observe.flow_filter import FlowFilter

MIN_CAPACITY: Final = 16
MAX_CAPACITY: Final = 65_536
IDENTITY_BYTES: Final = 8

#: By the frame type of the request (RSocket 1.0, Frame Types); 0: an MQTT message.
INTERACTIONS: Final = {
    0: "publish",
    4: "requestResponse",
    5: "fireAndForget",
    6: "requestStream",
    7: "requestChannel",
}
_DIRECTIONS: Final = ("local", "out", "in", "through")
_ANYTHING: Final = (-math.inf,) * len(VERDICTS)
#: How far the clock on the wall may move against the other before times of records follow it, in seconds.
_DRIFT_S: Final = 0.1


class Slot:
    """One record, as it was written. `at` is monotonic; `latency_s` and `credits` are -1 where there are none; `came`,
    `goes`: whether the one and the other end is on another node; `document`: a record that another process has made."""

    __slots__ = (
        "address",
        "at",
        "attempt",
        "came",
        "credits",
        "document",
        "goes",
        "interaction",
        "is_reply",
        "labels",
        "latency_s",
        "node",
        "policy",
        "reason",
        "service",
        "size",
        "source",
        "spool",
        "stream_id",
        "subject",
        "subset",
        "trace",
        "verdict",
    )

    address: object
    at: float
    attempt: int
    came: bool
    credits: int
    goes: bool
    interaction: int
    is_reply: bool
    labels: object
    latency_s: float
    node: object
    policy: object
    reason: object
    service: object
    size: int
    source: object
    spool: object
    stream_id: int
    subject: object
    subset: object
    trace: object
    verdict: int

    def __init__(self) -> None:
        self.document: Record | None = None


class FlowRing:
    """The last `capacity` records, numbered from behind `latest`. `node` is the name that records bear, `identity` what
    makes their ids differ from those of other runs and processes. `left_out`: records that nobody wanted."""

    def __init__(
        self,
        capacity: int,
        node: str,
        identity: bytes,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        *,
        latest: int = 0,
    ) -> None:
        self.node = node
        self.latest = latest
        self.first = latest + 1
        self.left_out = 0
        #: Whether `news` is to be called at the next record.
        self.awaited = False
        self.news: Callable[[], None] = _ignore
        #: What the document says of how records are shown, to everybody.
        self.view = View()
        self._identity = identity
        self._monotonic = monotonic
        self._wall = wall
        self._offset = wall() - monotonic()
        self._unwanted = list(_ANYTHING)
        self._capacity = 0
        self._next = 0
        self._slots: list[Slot] = []
        self.resize(capacity)

    # Writing

    def put(
        self,
        verdict: int,
        at: float,
        latency_s: float,
        interaction: int,
        stream_id: int,
        came: bool,
        goes: bool,
        is_reply: bool,
        size: int,
        credits: int,
        attempt: int,
        source: object,
        service: object,
        subject: object,
        labels: object,
        node: object,
        address: object,
        reason: object,
        policy: object,
        subset: object,
        trace: object,
        spool: object,
    ) -> None:
        """Write one record. `verdict` is a place in `VERDICTS`, `interaction` one of `INTERACTIONS`; `latency_s` -1:
        there is none. `source` is a principal, the JSON of one, or a name; `labels` a mapping or pairs; `node` who is
        asked on another node; `policy` the name of a document, or the rules of a `Service`; `spool` (name, id)."""
        if latency_s * 1e9 <= self._unwanted[verdict]:
            self.left_out += 1
            return
        slot = self._slots[self._next]
        self._next += 1
        if self._next == self._capacity:
            self._next = 0
        self.latest += 1
        slot.verdict = verdict
        slot.at = at
        slot.latency_s = latency_s
        slot.interaction = interaction
        slot.stream_id = stream_id
        slot.came = came
        slot.goes = goes
        slot.is_reply = is_reply
        slot.size = size
        slot.credits = credits
        slot.attempt = attempt
        slot.source = source
        slot.service = service
        slot.subject = subject
        slot.labels = labels
        slot.node = node
        slot.address = address
        slot.reason = reason
        slot.policy = policy
        slot.subset = subset
        slot.trace = trace
        slot.spool = spool
        slot.document = None
        if self.awaited:
            self.awaited = False
            self.news()

    def put_record(self, record: Record) -> None:
        """Write what another process of the node has made of a request there; it gets its number here."""
        verdict = VERDICTS.index(record["verdict"])
        latency = record.get("latency_ns")
        latency_s = -1.0 if latency is None else latency / 1e9
        before = self.latest
        self.put(
            verdict, 0.0, latency_s, 0, 0, False, False, False, 0, 0, 0,
            None, None, None, None, None, None, None, None, None, None, None,
        )  # fmt: skip
        if self.latest != before:
            self._slots[self._next - 1].document = record

    def want(self, filters: Iterable[FlowFilter | None]) -> None:
        """Write from now on what fits any of these, as far as verdict and latency tell; None: everything."""
        found: list[tuple[float, ...]] = [_ANYTHING if each is None else each.unwanted_ns() for each in filters]
        self._unwanted = [min(column) for column in zip(*found, strict=True)] if found else list(_ANYTHING)

    def resize(self, capacity: int) -> None:
        """Hold so many records, of those that are there the latest."""
        capacity = max(MIN_CAPACITY, min(capacity, MAX_CAPACITY))
        if capacity == self._capacity:
            return
        kept = self._last(min(capacity, self.latest + 1 - self.oldest)) if self._slots else []
        self.first = self.latest + 1 - len(kept)
        self._slots = kept + [Slot() for _ in range(capacity - len(kept))]
        self._capacity = capacity
        self._next = len(kept) % capacity

    def _last(self, count: int) -> list[Slot]:
        start = self._next - count
        return self._slots[start : self._next] if start >= 0 else self._slots[start:] + self._slots[: self._next]

    # Reading

    @property
    def capacity(self) -> int:
        return self._capacity

    @property
    def oldest(self) -> int:
        """The number of the oldest record that is there; one more than `latest` where there is none."""
        return max(self.first, self.latest + 1 - self._capacity)

    def next_wanted(self, number: int, unwanted: list[float], most: int) -> int:
        """The first of `most` records from `number` on that fits, as far as verdict and latency tell; or the number
        behind them."""
        end = min(self.latest + 1, number + most)
        at = self._place(number)
        while number < end:
            slot = self._slots[at]
            if slot.latency_s * 1e9 > unwanted[slot.verdict]:
                return number
            number += 1
            at += 1
            if at == self._capacity:
                at = 0
        return number

    def _place(self, number: int) -> int:
        return (self._next - (self.latest + 1 - number)) % self._capacity

    def record(self, number: int) -> Record:
        """What the record with this number says; it must be there."""
        slot = self._slots[self._place(number)]
        if slot.document is not None:
            return {**slot.document, "number": number}
        record: Record = {
            "number": number,
            "time": self._time(slot.at),
            "uuid": str(uuid.UUID(bytes=self._identity + number.to_bytes(8, "big"))),
            "node": self.node,
            "verdict": VERDICTS[slot.verdict],
            "reason": slot.reason or "",
            "policy": _policy(slot.policy),
            "source": _source(slot.source),
            "destination": {
                "id": slot.subject or "",
                "service": slot.service or "",
                "labels": _pairs(slot.labels),
                "subset": slot.subset or "",
                "node": slot.node or "",
            },
            "interaction": INTERACTIONS.get(slot.interaction, ""),
            "topic" if slot.interaction == 0 else "route": _address(slot.address),
            "stream_id": slot.stream_id,
            "direction": _DIRECTIONS[slot.came * 2 + slot.goes],
            "is_reply": bool(slot.is_reply),
            "bytes": slot.size,
            "credits_left": None if slot.credits < 0 else slot.credits,
            "latency_ns": None if slot.latency_s < 0 else int(slot.latency_s * 1e9),
            "trace_id": _trace(slot.trace),
            "spool": _spool(slot.spool),
            "attempt": slot.attempt,
        }
        return record

    def lost(self, count: int, source: str = "ring") -> Record:
        """The record that stands for so many that were overwritten."""
        return {
            "number": self.oldest - 1,
            "time": self._time(self._monotonic()),
            "node": self.node,
            "verdict": VERDICTS[LOST],
            "reason": source,
            "lost": count,
        }

    def _time(self, at: float) -> str:
        offset = self._wall() - self._monotonic()
        if abs(offset - self._offset) > _DRIFT_S:
            self._offset = offset
        return written_time(at + self._offset)


def written_time(unix: float) -> str:
    """A time as records say it (RFC 3339), to the microsecond."""
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _ignore() -> None:
    return


def _source(source: Any) -> dict[str, Any]:
    if isinstance(source, bytes):
        try:
            said = json.loads(source)
            return _named(str(said["subject"]), str(said["kind"]), str(said["node"]))
        except (ValueError, KeyError, TypeError):
            source = ""
    if isinstance(source, str) or source is None:
        return _named(source or "")
    return {
        **_named(source.subject, str(source.kind)),
        "groups": list(source.groups),
        "labels": _pairs(source.labels),
    }


def _named(subject: str, kind: str = "", node: str = "") -> dict[str, Any]:
    return {"id": subject, "kind": kind, "groups": [], "labels": {}, "node": node}


def _pairs(labels: Any) -> dict[str, str]:
    return dict(labels) if labels else {}


def _address(address: Any) -> str:
    if address is None:
        return ""
    return str(getattr(address, "route", "") or address)


def _policy(policy: Any) -> str:
    return policy if isinstance(policy, str) else "" if policy is None else f"Service/{policy.name}"


def _trace(trace: Any) -> str:
    if isinstance(trace, bytes):
        return trace.hex()
    return trace or ""


def _spool(spool: Any) -> dict[str, str] | None:
    return None if spool is None else {"name": spool[0], "seq": str(spool[1])}
