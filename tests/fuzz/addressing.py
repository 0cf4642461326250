"""Fuzz target of addressing: what metadata asks for, and who is found by it."""

from __future__ import annotations

import itertools
from random import Random

from gateway.errors import FrameError, NoRoute, RequestInvalid
from gateway.routing.address import address_from
from gateway.routing.balancer import Method, fan_out, pick, shard
from gateway.routing.locator import locate
from gateway.routing.route import Route
from gateway.routing.table import RoutingTable
from gateway.wire import brokering
from gateway.wire.brokering import Cast
from gateway.wire.metadata import decode_routing
from tests.fuzz.target import check, outcome


class _Owner:
    pending = 0


def _table() -> RoutingTable:
    table = RoutingTable()
    numbers = itertools.count(1)
    for service, subject, tags in (
        ("echo", "svc-1", (("zone", "eu"),)),
        ("echo", "svc-2", (("zone", "us"), ("größe", "µ"))),
        ("echo.more", "svc-2", ()),
        ("plant/7", "plc", (("io.rsocket.broker.Zone", "eu"),)),
        ("", "caller", ()),
    ):
        route_id = next(numbers).to_bytes(16, "big")
        table.add(Route(route_id, service, _Owner(), subject=subject, tags=tags))
    return table


_TABLE = _table()


def address(data: bytes) -> str:
    """One byte says how many of the rest are routing metadata; what follows is a broker frame or nothing.

    An Address or RequestInvalid; then candidates that carry what it asks for, or NoRoute.
    """
    end = 1 + (data[0] if data else 0)
    try:
        tags = decode_routing(data[1:end])
        frame = brokering.decode(data[end:]) if data[end:] else None
    except FrameError as error:
        return f"no metadata: {outcome(error)}"
    try:
        found = address_from(tags, frame if isinstance(frame, brokering.Address) else None)
    except RequestInvalid as error:
        return outcome(error)
    check(found == address_from(tags, frame if isinstance(frame, brokering.Address) else None), "not the same twice")
    hash(found)
    str(found).encode()
    check((found.cast is Cast.SHARD) == (found.shard_key is not None), "a shard has a key, nobody else has one")
    check(found.route or found.tags, "an address that names nobody")
    try:
        group = locate(_TABLE, found)
    except NoRoute as error:
        str(error).encode()
        return f"{found.cast.name} no route"
    check(group.routes, "nobody is a candidate")
    for route in group.routes:
        check(route.matches(found.tags), "a candidate that does not carry what is asked for")
        if not found.by_tags and route.service:
            check(found.route.startswith(route.service), "another service than the one that is named")
    if found.shard_key is not None:
        check(shard(group, found.shard_key) is shard(group, found.shard_key), "a key without a fixed place")
    check(pick(group, found.balancer or Method.RANDOM, Random(1)) in group.routes, "picked from elsewhere")
    fan_out(group)
    return f"{found.cast.name} {len(group.routes)} {found.by_tags} {found.balancer}"
