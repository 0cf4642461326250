"""How near a route is to who asks for it, by levels such as edge, site and region.

A level is the name of a label. A route has the labels of the node at which it was registered, unless it says otherwise
itself, so a label is a tag like any other and is told over links. Two places meet at a level when both have the same
value there and no wider level tells them apart: site 7 of one region is not site 7 of another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gateway.routing.route import Route

Labels = Mapping[str, str]


def distance(levels: Sequence[str], one: Labels, other: Labels) -> int:
    """The index of the nearest level at which they meet; `len(levels)` where they meet at none. `levels`: the
    narrowest first."""
    met = len(levels)
    for index in range(len(levels) - 1, -1, -1):
        ours, theirs = one.get(levels[index]), other.get(levels[index])
        if ours is None or theirs is None:
            continue
        if ours != theirs:
            break
        met = index
    return met


def tiers(routes: Iterable[Route], distances: Mapping[Route, int]) -> list[list[Route]]:
    """Routes by distance, the nearest first; each in its order. Nobody's tier is left out."""
    by_distance: dict[int, list[Route]] = {}
    for route in routes:
        by_distance.setdefault(distances[route], []).append(route)
    return [by_distance[distance] for distance in sorted(by_distance)]
