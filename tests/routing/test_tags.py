"""Canonical tags: the three spellings of a well-known key, the two of a route id, hints and implicit tags."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.tags import (
    HINTS,
    IMPLICIT,
    LB_METHOD,
    ROUTE_ID,
    SERVICE_NAME,
    SHARD_KEY,
    SHARD_METHOD,
    STICKY_ROUTE_KEY,
    SUB,
    canonical_key,
    canonical_tag,
    own_tags,
    query_of,
    route_id_of,
)


@pytest.mark.parametrize("prefix", ["", "io.rsocket.broker.", "io.rsocket.routing."])
@pytest.mark.parametrize("name", ["ServiceName", "RouteId", "InstanceName", "Zone", "Region", "LBMethod", "ShardKey"])
def test_a_well_known_key_has_three_spellings(prefix: str, name: str) -> None:
    assert canonical_key(prefix + name) == "io.rsocket.broker." + name


@pytest.mark.parametrize("key", ["zone", "sub", "routeid", "com.example.Zone", "io.rsocket.broker.", ""])
def test_any_other_key_stays_as_it_is(key: str) -> None:
    assert canonical_key(key) == key


@given(st.uuids(), st.booleans(), st.booleans())
def test_a_route_id_is_found_in_both_forms(value: uuid.UUID, wrapped: bool, upper: bool) -> None:
    """Stock brokers store ``Id{<uuid>}``; clients address by either form."""
    text = str(value).upper() if upper else str(value)
    text = f"Id{{{text}}}" if wrapped else text
    assert route_id_of(text) == value.bytes
    assert canonical_tag("RouteId", text) == (ROUTE_ID, value.hex)


@pytest.mark.parametrize("text", ["", "Id{}", "Id{1234}", "not-a-uuid", "zz" * 16, "é" * 32, "00" * 15, "00" * 17])
def test_text_that_is_no_uuid_is_no_route_id(text: str) -> None:
    assert route_id_of(text) is None
    assert canonical_tag("RouteId", text) == (ROUTE_ID, text)


def test_only_route_ids_have_their_value_rewritten() -> None:
    text = "Id{00000000-0000-0000-0000-000000000011}"
    assert canonical_tag("InstanceName", text) == ("io.rsocket.broker.InstanceName", text)


def test_a_registration_keeps_neither_hints_nor_implicit_tags() -> None:
    """A client that registers ``sub=other`` or another's ServiceName must not be found as that other."""
    offered = [(key, "x") for key in (*HINTS, *IMPLICIT)]
    offered += [("ServiceName", "x"), ("RouteId", "x"), ("LBMethod", "x"), ("io.rsocket.routing.ServiceName", "x")]
    assert own_tags([*offered, ("zone", "eu"), ("InstanceName", "p1")]) == {
        "zone": "eu",
        "io.rsocket.broker.InstanceName": "p1",
    }


def test_the_last_value_of_a_registered_key_wins() -> None:
    assert own_tags([("Zone", "a"), ("io.rsocket.broker.Zone", "b")]) == {"io.rsocket.broker.Zone": "b"}


def test_names() -> None:
    assert {LB_METHOD, SHARD_KEY, SHARD_METHOD, STICKY_ROUTE_KEY} == HINTS
    assert {SERVICE_NAME, ROUTE_ID, SUB} == IMPLICIT


def test_equal_queries_are_equal_keys() -> None:
    assert (
        query_of([("b", "1"), ("a", "2"), ("b", "1")]) == query_of([("a", "2"), ("b", "1")]) == (("a", "2"), ("b", "1"))
    )
