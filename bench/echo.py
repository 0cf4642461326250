"""Request and reply through other people's brokers, over raw sockets and in whole batches.

A client library would be what is measured. So each dialect has messages of one size, whose answer is the message with a
few bytes replaced: a read is cut by its length alone, and the next requests are made from the answers by
`bytes.replace`, without a look at single messages. One slot of each connection is timed.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from time import perf_counter, process_time
from typing import Protocol, cast

from gateway.load.crowd import room_for
from gateway.load.histogram import Histogram
from gateway.load.shape import Latency, Result, Shape

READY_S = 10.0


class Dialect(Protocol):
    """How a broker is spoken to. A hello is answered by bytes that end with `ready`."""

    name: str

    def caller_hello(self, number: int) -> bytes: ...
    def server_hello(self) -> bytes: ...
    def ready(self, received: bytes) -> bool: ...
    def request(self, number: int, slot: int, payload: bytes) -> bytes: ...
    def request_size(self, payload: bytes) -> int: ...
    def answer_size(self, payload: bytes) -> int: ...
    def answers(self, requests: bytes) -> bytes: ...
    def requests(self, answers: bytes) -> bytes: ...
    def timed(self, number: int) -> bytes: ...
    def other(self, data: bytes) -> tuple[bytes, bytes]: ...


class Nats:
    """NATS: a subject in a queue group, and an inbox a connection with a token a slot."""

    def __init__(self, name: str) -> None:
        self.name = name

    _CONNECT = b'CONNECT {"verbose":false,"pedantic":false,"name":"bench","lang":"raw","version":"1"}\r\n'

    def caller_hello(self, number: int) -> bytes:
        return self._CONNECT + b"SUB _INBOX.c%04d.* 1\r\nPING\r\n" % number

    def server_hello(self) -> bytes:
        return self._CONNECT + b"SUB bench.echo bench 1\r\nPING\r\n"

    def ready(self, received: bytes) -> bool:
        return received.endswith(b"PONG\r\n")

    def request(self, number: int, slot: int, payload: bytes) -> bytes:
        return b"PUB bench.echo _INBOX.c%04d.%04d %d\r\n%b\r\n" % (number, slot, len(payload), payload)

    def request_size(self, payload: bytes) -> int:
        return len(b"MSG bench.echo 1 _INBOX.c0000.0000 %d\r\n%b\r\n" % (len(payload), payload))

    def answer_size(self, payload: bytes) -> int:
        return len(b"MSG _INBOX.c0000.0000 1 %d\r\n%b\r\n" % (len(payload), payload))

    def answers(self, requests: bytes) -> bytes:
        return requests.replace(b"MSG bench.echo 1 ", b"PUB ")

    def requests(self, answers: bytes) -> bytes:
        return answers.replace(b"MSG ", b"PUB bench.echo ").replace(b" 1 ", b" ")

    def timed(self, number: int) -> bytes:
        return b"_INBOX.c%04d.0000 " % number

    def other(self, data: bytes) -> tuple[bytes, bytes]:
        if b"PING\r\n" not in data:
            return data, b""
        return data.replace(b"PING\r\n", b""), b"PONG\r\n"


class Mqtt:
    """MQTT 3.1.1, QoS 0: requests and answers on two trees of topics; servers share a subscription."""

    def __init__(self, name: str, servers: int = 1) -> None:
        self.name = name
        self._shared = servers > 1
        self._clients = 0

    def caller_hello(self, number: int) -> bytes:
        return self._hello(b"bench/got/c%04d/+" % number)

    def server_hello(self) -> bytes:
        return self._hello(b"$share/bench/bench/ask/#" if self._shared else b"bench/ask/#")

    def ready(self, received: bytes) -> bool:
        # CONNACK has four bytes, SUBACK five.
        return len(received) == 9 and received[3] == 0 and received[8] == 0

    def request(self, number: int, slot: int, payload: bytes) -> bytes:
        return _packet(0x30, _string(b"bench/ask/c%04d/%04d" % (number, slot)) + payload)

    def request_size(self, payload: bytes) -> int:
        return len(self.request(0, 0, payload))

    answer_size = request_size

    def answers(self, requests: bytes) -> bytes:
        return requests.replace(b"bench/ask/", b"bench/got/")

    def requests(self, answers: bytes) -> bytes:
        return answers.replace(b"bench/got/", b"bench/ask/")

    def timed(self, number: int) -> bytes:
        return b"/c%04d/0000" % number

    def other(self, data: bytes) -> tuple[bytes, bytes]:
        return data, b""

    def _hello(self, topic: bytes) -> bytes:
        self._clients += 1
        client = b"bench-%d" % self._clients
        connect = _string(b"MQTT") + struct.pack(">BBH", 4, 2, 0) + _string(client)
        return _packet(0x10, connect) + _packet(0x82, struct.pack(">H", 1) + _string(topic) + b"\x00")


def _string(text: bytes) -> bytes:
    return struct.pack(">H", len(text)) + text


def _packet(first: int, body: bytes) -> bytes:
    length, size = len(body), bytearray()
    while True:
        length, low = length >> 7, length & 0x7F
        size.append(low | (0x80 if length else 0))
        if not length:
            return bytes((first,)) + bytes(size) + body


class Score:
    """What the connections of one run have counted."""

    def __init__(self) -> None:
        self.running = False
        self.operations = 0
        self.errors = 0
        self.texts: list[str] = []
        self.latencies = Histogram()

    def fail(self, text: str) -> None:
        self.errors += 1
        if text not in self.texts:
            self.texts.append(text)


class Link(asyncio.Protocol):
    """One connection: greets, then gets whole messages."""

    def __init__(self, dialect: Dialect, score: Score, hello: bytes, size: int) -> None:
        self.dialect = dialect
        self.score = score
        self.accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None
        self._hello = hello
        self._size = size
        self._rest = b""

    def write(self, data: bytes) -> None:
        assert self.transport is not None
        if data:
            self.transport.write(data)

    def begin(self) -> None:
        """Send what this side begins with."""

    def messages(self, batch: bytes, count: int) -> None:
        """Take `count` messages."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.write(self._hello)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if not self.accepted.done():
            if self.dialect.ready(data):
                self.accepted.set_result(None)
            else:
                self._rest = data
            return
        data, reply = self.dialect.other(data)
        if reply:
            self.write(reply)
        count = len(data) // self._size
        whole = count * self._size
        if whole < len(data):
            self._rest = data[whole:]
            data = data[:whole]
        if count:
            self.messages(data, count)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.accepted.done():
            self.accepted.set_exception(ConnectionError(f"closed before it was ready: {self._rest!r}"))
        elif self.score.running:
            self.score.fail(f"connection lost: {exc or 'closed by the broker'}")


