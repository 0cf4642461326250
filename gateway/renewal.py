"""`gateway.renew`: a connected device gets its next token, over the connection that it has.

Request/response, JSON both ways. Two cases:

* The token of the connection is good. Ask with nothing; the answer is `{"token", "expires", "expires_in"}`, and the
  connection lives on under the new token.
* The token had run out when the device connected (within `auth.renewal_grace_s`). The connection can do nothing else:
  it is not reachable and serves nothing. Ask with nothing; the answer is `{"challenge"}`, good for a minute on this
  connection. Ask again with `{"challenge", "proof"}` (see `control.device_keys`); the answer is as above.

The service lives here, between the planes: it answers on the data plane's side and waits for the control plane's disk.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from gateway.control.audit import Actor
from gateway.control.credentials import Issued, Proof
from gateway.control.plane import ControlPlane
from gateway.errors import (
    ControlError,
    NotPermitted,
    Overloaded,
    RateLimited,
    RequestError,
    RequestInvalid,
    StorageError,
)
from gateway.forwarding.connection import Connection
from gateway.forwarding.exchange import Exchange
from gateway.forwarding.services import NodeServices
from gateway.wire.frames import FrameType

#: A device renews once in its token's life, and tries a few times: more often than this is a fault of its own.
BETWEEN_S = 2.0
_KEPT = 10_000


class Renewal:
    """The service of one node. `monotonic` gives seconds."""

    def __init__(self, services: NodeServices, control: ControlPlane, monotonic: Callable[[], float]) -> None:
        self._control = control
        self._monotonic = monotonic
        self._asked_at: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        services.offer("renew", FrameType.REQUEST_RESPONSE, self._renew)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _renew(self, exchange: Exchange) -> None:
        caller = exchange.caller
        principal = caller.principal
        if principal.issuer != self._control.identity.issuer or not principal.token_id:
            raise NotPermitted("only tokens of this node are renewed here", reason="renewal_other_issuer")
        asked = _asked(exchange.data)
        proof: Proof | None = None
        if principal.renewal_only:
            if not asked:
                challenge = self._control.proofs.challenge(principal.subject, caller.number, caller.plane.wall())
                exchange.reply(_json({"challenge": challenge}))
                return
            proof = self._proof(caller, asked)
        self._hold_back(principal.subject)
        task = asyncio.get_running_loop().create_task(self._issue(exchange, proof), name="renewal")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _proof(self, caller: Connection, asked: dict[str, Any]) -> Proof:
        challenge, answer = asked.get("challenge"), asked.get("proof")
        if not isinstance(challenge, str) or not isinstance(answer, str):
            raise RequestInvalid("gateway.renew takes a challenge and its proof", reason="renewal_request")
        if not self._control.proofs.is_fresh(challenge, caller.principal.subject, caller.number, caller.plane.wall()):
            raise NotPermitted("this challenge is not of this connection, or too old", reason="renewal_challenge")
        return Proof(challenge, answer)

    def _hold_back(self, subject: str) -> None:
        now = self._monotonic()
        if now - self._asked_at.get(subject, -BETWEEN_S) < BETWEEN_S:
            raise RateLimited(f"one renewal in {BETWEEN_S:g} s", reason="renewal_rate")
        if len(self._asked_at) >= _KEPT:
            self._asked_at.clear()
        self._asked_at[subject] = now

    async def _issue(self, exchange: Exchange, proof: Proof | None) -> None:
        try:
            issued = await self._issued(exchange.caller, proof)
        except RequestError as error:
            if exchange.open:
                exchange.fail(error)
            return
        caller = exchange.caller
        if caller.closed or not exchange.open:
            return
        token = issued.token.encode()
        plane = caller.plane
        now = plane.wall()
        caller.renewed(plane.snapshot.admit(token, now), token)
        expires = int(issued.expires_at)
        exchange.reply(_json({"token": issued.token, "expires": expires, "expires_in": max(expires - int(now), 0)}))

    async def _issued(self, caller: Connection, proof: Proof | None) -> Issued:
        principal = caller.principal
        by = Actor("device", principal.subject, caller.peer)
        try:
            return await self._control.credentials.renew(principal.subject, principal.token_id, proof, by=by)
        except ControlError as error:
            if proof is not None:
                await self._tell(by, error.reason)
            raise NotPermitted(error.text, reason=error.reason) from error
        except StorageError as error:
            raise Overloaded("the token cannot be stored now; try again", reason=error.reason) from error

    async def _tell(self, by: Actor, reason: str) -> None:
        try:
            await self._control.audit.record(
                by, "credential.renew", f"device:{by.id}", outcome="refused", reason=reason
            )
        except StorageError as error:
            raise Overloaded("the refusal cannot be recorded now; try again", reason=error.reason) from error


def _asked(data: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict):
        raise RequestInvalid("gateway.renew takes a JSON object, or nothing", reason="renewal_request")
    return asked


def _json(document: dict[str, object]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
