"""One connection to a NATS cluster, for ever, and calls over it.

nats-py reconnects by itself but closes for good when a credential is refused twice, when its user expires and when it
has tried often enough. Here every end of a connection is final for it, and a new one is made: to the next server, after
a pause that grows, with jitter. Calls are requests of our own: many at once, each with its time, and an answer that
says whether the engine may have done what it was asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from gateway.errors import FederationError
from gateway.federation.nats.credentials import Nkey
from gateway.federation.table.names import token
from gateway.federation.table.store import Unanswered, Unavailable

try:
    import nats
    import nats.errors
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription
except ImportError as missing:  # pragma: no cover
    raise FederationError(
        "the engine nats needs nats-py: pip install 'rsocket-edge-gateway[nats]'", reason="engine_missing"
    ) from missing

#: Per-message age and markers that tell of it work from here on.
LEAST_VERSION = (2, 12)
CALL_S = 2.0
CONNECT_S = 1.0
#: Seconds between two attempts, from the first to the second, by doubling; one round of all servers is quicker.
RETRY_S = (0.5, 5.0)
NEXT_SERVER_S = 0.1
#: A connection that lived for so long starts the pauses anew.
STEADY_S = 5.0

OnMessage = Callable[[Msg], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class NatsOptions:
    """`name` is the node's: its inbox and consumers bear it, and its permissions are for them. `tls` None: plain."""

    servers: Sequence[str]
    name: str
    bucket: str = "rt"
    nkey_file: Path | None = None
    tls: ssl.SSLContext | None = None

    @property
    def inbox(self) -> str:
        return f"_INBOX_{token(self.name)}"

    @property
    def stream(self) -> str:
        return f"KV_{self.bucket}"


class Refused(FederationError):
    """The engine answers that it will not; `code` is its own (`err_code`)."""

    reason = "engine_refused"

    def __init__(self, text: str, code: int, *, reason: str | None = None) -> None:
        super().__init__(text, reason=reason)
        self.code = code


class Denied(Unavailable):
    """The node's credential is not for that; nothing was done."""

    reason = "engine_denied"


class Untrusted(Unavailable):
    """The server's certificate is of another authority."""

    reason = "engine_tls"


