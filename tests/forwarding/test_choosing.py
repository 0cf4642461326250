"""Who serves what a `Service` document governs, from bytes to bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from gateway.forwarding.choosing import Choices, Chooser, entry_of
from gateway.forwarding.links import DOWNLINK, UPLINK
from gateway.policy.governance import Governance
from gateway.policy.principal import Kind
from gateway.policy.traffic import (
    Balance,
    Destination,
    LoadBalancer,
    Match,
    RouteRule,
    ServiceRules,
    Source,
    Subset,
)
from gateway.routing.route import Route
from gateway.wire.frames import FrameType, Lease
from gateway.wire.mimetypes import SUBSET
from tests.forwarding.plane_of import Peer, Site, entries_of, item, to_route
from tests.forwarding.test_leasing import asked, leased

STABLE, CANARY = Subset("stable", (("version", "1"),)), Subset("canary", (("version", "2"),))


def split(*weights: int, **more: Any) -> RouteRule:
    return RouteRule(
        "all", to=tuple(map(Destination, ("stable", "canary"), weights)) if weights else (Destination(),), **more
    )


def rules(*routes: RouteRule, **more: Any) -> ServiceRules:
    return ServiceRules("echo", subsets=(STABLE, CANARY), routes=routes, **more)


def govern(site: Site, *services: ServiceRules) -> None:
    site.plane.govern(Governance(services))


def instance(node: Site, number: int, version: str = "1", **tags: str) -> Peer:
    route_id = bytes(15) + bytes((100 + number,))
    registration = node.registration("echo", route_id=route_id, version=version, **tags)
    return node.connect(f"echo-{number}", serves=[registration])


def fire(site: Site, caller: Peer, times: int, to: str = "echo", **more: Any) -> None:
    for _ in range(times):
        caller.fire(to, turn=False, **more)
    site.turn()


def served(instances: Iterable[Peer]) -> list[int]:
    """How many requests each got since the last call."""
    return [len(each.got()) for each in instances]


# Weights


def test_five_percent_go_to_the_canary_whoever_asks(site: Site) -> None:
    stable, canary = instance(site, 1), instance(site, 2, "2")
    govern(site, rules(split(95, 5)))
    callers = [site.connect(f"phone-{number}") for number in range(20)]
    for _ in range(5):
        for caller in callers:
            fire(site, caller, 20)
    assert served([stable, canary]) == [pytest.approx(1900, abs=3), pytest.approx(100, abs=3)]


def test_callers_with_one_request_each_belong_to_the_whole(site: Site) -> None:
    """A sequence for each caller would begin with the stable part for all of them."""
    stable, canary = instance(site, 1), instance(site, 2, "2")
    govern(site, rules(split(80, 20)))
    for number in range(100):
        fire(site, site.connect(f"phone-{number}"), 1)
    assert served([stable, canary]) == [pytest.approx(80, abs=3), pytest.approx(20, abs=3)]


def test_another_split_binds_with_the_next_request(site: Site) -> None:
    stable, canary = instance(site, 1), instance(site, 2, "2")
    caller = site.connect()
    for weights in ((100, 0), (0, 100), (50, 50)):
        govern(site, rules(split(*weights)))
        fire(site, caller, 10)
        assert served([stable, canary]) == [weights[0] / 10, weights[1] / 10]
    govern(site)
    fire(site, caller, 10)
    assert sum(served([stable, canary])) == 10


def test_all_interactions_are_split(site: Site) -> None:
    stable, canary = instance(site, 1), instance(site, 2, "2")
    govern(site, rules(split(0, 100)))
    caller = site.connect()
    caller.respond("echo")
    caller.stream("echo")
    caller.channel("echo", complete=True)
    caller.fire("echo")
    assert served([stable, canary]) == [0, 4]


def test_nobody_in_a_subset_is_an_error_that_names_document_and_subset(site: Site) -> None:
    stable = instance(site, 1)
    govern(site, rules(split(0, 100)))
    caller = site.connect()
    caller.respond("echo")
    error = caller.one()
    assert error.code == 0x202
    assert error.text == "no route: Service/echo sends this to subset canary (version=2), and nobody is in it"
    assert site.counters.refusals["empty_subset"] == 1
    assert served([stable]) == [0]
    # With the next request after somebody has come.
    canary = instance(site, 2, "2")
    caller.respond("echo")
    assert served([stable, canary]) == [0, 1]


def test_what_no_rule_fits_goes_to_the_whole_service(site: Site) -> None:
    instances = [instance(site, 1), instance(site, 2, "2")]
    govern(site, rules(split(0, 100, matches=(Match(route="set.*"),))))
    fire(site, site.connect(), 10, "echo.get")
    assert served(instances) == [5, 5]
    fire(site, site.connect(), 10, "echo.set.target")
    assert served(instances) == [0, 10]


def test_rules_go_by_who_asks(site: Site) -> None:
    stable, canary = instance(site, 1), instance(site, 2, "2")
    devices = Match(sources=(Source(kinds=("device",)),))
    govern(site, rules(split(0, 100, matches=(devices,)), split(100, 0)))
    fire(site, site.connect("dev", Kind.DEVICE), 3)
    assert served([stable, canary]) == [0, 3]
    fire(site, site.connect("app", Kind.SERVICE), 3)
    assert served([stable, canary]) == [3, 0]


def test_who_names_instances_by_tags_has_chosen(site: Site) -> None:
    instances = [instance(site, 1, room="7"), instance(site, 2, "2", room="7"), instance(site, 3, "2", room="8")]
    govern(site, rules(split(100, 0)))
    caller = site.connect()
    # The canary, though nothing is sent there by itself.
    fire(site, caller, 4, metadata=to_route("echo", "version=2"))
    assert served(instances) == [0, 2, 2]
    # Weights hold among the parts that the tags leave.
    fire(site, caller, 4, metadata=to_route("echo", "room=7"))
    assert served(instances) == [4, 0, 0]
    fire(site, caller, 4, metadata=to_route("echo", "room=8"))
    assert served(instances) == [0, 0, 4]


# Balancing


@pytest.mark.parametrize(
    ("balance", "expected"),
    [
        (Balance.ROUND_ROBIN, [10, 10, 10]),
        (Balance.RANDOM, [pytest.approx(10, abs=8)] * 3),
        # Two of them have much to do.
        (Balance.LEAST_REQUEST, [0, 0, 30]),
    ],
)
def test_methods(site: Site, balance: Balance, expected: list[Any]) -> None:
    instances = [instance(site, number) for number in range(3)]
    govern(site, rules(balancer=LoadBalancer(balance)))
    caller = site.connect()
    for busy in instances[:2]:
        busy.connection.pending += 50
    fire(site, caller, 30)
    assert served(instances) == expected
    for busy in instances[:2]:
        busy.connection.pending -= 50


def test_callers_take_turns_together(site: Site) -> None:
    instances = [instance(site, number) for number in range(3)]
    govern(site, rules(balancer=LoadBalancer(Balance.ROUND_ROBIN)))
    callers = [site.connect(f"phone-{number}") for number in range(30)]
    for caller in callers:
        fire(site, caller, 1)
    assert served(instances) == [10, 10, 10]


def test_the_document_goes_before_the_hint_of_a_request(site: Site) -> None:
    instances = [instance(site, number) for number in range(2)]
    govern(site, rules(balancer=LoadBalancer(Balance.ROUND_ROBIN)))
    instances[0].connection.pending += 50
    fire(site, site.connect(), 10, metadata=to_route("echo", "LBMethod=least-pending"))
    assert served(instances) == [5, 5]
    instances[0].connection.pending -= 50


@pytest.mark.parametrize("balancer", [LoadBalancer(by_lease=True), LoadBalancer(Balance.ROUND_ROBIN), None])
def test_nobody_gets_more_than_it_lent(site: Site, balancer: LoadBalancer | None) -> None:
    lenders = [leased(site, serves=("echo",), subject=f"echo-{number}") for number in range(2)]
    for lender, requests in zip(lenders, (2, 6), strict=True):
        lender.send(Lease(60_000, requests))
    govern(site, rules(balancer=balancer))
    caller = site.connect()
    fire(site, caller, 10)
    assert [len(asked(lender)) for lender in lenders] == [2, 6]
    caller.respond("echo")
    assert caller.one().text == "whoever serves this takes no requests now; try again"


def owners(site: Site, keys: Iterable[str], instances: list[Peer]) -> dict[str, Peer]:
    caller = site.connect("hasher")
    found = {}
    for key in keys:
        caller.fire("echo", metadata=to_route("echo", f"room={key}"))
        (found[key],) = [each for each, got in zip(instances, served(instances), strict=True) if got]
    return found


def test_a_hash_ring_moves_only_keys_of_who_left_or_joined(site: Site) -> None:
    instances = [instance(site, number) for number in range(5)]
    govern(site, rules(balancer=LoadBalancer(hash_key="room")))
    keys = [f"room-{number}" for number in range(100)]
    before = owners(site, keys, instances)
    assert set(before.values()) == set(instances)
    assert owners(site, keys, instances) == before
    gone = instances.pop()
    gone.vanish()
    after = owners(site, keys, instances)
    assert all(after[key] is before[key] for key in keys if before[key] is not gone)
    newcomer = instance(site, 77)
    with_newcomer = owners(site, keys, [*instances, newcomer])
    assert all(with_newcomer[key] in (after[key], newcomer) for key in keys)
    assert newcomer in with_newcomer.values()


@pytest.mark.parametrize("key", ["principal", "deviceId"])
def test_a_caller_stays_with_an_instance_and_with_a_part(site: Site, key: str) -> None:
    instances = [instance(site, 1), instance(site, 2), instance(site, 3, "2")]
    govern(site, rules(split(70, 30), balancer=LoadBalancer(hash_key=key)))
    chosen = Counter[int]()
    for number in range(100):
        name = f"phone-{number}"
        fire(site, site.connect(name), 1)
        (first,) = [at for at, got in enumerate(served(instances)) if got]
        fire(site, site.connect(name), 3)
        assert [at for at, got in enumerate(served(instances)) if got] == [first]
        chosen[first] += 1
    assert chosen[2] == pytest.approx(30, abs=15)
    assert min(chosen.values()) >= 15


def test_a_route_stays_with_an_instance(site: Site) -> None:
    instances = [instance(site, number) for number in range(3)]
    govern(site, rules(balancer=LoadBalancer(hash_key="route")))
    caller = site.connect()
    for number in range(20):
        fire(site, caller, 3, f"echo.{number}")
        assert sorted(served(instances)) == [0, 0, 3]


def test_a_request_without_the_key_is_balanced(site: Site) -> None:
    instances = [instance(site, number) for number in range(2)]
    govern(site, rules(balancer=LoadBalancer(hash_key="room")))
    fire(site, site.connect(), 10)
    assert served(instances) == [5, 5]


# Ejection and locality


def choices(site: Site) -> Choices:
    governor = site.plane.governor
    assert governor is not None
    state = governor.state("echo")
    assert state is not None
    return state.choices


def test_the_ejected_get_nothing_while_there_are_others(site: Site) -> None:
    instances = [instance(site, number) for number in range(3)]
    govern(site, rules())
    caller = site.connect()
    fire(site, caller, 9)
    assert served(instances) == [3, 3, 3]
    choices(site).leave_out({instances[0].route_id})
    fire(site, caller, 8)
    assert served(instances) == [0, 4, 4]
    choices(site).leave_out({each.route_id for each in instances})
    fire(site, caller, 9)
    assert served(instances) == [3, 3, 3]
    choices(site).leave_out(())
    fire(site, caller, 9)
    assert served(instances) == [3, 3, 3]


def test_the_nearest_serve_and_the_next_when_they_are_ejected_or_gone(site: Site) -> None:
    site.plane.labels = {"edge": "e1", "site": "7", "region": "eu"}
    here = instance(site, 1)
    # Elsewhere by their own word, as routes are that came over links.
    near = instance(site, 2, edge="e2")
    far = instance(site, 3, edge="e3", site="8")
    foreign = instance(site, 4, edge="e4", site="9", region="us")
    instances = [here, near, far, foreign]
    govern(site, rules(failover=("edge", "site", "region")))
    caller = site.connect()
    fire(site, caller, 4)
    assert served(instances) == [4, 0, 0, 0]
    choices(site).leave_out({here.route_id})
    fire(site, caller, 4)
    assert served(instances) == [0, 4, 0, 0]
    near.vanish()
    fire(site, caller, 4)
    assert served(instances) == [0, 0, 4, 0]
    choices(site).leave_out({here.route_id, far.route_id})
    fire(site, caller, 4)
    assert served(instances) == [0, 0, 0, 4]
    choices(site).leave_out(())
    fire(site, caller, 4)
    assert served(instances) == [4, 0, 0, 0]


def test_subsets_are_found_wherever_they_are(site: Site) -> None:
    site.plane.labels = {"edge": "e1", "site": "7"}
    here, far = instance(site, 1), instance(site, 2, "2", edge="e3", site="8")
    govern(site, rules(split(50, 50), failover=("edge", "site")))
    fire(site, site.connect(), 10)
    assert served([here, far]) == [5, 5]


# Links


def link(site: Site, peer: Peer, side: int) -> None:
    """Make a link of a connection, as far as choosing goes."""
    peer.connection.side = side
    site.plane.table.invalidate()


class Quiet:
    """A federation that has nothing to say."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **more: "" if name == "why_not" else 0.0 if name == "way_s" else None


