"""Requests that a bridge makes in its own name: each through the data plane, judged and counted like anybody's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from gateway.errors import RequestError, RequestInvalid
from gateway.forwarding.links import LOCAL
from gateway.forwarding.opening import decide_on
from gateway.forwarding.stamp import Form, rewrite
from gateway.forwarding.stream import REQUEST_FNF
from gateway.wire.frames import (
    COMPLETE,
    FOLLOWS,
    MAX_FRAME_BYTES,
    METADATA,
    NEXT,
    Cancel,
    Error,
    FrameType,
    Payload,
    Reassembly,
    RequestN,
    decode,
    encode,
    peek_flags,
    peek_stream_id,
    peek_type,
)

if TYPE_CHECKING:
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.decision import Decision
    from gateway.forwarding.internal import InternalConnection

_HEADS = {
    kind: (kind << 10 | METADATA).to_bytes(2, "big")
    for kind in (FrameType.REQUEST_FNF, FrameType.REQUEST_RESPONSE, FrameType.REQUEST_STREAM)
}
#: Ways that are remembered, and what goes by one without a second look at its size.
_WAYS = 8192
_ONE_FRAME = 8 * 1024 * 1024
#: One answer put together.
_MAX_ANSWER_BYTES = 16 * 1024 * 1024
_MAX_FRAGMENTS = 4096


class Answers(Protocol):
    """Who asked. `over` is called once: None for an end that is none of an error, else (code, text)."""

    def item(self, data: bytes, metadata: bytes | None) -> None: ...
    def over(self, error: tuple[int, str] | None) -> None: ...


class Done:
    """Asks only whether; the answer itself is of no interest."""

    __slots__ = ("over",)

    def __init__(self, over: Callable[[tuple[int, str] | None], None]) -> None:
        self.over = over

    def item(self, data: bytes, metadata: bytes | None) -> None: ...


class Asker:
    """Opens streams on `connection` and hands what comes back to who asked."""

    def __init__(self, connection: InternalConnection) -> None:
        self._connection = connection
        self._asked: dict[int, Answers] = {}
        self._ways: dict[bytes, tuple[Decision, dict[int, bytes]]] = {}
        self._streams: set[int] = set()
        self._series: dict[int, Reassembly] = {}

    def __len__(self) -> int:
        return len(self._asked)

    def fire(self, metadata: bytes, data: bytes) -> None:
        """Fire and forget. Raises RequestInvalid for what no frame can hold."""
        if not self._fire_again(metadata, data):
            self._fire(metadata, data)

    def _fire_again(self, metadata: bytes, data: bytes) -> bool:
        """Send what has gone the same way before: as the data plane would, without reading its metadata again. False
        where anything is to be said about it."""
        connection = self._connection
        plane = connection.plane
        known = self._ways.get(metadata)
        try:
            if known is None:
                if len(self._ways) >= _WAYS:
                    self._ways.clear()
                known = self._ways[metadata] = (decide_on(connection, metadata, REQUEST_FNF), {})
            decision, sections = known
            if decision.generation != plane.table.generation:
                decision.refresh(plane, connection)
            if decision.told or decision.leased or decision.noted or decision.governed is not None or plane.observing:
                del self._ways[metadata]
                return False
            route = decision.pick(plane)
        except RequestError:
            self._ways.pop(metadata, None)
            return False
        target: Connection = route.owner  # type: ignore[assignment]
        if target.outbox.slow or target.side != LOCAL or len(metadata) + len(data) > _ONE_FRAME:
            return False
        section = sections.get(target.form)
        if section is None:
            rewritten = rewrite(metadata, Form.COMPOSITE, target.form, connection.stamp)
            section = sections[target.form] = len(rewritten).to_bytes(3, "big") + rewritten if rewritten else b""
        stats = decision.stats or plane.stats_of(route, connection)
        stats.requests += 1
        stats.ok += 1
        connection.counters.fire_and_forget += 1
        number = target.ids.allocate(target.serving)
        target.send_request(number, REQUEST_FNF, REQUEST_FNF << 10, 0, section, data, 0, len(data))
        if target.outbox.size > target.outbox.hard:
            connection.pause_for(target.outbox)
        return True

    def forget_ways(self) -> None:
        """The bridge's rights are others now."""
        self._ways.clear()

    def _fire(self, metadata: bytes, data: bytes) -> None:
        self._send(FrameType.REQUEST_FNF, self._connection.leg_ids.allocate(self._asked), metadata, data)

    def ask(self, metadata: bytes, data: bytes, answers: Answers, *, items: int = 0) -> int:
        """Request/response, or with `items` a stream with so much credit; the number to cancel it by. `answers` may be
        told before this returns. Raises RequestInvalid."""
        number = self._connection.leg_ids.allocate(self._asked)
        self._asked[number] = answers
        if items:
            self._streams.add(number)
        try:
            self._send(FrameType.REQUEST_STREAM if items else FrameType.REQUEST_RESPONSE, number, metadata, data, items)
        except RequestInvalid:
            self._forget(number)
            raise
        return number

    def _send(self, kind: FrameType, number: int, metadata: bytes, data: bytes, items: int = 0) -> None:
        head = _HEADS[kind] + (items.to_bytes(4, "big") if items else b"")
        frame = b"".join((number.to_bytes(4, "big"), head, len(metadata).to_bytes(3, "big"), metadata, data))
        if len(frame) > MAX_FRAME_BYTES:
            raise RequestInvalid(f"a message of {len(data)} bytes", reason="mqtt_packet_too_large")
        self._connection.frame_received(frame, 0, len(frame))

    def more(self, number: int, items: int) -> None:
        if number in self._asked:
            self._connection.send(encode(RequestN(number, items)))

    def cancel(self, number: int) -> None:
        """No answer is wanted any more; nobody is told."""
        if self._forget(number) is not None:
            self._connection.send(encode(Cancel(number)))

    def deliver(self, frame: bytes) -> None:
        """A frame of one of these streams."""
        number = peek_stream_id(frame)
        answers = self._asked.get(number)
        if answers is None:
            return
        kind = peek_type(frame)
        if kind == FrameType.PAYLOAD:
            self._payload(number, answers, frame)
        elif kind == FrameType.ERROR:
            error = decode(frame)
            assert isinstance(error, Error)
            self._over(number, (error.code, error.text))
        elif kind == FrameType.CANCEL:
            self._over(number, None)

    def _payload(self, number: int, answers: Answers, frame: bytes) -> None:
        flags = peek_flags(frame)
        if isinstance(answers, Done):
            if not flags & FOLLOWS:
                self._over(number, None)
            return
        payload = decode(frame)
        assert isinstance(payload, Payload)
        series = self._series.get(number)
        if series is None and flags & FOLLOWS:
            series = self._series[number] = Reassembly(_MAX_ANSWER_BYTES, _MAX_FRAGMENTS)
        if series is not None:
            try:
                whole = series.add(payload)
            except RequestError as error:
                self.cancel(number)
                answers.over((error.code, str(error)))
                return
            if whole is None:
                return
            del self._series[number]
            assert isinstance(whole, Payload)
            payload = whole
        # A response is one whether it says NEXT or not.
        if flags & NEXT or series is not None:
            answers.item(payload.data, payload.metadata)
        if flags & COMPLETE or number not in self._streams:
            self._over(number, None)

    def _over(self, number: int, error: tuple[int, str] | None) -> None:
        answers = self._forget(number)
        if answers is not None:
            answers.over(error)

    def _forget(self, number: int) -> Answers | None:
        self._streams.discard(number)
        self._series.pop(number, None)
        return self._asked.pop(number, None)