class NatsClient:
    """`start`, then `stop`. `ready` is set while there is a connection; `connections` counts them."""

    def __init__(
        self,
        options: NatsOptions,
        *,
        alarm: Callable[[str, str], None] = lambda slug, text: None,
        random: Random | None = None,
    ) -> None:
        self.options = options
        self.ready = asyncio.Event()
        self.connections = 0
        self.attempts = 0
        self.why = "not connected yet"
        self._alarm = alarm
        self._random = random or Random()
        self._connection: Client | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._tried_all = asyncio.Event()
        self._hopeless: FederationError | None = None
        self._answers: dict[str, tuple[str, asyncio.Future[Msg]]] = {}
        self._prefix = ""
        self._calls = 0

    async def start(self) -> None:
        """Returns with a connection, or when every server was tried.

        Raises:
            FederationError: a server answers, and will never do: too old (`engine_too_old`), or it does not take the
                credential (`engine_denied`); or none of them is trusted (`engine_tls`).
        """
        self._supervisor = asyncio.create_task(self._supervise(), name="nats: connection")
        await self._tried_all.wait()
        if self._hopeless is not None and not self.ready.is_set():
            await self.stop()
            raise self._hopeless

    async def stop(self) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            self._supervisor = None
        self._fail(Unavailable("the table is closed"))

    @property
    def version(self) -> str:
        if self._connection is None:
            return ""
        version = self._connection.connected_server_version
        return f"{version.major}.{version.minor}.{version.patch}"

    async def call(
        self, subject: str, payload: bytes = b"", headers: Mapping[str, str] | None = None, seconds: float = CALL_S
    ) -> dict[str, Any]:
        """Asks and returns the answer's JSON.

        Raises:
            Refused: the engine says no.
            Unanswered: it may have done it.
            Unavailable: it has not.
        """
        (answer,) = await self.call_all([(subject, payload, headers)], seconds)
        if isinstance(answer, FederationError):
            raise answer
        return answer

    async def call_all(
        self, calls: Sequence[tuple[str, bytes, Mapping[str, str] | None]], seconds: float = CALL_S
    ) -> list[dict[str, Any] | FederationError]:
        """Asks many things at once, in their order; an answer for each."""
        waiting: list[tuple[str, asyncio.Future[Msg]]] = []
        loop = asyncio.get_running_loop()
        failure: FederationError | None = None
        for subject, payload, headers in calls:
            connection = self._connection
            if connection is None or failure is not None:
                break
            self._calls += 1
            reply = f"{self._prefix}{self._calls}"
            future: asyncio.Future[Msg] = loop.create_future()
            self._answers[reply] = (subject, future)
            waiting.append((reply, future))
            try:
                await connection.publish(subject, payload, reply, dict(headers) if headers else None)
            except (nats.errors.Error, OSError) as error:
                failure = Unanswered(f"the connection to the engine broke: {_said(error)}")
        if waiting and failure is None:
            await asyncio.wait([future for _, future in waiting], timeout=seconds)
        answers: list[dict[str, Any] | FederationError] = []
        for reply, future in waiting:
            self._answers.pop(reply, None)
            answers.append(_answer(future, failure))
        while len(answers) < len(calls):
            answers.append(Unavailable(f"there is no connection to the engine: {self.why}"))
        return answers

    async def send(self, subject: str) -> None:
        """An empty message without an answer; lost when there is no connection."""
        if self._connection is not None:
            with contextlib.suppress(nats.errors.Error, OSError):
                await self._connection.publish(subject)

    async def subscribe(self, subject: str, on_message: OnMessage) -> Subscription:
        """Nothing is dropped, however much waits. Raises Unavailable."""
        connection = self._connection
        if connection is None:
            raise Unavailable(f"there is no connection to the engine: {self.why}")
        try:
            return await connection.subscribe(subject, cb=on_message, pending_msgs_limit=0, pending_bytes_limit=0)
        except (nats.errors.Error, OSError) as error:
            raise Unavailable(f"the connection to the engine broke: {_said(error)}") from None

    def new_inbox(self) -> str:
        """A subject that nobody else has."""
        self._calls += 1
        return f"{self._prefix}w{self._calls}"

    async def _supervise(self) -> None:
        servers = list(self.options.servers)
        self._random.shuffle(servers)
        loop = asyncio.get_running_loop()
        pause, tried = 0.0, 0
        untrusted: set[str] = set()
        while True:
            server = servers[tried % len(servers)]
            began = loop.time()
            closed = asyncio.Event()
            connection = None
            try:
                connection = await self._connect(server, closed)
                self._tried_all.set()
                await closed.wait()
                self.why = "the connection was closed"
            except FederationError as error:
                self.why = error.text
                (untrusted.add if isinstance(error, Untrusted) else untrusted.discard)(server)
                if not isinstance(error, Unavailable) or len(untrusted) == len(servers):
                    self._hopeless = error
                    self._alarm(error.reason, error.text)
            except Exception as error:
                self.why = f"the connection to the engine failed: {_said(error)}"
                loop.call_exception_handler({"message": self.why, "exception": error})
            finally:
                self.ready.clear()
                self._connection = None
                self._fail(Unanswered(f"the connection to the engine was closed: {self.why}"))
                if connection is not None:
                    await _close(connection)
            tried += 1
            if tried >= len(servers) or self._hopeless is not None:
                self._tried_all.set()
            if loop.time() - began > STEADY_S:
                pause = 0.0
            if tried % len(servers):
                await asyncio.sleep(NEXT_SERVER_S)
            else:
                await asyncio.sleep(max(NEXT_SERVER_S, pause) * self._random.uniform(0.5, 1.0))
                first, last = RETRY_S
                pause = min(max(first, pause * 2), last)

    async def _connect(self, server: str, closed: asyncio.Event) -> Client:
        """Raises Unavailable, or another FederationError where it is in vain to try again."""
        self.attempts += 1
        errors: list[BaseException] = []

        async def on_error(error: Exception) -> None:
            errors.append(error)
            del errors[:-4]
            text = str(error).lower()
            if "permissions violation" in text:
                denied = Denied(f"the engine does not allow it to this credential: {_said(error)}")
                self._alarm(denied.reason, denied.text)
                self._fail(denied, lambda subject: f'"{subject.lower()}"' in text)

        async def on_closed() -> None:
            closed.set()

        connection = Client()
        options = self.options
        nkey = None
        if options.nkey_file is not None:
            try:
                nkey = Nkey.read(options.nkey_file)
            except FederationError as error:
                raise FederationError(
                    f"this node's credential for the engine (federation.nats_nkey_file): {error.text}",
                    reason="engine_denied",
                ) from None
            # The library takes the public part from a seed that it reads itself, and from nowhere else.
            connection._public_nkey = nkey.public_key
        try:
            async with asyncio.timeout(10 * CONNECT_S):
                await connection.connect(
                    [server],
                    name=f"gateway {options.name}",
                    error_cb=on_error,
                    closed_cb=on_closed,
                    allow_reconnect=False,
                    # With 0 it would try for ever, and with more it takes longer to say that a server is away.
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=1,
                    ping_interval=1,
                    max_outstanding_pings=2,
                    pending_size=8 * 1024 * 1024,
                    inbox_prefix=options.inbox.encode(),
                    signature_cb=None if nkey is None else nkey.sign,
                    tls=options.tls,
                    skip_subject_validation=True,
                )
        except (nats.errors.Error, OSError, TimeoutError, ssl.SSLError) as error:
            await _close(connection)
            texts = [_said(each) for each in (*errors, error)]
            if any("authorization violation" in text.lower() for text in texts):
                raise FederationError(
                    f"{server} does not take this node's credential (federation.nats_nkey_file): {texts[-1]}",
                    reason="engine_denied",
                ) from None
            if any(isinstance(each, ssl.SSLCertVerificationError) for each in (*errors, error)):
                raise Untrusted(f"{server} is not trusted (federation.nats_tls_ca): {texts[0]}") from None
            raise Unavailable(f"{server}: {texts[0]}") from None
        except (ImportError, ValueError) as error:
            await _close(connection)
            raise FederationError(f"the credential cannot be used: {_said(error)}", reason="engine_denied") from None
        version = connection.connected_server_version
        try:
            require(server, (version.major, version.minor), f"{version.major}.{version.minor}.{version.patch}")
            self._prefix = f"{options.inbox}.{connection._nuid.next().decode()}."
            self._connection = connection
            await self.subscribe(f"{self._prefix}*", self._on_answer)
        except FederationError:
            self._connection = None
            await _close(connection)
            raise
        self.connections += 1
        self._hopeless = None
        self.why = ""
        self.ready.set()
        return connection

    async def _on_answer(self, message: Msg) -> None:
        _, future = self._answers.get(message.subject, ("", None))
        if future is not None and not future.done():
            future.set_result(message)

    def _fail(self, error: Unavailable, concerned: Callable[[str], bool] = lambda subject: True) -> None:
        for subject, future in self._answers.values():
            if not future.done() and concerned(subject):
                future.set_exception(error)


