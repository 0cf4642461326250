"""Why a request goes over a link or does not, for people: nothing is sent, and nothing is asked of others."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from gateway.federation.interests import names_of
from gateway.federation.items import Told
from gateway.forwarding.connection import Connection
from gateway.forwarding.links import LOCAL
from gateway.routing.address import Address
from gateway.routing.route import Route
from gateway.routing.tags import UNNARROWED

if TYPE_CHECKING:
    from gateway.federation.federation import Federation
    from gateway.federation.link import Link
    from gateway.federation.table import SharedTable

#: Routes that are shown.
MOST = 100


class Unused(NamedTuple):
    """A route that this node was told of and does not use."""

    node: str
    link: str
    service: str
    subject: str
    why: str


def node_of(federation: Federation, route: Route) -> str:
    """The name of the node that a route's connection is on, as far as that is known."""
    owner = route.owner
    assert isinstance(owner, Connection)
    link = federation.links.get(owner)
    if owner.side == LOCAL or link is None:
        return federation.plane.node
    told = link.intake.told(route.route_id)
    return link.name if told is None else _name(federation, link, told)


def unused(federation: Federation, table: SharedTable | None, address: Address) -> list[Unused]:
    """What was told of an address over links that are not in use or do not allow it, and what the shared table says is
    at a node that is suspect."""
    found: list[Unused] = []
    for link in federation.links.values():
        for told, why in link.intake.unused():
            if len(found) < MOST and _answers(told, address, link.connection):
                found.append(Unused(_name(federation, link, told), link.kind, told.service, told.subject, why))
    if table is not None:
        found += [each for each in _suspect(table, address) if len(found) < MOST]
    return found


def why_no_route(federation: Federation, address: Address) -> str:
    """What a caller would meet besides, of a route that there is not."""
    if federation.uplink is not None:
        name = federation.uplink.name
        return f"; {name} would be asked first" if federation.would_ask(address) else f"; {name} knows nobody either"
    return federation.why_not()


def _name(federation: Federation, link: Link, told: Told) -> str:
    """Of a node further up there is no name on the link, but it is a member."""
    name = link.intake.names.get(told.node)
    member = None if name else federation.roster.find(str(uuid.UUID(bytes=told.node)))
    return name or (link.name if member is None else member.name)


def _answers(told: Told, address: Address, owner: Connection) -> bool:
    if not address.by_tags and told.service not in names_of(address.route):
        return False
    route = Route(told.route_id, told.service, owner, subject=told.subject, tags=told.tags)
    return route.matches(address.tags) or (UNNARROWED in route.tags and not address.by_tags)


def _suspect(table: SharedTable, address: Address) -> Iterator[Unused]:
    reasons = {state.name: state.reason for state in table.nodes()}
    for name in () if address.by_tags else names_of(address.route):
        for place, _offer in table.service(name):
            if place.suspect:
                yield Unused(place.node, "peer", name, "", f"{place.node} is suspect: {reasons.get(place.node, '')}")
