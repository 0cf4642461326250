"""One registration: its implicit tags, its own tags, matching."""

from __future__ import annotations

import pytest

from gateway.routing.route import Route
from gateway.routing.tags import ROUTE_ID, SERVICE_NAME, SUB
from tests.routing.routes import Connection, make_route, route_id


def test_every_route_has_its_implicit_tags() -> None:
    route = make_route(0x11, "pong", subject="device-7", tags={"zone": "eu"})
    assert route.tag(SERVICE_NAME) == "pong"
    assert route.tag(ROUTE_ID) == route_id(0x11).hex()
    assert route.tag(SUB) == "device-7"
    assert route.tag("zone") == "eu"
    assert route.tag("region") is None


def test_the_implicit_route_of_an_anonymous_connection_is_found_by_its_id_alone() -> None:
    route = make_route(1)
    assert route.tag(SERVICE_NAME) is None
    assert route.tag(SUB) is None
    assert not route.matches([(SERVICE_NAME, "")])
    assert not route.matches([(SUB, "")])
    assert route.matches([(ROUTE_ID, route_id(1).hex())])


def test_nobody_registers_anothers_identity() -> None:
    route = make_route(1, "mine", subject="me", tags={"sub": "you", "ServiceName": "yours", ROUTE_ID: "0" * 32})
    assert (route.tag(SUB), route.tag(SERVICE_NAME), route.tag(ROUTE_ID)) == ("me", "mine", route_id(1).hex())
    assert not route.tags


def test_matching_is_and_over_tags() -> None:
    route = make_route(1, "pong", tags={"zone": "eu", "rack": "4"})
    assert route.matches([("zone", "eu"), (SERVICE_NAME, "pong")])
    assert not route.matches([("zone", "eu"), ("rack", "5")])
    assert route.matches([])


def test_routes_without_tags_share_one_empty_mapping() -> None:
    assert make_route(1).tags is make_route(2).tags


@pytest.mark.parametrize("length", [0, 15, 17])
def test_a_route_id_has_16_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Route(bytes(length), "pong", Connection())


def test_a_route_shows_what_it_is() -> None:
    text = repr(make_route(0x11, "pong", subject="device-7", tags={"zone": "eu"}))
    assert text == "Route(00000000000000000000000000000011, 'pong', subject='device-7', tags={'zone': 'eu'})"
