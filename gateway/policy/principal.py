"""Who is on a connection.

A principal is what a verified token says about its holder, and nothing more: no socket, no clock, no rights worked out.
``policy.access`` turns it into a grant. It never travels: the wire carries subject, kind and
node, and groups and labels where there are any, by which other nodes judge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a principal is; it chooses the limits profile and labels the metrics."""

    DEVICE = "device"
    SERVICE = "service"
    USER = "user"
    NODE = "node"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of one token.

    ``subject`` is the token's ``sub``. ``token_id``, ``key_id`` and ``issuer`` are what a revocation names; never the
    token's text, for which an ECDSA signature has a second valid form (fault 60). Times are seconds since the epoch.
    ``services`` and ``routes`` are patterns as the token holds them (see ``policy.access``). ``renewal_only``: the
    token has run out, and its holder may do nothing but renew it.
    """

    subject: str
    kind: Kind
    token_id: str
    issued_at: float
    expires_at: float
    services: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    issuer: str = ""
    key_id: str = ""
    renewal_only: bool = False


def anonymous() -> Principal:
    """Whoever connects while ``auth.mode = "off"``: everything is allowed, within a user's limits, for ever."""
    return Principal(
        subject="anonymous",
        kind=Kind.USER,
        token_id="",
        issued_at=0.0,
        expires_at=math.inf,
        services=("*",),
        routes=("*",),
    )