def require(server: str, version: tuple[int, int], text: str) -> None:
    """Raises FederationError for a server that is too old."""
    if version < LEAST_VERSION:
        raise FederationError(
            f"{server} is nats-server {text}; the shared table needs {'.'.join(map(str, LEAST_VERSION))} or newer, "
            "whose records can run out and are told of: upgrade it",
            reason="engine_too_old",
        )


def _answer(future: asyncio.Future[Msg], failure: FederationError | None) -> dict[str, Any] | FederationError:
    if not future.done():
        future.cancel()
        return failure or Unanswered("the engine has not answered in time")
    error = future.exception()
    if error is not None:
        return error if isinstance(error, FederationError) else Unanswered(_said(error))
    message = future.result()
    if message.headers and message.headers.get("Status") == "503":
        return Unavailable("the engine has no leader for the table at this moment, or there is no such bucket")
    try:
        document = json.loads(message.data)
    except ValueError:
        return Unanswered("the engine's answer is no JSON")
    refused = document.get("error")
    if refused is None:
        return dict(document)
    code, text = int(refused.get("err_code", 0)), str(refused.get("description", ""))
    if refused.get("code") == 503:
        return Unavailable(f"the engine cannot do it now: {text}")
    return Refused(f"the engine refuses: {text}", code)


def _said(error: BaseException) -> str:
    return str(error).removeprefix("nats: ") or type(error).__name__


async def _close(connection: Client) -> None:
    with contextlib.suppress(Exception):
        async with asyncio.timeout(CONNECT_S):
            await connection.close()
