"""Getting a link up from this side: dial, SETUP with BROKER_INFO and this node's own token, who is there, how far."""

from __future__ import annotations

import asyncio
import math
import ssl
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.errors import FederationError
from gateway.federation.answers import as_json
from gateway.federation.federation import CENTRAL, Federation
from gateway.federation.link import MEASURE_S, Link
from gateway.forwarding.closing import CloseReason
from gateway.forwarding.connection import Connection
from gateway.forwarding.links import PEER, label_tags
from gateway.policy.principal import Kind, Principal
from gateway.wire import brokering
from gateway.wire.brokering import BrokerInfo
from gateway.wire.frames import Setup
from gateway.wire.metadata import encode_bearer, encode_composite
from gateway.wire.mimetypes import AUTHENTICATION, BROKER_FRAME, COMPOSITE, OCTET_STREAM

Dial = Callable[[str, ssl.SSLContext | None, float], Awaitable[Connection]]


class LinkDialler:
    """`dial` opens a connection; `token` makes this node's token; `tls` is the context that trusts the members."""

    def __init__(
        self,
        federation: Federation,
        dial: Dial,
        token: Callable[[float], str],
        tls: Callable[[], ssl.SSLContext | None],
    ) -> None:
        self._federation = federation
        self._dial = dial
        self._token = token
        self._tls = tls
        self._loop = federation.loop
        self._timers: dict[Link, list[asyncio.TimerHandle]] = {}

    async def connect(self, url: str, side: int) -> Link:
        """A link that is in order: the other side has answered and is a central node of this federation.

        Raises:
            FederationError: nobody is there, it is another node, or it refuses this one; the text says which.
        """
        federation = self._federation
        options = federation.options
        async with asyncio.timeout(options.connect_timeout_s * 2) as limit:
            try:
                return await self._connect(url, side)
            except TimeoutError as error:
                if not limit.expired():
                    raise
                raise FederationError(f"{url} does not answer", reason="unreachable") from error

    async def _connect(self, url: str, side: int) -> Link:
        federation = self._federation
        options = federation.options
        connection = await self._dial(url, self._tls(), options.connect_timeout_s)
        # As far as this node goes, it is what it is dialled for; who it is, it says in its first answer.
        principal = Principal("parent", Kind.NODE, "", 0.0, math.inf, options.accept_services, options.accept_calls)
        connection.call(self._setup(), principal, side)
        link = federation.take(connection, node=b"", name="", url=url, dialled=True)
        try:
            asked_at = self._loop.time()
            said = await self._ask(link, "gateway.link")
            link.rtt_s = self._loop.time() - asked_at
            self._check(link, said)
        except BaseException as error:
            text = str(error) or "this side has given up"
            connection.close(CloseReason.POLICY, text)
            raise
        federation.up(link)
        self._measure(link, as_json({"members": federation.roster.document()}) if side == PEER else b"")
        self._renew(link)
        return link

    def _setup(self) -> Setup:
        federation = self._federation
        options = federation.options
        token = self._token(options.token_s).encode()
        plane = federation.plane
        tags = (("name", plane.node), ("role", options.role), *label_tags(plane.labels))
        info = BrokerInfo(federation.plane.node_id, federation.began_ms, tags)
        metadata = encode_composite([(AUTHENTICATION, encode_bearer(token)), (BROKER_FRAME, brokering.encode(info))])
        keepalive_ms, lifetime_ms = round(options.keepalive_s * 1000), round(options.silence_s * 1000)
        return Setup(keepalive_ms, lifetime_ms, COMPOSITE, OCTET_STREAM, metadata=metadata)

    async def _ask(self, link: Link, route: str) -> Any:
        answer: asyncio.Future[Any] = self._loop.create_future()

        def then(document: Any) -> None:
            if not answer.done():
                answer.set_result(document)

        def failed(text: str) -> None:
            if not answer.done():
                said = link.why or text
                answer.set_exception(FederationError(f"{link.url}: {said}", reason="link_refused"))

        link.ask(route, b"", then, failed)
        return await answer

    def _check(self, link: Link, said: Any) -> None:
        federation = self._federation
        try:
            node = uuid.UUID(said["id"])
            name, role = str(said["name"]), said["role"]
            labels = {str(key): str(value) for key, value in said.get("labels", {}).items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise FederationError(f"{link.url} does not say who it is", reason="link_refused") from error
        member = federation.roster.find(str(node))
        if member is None or role != CENTRAL or member.role != CENTRAL:
            raise FederationError(f"{link.url} is {name}, which is no central node here", reason="not_a_member")
        link.known_as(node.bytes, name)
        link.connection.place = labels
        federation.changed(link)

    def _measure(self, link: Link, rolls: bytes = b"") -> None:
        """See again how far it is, and hear of members; tell of those in `rolls`."""
        if link.connection.closed:
            return
        asked_at = self._loop.time()

        def then(document: Any) -> None:
            link.rtt_s = self._loop.time() - asked_at
            self._federation.roster.adopt(document, link.name)

        federation = self._federation
        known = federation.roster.digest(str(uuid.UUID(bytes=federation.plane.node_id)))
        link.ask("gateway.members", rolls or known, then, lambda text: None)
        self._loop.call_later(MEASURE_S, self._measure, link)

    def _renew(self, link: Link) -> None:
        """Give it the next token before this one has run out."""
        lifetime_s = self._federation.options.token_s

        def again() -> None:
            if not link.connection.closed:
                token = self._token(lifetime_s).encode()
                link.ask("gateway.relink", token, lambda document: None, lambda text: None)
                self._renew(link)

        self._loop.call_later(lifetime_s / 2, again)
