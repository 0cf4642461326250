"""The answering side: one connection that serves all four interaction models.

Answers and items are prebuilt; a channel sends back as many items as it gets. Compiled where `responder.pxd` is used.
"""

from __future__ import annotations

from array import array

from gateway.load.endpoint import Endpoint, error_text
from gateway.load.tally import Tally
from gateway.load.templates import Framing, Template
from gateway.wire.frames import COMPLETE, NEXT, FrameType, Payload, RequestN

_RESPONSE = int(FrameType.REQUEST_RESPONSE)
_FNF = int(FrameType.REQUEST_FNF)
_STREAM = int(FrameType.REQUEST_STREAM)
_CHANNEL = int(FrameType.REQUEST_CHANNEL)
_REQUEST_N = int(FrameType.REQUEST_N)
_PAYLOAD = int(FrameType.PAYLOAD)
_CANCEL = int(FrameType.CANCEL)
_ERROR = int(FrameType.ERROR)
_NEXT = int(NEXT)
_COMPLETE = int(COMPLETE)


class Channel:
    """One open channel: items to send back, how many may be sent, and how many came since the last grant."""

    def __init__(self, allowed: int) -> None:
        self.owed = 0
        self.allowed = allowed
        self.taken = 0
        self.ended = False


class Responder(Endpoint):
    """`payload` is the data of every answer and item; a stream has `items` of them; a channel gets `credit`."""

    def __init__(self, tally: Tally, framing: Framing, payload: bytes, items: int, credit: int) -> None:
        super().__init__(tally, framing)
        self.items = items
        self._credit = credit
        self._refill = max(credit // 2, 1)
        self._answer = Template(framing, Payload(1, None, payload, next=True, complete=True))
        self._block = bytearray(self._answer.message)
        self._item = Template(framing, Payload(1, None, payload, next=True))
        self._grant = Template(framing, RequestN(1, credit))
        self._more = Template(framing, RequestN(1, self._refill))
        self._room = self._answer.chunk
        self._due = array("q", bytes(8 * self._room))
        self._due_count = 0
        self._heard = 0
        self._left: dict[int, int] = {}
        self._channels: dict[int, Channel] = {}

    def _frame(self, stream_id: int, head: int, data: bytearray, start: int, end: int) -> None:
        kind = head >> 10
        if kind == _RESPONSE:
            if self._due_count == self._room:
                self._answer_due()
            self._due[self._due_count] = stream_id
            self._due_count += 1
        elif kind == _FNF:
            self._heard += 1
        elif kind == _PAYLOAD:
            self._channel_item(stream_id, head)
        elif kind == _REQUEST_N:
            self._granted(stream_id, int.from_bytes(data[start + 6 : start + 10], "big"))
        elif kind == _STREAM:
            self._left[stream_id] = self.items
            self._granted(stream_id, int.from_bytes(data[start + 6 : start + 10], "big"))
        elif kind == _CHANNEL:
            self._channels[stream_id] = Channel(int.from_bytes(data[start + 6 : start + 10], "big"))
            self._put(self._grant, stream_id, 1)
            # The item that opens a channel needs no credit; it must not count as one that did.
            self._channels[stream_id].taken = -1
            self._channel_item(stream_id, head | _NEXT)
        elif kind == _CANCEL:
            self._left.pop(stream_id, None)
            self._channels.pop(stream_id, None)
        elif kind == _ERROR:
            self._left.pop(stream_id, None)
            self._channels.pop(stream_id, None)
            self.tally.fail(error_text(data, start, end))

    def _turn(self) -> None:
        if self._heard:
            self.tally.operations += self._heard
            self.tally.finished += self._heard
            self._heard = 0
        if self._due_count:
            self._answer_due()
        self._flush()

    def _answer_due(self) -> None:
        count = self._due_count
        self._due_count = 0
        out = self._block * count
        view = out
        due = self._due
        size = self._answer.size
        at = self._answer.id_at
        mask = self._answer.id_mask
        for index in range(count):
            masked = due[index] ^ mask
            view[at] = masked >> 24 & 0xFF
            view[at + 1] = masked >> 16 & 0xFF
            view[at + 2] = masked >> 8 & 0xFF
            view[at + 3] = masked & 0xFF
            at += size
        self._gather(out)

    def _granted(self, stream_id: int, n: int) -> None:
        left = self._left.get(stream_id)
        if left is None:
            channel = self._channels.get(stream_id)
            if channel is not None:
                channel.allowed += n
                self._send_back(stream_id, channel)
        elif n < left:
            self._left[stream_id] = left - n
            self._put(self._item, stream_id, n)
        else:
            del self._left[stream_id]
            if left > 1:
                self._put(self._item, stream_id, left - 1)
            self._put(self._answer, stream_id, 1)

    def _channel_item(self, stream_id: int, head: int) -> None:
        channel = self._channels.get(stream_id)
        if channel is None:
            return
        if head & _NEXT:
            channel.owed += 1
            channel.taken += 1
        if head & _COMPLETE:
            channel.ended = True
        elif channel.taken == self._refill:
            channel.taken = 0
            self._put(self._more, stream_id, 1)
        self._send_back(stream_id, channel)

    def _send_back(self, stream_id: int, channel: Channel) -> None:
        count = min(channel.owed, channel.allowed)
        channel.owed -= count
        channel.allowed -= count
        if channel.ended and channel.owed == 0 and count:
            del self._channels[stream_id]
            if count > 1:
                self._put(self._item, stream_id, count - 1)
            self._put(self._answer, stream_id, 1)
        elif count:
            self._put(self._item, stream_id, count)
