"""How a node joins: one line with all that it needs, and the service at which it asks.

    gwj1.<base64url of {"ca": SHA-256 of the authority's DER, "urls": [...], "secret": "ge_..."}>

Whoever holds the line can find a central node, be sure that it is the right one before it says anything, and ask once.
The secret opens a connection that may ask for `gateway.join` and nothing else.
"""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.control.audit import Actor
from gateway.control.members import Members
from gateway.errors import (
    ConfigError,
    ControlError,
    NotPermitted,
    Overloaded,
    RequestError,
    RequestInvalid,
    StorageError,
)
from gateway.forwarding.exchange import Exchange
from gateway.forwarding.services import NodeServices
from gateway.wire.frames import FrameType

PREFIX: Final = "gwj1."


@dataclass(frozen=True, slots=True)
class JoinToken:
    """`authority`: hex SHA-256 of the authority's certificate; empty where the system's roots vouch for the central
    nodes, or nothing does. `urls`: where they are."""

    authority: str
    urls: tuple[str, ...]
    secret: str = field(repr=False)

    def text(self) -> str:
        document = {"ca": self.authority, "urls": self.urls, "secret": self.secret}
        raw = json.dumps(document, separators=(",", ":")).encode()
        return PREFIX + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    @classmethod
    def read(cls, text: str) -> JoinToken:
        """Raises ConfigError."""
        body = text.strip().removeprefix(PREFIX)
        try:
            document = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
            authority, urls, secret = document["ca"], document["urls"], document["secret"]
        except (ValueError, KeyError, TypeError):
            authority = urls = secret = None
        if (
            not text.strip().startswith(PREFIX)
            or not isinstance(authority, str)
            or not isinstance(secret, str)
            or not isinstance(urls, list)
            or not urls
        ):
            raise ConfigError("this is no join token: it is one line that begins with gwj1.")
        return cls(authority, tuple(map(str, urls)), secret)


class Joining:
    """`gateway.join`: JSON `{"secret", "member"}` in, `{"members"}` out, the new one among them."""

    def __init__(self, services: NodeServices, members: Members) -> None:
        self._members = members
        self._tasks: set[asyncio.Task[None]] = set()
        services.offer("join", FrameType.REQUEST_RESPONSE, self._join)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _join(self, exchange: Exchange) -> None:
        if not exchange.caller.principal.subject.startswith("join-"):
            raise NotPermitted("gateway.join is for who has connected with a join token", reason="join_token")
        try:
            asked: Any = json.loads(exchange.data)
            secret, member = asked["secret"], asked["member"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise RequestInvalid("gateway.join takes a secret and a member", reason="join_request") from error
        if not isinstance(secret, str):
            raise RequestInvalid("gateway.join takes a secret and a member", reason="join_request")
        task = asyncio.get_running_loop().create_task(self._let_in(exchange, secret, member), name="join")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _let_in(self, exchange: Exchange, secret: str, member: object) -> None:
        caller = exchange.caller
        try:
            await self._joined(secret, member, Actor("node", caller.principal.subject, caller.peer))
        except RequestError as error:
            if exchange.open:
                exchange.fail(error)
            return
        if exchange.open:
            exchange.reply(json.dumps({"members": self._members.document()}, separators=(",", ":")).encode())

    async def _joined(self, secret: str, member: object, by: Actor) -> None:
        try:
            await self._members.join(secret, member, by=by)
        except ControlError as error:
            raise NotPermitted(error.text, reason=error.reason) from error
        except StorageError as error:
            raise Overloaded("the member cannot be stored now; try again", reason=error.reason) from error
