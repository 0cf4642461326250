"""What a broker is asked for, against a broker that sends a message once for each filter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.mqtt_filters import matches
from gateway.topics.subscriptions import Subscription, Subscriptions

LEVELS = st.sampled_from(["a", "b", "+"])
FILTERS = st.builds(
    lambda levels, rest: "/".join([*levels, *rest]),
    st.lists(LEVELS, min_size=1, max_size=3),
    st.sampled_from([[], ["#"]]),
)
ASKED = st.lists(st.tuples(FILTERS, st.integers(0, 2)), min_size=1, max_size=6)
TOPICS = st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=4).map("/".join)


def test_a_filter_within_another_is_left_out() -> None:
    asked = [("a/#", 1), ("a/b/+", 1), ("c/+", 1)]
    assert Subscriptions(asked, identifiers=True).asked == (Subscription("a/#", 1), Subscription("c/+", 1))


def test_one_of_a_higher_qos_is_kept_and_told_apart() -> None:
    found = Subscriptions([("a/#", 0), ("a/b", 1), ("c", 0)], identifiers=True)
    wide, narrow, other = found.asked
    assert (wide.topic, narrow.topic) == ("a/#", "a/b")
    assert len({0, wide.number, narrow.number}) == 3
    assert not other.number
    assert found.is_copy("a/b", [wide.number])
    assert not found.is_copy("a/b", [narrow.number])
    assert not found.is_copy("a/b", [wide.number, narrow.number])
    assert not found.is_copy("a/c", [wide.number])


def test_without_identifiers_the_wider_filter_has_the_higher_qos() -> None:
    found = Subscriptions([("a/#", 0), ("a/b", 1), ("+/c", 0)], identifiers=False)
    assert found.asked == (Subscription("a/#", 1), Subscription("+/c", 0))


def test_what_came_by_the_filters_of_before_is_no_copy() -> None:
    before = Subscriptions([("a/+", 1), ("+/b", 1)], identifiers=True)
    now = Subscriptions([("a/+", 1), ("+/b", 1), ("a/#", 0)], identifiers=True)
    assert not now.is_copy("a/b", [before.asked[0].number])
    assert not now.is_copy("a/b", [before.asked[1].number])


@given(ASKED, TOPICS)
def test_each_message_counts_once_with_its_highest_qos(asked: list[tuple[str, int]], topic: str) -> None:
    found = Subscriptions(asked, identifiers=True)
    by = [each for each in found.asked if matches(each.topic, topic)]
    taken = [each for each in by if not (each.number and found.is_copy(topic, [each.number]))]
    wanted = [qos for each, qos in asked if matches(each, topic)]
    assert [each.qos for each in taken] == ([max(wanted)] if wanted else [])
    # A broker that sends it once says by which all.
    assert not by or not found.is_copy(topic, [each.number for each in by if each.number])
    assert all(0 <= each.number < 1 << 28 for each in found.asked)


@given(ASKED, TOPICS)
def test_without_identifiers_nothing_is_missed(asked: list[tuple[str, int]], topic: str) -> None:
    by = [each for each in Subscriptions(asked, identifiers=False).asked if matches(each.topic, topic)]
    wanted = [qos for each, qos in asked if matches(each, topic)]
    assert bool(by) == bool(wanted)
    assert not wanted or max(each.qos for each in by) >= max(wanted)
