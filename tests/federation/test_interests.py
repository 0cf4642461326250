"""What a child wants to hear of: how much of it is kept, for how long, and what a route meets."""

from __future__ import annotations

import pytest

from gateway.errors import Overloaded, RequestInvalid
from gateway.federation import interests
from gateway.federation.interests import CAPACITY, IDLE_S, KEPT_S, Asked, Interests, Key, decode, encode, key_of
from gateway.routing.route import Route


def key(number: int) -> Key:
    return f"service-{number}", ()


def route(number: int) -> Route:
    return Route(number.to_bytes(16, "big"), f"service-{number}", object(), subject=f"s-{number}")


@pytest.mark.parametrize("count", [CAPACITY - 1, CAPACITY, CAPACITY + 1])
def test_a_child_that_asks_for_too_much_at_once_is_refused(count: int) -> None:
    wanted = Interests()
    for number in range(min(count, CAPACITY)):
        assert wanted.add(key(number), 1000.0) is None
    if count > CAPACITY:
        with pytest.raises(Overloaded, match="addresses asked for within 60 s") as refused:
            wanted.add(key(count), 1000.0 + KEPT_S - 0.1)
        assert refused.value.reason == "interests"
    assert len(wanted) == min(count, CAPACITY)
    assert wanted.meets(route(0))


def test_the_one_asked_for_longest_ago_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interests, "CAPACITY", 2)
    wanted = Interests()
    wanted.add(key(1), 0.0)
    wanted.add(key(2), 1.0)
    wanted.add(key(1), 2.0)
    assert wanted.add(key(3), 1.0 + KEPT_S) == key(2)
    assert [wanted.meets(route(number)) for number in (1, 2, 3)] == [True, False, True]
    assert wanted.drop(key(1))
    assert not wanted.drop(key(1))
    assert not wanted.meets(route(1))


@pytest.mark.parametrize("count", [CAPACITY - 1, CAPACITY, CAPACITY + 1])
def test_what_was_used_longest_ago_is_not_asked_for_any_more(count: int) -> None:
    asked = Asked()
    gone = [gone for number in range(count) for gone in asked.ask(key(number), float(number))]
    assert gone == ([key(0)] if count > CAPACITY else [])
    assert len(asked) == min(count, CAPACITY)


def test_what_is_not_used_is_forgotten() -> None:
    asked = Asked()
    for number in range(4):
        asked.ask(key(number), 0.0)
    asked.use(key(0), 10.0)
    asked.use(key(9), 10.0)
    assert asked.idle(IDLE_S - 0.1, 10) == []
    assert asked.idle(IDLE_S, 2) == [key(1), key(2)]
    assert asked.idle(IDLE_S, 10) == [key(3)]
    assert asked.keys() == [key(0)]
    assert asked.age(key(0), 12.0) == 12.0
    assert asked.age(key(1), 12.0) == float("inf")
    asked.drop(key(0))
    asked.drop(key(0))
    assert len(asked) == 0


def test_an_address_survives_its_bytes() -> None:
    for one in (("a.b", ()), ("a.b", (("sub", "x"),)), ("", (("sub", "x"), ("zone", "eu")))):
        assert key_of(decode(encode(one))) == one
    for wrong in (b"", b"[]", b'{"route": "", "tags": []}', b'{"route": 5, "tags": [["a", "b"]]}'):
        with pytest.raises(RequestInvalid):
            decode(wrong)
