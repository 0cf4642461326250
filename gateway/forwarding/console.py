"""One request of somebody who is not connected: an operator at the admin API.

To the data plane it is a connection like any other: the same decision, the same permissions, the same stamp, the same
counters. It lives as long as its request, and tells its owner once when that is over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from gateway.errors import RequestError
from gateway.forwarding.closing import CloseReason
from gateway.forwarding.internal import InternalConnection
from gateway.forwarding.stamp import Form, principal_entry
from gateway.wire.frames import (
    Cancel,
    Error,
    FrameType,
    Payload,
    Reassembly,
    RequestFnf,
    RequestN,
    RequestResponse,
    RequestStream,
    decode,
    encode,
)
from gateway.wire.metadata import encode_composite, encode_routing
from gateway.wire.mimetypes import ROUTING

if TYPE_CHECKING:
    from gateway.forwarding.plane import Plane
    from gateway.policy.principal import Principal

#: Bytes of answers that are kept for the caller; what would be more ends the request.
MAX_ANSWER_BYTES = 1024 * 1024


class Console(InternalConnection):
    """`items` are the answers, in order; `error` is (code, text) of the ERROR frame that ended it, if one did;
    `truncated` says that there was more than `MAX_ANSWER_BYTES`. `over` is True when nothing more will come."""

    __slots__ = ("_ended", "_kept", "_series", "_stream_id", "_wanted", "error", "items", "over", "truncated")

    def __init__(self, plane: Plane, principal: Principal, ended: Callable[[], None]) -> None:
        super().__init__(plane, "console")
        # It is the requester, and a requester's requests and refusals are counted.
        self.counters = plane.counters
        self.adopt(principal, plane.snapshot.grant(principal), Form.COMPOSITE, principal_entry(principal, plane.node))
        self.items: list[bytes] = []
        self.error: tuple[int, str] | None = None
        self.truncated = False
        self.over = False
        self._ended = ended
        self._kept = 0
        self._wanted = 1
        self._series: Reassembly | None = None
        self._stream_id = 0

    def ask(self, interaction: FrameType, route: str, tags: Mapping[str, str], data: bytes, items: int = 1) -> None:
        """Send the request. `interaction` is REQUEST_RESPONSE, REQUEST_FNF or REQUEST_STREAM, of which `items` are
        taken. Raises ValueError when it does not fit into a frame."""
        routing = encode_routing([route, *(f"{key}={value}" for key, value in tags.items())])
        metadata = encode_composite([(ROUTING, routing)])
        number = self._stream_id = self.leg_ids.allocate(())
        self._wanted = items
        if interaction is FrameType.REQUEST_FNF:
            self.send(encode(RequestFnf(number, metadata, data)))
            self._finish()
        elif interaction is FrameType.REQUEST_STREAM:
            self.send(encode(RequestStream(number, metadata, data, initial_n=items)))
        else:
            self.send(encode(RequestResponse(number, metadata, data)))

    def give_up(self) -> None:
        """Nobody waits for the answer any more."""
        if not self.over:
            self.send(encode(Cancel(self._stream_id)))
            self._finish()

    def deliver(self, frame_bytes: bytes) -> None:
        if self.over:
            return
        frame = decode(frame_bytes)
        if isinstance(frame, Error):
            self.error = (frame.code, frame.text)
            self._finish()
        elif isinstance(frame, Payload):
            self._payload(frame)
        elif not isinstance(frame, RequestN):
            self._finish()

    def _payload(self, frame: Payload) -> None:
        whole = frame
        try:
            if self._series is None and frame.follows:
                self._series = Reassembly(MAX_ANSWER_BYTES, MAX_ANSWER_BYTES // 64)
            if self._series is not None:
                done = self._series.add(frame)
                if done is None:
                    return
                self._series = None
                assert isinstance(done, Payload)
                whole = done
        except RequestError:
            self._too_much()
            return
        if whole.next:
            if self._kept + len(whole.data) > MAX_ANSWER_BYTES:
                self._too_much()
                return
            self._kept += len(whole.data)
            self.items.append(whole.data)
        if whole.complete:
            self._finish()
        elif len(self.items) >= self._wanted:
            self.give_up()

    def _too_much(self) -> None:
        self.truncated = True
        self.give_up()

    def _finish(self) -> None:
        if not self.over:
            self.over = True
            self.end(CloseReason.PEER_CLOSED)
            self._ended()
