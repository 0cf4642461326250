"""A peer on stock rsocket-py: serves and calls over as many connections as its driver asks for.

One JSON command a line on stdin, one JSON answer a line on stdout, end of stdin = exit; see ``peers.py``. The
library's WebSocket client transports need packages that nothing else here needs, so its transport over ``websockets``
is used, which reads and writes a client's connection as well as a server's.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from reactivestreams.publisher import Publisher
from reactivestreams.subscriber import Subscriber
from reactivestreams.subscription import Subscription
from rsocket.error_codes import ErrorCode
from rsocket.exceptions import RSocketProtocolError
from rsocket.extensions.composite_metadata import CompositeMetadata
from rsocket.extensions.helpers import authenticate_bearer, composite, metadata_item, require_route, route
from rsocket.extensions.mimetypes import WellKnownMimeTypes
from rsocket.frame_helpers import ensure_bytes
from rsocket.helpers import create_error_future, create_response, single_transport_provider
from rsocket.payload import Payload
from rsocket.request_handler import BaseRequestHandler
from rsocket.rsocket_client import RSocketClient
from rsocket.streams.stream_from_generator import StreamFromGenerator
from rsocket.transports.tcp import TransportTCP
from rsocket.transports.websockets_transport import WebsocketsTransport
from websockets.asyncio.client import ClientConnection, connect

JSON = dict[str, Any]
BROKER_FRAME = b"message/x.rsocket.broker.frame.v0"
MAX_LINE_BYTES = 1 << 20


class Failure(Exception):
    """What a call ended with: its code where the library tells it, its text, and the items before it."""

    def __init__(self, code: int | None, text: str, items: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.items = items

    @classmethod
    def of(cls, exception: BaseException, items: tuple[str, ...] = ()) -> Failure:
        if isinstance(exception, RSocketProtocolError):
            return cls(int(exception.error_code), str(exception.data or ""), items)
        # The library turns APPLICATION_ERROR, and nothing else, into a plain RuntimeError.
        code = int(ErrorCode.APPLICATION_ERROR) if type(exception) is RuntimeError else None
        return cls(code, str(exception), items)


class Record:
    """What a serving peer remembers and may be asked about later."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.streams: dict[str, JSON] = {}


def response(value: object) -> Awaitable[Payload]:
    return create_response(json.dumps(value).encode())


def failure(asked: JSON) -> Exception:
    # The annotation says ErrorCode, which has no application codes; any integer is sent as it is.
    return RSocketProtocolError(asked["code"], asked["text"])


class Echo(Publisher, Subscriber, Subscription):
    """A channel that sends back what it gets, one item asked for and passed on for each credit of the caller."""

    def __init__(self, first: Payload) -> None:
        self._waiting = [first]
        self._credit = 0
        self._input_done = False
        self._out: Any = None
        self._in: Any = None

    def subscribe(self, subscriber: Subscriber) -> None:
        self._out = subscriber
        subscriber.on_subscribe(self)

    def on_subscribe(self, subscription: Subscription) -> None:
        self._in = subscription

    def on_next(self, value: Payload, is_complete: bool = False) -> None:
        self._waiting.append(value)
        self._input_done = self._input_done or is_complete
        self._drain()

    def on_complete(self) -> None:
        self._input_done = True
        self._drain()

    def on_error(self, exception: Exception) -> None:
        self._waiting.clear()

    def request(self, n: int) -> None:
        self._credit += n
        # The library sets the stream up further after this call, so the answer must not start inside it.
        asyncio.get_running_loop().call_soon(self._drain)

    def cancel(self) -> None:
        self._credit = 0

    def _drain(self) -> None:
        while self._credit > 0 and self._waiting:
            self._credit -= 1
            self._out.on_next(Payload(self._waiting.pop(0).data))
            if not self._input_done:
                self._in.request(1)
        if self._input_done and not self._waiting and self._out is not None:
            self._out.on_complete()
            self._out = None


