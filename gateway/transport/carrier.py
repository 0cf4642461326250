"""What both transports share: a socket under a connection, its write buffer, and a close that lets the peer read why.

Closing is in three steps, so that the last frame is not lost to a reset: write, half-close, then read and drop until
the peer closes, `LINGER_S` has passed or it has sent `LINGER_BYTES` more. TLS has no half-close; there the node closes
once nothing more comes.

Reading is fair, whatever a peer sends: a loop turn takes one read of it, `FRAMES_AT_ONCE` frames at most, and what is
left waits for the next turn with the socket unread. Who has not been let in yet stands in line for its handshake and
its SETUP (`reception`).

The one place of the data plane that catches what should not happen (DESIGN 5): a bug costs the connection that hit it,
is logged with its traceback, and is told to the peer without detail.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol, cast

from gateway.errors import ConnectionFailed, RejectedSetup
from gateway.forwarding.closing import CloseReason
from gateway.forwarding.connection import Connection
from gateway.forwarding.plane import Plane
from gateway.policy.asking import Reached
from gateway.transport.admission import TOKENS_REFUSED, Refusal, Visitor
from gateway.wire.sink import FrameSink

#: Bytes in the transport's own buffer above which the connection's outbox holds the rest.
WRITE_BUFFER_BYTES = 64 * 1024
LINGER_S = 2.0
#: Bytes that a peer may have had on their way when it was told to go; whoever sends more does not listen. Behind the
#: head of a handshake there is next to nothing to send before it is answered.
LINGER_BYTES = 8 * 1024 * 1024
LINGER_BYTES_REFUSED = 64 * 1024
#: How long nothing may come before a TLS connection is closed behind its last frame.
QUIET_S = 0.5
#: Frames of one peer that are handled before others have their turn of the loop.
FRAMES_AT_ONCE: Final = 256
#: A read behind which there is more: the loop would go on with the same socket for many of them.
LONG_READ_BYTES: Final = 64 * 1024

_logger = logging.getLogger(__name__)


class House(Protocol):
    """Whoever accepted the carrier and keeps account of it."""

    def opened(self, carrier: SocketCarrier) -> None:
        """There is a socket; TLS, if any, stands."""

    def queue(self, work: Callable[[], None]) -> None:
        """Do in its turn what somebody asks for who is not let in yet."""

    def established(self, carrier: SocketCarrier) -> None:
        """RSocket frames may come."""

    def accepted(self, carrier: SocketCarrier) -> None:
        """Its SETUP was accepted; may be said again."""

    def closing(self, carrier: SocketCarrier) -> None:
        """The node closes it; `close_code` says why."""

    def ended(self, carrier: SocketCarrier) -> None:
        """The socket is gone. Called once for each `opened`."""


def _nowhere(data: bytes) -> bool:
    raise AssertionError("there is no connection yet")


class SocketCarrier(asyncio.Protocol):
    """A carrier over an asyncio transport. Subclasses make the connection and set `feed`, which cuts its frames."""

    __slots__ = (
        "_behind",
        "_early",
        "_heard",
        "_known",
        "_lingering",
        "_overheard",
        "_paused",
        "_quiet_by",
        "_waiting",
        "close_code",
        "closing",
        "connection",
        "feed",
        "house",
        "loop",
        "plane",
        "transport",
        "visitor",
    )

    #: How long a handshake of the carrier's own may take once there is a socket; 0 where it has none.
    handshake_timeout_s = 0.0

    def __init__(self, plane: Plane, loop: asyncio.AbstractEventLoop, house: House) -> None:
        self.plane = plane
        self.loop = loop
        self.house = house
        self.closing = False
        #: The WebSocket close code that says why the node closed it, on either transport; 0 where it did not.
        self.close_code = 0
        #: What the house knows it by; None when it was not let in.
        self.visitor: Visitor | None = None
        self.transport: asyncio.Transport | None = None
        self.connection: Connection | None = None
        self.feed: Callable[[bytes], bool] = _nowhere
        #: Whether its SETUP was accepted; before, what it sends waits in `_early` until its turn has come.
        self._known = False
        self._early = b""
        #: Why the socket is not read: the connection wants it so; others have their turn. `_behind`: frames of what was
        #: read wait, too.
        self._paused = False
        self._waiting = False
        self._behind = False
        self._overheard = 0
        self._lingering: asyncio.TimerHandle | None = None
        self._quiet_by = 0.0
        self._heard = False

    def greeted(self, data: bytes) -> None:
        """Take what came before there was a connection."""
        raise NotImplementedError

    def refuse(self, refusal: Refusal) -> bool:
        """Be a carrier that only says why nobody is let in. Returns whether there is a way to say it."""
        return False

    def turn_away(self) -> None:
        """Too many tokens from this address were refused: its own is not even looked at (fault 63)."""
        if self.connection is None:
            self.abort()
        else:
            text = TOKENS_REFUSED.text
            error = RejectedSetup(text, reason=TOKENS_REFUSED.reason)
            self.connection.close(CloseReason.RATE_LIMITED, text, error)

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self.house.opened(self)

    def data_received(self, data: bytes) -> None:
        if self.closing:
            self._overhear(len(data))
        elif self._known:
            self.read(data)
        else:
            self._early += data
            if not self._waiting:
                self._wait()
                self.house.queue(self._have_turn)

    def eof_received(self) -> bool:
        """The peer has closed its side. RSocket knows no half-open connections: it is gone."""
        self._gone(CloseReason.PEER_CLOSED)
        if self.transport is not None and self._lingering is None:
            # The transport closes when its buffer is empty, which a peer that does not read would put off for ever.
            self._lingering = self.loop.call_later(LINGER_S, self.transport.abort)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
        self._gone(CloseReason.PEER_CLOSED if exc is None else CloseReason.PEER_RESET)
        self.house.ended(self)

    def pause_writing(self) -> None:
        if self.connection is not None:
            self.connection.block(self.plane.monotonic())

    def resume_writing(self) -> None:
        if self.connection is not None:
            self.connection.outbox.unblock()

    # Turns

    def read(self, data: bytes) -> None:
        """Let the connection have `data`, or what it has left of what it had."""
        assert self.connection is not None
        try:
            self._behind = self.connection.read(self.feed, data)
        except Exception:
            self._failed()
            return
        if (self._behind or len(data) >= LONG_READ_BYTES) and not self._waiting and not self.closing:
            self._wait()
            self.loop.call_soon(self._go_on)

    def _wait(self) -> None:
        """Read nothing until it is this peer's turn."""
        assert self.transport is not None
        self._waiting = True
        self.transport.pause_reading()

    def _go_on(self) -> None:
        """Others have had their turn."""
        self._waiting = False
        if self.closing:
            self._listen()
        elif not self._paused:
            if self._behind:
                self.read(b"")
            self._listen()

    def _have_turn(self) -> None:
        """The turn of somebody has come who is not let in yet."""
        self._waiting = False
        data, self._early = self._early, b""
        if not self.closing:
            if self.connection is not None:
                self.read(data)
            else:
                try:
                    self.greeted(data)
                except Exception:
                    self._failed()
        self._listen()

    def _listen(self) -> None:
        """Read on, unless there is a reason not to."""
        transport = self.transport
        if transport is None or self._waiting or transport.is_closing():
            return
        if self.closing or not self._paused:
            transport.resume_reading()

    def _overhear(self, size: int) -> None:
        """Something came from a peer that was told to go: it is dropped."""
        assert self.transport is not None
        self._heard = True
        self._overheard += size
        if self._overheard > (LINGER_BYTES if self.connection is not None else LINGER_BYTES_REFUSED):
            self.transport.abort()
        elif size >= LONG_READ_BYTES and not self._waiting:
            self._wait()
            self.loop.call_soon(self._go_on)

    # The connection's side

    def write(self, data: bytes) -> int:
        transport = self.transport
        if transport is None:
            return 0
        if not self.closing:
            transport.write(data)
        return transport.get_write_buffer_size()

    def buffered(self) -> int:
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def held(self) -> int:
        raise NotImplementedError

    def pause_reading(self) -> None:
        self._paused = True
        if self.transport is not None and not self.closing:
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        self._paused = False
        if self.transport is not None and not self.closing and not self._waiting:
            if self._behind:
                # In a turn of its own: whoever let it go on is in the midst of something.
                self._wait()
                self.loop.call_soon(self._go_on)
            else:
                self.transport.resume_reading()

    def allow(self, max_frame_bytes: int) -> None:
        self._known = True
        self.house.accepted(self)

    def close(self, code: int, text: str) -> None:
        self.close_with(code, b"")

    def close_with(self, code: int, last: bytes) -> None:
        if not self.closing:
            self.close_code = code
            self.house.closing(self)
            self.finish(last)

    def attach(self, connection: Connection, sink: FrameSink) -> None:
        self.connection = connection

    def detach(self) -> None:
        self.connection = None

    def abort(self) -> None:
        self.closing = True
        if self.transport is not None:
            self.transport.abort()

    def finish(self, last: bytes) -> None:
        """Write `last`, half-close, and wait a little for the peer to read it."""
        if self.closing or self.transport is None:
            return
        self.closing = True
        transport = self.transport
        if last:
            transport.write(last)
        # What the peer is sending has to be read, or the kernel answers it with a reset that overtakes our last frame.
        self._listen()
        if transport.can_write_eof():
            try:
                transport.write_eof()
            except OSError:
                # The peer has reset the connection, and the loop has yet to hear of it.
                transport.abort()
                return
            self._lingering = self.loop.call_later(LINGER_S, transport.abort)
        else:
            self._quiet_by = self.plane.monotonic() + LINGER_S
            self._lingering = self.loop.call_later(QUIET_S, self._close_when_quiet)

    def _close_when_quiet(self) -> None:
        assert self.transport is not None
        if self._heard and self.plane.monotonic() < self._quiet_by:
            self._heard = False
            self._lingering = self.loop.call_later(QUIET_S, self._close_when_quiet)
        else:
            self.transport.close()
            self._lingering = self.loop.call_later(LINGER_S, self.transport.abort)

    def peer_name(self) -> str:
        assert self.transport is not None
        peer = self.transport.get_extra_info("peername")
        return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "local"

    def reached(self, transport: str) -> Reached:
        """As access rules ask for it."""
        assert self.transport is not None
        peer = self.transport.get_extra_info("peername")
        tls = self.transport.get_extra_info("ssl_object") is not None
        return Reached(tls, transport, str(peer[0]) if isinstance(peer, tuple) else "")

    def _gone(self, reason: CloseReason) -> None:
        self.closing = True
        if self.connection is not None:
            self.connection.lost(reason)

    def _failed(self) -> None:
        peer = self.connection.peer if self.connection is not None else "a peer in its handshake"
        _logger.exception("a bug ended the connection of %s", peer)
        if self.connection is None:
            self.abort()
        else:
            self.connection.close(CloseReason.BUG, "internal error", ConnectionFailed("internal error"))
