"""A requester and a responder joined without a broker, bytes cut anywhere.

Both carry frames behind TCP's prefix, which looks the same in both directions.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from random import Random
from typing import cast

from gateway.load.calls import Calls
from gateway.load.endpoint import Endpoint
from gateway.load.responder import Responder
from gateway.load.tally import Tally
from gateway.load.templates import Framing
from gateway.wire.frames import Frame, Payload, RequestChannel, RequestN, RequestStream, decode, encode
from gateway.wire.prefix import prefix

FRAMING = Framing(None)


class Side:
    """The transport of one endpoint: what it writes waits here."""

    def __init__(self) -> None:
        self.waiting = bytearray()

    def write(self, data: bytes) -> None:
        self.waiting += data


class Pipe:
    """Joins two endpoints. `seen` are the frames that crossed, as (from the requester, frame)."""

    def __init__(self, calls: Calls, responder: Responder, tally: Tally, random: Random) -> None:
        self.calls = calls
        self.responder = responder
        self.tally = tally
        self.seen: list[tuple[bool, Frame]] = []
        self._random = random
        self._sides = (Side(), Side())
        self._whole = (bytearray(), bytearray())
        calls.attach(cast(asyncio.Transport, self._sides[0]), b"")
        responder.attach(cast(asyncio.Transport, self._sides[1]), b"")

    def deliver(self, rounds: int = 1_000_000, until: Callable[[], object] = lambda: False) -> None:
        """Pass bytes on, some at a time, until there are none left, or so many times, or until something is so."""
        for _ in range(rounds):
            if until():
                return
            sides = [index for index in (0, 1) if self._sides[index].waiting]
            if not sides:
                return
            index = self._random.choice(sides)
            waiting = self._sides[index].waiting
            count = self._random.randint(1, len(waiting))
            self._watch(index, bytes(waiting[:count]))
            take(self.responder if index == 0 else self.calls, bytes(waiting[:count]))
            del waiting[:count]

    def inject(self, frame: Frame, into: Endpoint | None = None) -> None:
        """Let one side, else the requester, get a frame that the other did not send. Only between whole messages."""
        data = encode(frame)
        take(into or self.calls, prefix(len(data)) + data)

    def of(self, kind: type[Frame], *, up: bool) -> list[Frame]:
        return [frame for is_up, frame in self.seen if is_up is up and isinstance(frame, kind)]

    def overdrawn(self) -> dict[tuple[bool, int], int]:
        """Items that were sent without credit, by direction and stream."""
        credit: dict[tuple[bool, int], int] = defaultdict(int)
        short: dict[tuple[bool, int], int] = defaultdict(int)
        for up, frame in self.seen:
            if isinstance(frame, RequestStream | RequestChannel):
                credit[not up, frame.stream_id] = frame.initial_n
            elif isinstance(frame, RequestN):
                credit[not up, frame.stream_id] += frame.n
            elif isinstance(frame, Payload) and frame.next:
                credit[up, frame.stream_id] -= 1
                if credit[up, frame.stream_id] < 0:
                    short[up, frame.stream_id] += 1
        return dict(short)

    def _watch(self, index: int, data: bytes) -> None:
        whole = self._whole[index]
        whole += data
        while len(whole) >= 3 and len(whole) >= (end := 3 + int.from_bytes(whole[:3], "big")):
            self.seen.append((index == 0, decode(bytes(whole[3:end]))))
            del whole[:end]


def take(endpoint: Endpoint, data: bytes) -> None:
    """Hand bytes to an endpoint as a transport does."""
    while data:
        buffer = endpoint.get_buffer(-1)
        count = min(len(buffer), len(data))
        buffer[:count] = data[:count]
        data = data[count:]
        endpoint.buffer_updated(count)
