"""Connections that this node opens to others: WebSocket to a parent, TCP to a peer, each under TLS.

The same carriers as for what a listener accepts, from the other side: over WebSocket this side masks and the other does
not. `websockets` does the handshake, sans I/O, and the connection takes the stream over.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidURI
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from gateway.errors import FederationError
from gateway.forwarding.connection import Connection
from gateway.forwarding.plane import Plane
from gateway.transport.carrier import House, SocketCarrier
from gateway.transport.carriers import Carriers
from gateway.transport.tcp import TcpCarrier
from gateway.transport.websocket import SUBPROTOCOL, Handshake, WebSocketCarrier

#: Ports where an address names none.
PORTS: Final = {"ws": 7878, "wss": 7878, "tcp": 7879, "tls": 7879}
_SECURE: Final = ("wss", "tls")
_MAX_HEAD_BYTES: Final = 16 * 1024
_silent = logging.getLogger(f"{__name__}.handshake")
_silent.setLevel(logging.ERROR)


class DialledWebSocket(WebSocketCarrier):
    """The client's side of one WebSocket. `refused`: why the other side did not agree, if it did not."""

    __slots__ = ("_protocol", "refused")

    dialled = True

    def __init__(
        self, plane: Plane, loop: asyncio.AbstractEventLoop, house: House, handshake: Handshake, url: str
    ) -> None:
        super().__init__(plane, loop, house, handshake)
        self._protocol = ClientProtocol(parse_uri(url), subprotocols=[SUBPROTOCOL], logger=_silent)
        self.refused = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._protocol.send_request(self._protocol.connect())
        self.write(b"".join(self._protocol.data_to_send()))

    def greeted(self, data: bytes) -> None:
        self.head += data
        end = self.head.find(b"\r\n\r\n") + 4
        if end < 4 and len(self.head) <= _MAX_HEAD_BYTES:
            return
        head, rest = self.head[:end], self.head[end:]
        self.head = b""
        self._protocol.receive_data(head)
        response = next(iter(self._protocol.events_received()), None)
        if self._protocol.state is not State.OPEN:
            status = f"answers with HTTP status {response.status_code}" if isinstance(response, Response) else ""
            self.refused = status or str(self._protocol.handshake_exc or "is no WebSocket server")
            self.abort()
            return
        self._established(None)
        if rest and self.connection is not None:
            self.read(rest)


class Dialer:
    """Opens connections for one node, and closes them when it stops. It is the house of what it has opened."""

    def __init__(self, plane: Plane, handshake: Handshake) -> None:
        self._plane = plane
        self._handshake = handshake
        self._carriers = Carriers()
        self._waiting: dict[SocketCarrier, asyncio.Future[None]] = {}

    async def dial(self, url: str, tls: ssl.SSLContext | None, timeout_s: float) -> Connection:
        """A connection over which nothing has been said yet. `url`: wss, ws, tls or tcp.

        Raises:
            FederationError: nobody is there, or not whom `tls` trusts, or something else answers.
        """
        loop = asyncio.get_running_loop()
        parts = urlsplit(url)
        carrier: SocketCarrier
        try:
            if parts.scheme in ("ws", "wss"):
                carrier = DialledWebSocket(self._plane, loop, self, self._handshake, url)
            else:
                carrier = TcpCarrier(self._plane, loop, self)
        except InvalidURI as error:
            raise FederationError(str(error)) from error
        ready = self._waiting[carrier] = loop.create_future()
        secure = parts.scheme in _SECURE
        try:
            async with asyncio.timeout(timeout_s):
                await loop.create_connection(
                    lambda: carrier,
                    parts.hostname or "",
                    parts.port or PORTS[parts.scheme],
                    ssl=tls if secure else None,
                    server_hostname=parts.hostname if secure else None,
                )
                await ready
        except TimeoutError as error:
            carrier.abort()
            raise FederationError(f"{url} does not answer within {timeout_s:g} s", reason="unreachable") from error
        except (OSError, InvalidHandshake) as error:
            carrier.abort()
            said = getattr(carrier, "refused", "") or str(error)
            raise FederationError(f"{url}: {said}", reason="unreachable") from error
        except BaseException:
            carrier.abort()
            raise
        finally:
            self._waiting.pop(carrier, None)
        assert carrier.connection is not None
        return carrier.connection

    async def over(self, end: socket.socket) -> Connection:
        """A connection over a socket that is there already, one end of a pair; whoever is at the other end may dial.

        Raises OSError.
        """
        loop = asyncio.get_running_loop()
        carrier = TcpCarrier(self._plane, loop, self)
        await loop.create_unix_connection(lambda: carrier, sock=end)
        assert carrier.connection is not None
        return carrier.connection

    async def stop(self) -> None:
        """Close what is still open, and wait until the sockets are gone."""
        await self._carriers.close()

    # What carriers tell

    def opened(self, carrier: SocketCarrier) -> None:
        self._carriers.add(carrier)
        if not carrier.handshake_timeout_s:
            self._plane.schedule(lambda: self.established(carrier))

    def queue(self, work: Callable[[], None]) -> None:
        """This node has dialled: nobody stands in line for that."""
        self._plane.schedule(work)

    def established(self, carrier: SocketCarrier) -> None:
        waiting = self._waiting.get(carrier)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def accepted(self, carrier: SocketCarrier) -> None: ...

    def closing(self, carrier: SocketCarrier) -> None: ...

    def ended(self, carrier: SocketCarrier) -> None:
        self._carriers.discard(carrier)
        waiting = self._waiting.get(carrier)
        if waiting is not None and not waiting.done():
            waiting.set_exception(ConnectionResetError("the connection was closed before it stood"))
