"""Address -> live candidates.

The answer is exact while the table's generation stands, so the caller keeps it that long and looks again, cheaply, when
it has moved: a longer name may have been registered meanwhile. The same group at the same version is the same answer.
"""

from __future__ import annotations

from collections.abc import Container

from gateway.errors import NoRoute
from gateway.routing.address import Address
from gateway.routing.group import Group
from gateway.routing.table import RoutingTable
from gateway.routing.tags import SERVICE_NAME, SUB


def locate(table: RoutingTable, address: Address) -> Group:
    """The candidates of an address: never empty, the same object for the same service while it exists.

    Raises NoRoute ("no route to thermo.read") when nobody serves it: no name matches and no ``sub`` tag names a
    subject, or narrowing leaves none of the longest matching name's routes. A shorter name is no substitute for it.
    """
    tags = address.tags
    if address.by_tags:
        group = table.query(tags)
    else:
        name = longest_name(table.by_service, address.route)
        if name is not None:
            narrowing = tags and name not in table.unnarrowed
            group = table.query(((SERVICE_NAME, name), *tags)) if narrowing else table.service(name)
        elif tags and address.tag(SUB) is not None:
            group = table.query(tags)
        else:
            group = None
    if group is None:
        raise NoRoute(f"no route to {address}")
    return group


def longest_name(names: Container[str], route: str) -> str | None:
    """The longest of ``names`` that equals the route or ends at one of its ``.`` or ``/``."""
    if route in names:
        return route
    dot = route.rfind(".")
    slash = route.rfind("/")
    while True:
        end = dot if dot > slash else slash
        if end < 0:
            return None
        name = route[:end]
        if name in names:
            return name
        if dot > slash:
            dot = route.rfind(".", 0, end)
        else:
            slash = route.rfind("/", 0, end)
