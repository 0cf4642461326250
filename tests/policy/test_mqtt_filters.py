"""Filters against a matcher that tries everything."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.mqtt_filters import common, covers, example, is_filter, is_topic, matches
from gateway.topics.tree import FilterTree

LEVELS = st.sampled_from(["", "a", "b", "$x"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
WILD = st.sampled_from(["", "a", "b", "$x", "+", "+"])
FILTERS = (
    st.tuples(st.lists(WILD, max_size=4), st.booleans())
    .map(lambda parts: "/".join([*parts[0], *(["#"] if parts[1] or not parts[0] else [])]))
    .filter(bool)
)
ALL_TOPICS = ["/".join(levels) for n in range(1, 5) for levels in product(["", "a", "b", "$x"], repeat=n)]


def slowly(pattern: str, topic: str) -> bool:
    """MQTT 5, 4.7.1 to 4.7.2, as a regular expression."""
    if topic.startswith("$") and pattern[0] in "+#":
        return False
    expression = "/".join("[^/]*" if level == "+" else re.escape(level) for level in pattern.split("/"))
    if pattern == "#":
        expression = ".*"
    elif pattern.endswith("/#"):
        expression = expression[: -len("/\\#")] + "(/.*)?"
    return re.fullmatch(expression, topic, re.DOTALL) is not None


@given(FILTERS, TOPICS)
def test_matching(pattern: str, topic: str) -> None:
    assert is_filter(pattern)
    assert is_topic(topic)
    assert matches(pattern, topic) == slowly(pattern, topic)


@settings(deadline=None)
@given(FILTERS, FILTERS)
def test_what_two_have_in_common(one: str, other: str) -> None:
    shared = common(one, other)
    assert (shared is None) == (common(other, one) is None)
    for topic in filter(None, ALL_TOPICS):
        both = slowly(one, topic) and slowly(other, topic)
        assert both == (shared is not None and slowly(shared, topic)), topic
    if shared is not None:
        assert is_filter(shared)
        assert slowly(shared, example(shared))


@settings(deadline=None)
@given(FILTERS, FILTERS)
def test_covering(wide: str, narrow: str) -> None:
    if covers(wide, narrow):
        assert all(slowly(wide, topic) for topic in filter(None, ALL_TOPICS) if slowly(narrow, topic))


@given(st.lists(FILTERS, max_size=12), TOPICS)
def test_a_tree_finds_what_each_filter_matches(patterns: list[str], topic: str) -> None:
    tree: FilterTree[int] = FilterTree()
    for number, pattern in enumerate(patterns):
        tree.add(pattern, number)
    assert sorted(tree.find(topic.split("/"))) == [n for n, pattern in enumerate(patterns) if slowly(pattern, topic)]


@settings(deadline=None)
@given(st.lists(FILTERS, max_size=12), FILTERS)
def test_a_tree_finds_what_has_something_in_common(patterns: list[str], other: str) -> None:
    tree: FilterTree[int] = FilterTree()
    for number, pattern in enumerate(patterns):
        tree.add(pattern, number)
    found = tree.near(other)
    assert len(set(found)) == len(found)
    assert {n for n, pattern in enumerate(patterns) if common(pattern, other) is not None} <= set(found)
    for number in found:
        # What two filters share is nothing only where `$` keeps them apart, or the empty topic is all of it.
        plain = (text.replace("$x", "x") for text in (patterns[number], other))
        assert common(*plain) is not None or "" in (patterns[number] + other).split("/")


@pytest.mark.parametrize("text", ["", "a+", "a/#/b", "#/a", "a#", "a\0b", "+a/b", "x" * 65_536, "\ud800"])
def test_no_filter(text: str) -> None:
    assert not is_filter(text)


@pytest.mark.parametrize("text", ["", "a/+", "#", "a\0", "\ud800", "é" * 32_768])
def test_no_topic(text: str) -> None:
    assert not is_topic(text)


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("sport/#", "sport", True),
        ("sport/+", "sport", False),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("#", "$SYS/broker", False),
        ("$SYS/#", "$SYS/broker", True),
        ("+/broker", "$SYS/broker", False),
    ],
)
def test_the_examples_of_the_specification(pattern: str, topic: str, expected: bool) -> None:
    assert matches(pattern, topic) is expected
