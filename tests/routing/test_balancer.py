"""Which candidate serves: distributions under a seeded generator, never under luck."""

from __future__ import annotations

import uuid
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import NoRoute
from gateway.routing.balancer import Method, fan_out, method_of, pick, shard
from gateway.routing.group import Group
from gateway.routing.route import Route
from tests.routing.routes import Connection, make_route

METHODS = list(Method)


def group_of(*pending: int) -> Group:
    return Group(make_route(number, "pong", Connection(load)) for number, load in enumerate(pending))


class NoRandom(Random):
    """A generator that must not be asked."""

    def random(self) -> float:
        raise AssertionError("asked for a random number")


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("round-robin", Method.ROUND_ROBIN),
        ("round_robin", Method.ROUND_ROBIN),
        ("RoundRobin", Method.ROUND_ROBIN),
        ("ROUND_ROBIN", Method.ROUND_ROBIN),
        ("least-pending", Method.LEAST_PENDING),
        ("least_request", Method.LEAST_PENDING),
        ("LEAST_REQUEST", Method.LEAST_PENDING),
        ("weighted", Method.LEAST_PENDING),
        ("random", Method.RANDOM),
        ("Random", Method.RANDOM),
        ("", None),
        ("fastest", None),
    ],
)
def test_method_hints(text: str, method: Method | None) -> None:
    assert method_of(text) is method


@pytest.mark.parametrize("method", METHODS)
def test_a_single_candidate_is_taken_at_once(method: Method) -> None:
    group = group_of(1_000)
    assert pick(group, method, NoRandom()) is group.routes[0]


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_group_is_no_route(method: Method) -> None:
    with pytest.raises(NoRoute):
        pick(Group(), method, NoRandom())
    with pytest.raises(NoRoute):
        shard(Group(), b"key")


@pytest.mark.parametrize("size", [2, 3, 8, 9, 50])
def test_round_robin_takes_turns(size: int) -> None:
    group = group_of(*[0] * size)
    assert [pick(group, Method.ROUND_ROBIN, NoRandom()) for _ in range(3 * size)] == group.routes * 3


def test_round_robin_survives_leaves() -> None:
    group = group_of(*[0] * 6)
    for _ in range(6):
        pick(group, Method.ROUND_ROBIN, NoRandom())
    for route in group.routes[3:]:
        group.remove(route)
    assert Counter(pick(group, Method.ROUND_ROBIN, NoRandom()) for _ in range(30)) == dict.fromkeys(group.routes, 10)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=8), st.integers(0, 20))
def test_up_to_eight_candidates_the_least_pending_serves(pending: list[int], warm_up: int) -> None:
    group = group_of(*pending)
    for _ in range(warm_up):
        pick(group, Method.LEAST_PENDING, NoRandom())
    assert pick(group, Method.LEAST_PENDING, NoRandom()).owner.pending == min(pending)


@pytest.mark.parametrize("load", [0, 3])
@pytest.mark.parametrize("size", [2, 5, 8])
def test_equally_loaded_candidates_take_turns(size: int, load: int) -> None:
    group = group_of(*[load] * size)
    assert [pick(group, Method.LEAST_PENDING, NoRandom()) for _ in range(3 * size)] == group.routes * 3


def test_least_pending_survives_leaves() -> None:
    group = group_of(*[1] * 8)
    for _ in range(7):
        pick(group, Method.LEAST_PENDING, NoRandom())
    for route in group.routes[2:]:
        group.remove(route)
    assert pick(group, Method.LEAST_PENDING, NoRandom()) in group.routes


def test_above_eight_candidates_the_better_of_two_random_ones_serves() -> None:
    group = group_of(*range(20))
    random = Random(7)
    picked = Counter(pick(group, Method.LEAST_PENDING, random).owner.pending for _ in range(38_000))
    # The k-th best of 20 wins against everyone behind it: 2 * (19 - k) of 380 ordered pairs. The worst never wins.
    assert picked[19] == 0
    for rank in range(19):
        assert picked[rank] == pytest.approx(200 * (19 - rank), rel=0.1, abs=60)


