"""The proof that nothing goes round, against sending messages round."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.documents.bridge import Bridge
from gateway.errors import RequestInvalid
from gateway.topics.loops import Bridged, echoes, rings
from gateway.topics.rules import Rules


def rules(*topics: dict[str, Any], rpc: tuple[dict[str, Any], ...] = ()) -> Rules:
    body = {"kind": "Bridge", "name": "a", "mqtt": {"address": "mqtt://b"}, "topics": list(topics), "rpc": list(rpc)}
    return Bridge.model_validate(body).rules


def came(pattern: str, **more: Any) -> dict[str, Any]:
    return {"pattern": pattern, "direction": "in", **more}


def goes(pattern: str, **more: Any) -> dict[str, Any]:
    return {"pattern": pattern, "direction": "out", **more}


@pytest.mark.parametrize(
    ("topics", "shared"),
    [
        ([came("a/#"), goes("a/b")], ["a/b"]),
        ([came("a/+"), goes("a/{sub}", route="x")], ["a/+"]),
        ([came("a/#"), goes("b/#")], []),
        ([came("t/#", remote="a/"), goes("t/#", remote="b/")], []),
        ([came("t/#", remote="a/"), goes("t/#", remote="a/", local="l/")], ["a/t/#"]),
        ([came("a/#", exclude=["a/b/#"]), goes("a/b/c")], []),
        ([came("a/#"), goes("a/b/c", exclude=["a/b/+"])], []),
        ([came("a/#", exclude=["a/b/c"]), goes("a/b/#")], ["a/b/#"]),
        ([{"pattern": "a/#", "direction": "both"}], []),
        ([{"pattern": "a/#", "direction": "both"}, {"pattern": "a/b", "direction": "both"}], []),
        ([{"pattern": "a/#", "direction": "both"}, goes("a/b")], ["a/b"]),
        ([came("#"), goes("a/b"), goes("c/d")], ["a/b", "c/d"]),
    ],
)
def test_what_comes_back_to_one_bridge(topics: list[dict[str, Any]], shared: list[str]) -> None:
    assert [echo.shared for echo in echoes(rules(*topics))] == shared


def test_what_comes_back_as_a_call() -> None:
    call = {"topic": "cmd/{device}", "route": "thermo.set"}
    (echo,) = echoes(rules(goes("cmd/{sub}", route="orders"), rpc=(call,)))
    assert echo.shared == "cmd/+"


def test_a_ring_of_two() -> None:
    """What `a` takes in from the broker goes out by `b` to the same broker, where `a` takes it in."""
    a = Bridged("a", frozenset({"one"}), rules(came("t/#", route="relay")))
    b = Bridged("b", frozenset({"one"}), rules(goes("t/x", route="relay")))
    (ring,) = rings([a, b], "a")
    assert (ring.bridges, ring.shared) == (("a", "b", "a"), "t/x")
    # Seen from the other side there is no in rule to begin with.
    assert list(rings([a, b], "b")) == []
    elsewhere = Bridged("b", frozenset({"two"}), b.rules)
    assert list(rings([a, elsewhere], "a")) == []


def test_a_ring_of_three_over_two_brokers() -> None:
    a = Bridged("a", frozenset({"one"}), rules(came("t/#")))
    b = Bridged("b", frozenset({"two"}), rules(goes("t/#"), came("u/#", exclude=["u/no"])))
    c = Bridged("c", frozenset({"two"}), rules(came("t/#", local="back/")))
    d = Bridged("d", frozenset({"one"}), rules(goes("back/t/#", remote="t/")))
    (ring,) = rings([a, b, c, d], "a")
    assert ring.bridges == ("a", "b", "d", "a")
    (ring,) = rings([a, b, c, d], "c")
    assert ring.bridges == ("c", "d", "b", "c")


def test_two_brokers_side_by_side_are_no_ring() -> None:
    both = rules({"pattern": "t/#", "direction": "both"})
    one, two = Bridged("a", frozenset({"one"}), both), Bridged("b", frozenset({"two"}), both)
    assert list(rings([one, two], "a")) == []


LEVEL = st.sampled_from(["a", "b", "+"])
FILTER = st.tuples(st.lists(LEVEL, min_size=1, max_size=2), st.booleans()).map(
    lambda parts: "/".join([*parts[0], *(["#"] if parts[1] else [])])
)
FIXED = st.tuples(st.sampled_from("ab"), st.booleans()).map(lambda parts: f"{parts[0]}/#" if parts[1] else parts[0])
RULE = st.one_of(
    st.builds(came, FILTER, remote=st.sampled_from(["", "a/"]), local=st.sampled_from(["", "b/"])),
    st.builds(goes, FIXED, remote=st.sampled_from(["", "a/", "b/"])),
)


@settings(deadline=None)
@given(
    st.lists(st.lists(RULE, min_size=1, max_size=3), min_size=2, max_size=3),
    st.sampled_from(["a", "b", "a/b", "b/a/b"]),
)
def test_what_is_not_found_does_not_go_round(documents: list[list[dict[str, Any]]], topic: str) -> None:
    """A message sent through bridges of one broker: where none of them is part of a ring or an echo, it comes to
    rest."""
    bridges = [Bridged(str(at), frozenset({"one"}), rules(*topics)) for at, topics in enumerate(documents)]
    if any(list(echoes(each.rules)) for each in bridges):
        return
    if any(list(rings(bridges, each.name)) for each in bridges):
        return
    waiting, steps = [topic], 0
    while waiting and steps < 200:
        at = waiting.pop()
        steps += 1
        for taker in bridges:
            try:
                matched = taker.rules.incoming(at)
            except RequestInvalid:
                continue
            for other in bridges:
                # Whoever serves it may be any bridge that could: all of them do at once here.
                for rule in other.rules.outbound if matched is not None and other is not taker else ():
                    if matched.route == rule.service or matched.route.startswith(f"{rule.service}/"):
                        found = Rules(outbound=(rule,)).outgoing(matched.route, {})
                        if found is not None:
                            waiting.append(found.topic)
    assert steps < 200, "it goes round"
