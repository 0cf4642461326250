"""The direction rule: what it allows, and that nothing that it allows ever goes round, whatever the tables say."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from gateway.forwarding.links import DOWNLINK, LOCAL, MAY_GO, PEER, UPLINK, label_tags, told_labels, toward
from gateway.routing.route import Route


class Owner:
    def __init__(self, side: int) -> None:
        self.side = side
        self.pending = 0


@pytest.mark.parametrize(
    ("came_from", "may_go_to"),
    [
        (LOCAL, {LOCAL, UPLINK, DOWNLINK, PEER}),
        (DOWNLINK, {LOCAL, DOWNLINK, PEER, UPLINK}),
        (PEER, {LOCAL, DOWNLINK}),
        (UPLINK, {LOCAL, DOWNLINK}),
    ],
)
def test_the_table(came_from: int, may_go_to: set[int]) -> None:
    requester = Owner(came_from)
    owners = [Owner(side) for side in (LOCAL, DOWNLINK, PEER, UPLINK)]
    routes = [Route(bytes(15) + bytes((at,)), "echo", owner) for at, owner in enumerate(owners)]
    reached = toward(requester, routes, everywhere=True)  # type: ignore[arg-type]
    assert {route.owner.side for route in reached} == may_go_to  # type: ignore[attr-defined]


def test_the_nearest_serves() -> None:
    order = [LOCAL, DOWNLINK, PEER, UPLINK]
    for sides in itertools.chain.from_iterable(itertools.combinations(order, n) for n in (1, 2, 3, 4)):
        owners = [Owner(side) for side in reversed(sides) for _ in range(2)]
        routes = [Route(bytes(15) + bytes((at,)), "echo", owner) for at, owner in enumerate(owners)]
        chosen = toward(Owner(LOCAL), routes, everywhere=False)  # type: ignore[arg-type]
        assert {route.owner.side for route in chosen} == {sides[0]}  # type: ignore[attr-defined]
        assert len(chosen) == 2


def test_a_link_is_not_sent_what_came_from_it() -> None:
    one, other = Owner(DOWNLINK), Owner(DOWNLINK)
    routes = [Route(bytes(16), "echo", one), Route(bytes(15) + b"\1", "echo", other)]
    assert [route.owner for route in toward(one, routes, everywhere=True)] == [other]  # type: ignore[arg-type]


def test_labels_of_a_node_are_told_as_tags() -> None:
    labels = {"site": "7", "region": "eu"}
    tags = label_tags(labels)
    assert tags == (("label.site", "7"), ("label.region", "eu"))
    assert told_labels((("name", "edge-1"), *tags)) == labels
    assert label_tags({"k" * 127: "too long with its prefix"}) == ()


class Network:
    """Links as (node, node) → the side that the second is on, as the first sees it. Every table says that everything
    is everywhere: only the rule stops a request."""

    def __init__(self) -> None:
        self.sides: dict[tuple[str, str], int] = {}

    def child(self, parent: str, child: str) -> None:
        self.sides[parent, child] = DOWNLINK
        self.sides[child, parent] = UPLINK

    def peers(self, one: str, other: str) -> None:
        self.sides[one, other] = self.sides[other, one] = PEER

    def paths(self, start: str) -> Iterator[tuple[str, ...]]:
        """Every way that a request of a client of `start` could take."""
        waiting: list[tuple[tuple[str, ...], int, str]] = [((start,), LOCAL, "")]
        while waiting:
            path, came_from, before = waiting.pop()
            yield path
            assert len(path) < 12, f"goes round: {path}"
            here = path[-1]
            for (node, following), side in self.sides.items():
                if node == here and following != before and side in MAY_GO[came_from]:
                    waiting.append(((*path, following), self.sides[following, here], here))


def networks() -> Iterator[tuple[str, Network]]:
    """Up to three central nodes in a mesh, up to five edges below them in any tree."""
    for centrals, edges in itertools.product((1, 2, 3), (1, 2, 3, 4)):
        tops = [f"c{at}" for at in range(centrals)]
        bottoms = [f"e{at}" for at in range(edges)]
        above = [[*tops, *bottoms[:at]] for at in range(edges)]
        for parents in itertools.product(*above):
            network = Network()
            for one, other in itertools.combinations(tops, 2):
                network.peers(one, other)
            for child, parent in zip(bottoms, parents, strict=True):
                network.child(parent, child)
            yield f"{centrals} {parents}", network


def test_no_request_passes_a_node_twice() -> None:
    """Fault 83: a search of every network with up to three central nodes and four edges."""
    count = 0
    for name, network in networks():
        for start in {node for link in network.sides for node in link}:
            reached = set()
            for path in network.paths(start):
                count += 1
                assert len(set(path)) == len(path), f"{name}: {path}"
                reached.add(path[-1])
            assert reached == {node for link in network.sides for node in link} or not network.sides, name
    assert count > 1000


def test_an_edge_that_two_parents_take_for_theirs_gets_nothing_round() -> None:
    """While an edge moves, both may take it for their child: what it asks may come back to it, once, and ends there."""
    network = Network()
    network.peers("c0", "c1")
    network.child("c0", "e0")
    network.child("c1", "e0")
    longest = max(network.paths("e0"), key=len)
    assert longest.count("e0") <= 2
    assert len(longest) <= 4
