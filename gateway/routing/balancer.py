"""Which candidate serves this request. Runs once a request.

Least pending looks at every candidate up to eight, from a rotating start and only until it meets an idle one, so that
idle candidates take turns; above eight it takes the better of two random ones, which keeps the longest queue short at a
constant cost. Sharding is rendezvous hashing: every route scores every key, the highest score serves, so that a join or
leave moves only the keys that the joining route wins or the leaving one held, in every process alike.

Knows nothing of breakers or ejections: a caller that excludes candidates passes a group without them.
"""

from __future__ import annotations

from enum import Enum
from random import Random
from zlib import crc32

from gateway.errors import NoRoute
from gateway.routing.group import Group
from gateway.routing.route import Route

_SCAN_UP_TO = 8
_MASK = 0xFFFFFFFF


class Method(Enum):
    LEAST_PENDING = "least-pending"
    ROUND_ROBIN = "round-robin"
    RANDOM = "random"


# Looking an enumeration's member up costs more than the rest of a pick.
_LEAST_PENDING = Method.LEAST_PENDING
_ROUND_ROBIN = Method.ROUND_ROBIN

_METHODS = {
    "leastpending": Method.LEAST_PENDING,
    "leastrequest": Method.LEAST_PENDING,
    "weighted": Method.LEAST_PENDING,
    "roundrobin": Method.ROUND_ROBIN,
    "random": Method.RANDOM,
}


def method_of(text: str) -> Method | None:
    """An LBMethod hint, whatever its case and separators; None for one that is not known: the service's own applies.

    ``weighted`` is rsocket-broker's name for choosing by load.
    """
    return _METHODS.get(text.lower().replace("-", "").replace("_", ""))


def pick(group: Group, method: Method, random: Random) -> Route:
    """One candidate. Raises NoRoute when the group is empty."""
    routes = group.routes
    count = len(routes)
    if count == 1:
        return routes[0]
    if count == 0:
        raise NoRoute("no route: the last candidate has left")
    if method is _LEAST_PENDING:
        if count > _SCAN_UP_TO:
            return _better_of_two(group, routes, count)
        turn = group.turn + 1
        if turn >= count:
            turn = 0
        group.turn = turn
        best = routes[turn]
        owner = best.owner
        least = owner.pending
        if least == 0:
            return best
        # Negative indexes: the scan goes on from the start's neighbour and wraps round to the one before the start.
        for index in range(turn + 1 - count, turn):
            route = routes[index]
            owner = route.owner
            pending = owner.pending
            if pending < least:
                if pending == 0:
                    return route
                best = route
                least = pending
        return best
    if method is _ROUND_ROBIN:
        turn = group.turn + 1
        if turn >= count:
            turn = 0
        group.turn = turn
        return routes[turn]
    return routes[int(random.random() * count)]


def _better_of_two(group: Group, routes: list[Route], count: int) -> Route:
    # Numerical Recipes' generator: this runs once a request, and a call of `Random` costs more than all the rest.
    one_draw = (group.turn * 1664525 + 1013904223) & _MASK
    draw = (one_draw * 1664525 + 1013904223) & _MASK
    group.turn = draw
    first = one_draw * count >> 32
    second = draw * (count - 1) >> 32
    if second >= first:
        second += 1
    one, other = routes[first], routes[second]
    ones = one.owner
    others = other.owner
    return one if ones.pending <= others.pending else other


def shard(group: Group, key: bytes) -> Route:
    """The candidate that a key belongs to. O(candidates). Raises NoRoute when the group is empty."""
    routes = group.routes
    if not routes:
        raise NoRoute("no route: the last candidate has left")
    start = crc32(key)
    best = routes[0]
    highest = -1
    for route in routes:
        # CRC-32 is linear: without a mix of its own, the routes' scores would move in step from key to key and share
        # the keys unevenly. The mix is MurmurHash3's 32-bit finaliser.
        score = crc32(route.route_id, start)
        score = ((score ^ (score >> 16)) * 0x85EBCA6B) & _MASK
        score = ((score ^ (score >> 13)) * 0xC2B2AE35) & _MASK
        score ^= score >> 16
        if score > highest or (score == highest and route.route_id > best.route_id):
            best = route
            highest = score
    return best


def fan_out(group: Group) -> list[Route]:
    """Multicast: one route for each connection among the candidates; a copy, safe while connections close.

    A connection that registered several matching services gets one copy of the request.
    """
    chosen: dict[object, Route] = {}
    for route in group.routes:
        chosen.setdefault(route.owner, route)
    return list(chosen.values())
