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

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from gateway.control.audit import Actor
from gateway.control.credentials import Issued, Proof
from gateway.control.plane import ControlPlane
from gateway.errors import (
    ControlError,
    NotPermitted,
    Overloaded,
    RateLimited,
    RequestInvalid,
    StorageError,
)
from gateway.forwarding.exchange import Exchange
from gateway.forwarding.services import NodeServices
from gateway.replying import Replies
from gateway.wire.frames import FrameType

#: A device renews once in its token's life, and tries a few times: more often than this is a fault of its own.
BETWEEN_S = 2.0
_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a connection asks, and who it is: `number` and `peer` are the connection's. `lapsed`: its token had run out
    when it came. `request`: what it has sent."""

    subject: str
    token_id: str
    lapsed: bool
    number: int
    peer: str
    request: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return asdict(self)


#: Answers `{"challenge"}` or `{"token", "expires"}` (Unix seconds). Raises RequestError.
Answer = Callable[[Wanted], Awaitable[dict[str, Any]]]


class Renewal:
    """The service, as a process offers it. `answer` may be asked in another one."""

    def __init__(self, services: NodeServices, answer: Answer) -> None:
        self._answer = answer
        self._replies = Replies("renewal")
        services.offer("renew", FrameType.REQUEST_RESPONSE, self._renew)

    async def stop(self) -> None:
        await self._replies.stop()

    def _renew(self, exchange: Exchange) -> None:
        caller = exchange.caller
        principal = caller.principal
        if principal.issuer != caller.plane.snapshot.access.own_issuer or not principal.token_id:
            raise NotPermitted("only tokens of this node are renewed here", reason="renewal_other_issuer")
        asked = _asked(exchange.data)
        if principal.renewal_only and asked:
            for name in ("challenge", "proof"):
                if not isinstance(asked.get(name), str):
                    raise RequestInvalid("gateway.renew takes a challenge and its proof", reason="renewal_request")
        wanted = Wanted(
            principal.subject, principal.token_id, principal.renewal_only, caller.number, caller.peer, asked
        )
        self._replies.begin(exchange, self._reply(exchange, wanted))

    async def _reply(self, exchange: Exchange, wanted: Wanted) -> dict[str, Any]:
        caller = exchange.caller
        answer = await self._answer(wanted)
        if "token" in answer and exchange.open and not caller.closed:
            now = caller.plane.wall()
            token = answer["token"].encode()
            caller.renewed(caller.plane.snapshot.admit(token, now), token)
            answer = answer | {"expires_in": max(answer["expires"] - int(now), 0)}
        return answer


class Renewals:
    """What the control plane says to it. `monotonic` and `wall` give seconds."""

    def __init__(self, control: ControlPlane, monotonic: Callable[[], float], wall: Callable[[], float]) -> None:
        self._control = control
        self._monotonic = monotonic
        self._wall = wall
        self._asked_at: dict[str, float] = {}

    async def answer(self, wanted: Wanted) -> dict[str, Any]:
        """See `Answer`."""
        proof: Proof | None = None
        if wanted.lapsed:
            proofs = self._control.proofs
            if not wanted.request:
                return {"challenge": proofs.challenge(wanted.subject, wanted.number, self._wall())}
            proof = Proof(wanted.request["challenge"], wanted.request["proof"])
            if not proofs.is_fresh(proof.challenge, wanted.subject, wanted.number, self._wall()):
                text = "this challenge is not of this connection, or too old"
                raise NotPermitted(text, reason="renewal_challenge")
        self._hold_back(wanted.subject)
        issued = await self._issued(wanted, proof)
        return {"token": issued.token, "expires": int(issued.expires_at)}

    def _hold_back(self, subject: str) -> None:
        now = self._monotonic()
        if now - self._asked_at.get(subject, -BETWEEN_S) < BETWEEN_S:
            raise RateLimited(f"one renewal in {BETWEEN_S:g} s", reason="renewal_rate")
        if len(self._asked_at) >= _KEPT:
            self._asked_at.clear()
        self._asked_at[subject] = now

    async def _issued(self, wanted: Wanted, proof: Proof | None) -> Issued:
        by = Actor("device", wanted.subject, wanted.peer)
        try:
            return await self._control.credentials.renew(wanted.subject, wanted.token_id, proof, by=by)
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