def test_above_eight_candidates_no_queue_grows_long() -> None:
    group = group_of(*[0] * 100)
    random = Random(7)
    for _ in range(100_000):
        pick(group, Method.LEAST_PENDING, random).owner.pending += 1
    pending = [route.owner.pending for route in group.routes]
    assert sum(pending) == 100_000
    assert max(pending) - min(pending) <= 10


@pytest.mark.parametrize("size", [2, 7, 30])
def test_random_is_uniform(size: int) -> None:
    group = group_of(*range(size))
    random = Random(7)
    picked = Counter(pick(group, Method.RANDOM, random) for _ in range(10_000 * size))
    assert len(picked) == size
    assert all(abs(count - 10_000) < 500 for count in picked.values())


def random_routes(size: int, seed: int) -> list[Route]:
    random = Random(seed)
    return [Route(random.randbytes(16), "pong", Connection()) for _ in range(size)]


def numbered_routes(size: int, seed: int) -> list[Route]:
    """Ids that differ in a few low bits, as people write them by hand."""
    return [make_route(seed * 100 + number, "pong") for number in range(size)]


@pytest.mark.parametrize("routes_of", [random_routes, numbered_routes])
@pytest.mark.parametrize("size", [2, 3, 7, 16])
@pytest.mark.parametrize("keys", ["device-{}", "{}", "plant/7/line/{}"])
def test_shards_are_even(routes_of, size: int, keys: str) -> None:
    routes = routes_of(size, size)
    group = Group(routes)
    per_route = 3_000
    picked = Counter(shard(group, keys.format(number).encode()) for number in range(per_route * size))
    # 3,000 balls in a bin spread by about 55: six times that never happens to an even hash.
    assert all(abs(picked[route] - per_route) < 330 for route in routes)


@given(st.integers(1, 12), st.integers(0, 1_000), st.lists(st.binary(max_size=20), min_size=1, max_size=50))
def test_only_the_keys_of_the_route_that_left_move(size: int, seed: int, keys: list[bytes]) -> None:
    routes = random_routes(size + 1, seed)
    group = Group(routes)
    before = {key: shard(group, key) for key in keys}
    gone = routes[seed % len(routes)]
    group.remove(gone)
    for key, route in before.items():
        after = shard(group, key)
        assert after is route if route is not gone else after is not gone
    group.add(gone)
    assert {key: shard(group, key) for key in keys} == before


@given(st.permutations(random_routes(9, 5)), st.binary())
def test_a_shard_does_not_depend_on_the_order_of_joining(routes: list[Route], key: bytes) -> None:
    assert shard(Group(routes), key) is shard(Group(random_order(routes)), key)


def random_order(routes: list[Route]) -> list[Route]:
    return sorted(routes, key=lambda route: route.route_id)


def test_routes_with_equal_scores_are_told_apart_by_id() -> None:
    """CRC-32 gives two ids one score now and then; both orders of joining must agree on the winner."""
    low, high = colliding_routes()
    for key in (b"", b"device-1", b"device-2"):
        assert shard(Group([low, high]), key) is shard(Group([high, low]), key) is high


def colliding_routes() -> tuple[Route, Route]:
    # Adding a multiple of the generator polynomial changes no CRC: x^32 + 0x04C11DB7, bit-reflected, in bytes 5..9.
    first = bytearray(16)
    second = bytearray(first)
    for at, byte in enumerate((0x41, 0x06, 0x71, 0xDB, 0x01)):
        second[5 + at] ^= byte
    low, high = sorted((bytes(first), bytes(second)))
    return Route(low, "pong", Connection()), Route(high, "pong", Connection())


def test_a_shard_is_the_same_in_every_process_and_release() -> None:
    """Nodes must agree: these placements are part of the contract between releases."""
    group = Group(Route(uuid.UUID(int=number).bytes, "pong", Connection()) for number in range(4))
    placed = [int.from_bytes(shard(group, f"device-{number}".encode()).route_id, "big") for number in range(12)]
    assert placed == [2, 0, 1, 0, 0, 2, 1, 3, 0, 1, 2, 1]


def test_multicast_reaches_each_connection_once() -> None:
    both, one = Connection(), Connection()
    routes = [make_route(1, "a", both), make_route(2, "b", one), make_route(3, "b", both)]
    group = Group(routes)
    chosen = fan_out(group)
    assert chosen == routes[:2]
    assert chosen is not group.routes