@pytest.fixture
def linked(site: Site) -> Site:
    site.plane.links = Quiet()  # type: ignore[assignment]
    return site


def subset_told(peer: Peer) -> list[bytes | None]:
    return [dict(entries_of(frame.metadata)).get(SUBSET) for frame in peer.got()]  # type: ignore[union-attr]


def told(subset: str, *labels: tuple[str, str]) -> bytes:
    return entries_of(entry_of(subset, labels))[0][1]


def test_the_part_drawn_goes_along_over_a_link(linked: Site) -> None:
    here, child = instance(linked, 1), instance(linked, 2, "2")
    link(linked, child, DOWNLINK)
    govern(linked, rules(split(50, 50)))
    fire(linked, linked.connect(), 4)
    assert subset_told(here) == [None, None]
    assert subset_told(child) == [told("canary", ("version", "2"))] * 2


def test_what_only_the_parent_can_serve_goes_up_undrawn(linked: Site) -> None:
    parent = instance(linked, 1)
    link(linked, parent, UPLINK)
    govern(linked, rules(split(0, 100)))
    fire(linked, linked.connect(), 4)
    assert subset_told(parent) == [None] * 4


def test_what_was_drawn_before_is_not_drawn_again(linked: Site) -> None:
    stable, canary, child = instance(linked, 1), instance(linked, 2, "2"), linked.connect("child")
    link(linked, child, DOWNLINK)
    govern(linked, rules(split(100, 0)))
    fire(linked, child, 4, metadata=to_route("echo", entries=[(SUBSET, told("canary", ("version", "2")))]))
    assert served([stable, canary]) == [0, 4]
    # Nor by a node that has no document.
    govern(linked)
    fire(linked, child, 4, metadata=to_route("echo", entries=[(SUBSET, told("canary", ("version", "2")))]))
    assert served([stable, canary]) == [0, 4]


