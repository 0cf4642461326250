"""What every request to the admin API passes before anything looks at it, whatever its path.

In this order: a request id; the host that it is meant for (DNS rebinding, fault 99); the caller's rate; the size of its
body; the time that it may take. Every answer leaves with the request id and `Cache-Control: no-store`. There are no
cookies and no CORS headers, so no page of another site can act here. Pure ASGI: streams pass unbuffered.

Must not know: who the caller is, what the paths mean.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import re
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.admin.problem import Problem, answer
from gateway.admin.static import Static

MAX_BODY_BYTES: Final = 1024 * 1024
TIMEOUT_S: Final = 30.0
UPLOAD_S: Final = 600.0
REQUESTS_PER_SECOND: Final = 20
#: A browser asks for all files of a page at once, before anybody has logged in; they are answered from memory.
FILES_PER_SECOND: Final = 300

#: What programs may choose as their own request id; anything else is replaced.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^:\[\]/@\s]+)(?::[0-9]{1,5})?")

_HEADERS: Final = (
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("referrer-policy", "no-referrer"),
)


class Boundary:
    """ASGI middleware. `hosts` gives the names that this node answers to; addresses and localhost always are.

    `requests_per_second` is what one token, or one address without a token, may ask; 0 for no limit. `endless` says for
    which paths there is no time limit, because they are streams. `uploads`: paths whose POST may have a larger body, in
    bytes, and `UPLOAD_S` for it. `files`: what is read without the API, at a rate of its own.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Callable[[], Collection[str]],
        requests_per_second: int = REQUESTS_PER_SECOND,
        timeout_s: float = TIMEOUT_S,
        endless: Collection[str] = (),
        uploads: Mapping[str, Callable[[], int]] = MappingProxyType({}),
        files: Static | None = None,
    ) -> None:
        self._app = app
        self._files = files
        self._files_rate = Rate(FILES_PER_SECOND)
        self._hosts = hosts
        self._rate = Rate(requests_per_second) if requests_per_second else None
        self._timeout_s = timeout_s
        self._endless = frozenset(endless)
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        trace_id = _request_id(headers)
        scope.setdefault("state", {})["trace_id"] = trace_id
        started = False
        timeout_s = self._time_for(scope)

        async def send_marked(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                marked = MutableHeaders(scope=message)
                marked["x-request-id"] = trace_id
                for name, value in _HEADERS:
                    marked.setdefault(name, value)
            await send(message)

        problem = self._refusal(scope, headers)
        if problem is None:
            try:
                body = _Body(receive, self._most(scope))
                app = self._files if self._files is not None and self._is_file(scope) else self._app
                async with asyncio.timeout(timeout_s):
                    await asyncio.sleep(0)
                    await app(scope, body.receive, send_marked)
                return
            except TimeoutError:
                problem = Problem("timeout", f"not done within {timeout_s:.0f} s")
        if started:
            # What was promised cannot be kept: the connection has to say so.
            raise ConnectionAbortedError(problem.detail)
        await answer(scope["path"], trace_id, problem)(scope, receive, send_marked)

    def _refusal(self, scope: Scope, headers: Headers) -> Problem | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return Problem("misdirected")
        rate = self._files_rate if self._is_file(scope) else self._rate
        if rate is not None and not rate.takes(_payer(scope, headers)):
            return Problem(
                "too-many-requests", f"more than {rate.each} requests a second", headers={"retry-after": "1"}
            )
        length = headers.get("content-length")
        most = self._most(scope)
        if length is not None and length.isdecimal() and int(length) > most:
            return Problem("body-too-large", f"the body has {length} bytes; {most} are allowed")
        return None

    def _is_file(self, scope: Scope) -> bool:
        return self._files is not None and scope["method"] in ("GET", "HEAD") and self._files.serves(scope["path"])

    def _most(self, scope: Scope) -> int:
        """Bytes that the body may have."""
        most = self._uploads.get(scope["path"]) if scope["method"] == "POST" else None
        return MAX_BODY_BYTES if most is None else most()

    def _time_for(self, scope: Scope) -> float | None:
        if scope["path"] in self._endless:
            return None
        return UPLOAD_S if scope["path"] in self._uploads and scope["method"] == "POST" else self._timeout_s

    def _is_ours(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match["name"].strip("[]").lower().rstrip(".")
        if name == "localhost" or name in self._hosts():
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        # No name, so there is nothing that could be pointed elsewhere between two requests.
        return True


class Rate:
    """How often each payer has asked in the second that it is now, of which it may `each` times."""

    def __init__(self, each: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.each = each
        self._monotonic = monotonic
        self._second = 0
        self._asked: dict[str, int] = {}

    def takes(self, payer: str) -> bool:
        """Count a request, and say whether it may be."""
        second = int(self._monotonic())
        if second != self._second:
            self._second = second
            self._asked.clear()
        asked = self._asked.get(payer, 0)
        if asked >= self.each:
            return False
        self._asked[payer] = asked + 1
        return True


class _Body:
    """Counts what comes, for bodies that do not say their length."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive = receive
        self._most = most
        self._left = most

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                # The one exception that a framework which is reading a body lets through as it is.
                raise HTTPException(413, f"the body has more than {self._most} bytes")
        return message


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _payer(scope: Scope, headers: Headers) -> str:
    """Whose rate this request counts for: its token's (of which only a digest is kept), else its address's."""
    authorization = headers.get("authorization")
    if authorization:
        return hashlib.blake2b(authorization.encode(), digest_size=16).hexdigest()
    client = scope.get("client")
    return client[0] if client else "local"
