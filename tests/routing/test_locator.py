"""Address -> live candidates, against a scan of all routes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import NoRoute
from gateway.routing.address import Address, address_from
from gateway.routing.locator import locate, longest_name
from gateway.routing.route import Route
from gateway.routing.table import RoutingTable
from gateway.routing.tags import SERVICE_NAME, UNNARROWED
from gateway.wire import brokering
from gateway.wire.brokering import Cast
from tests.routing.routes import make_route


def table_of(*routes: Route) -> RoutingTable:
    table = RoutingTable()
    for route in routes:
        table.add(route)
    return table


@pytest.mark.parametrize(
    ("route", "name"),
    [
        ("thermo", "thermo"),
        ("thermo.read", "thermo"),
        ("thermo/read", "thermo"),
        ("plant/7/thermo/read", "plant/7/thermo"),
        ("plant/7/thermo.read", "plant/7/thermo"),
        ("plant/7/other", "plant"),
        ("plant.7/thermo", "plant"),
        ("plant", "plant"),
        ("a.b/c", "a.b/c"),
        ("a.b/c.d", "a.b/c"),
        ("thermos", None),
        ("therm", None),
        ("my.thermo", None),
        (".thermo", None),
        ("/plant", None),
        ("Thermo", None),
        ("", None),
        (".", None),
    ],
)
def test_the_longest_registered_name_serves(route: str, name: str | None) -> None:
    assert longest_name({"thermo", "plant", "plant/7/thermo", "a.b/c"}, route) == name


PATHS = st.text(alphabet="ab./", max_size=10)


@given(st.sets(PATHS.filter(bool)), PATHS)
def test_name_matching_against_a_scan(names: set[str], route: str) -> None:
    matching = [name for name in names if route == name or route.startswith((name + ".", name + "/"))]
    assert longest_name(names, route) == max(matching, key=len, default=None)


def test_a_service_has_one_group_while_it_exists() -> None:
    first, second = make_route(1, "thermo"), make_route(2, "thermo")
    table = table_of(first)
    group = locate(table, address_from(["thermo.read"], None))
    assert group.routes == [first]
    table.add(second)
    assert group.routes == [first, second]
    assert locate(table, address_from(["thermo"], None)) is group
    table.remove(first)
    assert group.routes == [second]
    table.remove(second)
    assert group.routes == []
    table.add(second)
    assert locate(table, address_from(["thermo"], None)) is not group


def test_a_longer_name_takes_over_when_it_joins() -> None:
    table = table_of(make_route(1, "plant"))
    address = address_from(["plant/7/thermo/read"], None)
    assert locate(table, address).routes[0].service == "plant"
    generation = table.generation
    table.add(make_route(2, "plant/7/thermo"))
    assert table.generation != generation
    assert locate(table, address).routes[0].service == "plant/7/thermo"


def test_narrowing() -> None:
    eu, us = make_route(1, "thermo", tags={"zone": "eu"}), make_route(2, "thermo", tags={"zone": "us"})
    table = table_of(eu, us, make_route(3, "other", tags={"zone": "eu"}))
    group = locate(table, address_from(["thermo.read", "zone=eu"], None))
    assert group.routes == [eu]
    late = make_route(4, "thermo", tags={"zone": "eu"})
    table.add(late)
    assert group.routes == [eu, late]
    assert locate(table, address_from(["thermo.write", "zone=eu"], None)) is group


def test_narrowing_by_instance_and_by_route_id() -> None:
    routes = [make_route(number, "thermo", tags={"InstanceName": f"i{number}"}) for number in range(3)]
    table = table_of(*routes)
    assert locate(table, address_from(["thermo", "InstanceName=i1"], None)).routes == [routes[1]]
    text = "00000000-0000-0000-0000-000000000002"
    for value in (text, f"Id{{{text}}}"):
        assert locate(table, address_from(["thermo", f"RouteId={value}"], None)).routes == [routes[2]]
    # Found by its id alone, the route would not be of the service that the caller names.
    with pytest.raises(NoRoute):
        locate(
            table_of(make_route(2, "other"), make_route(1, "thermo")), address_from(["thermo", f"RouteId={text}"], None)
        )


def test_a_shorter_name_is_no_substitute_for_a_name_without_candidates() -> None:
    table = table_of(make_route(1, "plant", tags={"zone": "eu"}), make_route(2, "plant/7", tags={"zone": "us"}))
    with pytest.raises(NoRoute, match=r"no route to plant/7/x \(zone=eu\)"):
        locate(table, address_from(["plant/7/x", "zone=eu"], None))


def test_a_subject_is_reachable_as_itself() -> None:
    alone = make_route(1, subject="device-1")
    table = table_of(alone, make_route(2, "thermo", subject="device-2"), make_route(3, "thermo", subject="device-3"))
    assert locate(table, address_from(["any.thing", "sub=device-1"], None)).routes == [alone]


def test_a_sub_tag_narrows_where_the_route_names_a_service() -> None:
    mine, other = make_route(1, "thermo", subject="device-1"), make_route(2, "thermo", subject="device-2")
    table = table_of(mine, other, make_route(3, subject="device-3"))
    assert locate(table, address_from(["thermo.read", "sub=device-1"], None)).routes == [mine]
    with pytest.raises(NoRoute):
        locate(table, address_from(["thermo.read", "sub=device-3"], None))


def test_a_sub_tag_and_more_narrow_a_subjects_routes() -> None:
    here, there = (make_route(number, subject="device-1", tags={"zone": zone}) for number, zone in enumerate("ab"))
    table = table_of(here, there)
    assert locate(table, address_from(["x", "sub=device-1", "zone=b"], None)).routes == [there]


@pytest.mark.parametrize("tags", [["nobody.read"], ["nobody", "zone=eu"], ["nobody", "sub=device-9"]])
def test_nobody_serves_it(tags: list[str]) -> None:
    table = table_of(make_route(1, "thermo", subject="device-1", tags={"zone": "eu"}))
    with pytest.raises(NoRoute, match="no route to nobody"):
        locate(table, address_from(tags, None))


def test_an_implicit_route_is_no_service() -> None:
    table = table_of(make_route(1, subject="device-1"))
    assert list(table.services()) == []
    with pytest.raises(NoRoute):
        locate(table, address_from([".read"], None))


def test_an_address_frame_finds_by_tags_whatever_the_route_says() -> None:
    pong = make_route(1, "pong", tags={"zone": "eu"})
    table = table_of(pong, make_route(2, "thermo", tags={"zone": "eu"}))
    named = brokering.Address(bytes(16), ((SERVICE_NAME, "pong"),), Cast.UNICAST)
    assert locate(table, address_from(["thermo.read"], named)) is table.service("pong")
    both = brokering.Address(bytes(16), ((SERVICE_NAME, "pong"), ("zone", "eu")), Cast.MULTICAST)
    assert locate(table, address_from([], both)).routes == [pong]
    contradiction = brokering.Address(bytes(16), (("zone", "eu"), ("zone", "us")), Cast.UNICAST)
    with pytest.raises(NoRoute, match="no route to zone=eu, zone=us"):
        locate(table, address_from([], contradiction))


SERVICES = st.sampled_from(["", "a", "a.b", "a/b", "b", "a.b.c"])
TAGS = st.dictionaries(st.sampled_from(["zone", "Zone", "rack"]), st.sampled_from(["1", "2"]), max_size=2)
ROUTES = st.tuples(SERVICES, st.sampled_from(["", "s1", "s2"]), TAGS)


@given(st.lists(ROUTES, max_size=12), PATHS.filter(bool), TAGS, st.sampled_from([None, "s1", "s2"]))
def test_locating_against_a_scan(rows: list, path: str, narrowing: dict[str, str], sub: str | None) -> None:
    routes = [make_route(number, row[0], subject=row[1], tags=row[2]) for number, row in enumerate(rows)]
    tags = {**narrowing, **({"sub": sub} if sub else {})}
    address = address_from([path, *(f"{key}={value}" for key, value in tags.items())], None)
    name = longest_name({route.service for route in routes if route.service}, path)
    expected = set()
    if name is not None or sub:
        expected = {route for route in routes if route.matches(address.tags) and name in (None, route.service)}
    assert found(table_of(*routes), address) == expected


def found(table: RoutingTable, address: Address) -> set[Route]:
    try:
        return set(locate(table, address).routes)
    except NoRoute:
        return set()


def test_tags_of_a_bridge_say_what_is_wanted_and_not_from_whom() -> None:
    """For as long as one of its routes is there."""
    free = make_route(1, "mqtt.plant", tags={UNNARROWED: "1"})
    table = table_of(free, make_route(2, "thermo", tags={"topic": "a"}))
    wanted = Address(route="mqtt.plant.publish", tags=(("topic", "a"),))
    assert list(locate(table, wanted).routes) == [free]
    with pytest.raises(NoRoute):
        locate(table, Address(route="thermo.read", tags=(("topic", "b"),)))
    table.remove(free)
    assert not table.unnarrowed
    table.add(make_route(3, "mqtt.plant"))
    with pytest.raises(NoRoute):
        locate(table, wanted)