class Handler(BaseRequestHandler):
    def __init__(self, record: Record, closed: asyncio.Future[None]) -> None:
        self._record = record
        self._closed = closed

    async def on_error(self, error_code: ErrorCode, payload: Payload) -> None:
        if not self._closed.done():
            self._closed.set_exception(Failure(int(error_code), ensure_bytes(payload.data).decode()))

    async def request_fire_and_forget(self, payload: Payload) -> None:
        self._record.notes.append(payload.data.decode())

    async def request_response(self, payload: Payload) -> Awaitable[Payload]:
        found = CompositeMetadata()
        found.parse(payload.metadata)
        data = bytes(payload.data or b"").decode()
        match require_route(found).rpartition(".")[2]:
            case "echo":
                return create_response(data.encode())
            case "fail":
                return create_error_future(failure(json.loads(data)))
            case "seen":
                return response([[item.encoding.decode(), item.serialize().hex()] for item in found.items])
            case "notes":
                return response(self._record.notes)
            case "progress":
                return response(self._record.streams.get(data))
            case unknown:
                raise LookupError(unknown)

    async def request_stream(self, payload: Payload) -> Publisher:
        asked = json.loads(payload.data)
        progress = self._record.streams[asked["key"]] = {"produced": 0, "cancelled": False}

        def items() -> Iterator[tuple[Payload, bool]]:
            for number in range(asked["count"]):
                progress["produced"] += 1
                last = number == asked["count"] - 1 and "text" not in asked
                yield Payload(str(number).encode()), last
            if "text" in asked:
                raise failure(asked)

        return StreamFromGenerator(items, on_cancel=lambda: progress.update(cancelled=True))

    async def request_channel(self, payload: Payload) -> tuple[Publisher, Subscriber]:
        echo = Echo(payload)
        return echo, echo


class Collector(Subscriber):
    """Collects items under the given credits; when they are used up, cancels."""

    def __init__(self, credits: list[int]) -> None:
        self.result: asyncio.Future[JSON] = asyncio.get_running_loop().create_future()
        self._items: list[str] = []
        self._credits = credits[1:]
        self._due = credits[0]
        self._subscription: Any = None

    def on_subscribe(self, subscription: Subscription) -> None:
        self._subscription = subscription

    def on_next(self, value: Payload, is_complete: bool = False) -> None:
        self._items.append(value.data.decode())
        self._due -= 1
        if is_complete:
            self.on_complete()
        elif self._due == 0 and self._credits:
            self._due = self._credits.pop(0)
            self._subscription.request(self._due)
        elif self._due == 0:
            self._subscription.cancel()
            self.result.set_result({"items": self._items, "completed": False})

    def on_error(self, exception: Exception) -> None:
        if not self.result.done():
            self.result.set_exception(Failure.of(exception, tuple(self._items)))

    def on_complete(self) -> None:
        if not self.result.done():
            self.result.set_result({"items": self._items, "completed": True})


def _broker_entries(args: JSON) -> list[Any]:
    return [metadata_item(bytes.fromhex(frame["hex"]), BROKER_FRAME) for frame in args.get("frames") or ()]


def _message(args: JSON, data: str) -> Payload:
    return Payload(data.encode(), composite(route(args["route"]), *_broker_entries(args)))


class Connection:
    """One connection of the peer, with what must be ended along with it."""

    def __init__(self, client: RSocketClient, socket: ClientConnection | None, pump: asyncio.Task[None] | None) -> None:
        self.client = client
        self._socket = socket
        self._pump = pump

    async def close(self) -> None:
        await self.client.close()
        if self._socket is not None:
            await self._socket.close()
        if self._pump is not None:
            await self._pump


