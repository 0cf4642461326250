"""The requesting side: each connection keeps a number of operations in flight and begins a new one where one ended.

One class an interaction model. Stream ids rise and wrap; one whose slot is taken by a straggler is left out. An ERROR
frame is counted, and its place is taken by a new operation a little later, so that a broker that refuses everything is
not flooded. Compiled where `calls.pxd` is used.
"""

from __future__ import annotations

import asyncio
from array import array
from time import perf_counter

from gateway.load.endpoint import Endpoint, error_text
from gateway.load.tally import Tally
from gateway.load.templates import Framing, Template
from gateway.wire.frames import COMPLETE, MAX_STREAM_ID, NEXT, FrameType, Payload, Request, RequestN

_PAYLOAD = int(FrameType.PAYLOAD)
_ERROR = int(FrameType.ERROR)
_REQUEST_N = int(FrameType.REQUEST_N)
_NEXT = int(NEXT)
_COMPLETE = int(COMPLETE)
_LAST_ID = MAX_STREAM_ID
_SLOTS_A_PLACE = 4
_BURST = 64
_BURSTS = 16


class Calls(Endpoint):
    """`in_flight` operations at a time, each begun with `request`, whose stream id is replaced.

    `answer_bytes` is the length that the data of an answer must have; -1 where anything will do. `next_id` is the id of
    the next stream, if no stream has it.
    """

    def __init__(
        self, tally: Tally, framing: Framing, request: Request, in_flight: int, answer_bytes: int = -1
    ) -> None:
        super().__init__(tally, framing)
        self.in_flight = in_flight
        self.answer_bytes = answer_bytes
        self.owed = 0
        self.request = Template(framing, request)
        self._block = bytearray(self.request.message)
        slots = 64
        while slots < _SLOTS_A_PLACE * in_flight:
            slots *= 2
        self._mask = slots - 1
        self._ids = array("q", bytes(8 * slots))
        self._begun = array("d", bytes(8 * slots))
        self.next_id = 1

    def begin(self) -> None:
        self.owed += self.in_flight
        self.make_up()

    def make_up(self) -> None:
        """Begin what has been owed since an error."""
        owed = self.owed
        self.owed = 0
        self.now = perf_counter()
        self._issue(owed)
        self._flush()

    def _issue(self, count: int) -> None:
        """Begin `count` operations, as long as the run is going on."""
        if not self.tally.running:
            return
        self.tally.begun += count
        while count > self.request.chunk:
            self._issue_chunk(self.request.chunk)
            count -= self.request.chunk
        if count:
            self._issue_chunk(count)

    def _issue_chunk(self, count: int) -> None:
        out = self._block * count
        view = out
        ids = self._ids
        begun = self._begun
        slots = self._mask
        size = self.request.size
        at = self.request.id_at
        mask = self.request.id_mask
        following = self.next_id
        for _ in range(count):
            while ids[following >> 1 & slots]:
                following = following + 2 if following < _LAST_ID else 1
            slot = following >> 1 & slots
            ids[slot] = following
            begun[slot] = self.now
            masked = following ^ mask
            view[at] = masked >> 24 & 0xFF
            view[at + 1] = masked >> 16 & 0xFF
            view[at + 2] = masked >> 8 & 0xFF
            view[at + 3] = masked & 0xFF
            at += size
            following = following + 2 if following < _LAST_ID else 1
        self.next_id = following
        self._gather(out)

    def _ended(self, stream_id: int) -> bool:
        """Free the stream's slot. False when no such stream is open."""
        slot = stream_id >> 1 & self._mask
        if self._ids[slot] != stream_id:
            self.tally.fail("frame on a stream that is not open")
            return False
        self._ids[slot] = 0
        self.tally.finished += 1
        return True

    def _refused(self, stream_id: int, data: bytearray, start: int, end: int) -> None:
        if self._ended(stream_id):
            self.tally.fail(error_text(data, start, end))
            if not self.owed:
                self.tally.owing.append(self)
            self.owed += 1


class ResponseCalls(Calls):
    """REQUEST_RESPONSE: an operation is a whole round trip."""

    def __init__(
        self, tally: Tally, framing: Framing, request: Request, in_flight: int, answer_bytes: int = -1
    ) -> None:
        super().__init__(tally, framing, request, in_flight, answer_bytes)
        self._answered = 0

    def _frame(self, stream_id: int, head: int, data: bytearray, start: int, end: int) -> None:
        kind = head >> 10
        if kind == _PAYLOAD:
            slot = stream_id >> 1 & self._mask
            if not head & _COMPLETE:
                return
            if self._ids[slot] != stream_id:
                self.tally.fail("answer to a request that was not sent")
                return
            if self.answer_bytes >= 0 and end - start != self.answer_bytes + 6:
                self.tally.fail(f"answer of {end - start - 6} bytes, not {self.answer_bytes}")
            self._ids[slot] = 0
            self.tally.latencies.record(self.now - self._begun[slot])
            self._answered += 1
        elif kind == _ERROR:
            self._refused(stream_id, data, start, end)

    def _turn(self) -> None:
        answered = self._answered
        if answered:
            self._answered = 0
            self.tally.finished += answered
            self.tally.operations += answered
            self._issue(answered)
        self._flush()


