"""Where a request goes whose service is not there, when somebody said that it may wait: one internal connection.

It is the candidate of an address that nobody serves, so whoever asks has been judged as for a live request, and
counted. It puts the request together and hands it to its keeper, whose word ends the stream: a receipt, or an error. A
request of another kind, or one that does not have to wait after all, is made again at the connection that it came from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from gateway.errors import RequestError
from gateway.forwarding.assembly import BREAKING
from gateway.forwarding.ending import FAILED, OK, finish, withdraw
from gateway.forwarding.internal import InternalConnection
from gateway.forwarding.stamp import Form, rewrite
from gateway.forwarding.stream import REQUEST_FNF, REQUEST_RESPONSE, Stream
from gateway.routing.group import Group
from gateway.routing.route import ROUTE_ID_BYTES, Route
from gateway.routing.tags import SERVICE_NAME, SUB
from gateway.wire.frames import (
    COMPLETE,
    FOLLOWS,
    METADATA,
    NEXT,
    Error,
    FrameType,
    Payload,
    Reassembly,
    RequestChannel,
    RequestFnf,
    RequestResponse,
    RequestStream,
    decode,
    encode,
    peek_stream_id,
    peek_type,
)
from gateway.wire.mimetypes import SPOOLED, encode_mime
from gateway.wire.octets import id_bytes

if TYPE_CHECKING:
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.plane import Plane
    from gateway.policy.principal import Principal
    from gateway.routing.address import Address

#: A request that came in fragments is made again in one frame, which holds no more.
MAX_AGAIN_BYTES = 15 * 1024 * 1024
#: Metadata whose form for the spool is remembered.
KNOWN = 4096
_NOWHERE = bytes(ROUTE_ID_BYTES)
_ANSWER = int(FrameType.PAYLOAD) << 10 | NEXT | COMPLETE
_PLAIN_ANSWER = _ANSWER.to_bytes(2, "big")
_ANSWER_WITH_METADATA = (_ANSWER | METADATA).to_bytes(2, "big")
_SPOOLED_ENTRY = encode_mime(SPOOLED)


class Kept(NamedTuple):
    """A whole request. `metadata` is composite, without credentials; `stream` is its pair of hops, for `Intake`."""

    principal: Principal
    interaction: int
    metadata: bytes
    data: bytes
    stream: Stream


class Keeper(Protocol):
    """Who knows what may wait. Returns at once and never raises."""

    def takes(self, address: Address, *, here: bool) -> bool:
        """Whether requests for this address wait. `here`: somebody serves it now, so only behind others that wait."""
        ...

    def takes_posts(self, address: Address) -> bool:
        """Whether what comes out of an outbox for this address waits, though somebody may serve it."""
        ...

    def keep(self, request: Kept) -> None:
        """Take a request; `Intake.stored`, `refused` or `again` must follow."""
        ...


class _Coming:
    """A request of which fragments are still due."""

    __slots__ = ("parts", "request", "stream")

    def __init__(self, stream: Stream, request: RequestFnf | RequestResponse) -> None:
        limits = stream.requester.grant.limits
        self.stream = stream
        self.request = request
        self.parts = Reassembly(limits.max_reassembly_bytes, limits.max_fragments)


class Intake(InternalConnection):
    """`passing`: what is decided now is not to wait."""

    __slots__ = ("_announced", "_coming", "_keeper", "_known", "_moved", "_whole_ones", "passing")

    def __init__(self, plane: Plane, keeper: Keeper) -> None:
        super().__init__(plane, "spool")
        self._keeper = keeper
        self._announced: dict[int, Stream] = {}
        self._coming: dict[int, _Coming] = {}
        self._moved: dict[int, Stream] = {}
        self._whole_ones: list[tuple[Stream, bytes, bytes]] = []
        self._known: dict[bytes, bytes] = {}
        self.passing = False

    # Called by decisions and openings

    def candidates(self, address: Address, *, here: bool) -> Group | None:
        """This connection, as who serves the address; None where nothing waits for it."""
        if self.passing or not self._keeper.takes(address, here=here):
            return None
        return self._alone(address)

    def candidates_of_posts(self, address: Address) -> Group | None:
        """As `candidates`, whoever serves it: what could come again is known again only if it goes through the disk."""
        return None if self.passing or not self._keeper.takes_posts(address) else self._alone(address)

    def _alone(self, address: Address) -> Group:
        # The name that permissions are asked for, as far as it is known while nobody bears it.
        name = address.tag(SERVICE_NAME) or address.tag(SUB) or ""
        return Group((Route(_NOWHERE, "", self, subject=name),))

    def spread(self, stream: Stream, routes: list[Route]) -> None:
        self._announced[stream.responder_id] = stream

    # Frames

    def send_request(
        self, stream_id: int, kind: int, head: int, n: int, metadata: bytes, data: bytes, at: int, end: int
    ) -> None:
        """Most requests are whole: they make no frame, and are taken together at the end of the loop turn."""
        if head & FOLLOWS or kind not in (REQUEST_RESPONSE, REQUEST_FNF):
            super().send_request(stream_id, kind, head, n, metadata, data, at, end)
            return
        if not self._whole_ones:
            self.plane.schedule(self._take_whole)
        self._whole_ones.append((self._announced.pop(stream_id), metadata, data[at:end]))

    def _take_whole(self) -> None:
        remaining = iter(self._whole_ones)
        self._whole_ones = []
        keep, known = self._keeper.keep, self._known
        try:
            for stream, section, data in remaining:
                metadata = known.get(section)
                if metadata is None:
                    metadata = rewrite(section[3:], Form.COMPOSITE, Form.COMPOSITE, b"")
                    if len(known) >= KNOWN:
                        known.clear()
                    known[section] = metadata
                keep(Kept(stream.requester.principal, stream.interaction, metadata, data, stream))  # type: ignore[attr-defined]
        finally:
            # There is a rest only after a bug, which must not cost those who merely shared its loop turn.
            rest = list(remaining)
            if rest:
                self._whole_ones[:0] = rest
                self.plane.schedule(self._take_whole)

    def deliver(self, frame: bytes) -> None:
        stream_id = peek_stream_id(frame)
        kind = peek_type(frame)
        if stream_id in self._announced:
            stream = self._announced.pop(stream_id)
            if kind in (REQUEST_RESPONSE, REQUEST_FNF):
                self._guarded(stream, lambda: self._begin(stream, frame))
            else:
                self._pass_on(stream, frame)
        elif stream_id in self._coming:
            coming = self._coming[stream_id]
            if kind == FrameType.PAYLOAD:
                self._guarded(coming.stream, lambda: self._continue(coming, frame))
            else:
                self._forget(stream_id)
        elif stream_id in self._moved:
            # It had been sent before its request went on to somebody else.
            moved = self._moved[stream_id]
            requester = moved.requester
            if not requester.closed:
                requester.frame_received(id_bytes(moved.requester_id) + frame[4:], 0, len(frame))

    def _guarded(self, stream: Stream, work: Callable[[], None]) -> None:
        try:
            work()
        except RequestError as error:
            self._forget(stream.responder_id)
            self._refuse(stream, error)
            if error.reason in BREAKING and not stream.requester.closed:
                stream.requester.broke_message()

    def _begin(self, stream: Stream, frame: bytes) -> None:
        request = decode(frame)
        assert isinstance(request, RequestFnf | RequestResponse)
        if not request.follows:
            self._whole(stream, request.metadata or b"", request.data)
            return
        if stream.responder_id not in self.serving:
            return  # who sent the beginning has gone, and the rest with it
        coming = self._coming[stream.responder_id] = _Coming(stream, request)
        coming.parts.add(request)
        requester = stream.requester
        requester.assemble().begin(
            stream.requester_id,
            coming.parts.size,
            requester.grant.limits,
            self.plane.now,
            lambda error: self._give_up(stream, error),
        )

    def _continue(self, coming: _Coming, frame: bytes) -> None:
        fragment = decode(frame)
        assert isinstance(fragment, Payload)
        before = coming.parts.size
        whole = coming.parts.add(fragment)
        stream = coming.stream
        if whole is None:
            grown, limits = coming.parts.size - before, stream.requester.grant.limits
            stream.requester.assemble().grow(stream.requester_id, grown, limits, self.plane.now)
        else:
            self._forget(stream.responder_id)
            self._whole(stream, whole.metadata or b"", whole.data)

    def _whole(self, stream: Stream, metadata: bytes, data: bytes) -> None:
        caller: Connection = stream.requester  # type: ignore[assignment]
        kept = rewrite(metadata, Form.COMPOSITE, Form.COMPOSITE, b"")
        self._keeper.keep(Kept(caller.principal, stream.interaction, kept, data, stream))

    def _give_up(self, stream: Stream, error: RequestError) -> None:
        self._forget(stream.responder_id)
        self._refuse(stream, error)

    def _forget(self, stream_id: int) -> None:
        coming = self._coming.pop(stream_id, None)
        if coming is not None and not coming.stream.requester.closed:
            coming.stream.requester.assemble().end(coming.stream.requester_id)

    # The keeper's word

    def stored(self, request: Kept, receipt: bytes) -> None:
        """It is on disk; whoever asked with request/response is told so with `receipt`."""
        stream = request.stream
        if stream.responder_id not in self.serving:
            return
        if stream.interaction == REQUEST_FNF:
            finish(stream, OK)
            return
        number, size = id_bytes(stream.responder_id), len(receipt)
        if stream.requester.form != Form.COMPOSITE:
            self.send(b"".join((number, _PLAIN_ANSWER, receipt)))
            return
        lengths = (size + len(_SPOOLED_ENTRY) + 3).to_bytes(3, "big"), size.to_bytes(3, "big")
        self.send(b"".join((number, _ANSWER_WITH_METADATA, lengths[0], _SPOOLED_ENTRY, lengths[1], receipt, receipt)))

    def refused(self, request: Kept, error: RequestError) -> None:
        self._refuse(request.stream, error)

    def again(self, request: Kept) -> bool:
        """Let whoever made the request make it again: it need not wait. False where they have gone."""
        stream = request.stream
        too_large = len(request.metadata) + len(request.data) > MAX_AGAIN_BYTES
        if too_large or stream.requester.closed or stream.responder_id not in self.serving:
            return False
        form = stream.requester.form
        metadata = rewrite(request.metadata, Form.COMPOSITE, form, b"")
        made = RequestFnf if stream.interaction == REQUEST_FNF else RequestResponse
        self._make_again(stream, encode(made(stream.requester_id, metadata or None, request.data)))
        return True

    def _pass_on(self, stream: Stream, frame: bytes) -> None:
        """Nothing of this kind waits."""
        requester = stream.requester
        if requester.closed or stream.responder_id not in self.serving:
            return
        self._moved[stream.responder_id] = stream
        self.plane.schedule(self._moved.clear)
        request = decode(frame)
        assert isinstance(request, RequestStream | RequestChannel)
        metadata = rewrite(request.metadata or b"", Form.COMPOSITE, requester.form, b"")
        self._make_again(stream, encode(replace(request, stream_id=stream.requester_id, metadata=metadata or None)))

    def _make_again(self, stream: Stream, frame: bytes) -> None:
        connection: Connection = stream.requester  # type: ignore[assignment]
        withdraw(stream)
        _uncount(connection, stream.interaction, len(frame))
        self.passing = True
        try:
            connection.forget_decisions()
            connection.frame_received(frame, 0, len(frame))
        finally:
            self.passing = False
            # What was decided just now is not how others are to be decided.
            connection.forget_decisions()

    def _refuse(self, stream: Stream, error: RequestError) -> None:
        self.plane.counters.refuse(error.reason)
        if stream.responder_id not in self.serving:
            return
        if stream.interaction == REQUEST_FNF:
            finish(stream, FAILED)
        else:
            self.send(encode(Error(stream.responder_id, error.code, str(error))))


def _uncount(connection: Connection, interaction: int, size: int) -> None:
    """It was counted when it came, and will be again."""
    counters = connection.counters
    counters.frames_in -= 1
    counters.bytes_in -= size
    connection.frames_in -= 1
    connection.bytes_in -= size
    if connection.rate and connection.granted is None:
        connection.tokens += 1.0
    if interaction == REQUEST_RESPONSE:
        counters.request_response -= 1
    elif interaction == REQUEST_FNF:
        counters.fire_and_forget -= 1
    elif interaction == int(FrameType.REQUEST_STREAM):
        counters.request_stream -= 1
    else:
        counters.request_channel -= 1