class Peer:
    def __init__(self) -> None:
        self._connections: dict[str, Connection] = {}
        self._record = Record()

    async def answer(self, command: str, args: JSON) -> JSON:
        commands: dict[str, Callable[[JSON], Awaitable[JSON]]] = {
            "connect": self._connect,
            "request": self._request,
            "fnf": self._fnf,
            "stream": self._stream,
            "channel": self._channel,
            "close": self._close,
        }
        return await commands[command](args)

    def _client(self, args: JSON) -> RSocketClient:
        return self._connections[args["connection"]].client

    async def _connect(self, args: JSON) -> JSON:
        closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        url = urlsplit(args["url"])
        socket = pump = None
        if url.scheme == "tcp":
            transport: Any = TransportTCP(*await asyncio.open_connection(url.hostname, url.port))
        else:
            socket = await connect(args["url"], subprotocols=["rsocket"], max_size=None)  # type: ignore[list-item]
            transport = WebsocketsTransport()
            pump = asyncio.create_task(transport.handler(socket))
        client = RSocketClient(
            single_transport_provider(transport),
            handler_factory=lambda: Handler(self._record, closed),
            data_encoding=WellKnownMimeTypes.APPLICATION_JSON,
            metadata_encoding=WellKnownMimeTypes.MESSAGE_RSOCKET_COMPOSITE_METADATA,
            keep_alive_period=timedelta(milliseconds=args["keepalive_ms"]),
            max_lifetime_period=timedelta(milliseconds=args["lifetime_ms"]),
            setup_payload=Payload(None, composite(authenticate_bearer(args["token"]), *_broker_entries(args))),
            fragment_size_bytes=args["fragment_bytes"],
        )
        await client.connect()
        self._connections[args["connection"]] = Connection(client, socket, pump)
        ready = asyncio.ensure_future(client.request_response(_message({"route": "gateway.ready"}, "")))
        await asyncio.wait({ready, closed}, return_when=asyncio.FIRST_COMPLETED)
        if closed.done():
            ready.cancel()
            await closed
        return {"data": (await ready).data.decode()}

    async def _request(self, args: JSON) -> JSON:
        payload = await self._client(args).request_response(_message(args, args["data"]))
        return {"data": bytes(payload.data or b"").decode()}

    async def _fnf(self, args: JSON) -> JSON:
        await self._client(args).fire_and_forget(_message(args, args["data"]))
        return {}

    async def _stream(self, args: JSON) -> JSON:
        collector = Collector(args["credits"])
        stream = self._client(args).request_stream(_message(args, args["data"]))
        stream.initial_request_n(args["credits"][0]).subscribe(collector)
        return await collector.result

    async def _channel(self, args: JSON) -> JSON:
        first, *rest = args["items"]

        def items() -> Iterator[tuple[Payload, bool]]:
            for number, item in enumerate(rest, 1):
                yield Payload(item.encode()), number == len(rest)

        collector = Collector(args["credits"])
        outgoing = StreamFromGenerator(items) if rest else None
        channel = self._client(args).request_channel(_message(args, first), outgoing)
        channel.initial_request_n(args["credits"][0]).subscribe(collector)
        return await collector.result

    async def _close(self, args: JSON) -> JSON:
        await self._connections.pop(args["connection"]).close()
        return {}


async def _say(peer: Peer, line: bytes) -> None:
    args = json.loads(line)
    number, command = args.pop("id"), args.pop("command")
    try:
        answer = await peer.answer(command, args)
    except Exception as exception:
        failed = exception if isinstance(exception, Failure) else Failure.of(exception)
        answer = {"error": {"code": failed.code, "text": failed.text}, "items": list(failed.items)}
    print(json.dumps({"id": number, **answer}), flush=True)


async def main() -> None:
    peer = Peer()
    lines = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    answering: set[asyncio.Task[None]] = set()
    while line := await lines.readline():
        task = asyncio.create_task(_say(peer, line))
        answering.add(task)
        task.add_done_callback(answering.discard)


if __name__ == "__main__":
    asyncio.run(main())