class FnfCalls(Calls):
    """REQUEST_FNF as fast as the connection takes them; the responder counts what arrives.

    Where somebody else serves the route, what was sent is counted.
    """

    def begin(self) -> None:
        self.pump()

    def resume_writing(self) -> None:
        self.blocked = False
        self.pump()

    def pump(self) -> None:
        """Send until the connection takes no more, or for so long that others must have a turn."""
        sent = 0
        while self.tally.running and not self.blocked:
            if sent == _BURSTS:
                asyncio.get_running_loop().call_soon(self.pump)
                break
            self._write(self._burst())
            sent += 1
        self.tally.begun += sent * _BURST
        if self.answer_bytes < 0:
            self.tally.finished += sent * _BURST
            self.tally.operations += sent * _BURST

    def _burst(self) -> bytearray:
        burst = self._block * _BURST
        view = burst
        size = self.request.size
        mask = self.request.id_mask
        following = self.next_id
        at = self.request.id_at
        for _ in range(_BURST):
            masked = following ^ mask
            view[at] = masked >> 24 & 0xFF
            view[at + 1] = masked >> 16 & 0xFF
            view[at + 2] = masked >> 8 & 0xFF
            view[at + 3] = masked & 0xFF
            at += size
            following = following + 2 if following < _LAST_ID else 1
        self.next_id = following
        return burst

    def _frame(self, stream_id: int, head: int, data: bytearray, start: int, end: int) -> None:
        if head >> 10 == _ERROR:
            self.tally.fail(error_text(data, start, end))


class StreamCalls(Calls):
    """REQUEST_STREAM: an operation is an item; a latency is that of a whole stream.

    `credit` items may be under way; half of it is granted again when half is used up.
    """

    def __init__(
        self, tally: Tally, framing: Framing, request: Request, in_flight: int, answer_bytes: int, credit: int
    ) -> None:
        super().__init__(tally, framing, request, in_flight, answer_bytes)
        self._credit = credit
        self._refill = max(credit // 2, 1)
        self._more = Template(framing, RequestN(1, self._refill))
        self._under_way = array("q", bytes(8 * (self._mask + 1)))
        self._items = 0
        self._over = 0

    def _frame(self, stream_id: int, head: int, data: bytearray, start: int, end: int) -> None:
        kind = head >> 10
        if kind == _PAYLOAD:
            slot = stream_id >> 1 & self._mask
            if self._ids[slot] != stream_id:
                self.tally.fail("item of a stream that is not open")
                return
            if head & _NEXT:
                if self.answer_bytes >= 0 and end - start != self.answer_bytes + 6:
                    self.tally.fail(f"item of {end - start - 6} bytes, not {self.answer_bytes}")
                self._items += 1
                self._under_way[slot] += 1
            if head & _COMPLETE:
                self._ids[slot] = 0
                self._under_way[slot] = 0
                self.tally.latencies.record(self.now - self._begun[slot])
                self._over += 1
            elif self._under_way[slot] == self._refill:
                # What has been taken since the last grant; the rest of the credit is still on its way.
                self._under_way[slot] = 0
                self._put(self._more, stream_id, 1)
        elif kind == _ERROR:
            self._under_way[stream_id >> 1 & self._mask] = 0
            self._refused(stream_id, data, start, end)
        else:
            self._other(kind, stream_id, data, start, end)

    def _other(self, kind: int, stream_id: int, data: bytearray, start: int, end: int) -> None:
        """Take a frame that is neither an item nor an error."""

    def _turn(self) -> None:
        self.tally.operations += self._items
        self._items = 0
        over = self._over
        if over:
            self._over = 0
            self.tally.finished += over
            self._issue(over)
        self._flush()


class ChannelCalls(StreamCalls):
    """REQUEST_CHANNEL: as many items up as come down; an operation is an item that came back.

    The first item goes with the request; the others as the responder grants credit.
    """

    def __init__(
        self,
        tally: Tally,
        framing: Framing,
        request: Request,
        in_flight: int,
        answer_bytes: int,
        credit: int,
        items: int,
    ) -> None:
        super().__init__(tally, framing, request, in_flight, answer_bytes, credit)
        self._to_send: dict[int, int] = {}
        self._items_each = items
        self._item = Template(framing, Payload(1, None, request.data, next=True))
        self._last = Template(framing, Payload(1, None, request.data, next=True, complete=True))

    def _other(self, kind: int, stream_id: int, data: bytearray, start: int, end: int) -> None:
        if kind != _REQUEST_N:
            return
        # The first item went with the request.
        left = self._to_send.get(stream_id, self._items_each - 1)
        count = min(int.from_bytes(data[start + 6 : start + 10], "big"), left)
        if count == 0:
            return
        self._to_send[stream_id] = left - count
        if count == left:
            if count > 1:
                self._put(self._item, stream_id, count - 1)
            self._put(self._last, stream_id, 1)
        else:
            self._put(self._item, stream_id, count)
