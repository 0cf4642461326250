"""Who calls, as figures say it: never by a device's id, and one of few.

A service is called by the name under which it is registered, or as its token names it; anybody else by what it is, with
its first group: `device:greenhouse`. Asked once a decision.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from gateway.forwarding.links import LOCAL
from gateway.policy.principal import Kind

if TYPE_CHECKING:
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.endpoint import Endpoint
    from gateway.routing.route import Owner
    from gateway.routing.table import RoutingTable

#: The node itself: what lives in it, and what it does for nobody in particular.
NODE = "gateway"
UNKNOWN = "(unknown)"
_KINDS = frozenset(Kind)


def label(table: RoutingTable, requester: Endpoint, identity: bytes | None) -> str:
    """Of a request's caller. `identity`: the principal entry of what came over a link."""
    if requester.side != LOCAL:
        return _vouched(identity)
    principal = requester.grant.principal
    if not principal.subject:
        return NODE
    if principal.kind is not Kind.SERVICE:
        return f"{principal.kind}:{principal.groups[0]}" if principal.groups else str(principal.kind)
    served = table.of_owner(cast("Connection", requester))
    return next((route.service for route in served if route.service), principal.subject)


def _vouched(identity: bytes | None) -> str:
    try:
        said = json.loads(identity or b"{}")
        kind, subject = said.get("kind"), said.get("subject")
    except (ValueError, AttributeError):
        return UNKNOWN
    if kind not in _KINDS:
        return UNKNOWN
    return subject if kind == Kind.SERVICE and isinstance(subject, str) else str(kind)


def neighbour(owner: Owner) -> str:
    """The node that a route's requests go to next; "" for this one."""
    if getattr(owner, "side", LOCAL) == LOCAL:
        return ""
    return str(owner.principal.subject)  # type: ignore[attr-defined]
