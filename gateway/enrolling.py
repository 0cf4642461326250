"""`gateway.enroll`: a device exchanges a one-time token for a credential of its own, over the connection that it opens
with that token.

Such a connection lives for 30 seconds, serves nothing, is not reachable, and may ask for this (fault 64). JSON both
ways, as `POST /enroll` of the admin API has it: `{"token", "device_id"?, "public_key"?, "firmware"?}` in, and
`{"device_id", "token", "expires", "expires_in", "secret"}` out; `expires` is in Unix seconds, `expires_in` in seconds.
What is refused is refused with one text; the audit has the reason. The authority is not in the answer: whoever came
over TLS has checked it against a fingerprint already.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from gateway.control.audit import Actor
from gateway.control.plane import ControlPlane
from gateway.errors import (
    ControlError,
    InvalidChange,
    NotPermitted,
    Overloaded,
    RateLimited,
    RequestInvalid,
    StorageError,
)
from gateway.forwarding.exchange import Exchange
from gateway.forwarding.services import NodeServices
from gateway.policy.access_list import ENROLLING
from gateway.replying import Replies
from gateway.wire.frames import FrameType

#: A device asks once, and again where the id that it wants is none.
TRIES = 3
_KEPT = 1000
_OPTIONAL = ("device_id", "public_key", "firmware")


@dataclass(frozen=True, slots=True)
class Claim:
    """What a device asks; `peer` is where it comes from, for the audit."""

    peer: str
    token: str = field(repr=False)
    device_id: str | None = None
    public_key: str | None = None
    firmware: str = ""

    def document(self) -> dict[str, Any]:
        return asdict(self)


#: Answers `{"device_id", "token", "expires", "secret"}`. Raises RequestError.
Answer = Callable[[Claim], Awaitable[dict[str, Any]]]


class Enrolling:
    """The service, as a process offers it. `answer` may be asked in another one."""

    def __init__(self, services: NodeServices, answer: Answer) -> None:
        self._answer = answer
        self._tries: Counter[int] = Counter()
        self._replies = Replies("enrolment")
        services.offer("enroll", FrameType.REQUEST_RESPONSE, self._enroll)

    async def stop(self) -> None:
        await self._replies.stop()

    def _enroll(self, exchange: Exchange) -> None:
        caller = exchange.caller
        if not caller.principal.subject.startswith(ENROLLING):
            text = "gateway.enroll is for who has connected with an enrolment's token"
            raise NotPermitted(text, reason="enrolment_connection")
        self._tries[caller.number] += 1
        if self._tries[caller.number] > TRIES:
            raise RateLimited("too many tries on this connection; connect again", reason="enrolment_rate")
        if len(self._tries) > _KEPT:
            self._tries.clear()
        claim = _read(exchange.data, caller.peer)
        self._replies.begin(exchange, self._reply(exchange, claim))

    async def _reply(self, exchange: Exchange, claim: Claim) -> dict[str, Any]:
        answer = await self._answer(claim)
        return answer | {"expires_in": max(answer["expires"] - int(exchange.caller.plane.wall()), 0)}


async def redeemed(control: ControlPlane, claim: Claim) -> dict[str, Any]:
    """What the control plane says to a claim; see `Answer`."""
    try:
        done = await control.enrolments.redeem(
            claim.token,
            device_id=claim.device_id,
            public_key=claim.public_key,
            firmware=claim.firmware,
            by=Actor("device", claim.device_id or "unknown", claim.peer),
        )
    except InvalidChange as error:
        raise RequestInvalid(error.text, reason=error.reason) from error
    except ControlError as error:
        raise NotPermitted(error.text, reason=error.reason) from error
    except StorageError as error:
        raise Overloaded("the device cannot be stored now; try again", reason=error.reason) from error
    return {
        "device_id": done.device.id,
        "token": done.token,
        "expires": int(done.expires_at),
        "secret": done.secret,
    }


def _read(data: bytes, peer: str) -> Claim:
    try:
        asked: Any = json.loads(data)
        token, rest = asked["token"], {name: asked[name] for name in _OPTIONAL if asked.get(name) is not None}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        token, rest = None, {}
    if not isinstance(token, str) or not all(isinstance(value, str) for value in rest.values()):
        raise RequestInvalid(
            "gateway.enroll takes a token, and where they are wanted device_id, public_key and firmware",
            reason="enrolment_request",
        )
    return Claim(peer, token, **rest)
