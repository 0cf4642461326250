"""Links to other nodes, as the data plane knows them: which way a request may go, and who looks after the links.

A link is one connection whose other end is a node. Which side of this node a connection is on decides where its
requests may go (the direction rule): up, across at most once, down. No request passes a node twice, whatever the tables
say, so a stale table can only make it fail.

    came from      may go to
    local          local, downlink, peer, uplink
    a downlink     local, another downlink, peer, this node's uplink
    a peer         local, downlink
    the uplink     local, downlink

Among several the nearest serves: local before a downlink before a peer before the uplink.

Must not know: how links come to be, what is told over them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from gateway.routing.route import Route
from gateway.wire.brokering import MAX_TAG_BYTES

if TYPE_CHECKING:
    from gateway.forwarding.connection import Connection
    from gateway.forwarding.endpoint import Endpoint
    from gateway.policy.principal import Principal
    from gateway.routing.address import Address
    from gateway.wire.brokering import BrokerInfo, Tags
    from gateway.wire.frames import Setup

#: Sides of a node, nearest first. Plain ints: compared where compiled code decides.
LOCAL, DOWNLINK, PEER, UPLINK = 0, 1, 2, 3
#: The kind of a connection by its side; a client's and the node's own are both local.
KINDS = {DOWNLINK: "downlink", PEER: "peer", UPLINK: "uplink"}

#: The direction rule.
MAY_GO: dict[int, frozenset[int]] = {
    LOCAL: frozenset({LOCAL, DOWNLINK, PEER, UPLINK}),
    DOWNLINK: frozenset({LOCAL, DOWNLINK, PEER, UPLINK}),
    PEER: frozenset({LOCAL, DOWNLINK}),
    UPLINK: frozenset({LOCAL, DOWNLINK}),
}


_LABEL = "label."


def label_tags(labels: Mapping[str, str]) -> Tags:
    """A node's labels, as tags of the BROKER_INFO with which it dials another one."""
    return tuple((_LABEL + key, value) for key, value in labels.items() if len(_LABEL + key) <= MAX_TAG_BYTES)


def told_labels(tags: Tags) -> dict[str, str]:
    return {key.removeprefix(_LABEL): value for key, value in tags if key.startswith(_LABEL)}


class Links(Protocol):
    """Whoever looks after the links of a node. All of it is asked where a decision is made, never once a frame."""

    def admit(self, connection: Connection, info: BrokerInfo, setup: Setup, principal: Principal) -> int:
        """A node has connected and proved who it is: the side it is on. Raises RejectedSetup."""

    def drained(self, connection: Connection) -> None:
        """The other side wants to be left. Its routes have left the table."""

    def ended(self, connection: Connection, text: str) -> None:
        """A link is gone."""

    def vouch(self, connection: Connection, identity: bytes | None) -> None:
        """Whether the caller that came with a request over a link may have come that way. `identity`: the content of
        its principal entry. Raises NotPermitted."""

    def announce(self) -> None:
        """A request is about to leave over a link: what the other side must know of its caller goes before it."""

    def look(self, address: Address) -> None:
        """A request for an address is about to be decided: have in the table what is known of it besides."""

    def resolve(self, address: Address, then: Callable[[], None], *, within_s: float, afresh: bool = False) -> bool:
        """Nobody here serves an address: ask the parent, and call `then` when the table knows all that it knows, or
        after so long.

        False: there is nobody to ask, or it was asked; `then` is not called. `afresh`: what was asked before was wrong.
        """

    def way_s(self, connection: Endpoint) -> float:
        """How long what is sent over a link takes to be there, in seconds; 0 where nobody knows."""

    def would_ask(self, address: Address) -> bool:
        """Whether `resolve` would wait for an answer, as things are now."""

    def why_not(self) -> str:
        """What a caller should know about a route that there is not: an uplink that is down; or nothing."""


def toward(requester: Endpoint, routes: Iterable[Route], *, everywhere: bool) -> list[Route]:
    """Those of `routes` that a request of `requester` may go to: the nearest, or with `everywhere` all of them."""
    side = requester.side
    may = MAY_GO[side]
    # A link's own routes are behind it; a client may well serve what it asks for.
    allowed = [
        route
        for route in routes
        if route.owner.side in may and (side == LOCAL or route.owner is not requester)  # type: ignore[attr-defined]
    ]
    if everywhere or not allowed:
        return allowed
    nearest = min(route.owner.side for route in allowed)  # type: ignore[attr-defined]
    return [route for route in allowed if route.owner.side == nearest]  # type: ignore[attr-defined]