class Caller(Link):
    def __init__(self, dialect: Dialect, score: Score, number: int, in_flight: int, payload: bytes) -> None:
        super().__init__(dialect, score, dialect.caller_hello(number), dialect.answer_size(payload))
        self._first = b"".join(dialect.request(number, slot, payload) for slot in range(in_flight))
        self._timed = dialect.timed(number)
        self._begun = 0.0

    def begin(self) -> None:
        self._begun = perf_counter()
        self.write(self._first)

    def messages(self, batch: bytes, count: int) -> None:
        score = self.score
        score.operations += count
        if self._timed in batch:
            now = perf_counter()
            score.latencies.record(now - self._begun)
            self._begun = now
        if score.running:
            self.write(self.dialect.requests(batch))


class Server(Link):
    def __init__(self, dialect: Dialect, score: Score, payload: bytes) -> None:
        super().__init__(dialect, score, dialect.server_hello(), dialect.request_size(payload))

    def messages(self, batch: bytes, count: int) -> None:
        self.write(self.dialect.answers(batch))


class Subscriber(Caller):
    """Publishes what it gets once more, over another connection: a bounded number of messages in one direction."""

    def __init__(self, dialect: Mqtt, score: Score, in_flight: int, payload: bytes, publisher: Link) -> None:
        super().__init__(dialect, score, 0, in_flight, payload)
        self._publisher = publisher
        self._hello = dialect.server_hello()

    def begin(self) -> None:
        self._begun = perf_counter()
        self._publisher.write(self._first)

    def messages(self, batch: bytes, count: int) -> None:
        self.score.operations += count
        if self.score.running:
            self._publisher.write(batch)


async def echoes(dialect: Dialect, port: int, shape: Shape) -> Result:
    """Requests and replies in one shape through the broker on `port`."""
    score = Score()
    payload = b"x" * shape.payload
    servers: list[Link] = [Server(dialect, score, payload) for _ in range(shape.responders)]
    callers = [Caller(dialect, score, number, shape.in_flight, payload) for number in range(shape.requesters)]
    return await run(dialect.name, score, port, [*servers, *callers], shape)


async def publications(dialect: Mqtt, port: int, shape: Shape) -> Result:
    """Publishing to one subscriber, as many messages under way as the shape has in flight."""
    score = Score()
    payload = b"x" * shape.payload
    publisher: Link = Caller(dialect, score, 1, 0, payload)
    subscriber = Subscriber(dialect, score, shape.in_flight, payload, publisher)
    return await run(dialect.name, score, port, [publisher, subscriber], shape)


async def run(name: str, score: Score, port: int, links: Sequence[Link], shape: Shape) -> Result:
    """Connect every link in turn, let the callers begin, and count for as long as the shape says."""
    loop = asyncio.get_running_loop()
    room_for(len(links))
    try:
        for link in links:
            async with asyncio.timeout(READY_S):
                await loop.create_connection(lambda link=link: link, "127.0.0.1", port)  # type: ignore[misc]
                await link.accepted
        score.running = True
        for link in links:
            link.begin()
        await asyncio.sleep(shape.warm_up)
        score.latencies.clear()
        operations, begun, cpu = score.operations, perf_counter(), process_time()
        await asyncio.sleep(shape.seconds)
        seconds, load = perf_counter() - begun, process_time() - cpu
        return Result(
            name=name,
            shape=str(shape),
            unit=shape.model.unit,
            operations=score.operations - operations,
            seconds=seconds,
            latency=Latency.of(score.latencies),
            errors=score.errors,
            load=load / seconds,
            texts=tuple(score.texts),
        )
    finally:
        score.running = False
        for link in links:
            if link.transport is not None:
                link.transport.abort()
        await asyncio.sleep(0)