def test_a_client_cannot_say_what_was_drawn(linked: Site) -> None:
    stable, canary = instance(linked, 1), instance(linked, 2, "2")
    govern(linked, rules(split(100, 0)))
    fire(linked, linked.connect(), 4, metadata=to_route("echo", entries=[(SUBSET, told("canary", ("version", "2")))]))
    assert subset_told(stable) == [None] * 4
    assert served([canary]) == [0]


def test_an_instance_near_the_child_serves_what_the_child_sends(linked: Site) -> None:
    seven, eight, child = instance(linked, 1, site="7"), instance(linked, 2, site="8"), linked.connect("child")
    link(linked, child, DOWNLINK)
    child.connection.place = {"site": "8"}
    govern(linked, rules(failover=("site",)))
    fire(linked, child, 4)
    assert served([seven, eight]) == [0, 4]


# Again


def chooser_of(site: Site, caller: Peer) -> Chooser:
    caller.fire("echo")
    decision = caller.connection.latest
    assert decision is not None
    assert decision.governed is not None
    return decision.governed.chooser


def test_again_is_elsewhere_in_the_same_part(site: Site) -> None:
    instances = [instance(site, 1), instance(site, 2), instance(site, 3, "2")]
    govern(site, rules(split(100, 0)))
    chooser = chooser_of(site, site.connect())
    tried: list[Route] = []
    for _ in range(2):
        tried.append(chooser.pick_again(site.plane, chooser.parts[0], tried))
    assert {route.owner for route in tried} == {each.connection for each in instances[:2]}
    # There is no other: one that was tried.
    assert chooser.pick_again(site.plane, chooser.parts[0], tried) in tried
    choices(site).leave_out({instances[0].route_id})
    assert chooser.pick_again(site.plane, chooser.parts[0], ()).owner is instances[1].connection


def test_each_interaction_goes_by_its_rule(site: Site) -> None:
    stable, canary = instance(site, 1), instance(site, 2, "2")
    streams = Match(interactions=frozenset({int(FrameType.REQUEST_STREAM)}))
    govern(site, rules(split(0, 100, matches=(streams,)), split(100, 0)))
    caller = site.connect()
    caller.stream("echo")
    caller.respond("echo")
    (asked,) = canary.got()
    assert int(asked.frame_type) == FrameType.REQUEST_STREAM
    (asked,) = stable.got()
    stable.send(item(asked.stream_id, complete=True))
    assert len(caller.got()) == 1
