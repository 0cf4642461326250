"""What a request asks for: the three ways, hints, shard keys."""

from __future__ import annotations

import pytest

from gateway.errors import RequestInvalid
from gateway.routing.address import Address, address_from
from gateway.routing.balancer import Method
from gateway.routing.tags import ROUTE_ID, SERVICE_NAME, SUB
from gateway.wire import brokering
from gateway.wire.brokering import Cast

ZONE = "io.rsocket.broker.Zone"
UUID = "00000000-0000-0000-0000-000000000011"


def frame(*tags: tuple[str, str], cast: Cast = Cast.UNICAST) -> brokering.Address:
    return brokering.Address(bytes(16), tags, cast)


# The routing tags


def test_the_first_routing_tag_is_the_route() -> None:
    assert address_from(["thermo.read"], None) == Address(route="thermo.read")


def test_further_routing_tags_narrow() -> None:
    address = address_from(["thermo.read", "zone=eu", "Zone=eu-1", f"RouteId=Id{{{UUID}}}"], None)
    assert not address.by_tags
    assert set(address.tags) == {("zone", "eu"), (ZONE, "eu-1"), (ROUTE_ID, UUID.replace("-", ""))}


@pytest.mark.parametrize("key", ["ServiceName", "io.rsocket.broker.ServiceName", "io.rsocket.routing.ServiceName"])
def test_a_well_known_key_narrows_under_every_spelling(key: str) -> None:
    assert address_from(["a", f"{key}=b"], None).tags == ((SERVICE_NAME, "b"),)


def test_a_further_tag_without_a_value_is_ignored() -> None:
    assert address_from(["thermo", "plain", ""], None) == Address(route="thermo")


def test_a_value_may_hold_an_equals_sign_and_may_be_empty() -> None:
    assert address_from(["a", "k=b=c", "e="], None).tags == (("e", ""), ("k", "b=c"))


def test_a_first_tag_with_an_equals_sign_is_a_route_all_the_same() -> None:
    assert address_from(["sub=device-1"], None) == Address(route="sub=device-1")


@pytest.mark.parametrize("tags", [[], [""], ["", "zone=eu"]])
def test_nothing_to_go_by_is_invalid(tags: list[str]) -> None:
    with pytest.raises(RequestInvalid, match=r"^no route in metadata$"):
        address_from(tags, None)


# The ADDRESS frame


def test_an_address_frame_comes_first() -> None:
    address = address_from(["thermo.read", "zone=eu"], frame((SERVICE_NAME, "pong"), ("rack", "4")))
    assert address == Address(route="thermo.read", tags=((SERVICE_NAME, "pong"), ("rack", "4")), by_tags=True)


@pytest.mark.parametrize("cast", [Cast.UNICAST, Cast.MULTICAST])
def test_an_address_frame_decides_the_cast(cast: Cast) -> None:
    address = address_from([], frame((SERVICE_NAME, "pong"), cast=cast))
    assert (address.cast, address.route, address.shard_key) == (cast, "", None)


@pytest.mark.parametrize("value", [UUID, f"Id{{{UUID}}}", f"Id{{{UUID.upper()}}}"])
def test_a_route_id_is_addressed_in_both_forms(value: str) -> None:
    assert address_from([], frame((ROUTE_ID, value))).tags == ((ROUTE_ID, UUID.replace("-", "")),)


def test_contradicting_tags_are_both_kept() -> None:
    assert address_from([], frame(("zone", "eu"), ("zone", "us"))).tags == (("zone", "eu"), ("zone", "us"))


def test_an_address_frame_of_hints_alone_leaves_the_naming_to_the_routing_tags() -> None:
    hints = frame(("LBMethod", "random"), cast=Cast.MULTICAST)
    assert address_from(["thermo.read", "zone=eu", "LBMethod=round-robin"], hints) == Address(
        route="thermo.read", tags=(("zone", "eu"),), cast=Cast.MULTICAST, balancer=Method.RANDOM
    )


