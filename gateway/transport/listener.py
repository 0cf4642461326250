"""A listening socket and the carriers of what it accepts.

It accepts by itself instead of leaving that to the event loop's server: who is not let in costs an `accept` and a
`close`, no handshake; while as many handshakes are under way as there may be, others wait in the system's queue; and a
process that has run out of descriptors stops asking for a moment instead of spinning (faults 2, 15, 16).

A refusal is said where that is possible, on WebSocket by a status before the upgrade; that may cost a TLS handshake, so
it is rationed, and beyond the ration sockets are closed without a word.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Final, cast

from gateway.errors import ConfigError
from gateway.observe.metrics import Counters
from gateway.transport.admission import NO_DESCRIPTORS, Admission, Refusal
from gateway.transport.carrier import LINGER_S, House, SocketCarrier
from gateway.transport.carriers import Carriers
from gateway.transport.reception import Reception
from gateway.wire.websocket import CloseCode

#: Bytes that the system takes for a socket beyond those on their way. Left alone it takes megabytes, and while they
#: last, a peer that reads slowly looks like one that does not read at all (faults 14, 91).
_UNSENT_BYTES: Final = 128 * 1024
#: Descriptors that are left for everything that is no connection: files, logs, the other listeners.
RESERVED_DESCRIPTORS: Final = 64
#: How long accepting rests when the system has no descriptor or no memory for another socket.
REST_S: Final = 0.1
#: Accepted in one go, some 50 µs each; then others have their turn of the loop.
_AT_ONCE: Final = 8
#: Refusals that are being said at a time.
_MAX_ANSWERS: Final = 64
_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
#: Ends that say nothing about the peer: it went, or the node had its own reasons.
_IN_PEACE: Final = frozenset(
    {
        0,
        CloseCode.NORMAL,
        CloseCode.GOING_AWAY,
        CloseCode.INTERNAL_ERROR,
        CloseCode.SERVICE_RESTART,
        CloseCode.TRY_AGAIN_LATER,
        CloseCode.UNAUTHENTICATED,
        CloseCode.TIMEOUT,
        CloseCode.TAKEN_OVER,
    }
)
#: The same before SETUP, when going is no peaceful end; NORMAL is for who only asked whether the node is well.
_OWN_REASONS: Final = frozenset(
    {CloseCode.NORMAL, CloseCode.INTERNAL_ERROR, CloseCode.SERVICE_RESTART, CloseCode.TRY_AGAIN_LATER}
)

_logger = logging.getLogger(__name__)


class Listener:
    """Accepts connections on one address. `setting` names the setting that gave the address, for error messages.

    `make` makes a carrier that tells the listener, its house, how it fares. `monotonic` is the clock of `tick`. `tls`
    gives the context for the next connection, None for plain text. `shared`: other processes of the same user may
    accept on the same address, and the system deals out what comes.
    """

    def __init__(
        self,
        setting: str,
        host: str,
        port: int,
        make: Callable[[House], SocketCarrier],
        *,
        admission: Admission,
        reception: Reception,
        counters: Counters,
        monotonic: Callable[[], float],
        tls: Callable[[], ssl.SSLContext | None],
        tls_timeout_s: float,
        max_handshakes: int,
        backlog: int,
        shared: bool = False,
    ) -> None:
        self.setting = setting
        self.host = host
        self.port = port
        self._make = make
        self._admission = admission
        self._reception = reception
        self._counters = counters
        self._monotonic = monotonic
        self._tls = tls
        self.tls_timeout_s = tls_timeout_s
        self._max_handshakes = max_handshakes
        self._backlog = backlog
        self._shared = shared
        self._loop: asyncio.AbstractEventLoop
        self._sockets: list[socket.socket] = []
        self._listening = False
        self._resting: asyncio.TimerHandle | None = None
        self._exhausted = False
        self._descriptors = _descriptor_limit() - RESERVED_DESCRIPTORS
        self._carriers = Carriers()
        #: Those still in a handshake, TLS or WebSocket, with the moment when it must be over.
        self._pending: dict[SocketCarrier, float] = {}
        #: Those that are only told why they are not let in, with the moment when that must be over.
        self._refused: dict[SocketCarrier, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def accept_on(self, sockets: Iterable[socket.socket]) -> None:
        """Accept on sockets that are bound already, as `another` made them."""
        self._loop = asyncio.get_running_loop()
        for bound in sockets:
            self._sockets.append(bound)
            bound.setblocking(False)
            bound.listen(self._backlog)
        self.port = self._sockets[0].getsockname()[1]
        self._listen()

    def another(self) -> list[socket.socket]:
        """Further sockets at the addresses of this shared listener, for another process. Raises OSError."""
        made: list[socket.socket] = []
        try:
            for first in self._sockets:
                made.append(self._bound(first.family, first.getsockname()))
        except OSError:
            for each in made:
                each.close()
            raise
        return made

    async def start(self) -> int:
        """Bind; return the port. Raises ConfigError naming the setting when the address cannot be had."""
        self._loop = asyncio.get_running_loop()
        try:
            found = await self._loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, _, _, _, address in dict.fromkeys(found):
                if self._shared:
                    # Nobody but the processes of this node: where it is shared already, it is somebody else's.
                    self._bound(family, address, alone=True).close()
                listening = self._bound(family, address)
                self._sockets.append(listening)
                listening.listen(self._backlog)
        except OSError as error:
            self.stop_accepting()
            raise ConfigError(
                f"{self.setting}: cannot listen on {self.host}:{self.port}: {_why(error)}; "
                f"stop what uses it or set another address"
            ) from error
        self.port = self._sockets[0].getsockname()[1]
        self._listen()
        return self.port

    def _bound(self, family: int, address: object, *, alone: bool = False) -> socket.socket:
        # With its protocol spelled out, or asyncio would not know that what it accepts can do without Nagle's delay.
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            bound.setblocking(False)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._shared and not alone:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # what is accepted inherits it
                bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
            bound.bind(address)  # type: ignore[arg-type]
        except BaseException:
            bound.close()
            raise
        return bound

    # Accepting

    def _listen(self) -> None:
        """Take what comes, unless there is a reason to wait."""
        if self._listening or self._resting is not None or self._crowded:
            return
        self._listening = True
        for listening in self._sockets:
            self._loop.add_reader(listening.fileno(), self._come, listening)

    def _wait(self) -> None:
        if self._listening:
            self._listening = False
            for listening in self._sockets:
                self._loop.remove_reader(listening.fileno())

    @property
    def _crowded(self) -> bool:
        return bool(self._max_handshakes) and len(self._pending) >= self._max_handshakes

    def _come(self, listening: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            if self._crowded:
                self._counters.refuse("max_handshakes")
                self._wait()
                return
            try:
                accepted, peer = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._rest(error)
                return
            accepted.setblocking(False)
            self._judge(accepted, peer[0])

    def _rest(self, error: OSError) -> None:
        if error.errno not in _EXHAUSTED:
            _logger.error("%s: cannot accept: %s", self.setting, error)
        elif not self._exhausted:
            self._exhausted = True
            _logger.error("%s: cannot accept: %s; it is tried again until it works", self.setting, error.strerror)
        self._wait()
        self._resting = self._loop.call_later(REST_S, self._rested)

    def _rested(self) -> None:
        self._resting = None
        self._listen()

    def _judge(self, accepted: socket.socket, host: str) -> None:
        now = self._monotonic()
        # The system gives the lowest descriptor that is free: this one's number says how many are in use.
        spent = accepted.fileno() >= self._descriptors
        verdict = NO_DESCRIPTORS if spent else self._admission.arrive(host, now)
        carrier = None
        if isinstance(verdict, Refusal):
            self._counters.close(verdict.reason)
            if len(self._refused) < _MAX_ANSWERS and self._admission.may_answer(now):
                carrier = self._make(self)
                if not carrier.refuse(verdict):
                    carrier = None
            if carrier is None:
                accepted.close()
                return
            self._refused[carrier] = float("inf")
        else:
            self._exhausted = False
            carrier = self._make(self)
            carrier.visitor = verdict
            verdict.carrier = carrier
            if self._tls() is not None:
                # The event loop keeps the time of a TLS handshake.
                self._pending[carrier] = float("inf")
        task = self._loop.create_task(self._begin(accepted, carrier))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _begin(self, accepted: socket.socket, carrier: SocketCarrier) -> None:
        tls = self._tls()
        try:
            await self._loop.connect_accepted_socket(
                lambda: carrier,
                accepted,
                ssl=tls,
                ssl_handshake_timeout=self.tls_timeout_s if tls is not None else None,
                ssl_shutdown_timeout=LINGER_S if tls is not None else None,
            )
        except OSError:
            # TLS was not agreed on in time, or at all; plain sockets have no such step.
            if carrier.visitor is not None:
                self._counters.close("tls_handshake")
        finally:
            # The loop has taken the socket and closes it.
            if carrier.transport is None:
                self.ended(carrier)

    # What carriers tell

    def opened(self, carrier: SocketCarrier) -> None:
        self._carriers.add(carrier)
        if carrier in self._refused:
            self._refused[carrier] = self._monotonic() + LINGER_S
        elif carrier.handshake_timeout_s:
            self._pending[carrier] = self._monotonic() + carrier.handshake_timeout_s
        else:
            self.established(carrier)

    def queue(self, work: Callable[[], None]) -> None:
        self._reception.queue(work)

    def established(self, carrier: SocketCarrier) -> None:
        self._pending.pop(carrier, None)
        self._listen_again()

    def accepted(self, carrier: SocketCarrier) -> None:
        if carrier.visitor is not None:
            self._admission.accept(carrier.visitor)

    def closing(self, carrier: SocketCarrier) -> None:
        visitor = carrier.visitor
        if visitor is not None and not visitor.accepted and carrier.close_code == CloseCode.UNAUTHENTICATED:
            for other in self._admission.token_refused(visitor, self._monotonic()):
                cast(SocketCarrier, other.carrier).turn_away()

    def ended(self, carrier: SocketCarrier) -> None:
        self._pending.pop(carrier, None)
        self._carriers.discard(carrier)
        self._refused.pop(carrier, None)
        visitor, carrier.visitor = carrier.visitor, None
        if visitor is not None:
            peaceful = carrier.close_code in (_IN_PEACE if visitor.accepted else _OWN_REASONS)
            self._admission.leave(visitor, self._monotonic(), in_peace=peaceful)
        self._listen_again()

    def _listen_again(self) -> None:
        if self._sockets and not self._listening:
            self._listen()

    # What the node asks

    @property
    def accepting(self) -> bool:
        return bool(self._sockets)

    @property
    def open_sockets(self) -> int:
        """Accepted sockets that are open, whatever state they are in; without those in a TLS handshake."""
        return len(self._carriers)

    @property
    def handshakes(self) -> int:
        """Handshakes that are not over."""
        return len(self._pending)

    def forgive(self, seconds: float) -> None:
        """The loop stood still: nobody could go on with a handshake meanwhile."""
        for table in (self._pending, self._refused):
            for carrier in table:
                table[carrier] += seconds

    def tick(self, now: float) -> None:
        """End handshakes that take too long (faults 1, 4)."""
        for carrier in [carrier for carrier, deadline in self._pending.items() if deadline < now]:
            self._pending.pop(carrier)
            self._counters.close("handshake_timeout")
            carrier.abort()
        for carrier in [carrier for carrier, deadline in self._refused.items() if deadline < now]:
            self._refused[carrier] = float("inf")
            carrier.abort()
        self._listen_again()

    def stop_accepting(self) -> None:
        self._wait()
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        for listening in self._sockets:
            listening.close()
        self._sockets.clear()

    async def stop(self) -> None:
        """Close what is still open and wait until the sockets are gone."""
        self.stop_accepting()
        await asyncio.sleep(0)  # a task that has not begun yet would leave its socket to nobody
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._carriers.close()
        self._pending.clear()


def _descriptor_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft


def _why(error: OSError) -> str:
    """What the system said."""
    return str(error.strerror) if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
