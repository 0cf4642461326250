"""Clients whose session outlives their link, and what they do with it: all four models, every item with its number.

`Resumable` is the client's half of a resume, without a socket: whoever has one gives it what came and takes what it
writes. `Caller` and `Servant` notice whatever is lost, doubled or out of order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.session import keepalive
from gateway.session.resume import Received, Retained
from gateway.wire.frames import (
    Cancel,
    Error,
    Frame,
    FrameType,
    KeepAlive,
    Payload,
    RequestChannel,
    RequestFnf,
    RequestN,
    RequestResponse,
    RequestStream,
    Resume,
    ResumeOk,
    Setup,
    decode,
    encode,
    peek_stream_id,
    peek_type,
)

RESPONSE, FNF, STREAM, CHANNEL = MODELS = ("response", "fnf", "stream", "channel")


class Resumable:
    """`write` takes a frame to the node, while there is a link; `resuming` until RESUME_OK has come on a new one."""

    def __init__(self, token: bytes) -> None:
        self.token = token
        self.retained = Retained(1 << 40)
        self.received = Received()
        self.write: Callable[[bytes], None] | None = None
        self.resuming = False
        self.resumed = 0
        self.refused: Error | None = None

    def post(self, *frames: Frame) -> None:
        for frame in frames:
            data = encode(frame)
            self.retained.append(data)
            if self.write is not None and not self.resuming:
                self.write(data)

    def cut(self) -> None:
        self.write = None

    def begin(self, setup: Setup, write: Callable[[bytes], None]) -> None:
        self.write = write
        write(encode(setup))

    def resume(self, write: Callable[[bytes], None]) -> None:
        self.write = write
        self.resuming = True
        write(encode(self.resume_frame()))

    def resume_frame(self) -> Resume:
        return Resume(self.token, self.received.position, self.retained.first_available)

    def take(self, data: bytes) -> None:
        """A frame came."""
        if self.resuming:
            self._resumed(decode(data))
            return
        self.received.take(peek_type(data), peek_stream_id(data), len(data))
        if peek_type(data) == FrameType.KEEPALIVE:
            self.retained.trim(keepalive.claimed(data, 0, len(data)))
            answer = keepalive.answer(data, 0, len(data), self.received.position)
            if answer and self.write is not None:
                self.write(answer)
            return
        frame = decode(data)
        if isinstance(frame, Error) and not frame.stream_id:
            self.refused = frame
            self.cut()
        else:
            self.heard(frame)

    def _resumed(self, frame: Frame) -> None:
        if isinstance(frame, Error):
            self.refused = frame
            self.cut()
            return
        assert isinstance(frame, ResumeOk), frame
        assert self.write is not None
        self.resuming = False
        self.resumed += 1
        self.retained.trim(frame.position)
        for data in self.retained.replay_from(frame.position):
            self.write(data)

    def ask(self) -> None:
        """Send a KEEPALIVE, as clients do now and then."""
        if self.write is not None and not self.resuming:
            self.write(encode(KeepAlive(True, self.received.position)))

    def heard(self, frame: Frame) -> None:
        raise NotImplementedError


@dataclass
class Call:
    """One request: `expected` items must come, `got` have."""

    model: str
    name: str
    expected: list[bytes]
    got: list[bytes] = field(default_factory=list)
    to_send: list[bytes] = field(default_factory=list)
    credit: int = 0
    ended: bool = False


class Caller(Resumable):
    """Asks, in whichever model, and checks what comes."""

    def __init__(self, token: bytes, metadata: bytes) -> None:
        super().__init__(token)
        self.metadata = metadata
        self.calls: dict[int, Call] = {}
        self.fired: list[bytes] = []
        self._next_id = 1

    def call(self, model: str, items: int, padding: int = 0) -> None:
        stream_id = self._next_id
        self._next_id += 2
        name = f"{self.token[:4].decode()}-{stream_id}"
        sent = [f"{name}:{number}:".encode().ljust(padding, b".") for number in range(items)]
        if model == FNF:
            self.fired.append(sent[0])
            self.post(RequestFnf(stream_id, self.metadata, sent[0]))
            return
        call = self.calls[stream_id] = Call(model, name, sent)
        if model == RESPONSE:
            call.expected = sent[:1]
            self.post(RequestResponse(stream_id, self.metadata, sent[0]))
        elif model == STREAM:
            ask = f"{name} {items} {padding}".encode()
            self.post(RequestStream(stream_id, self.metadata, ask, 2))
        else:
            call.to_send = sent[1:]
            self.post(RequestChannel(stream_id, self.metadata, sent[0], 2, complete=not call.to_send))

    def heard(self, frame: Frame) -> None:
        stream_id = getattr(frame, "stream_id", 0)
        call = self.calls[stream_id]
        assert not call.ended, f"{frame} behind the end of {call}"
        if isinstance(frame, RequestN):
            call.credit += frame.n
            while call.credit and call.to_send:
                call.credit -= 1
                data = call.to_send.pop(0)
                self.post(Payload(stream_id, None, data, next=True, complete=not call.to_send))
            return
        assert isinstance(frame, Payload), f"{frame} for {call}"
        if frame.next:
            call.got.append(frame.data)
            assert call.got == call.expected[: len(call.got)], call
            if call.model != RESPONSE and not frame.complete:
                self.post(RequestN(stream_id, 1))
        call.ended = frame.complete

    @property
    def waiting(self) -> list[Call]:
        return [call for call in self.calls.values() if not call.ended]

    def check(self) -> None:
        for call in self.calls.values():
            assert call.ended, call
            assert call.got == call.expected, call


@dataclass
class Serving:
    items: list[bytes]
    credit: int
    complete: bool


class Servant(Resumable):
    """Echoes requests and channels; a stream request's data says what its items are."""

    def __init__(self, token: bytes) -> None:
        super().__init__(token)
        self.fired: list[bytes] = []
        self.seen: set[int] = set()
        self.serving: dict[int, Serving] = {}

    def heard(self, frame: Frame) -> None:
        if isinstance(frame, RequestResponse | RequestFnf | RequestStream | RequestChannel):
            assert frame.stream_id not in self.seen, f"{frame} came twice"
            self.seen.add(frame.stream_id)
        if isinstance(frame, RequestResponse):
            self.post(Payload(frame.stream_id, None, frame.data, next=True, complete=True))
        elif isinstance(frame, RequestFnf):
            self.fired.append(frame.data)
        elif isinstance(frame, RequestStream):
            name, items, padding = frame.data.split()
            made = [name + f":{number}:".encode() for number in range(int(items))]
            made = [data.ljust(int(padding), b".") for data in made]
            self.serving[frame.stream_id] = Serving(made, frame.initial_n, True)
            self._go_on(frame.stream_id)
        elif isinstance(frame, RequestChannel):
            self.serving[frame.stream_id] = Serving([frame.data], frame.initial_n, frame.complete)
            if not frame.complete:
                self.post(RequestN(frame.stream_id, 2))
            self._go_on(frame.stream_id)
        else:
            self._on_stream(frame)

    def _on_stream(self, frame: Frame) -> None:
        stream_id = getattr(frame, "stream_id", 0)
        serving = self.serving.get(stream_id)
        if isinstance(frame, RequestN):
            # The last one may cross the end.
            if serving is not None:
                serving.credit += frame.n
                self._go_on(stream_id)
        elif isinstance(frame, Payload):
            assert serving is not None, frame
            serving.items.append(frame.data)
            serving.complete = frame.complete
            if not frame.complete:
                self.post(RequestN(stream_id, 1))
            self._go_on(stream_id)
        else:
            assert isinstance(frame, Cancel | Error), frame
            self.serving.pop(stream_id, None)

    def _go_on(self, stream_id: int) -> None:
        serving = self.serving[stream_id]
        while serving.credit and serving.items:
            serving.credit -= 1
            data = serving.items.pop(0)
            last = serving.complete and not serving.items
            self.post(Payload(stream_id, None, data, next=True, complete=last))
            if last:
                del self.serving[stream_id]