@pytest.mark.parametrize("tags", [(), (("LBMethod", "random"),)])
def test_an_address_frame_that_names_nobody_is_invalid(tags: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(RequestInvalid, match=r"^no route in metadata$"):
        address_from([], frame(*tags))


# Hints


@pytest.mark.parametrize("prefix", ["", "io.rsocket.broker.", "io.rsocket.routing."])
def test_hints_never_filter(prefix: str) -> None:
    hints = [(prefix + name, "random") for name in ("LBMethod", "ShardKey", "ShardMethod", "StickyRouteKey")]
    address = address_from([], frame((SERVICE_NAME, "pong"), *hints))
    assert address == Address(tags=((SERVICE_NAME, "pong"),), by_tags=True, balancer=Method.RANDOM)
    address = address_from(["pong", f"{prefix}LBMethod=RoundRobin", f"{prefix}StickyRouteKey=x"], None)
    assert address == Address(route="pong", balancer=Method.ROUND_ROBIN)


def test_an_unknown_method_is_the_default() -> None:
    assert address_from(["pong", "LBMethod=fastest"], None).balancer is None


# Shards


def test_a_shard_key_names_the_tags_that_form_the_key() -> None:
    tags = ((SERVICE_NAME, "store"), ("device", "7"), ("Zone", "eu"), ("ShardKey", "Zone, device"))
    address = address_from([], frame(*tags, cast=Cast.SHARD))
    assert address == Address(tags=((SERVICE_NAME, "store"),), cast=Cast.SHARD, by_tags=True, shard_key=b"eu\x007")


def test_a_named_tag_that_is_not_there_adds_nothing_to_the_key() -> None:
    tags = ((SERVICE_NAME, "store"), ("device", "7"), ("ShardKey", "line,device"))
    assert address_from([], frame(*tags, cast=Cast.SHARD)).shard_key == b"7"


def test_a_shard_key_that_names_no_tag_is_the_key() -> None:
    address = address_from([], frame((SERVICE_NAME, "store"), ("ShardKey", "gerät-7"), cast=Cast.SHARD))
    assert address.shard_key == "gerät-7".encode()


def test_a_shard_key_names_no_tag_of_another_cast() -> None:
    tags = ((SERVICE_NAME, "store"), ("device", "7"), ("ShardKey", "device"))
    assert address_from([], frame(*tags)).tags == (("device", "7"), (SERVICE_NAME, "store"))


@pytest.mark.parametrize("tags", [(), (("ShardKey", ""),)])
def test_a_shard_without_a_key_is_invalid(tags: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(RequestInvalid, match="ShardKey"):
        address_from(["store.put"], frame((SERVICE_NAME, "store"), *tags, cast=Cast.SHARD))


def test_an_address_frame_whose_tags_all_form_the_key_leaves_the_naming_to_the_routing_tags() -> None:
    key_alone = frame(("device", "7"), ("ShardKey", "device"), cast=Cast.SHARD)
    assert address_from(["store.put", "zone=eu"], key_alone) == Address(
        route="store.put", tags=(("zone", "eu"),), cast=Cast.SHARD, shard_key=b"7"
    )
    with pytest.raises(RequestInvalid, match="no route"):
        address_from([], key_alone)


def test_a_shard_key_among_the_routing_tags_asks_for_the_shard() -> None:
    assert address_from(["store.put", "device=7", "zone=eu", "ShardKey=device"], None) == Address(
        route="store.put", tags=(("zone", "eu"),), cast=Cast.SHARD, shard_key=b"7"
    )


# As text


def test_an_address_tells_one_tag() -> None:
    address = address_from(["a", "sub=device-1"], None)
    assert address.tag(SUB) == "device-1"
    assert address.tag("zone") is None


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (Address(route="thermo.read"), "thermo.read"),
        (Address(route="thermo.read", tags=(("zone", "eu"),)), "thermo.read (zone=eu)"),
        (Address(route="x", tags=((SERVICE_NAME, "pong"), ("zone", "eu")), by_tags=True), "ServiceName=pong, zone=eu"),
    ],
)
def test_an_address_reads_as_an_error_names_it(address: Address, text: str) -> None:
    assert str(address) == text
